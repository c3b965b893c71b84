"""A request's body as the blocking iterator that the vault takes, without gathering it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

import anyio.from_thread
import anyio.to_thread
from fastapi import Request

from exchange.errors import UnsupportedMediaType

T = TypeVar("T")
_OCTETS = "application/octet-stream"


async def handed_over(request: Request, take: Callable[[Iterator[bytes]], T]) -> T:
    """Run ``take`` in a thread on the body's pieces, as they arrive.

    Raises:
        UnsupportedMediaType: the body is not ``application/octet-stream``.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _OCTETS:
        raise UnsupportedMediaType(f"send {_OCTETS}")
    stream = request.stream()
    return await anyio.to_thread.run_sync(lambda: take(_blocking(stream)))


def _blocking(stream: AsyncIterator[bytes]) -> Iterator[bytes]:
    async def following() -> bytes | None:
        async for piece in stream:
            return piece
        return None

    while (piece := anyio.from_thread.run(following)) is not None:
        if piece:
            yield piece
