"""Frames between the keys process and its clients: u32 length, then canonical JSON.

A question is ``{"verb": ..., ...}``. An answer is ``{"ok": {...}}``, ``{"refused": [reasons]}`` (the
process verified, and says no) or ``{"unavailable": word}`` (it could not find out; ask again).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ledger.commitment import canonical, parse_canonical
from ledger.errors import MalformedValue

MAX_FRAME = 64 << 20
"""Bytes of one frame: a key list of 200,000 subjects, in hex, fits."""

_LENGTH = struct.Struct(">I")
# sockaddr_un holds 108 bytes on Linux, the closing zero included.
_LONGEST_PATH = 100


class FrameInvalid(Exception):
    """The other end sent something that is not a frame; the connection is of no more use."""


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send one frame. Raises OSError, or FrameInvalid where it would be too long."""
    body = canonical(message)
    if len(body) > MAX_FRAME:
        raise FrameInvalid(f"a frame of {len(body)} bytes")
    connection.sendall(_LENGTH.pack(len(body)) + body)


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """Return the next frame, or None where the other end has closed between frames.

    Raises:
        FrameInvalid: cut, too long, not canonical JSON, or not an object.
        OSError: the connection broke.

    """
    head = _exactly(connection, _LENGTH.size, may_end=True)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > MAX_FRAME:
        raise FrameInvalid(f"a frame of {length} bytes")
    body = _exactly(connection, length)
    try:
        message = parse_canonical(body or b"")
    except MalformedValue:
        raise FrameInvalid("not canonical JSON") from None
    if not isinstance(message, dict):
        raise FrameInvalid("not an object")
    return message


def _exactly(connection: socket.socket, count: int, *, may_end: bool = False) -> bytes | None:
    found = bytearray()
    while len(found) < count:
        piece = connection.recv(min(count - len(found), 1 << 20))
        if not piece:
            if may_end and not found:
                return None
            raise FrameInvalid("a frame was cut")
        found += piece
    return bytes(found)


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """Give a name under which a socket can be bound or reached, however long its path is."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
