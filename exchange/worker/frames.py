"""Frames between the worker and its child: one byte of kind, four of length, the payload.

The pipe carries sealed parts and sealed keys inwards, counts and sealed results outwards.
"""

from __future__ import annotations

import json
import struct
from typing import IO, Any

from exchange.errors import SandboxLost

_HEAD = struct.Struct(">cI")
#: The largest payload of one frame (bytes): a part of one subject.
MOST = 1 << 30

TASK = b"T"  # parent → child: what to do, JSON
KEYS = b"K"  # parent → child: data keys sealed to the child
PART = b"P"  # parent → child: one subject's sealed part: JSON head, zero byte, bytes
BLOB = b"B"  # parent → child: a named blob (weights, ciphertext): JSON head, zero byte, bytes
END = b"E"  # parent → child: no more input
HELLO = b"C"  # child → parent: the child's public key, once it is confined
ASK = b"Q"  # child → parent: which of these subjects are covered now?
COVERED = b"A"  # parent → child: those
PROGRESS = b"p"  # child → parent: {"done", "total"}
RESULT = b"R"  # child → parent: JSON head, zero byte, bytes (sealed)
ERROR = b"X"  # child → parent: {"reason"}, a stable word


def send(stream: IO[bytes], kind: bytes, payload: bytes = b"") -> None:
    """Write one frame.

    Raises:
        OSError: the other end is gone.
    """
    stream.write(_HEAD.pack(kind, len(payload)) + payload)
    stream.flush()


def send_json(stream: IO[bytes], kind: bytes, value: Any, blob: bytes | None = None) -> None:
    """Write a frame of JSON, followed by a zero byte and ``blob`` if there is one.

    Raises:
        OSError: the other end is gone.
    """
    head = json.dumps(value, separators=(",", ":")).encode()
    send(stream, kind, head if blob is None else head + b"\0" + blob)


def receive(stream: IO[bytes]) -> tuple[bytes, bytes]:
    """Read one frame.

    Raises:
        SandboxLost: the other end is gone, or what it sent is no frame.
    """
    head = _exactly(stream, _HEAD.size)
    kind, length = _HEAD.unpack(head)
    if length > MOST:
        raise SandboxLost("a frame is longer than any may be")
    return kind, _exactly(stream, length)


def split(payload: bytes) -> tuple[Any, bytes]:
    """The JSON head and the bytes behind it."""
    head, _, blob = payload.partition(b"\0")
    return json.loads(head), blob


def _exactly(stream: IO[bytes], count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        raise SandboxLost("the other end of the pipe is gone")
    return data
