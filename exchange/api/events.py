"""A subject's stream of changes, as server-sent events: consents, accesses, jobs.

``id`` is the leaf's index, so that ``Last-Event-ID`` resumes without a gap. The stream ends with the
token's time; a browser then opens it again under a new one.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Final

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse

from exchange.actor import Actor
from exchange.api.auth import House, SubjectActor
from exchange.api.reading import leaf_cursor
from exchange.errors import RateLimited
from exchange.wiring import Exchange

router = APIRouter(prefix="/v1", tags=["patient"])

_LOOK_SECONDS: Final = 0.25
_HEARTBEAT_SECONDS: Final = 15.0
_MOST_STREAMS: Final = 256


class Streams:
    """How many streams are open; a slot is taken when one begins and given back when it ends."""

    def __init__(self, most: int = _MOST_STREAMS) -> None:
        self._most = most
        self._open = 0

    def take(self) -> None:
        """Take a slot.

        Raises:
            RateLimited: all are taken.
        """
        if self._open >= self._most:
            raise RateLimited(5)
        self._open += 1

    def give_back(self) -> None:
        """Give a slot back."""
        self._open -= 1


@router.get("/me/events", operation_id="events", response_class=StreamingResponse)
async def events(
    request: Request,
    house: House,
    actor: SubjectActor,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> StreamingResponse:
    """Changes from ``Last-Event-ID`` on, or from now."""
    after = leaf_cursor(last_event_id)
    if after is None:
        after = await run_sync(house.disclosures.size) - 1
    streams: Streams = request.app.state.streams
    return StreamingResponse(
        _told(request, house, actor, after, streams),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},
    )


async def _told(
    request: Request, house: Exchange, actor: Actor, after: int, streams: Streams
) -> AsyncIterator[bytes]:
    streams.take()
    try:
        yield b"retry: 1000\n\n"
        ends = anyio.current_time() + house.settings.token_seconds
        quiet_since = anyio.current_time()
        while anyio.current_time() < ends and not await request.is_disconnected():
            found = await run_sync(house.disclosures.changes, actor, after)
            for change in found:
                after = max(after, change["id"])
                data = json.dumps(change["data"], separators=(",", ":"))
                yield f"id: {change['id']}\nevent: {change['event']}\ndata: {data}\n\n".encode()
            now = anyio.current_time()
            if found:
                quiet_since = now
            elif now - quiet_since > _HEARTBEAT_SECONDS:
                quiet_since = now
                yield b": still here\n\n"
            await anyio.sleep(_LOOK_SECONDS)
    finally:
        streams.give_back()
