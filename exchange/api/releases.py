"""HTTP for the bytes of a release: the requester alone, once, as they are ruled on."""

from __future__ import annotations

from typing import Annotated

import anyio
from anyio.to_thread import run_sync
from fastapi import APIRouter, Path
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from exchange.api.auth import HospitalActor, House
from exchange.stream import MEDIA_TYPE
from exchange.streaming import ReleaseStream
from ledger.ids import OrgId, ReleaseId

router = APIRouter(prefix="/v1/releases", tags=["releases"])


class ReleaseResponse(StreamingResponse):
    """Streams a release, and closes it whatever becomes of the client."""

    media_type = MEDIA_TYPE

    def __init__(self, stream: ReleaseStream) -> None:
        self._stream = stream
        super().__init__(stream, headers={"X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; a client that hung up leaves a release that is closed as partial."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            # The closing leaf is owed also when this task was cancelled.
            with anyio.CancelScope(shield=True):
                await run_sync(self._stream.close)


@router.get(
    "/{release}/content",
    operation_id="release_content",
    status_code=200,
    response_class=ReleaseResponse,
    responses={200: {"content": {MEDIA_TYPE: {}}, "description": "The release stream, once"}},
)
def content(
    house: House,
    actor: HospitalActor,
    release: Annotated[str, Path(pattern=r"^0x[0-9a-f]{32}$")],
) -> ReleaseResponse:
    """Stream a decided release to the hospital that asked for it; it is streamed once."""
    stream = house.releases.open(OrgId.parse(actor.id), ReleaseId.parse(release))
    return ReleaseResponse(stream)
