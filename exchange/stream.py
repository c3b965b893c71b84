"""The bytes of a release stream: one format, written by the exchange, read by the requester.

``"ASR1"``, then messages: type u8, length u32, payload. JSON payloads are canonical.

====  ==========================================================================================
type  payload
====  ==========================================================================================
H     ``{release, org, dataset, version, requester, manifestDigest, releaseKey}``; once, first
K     ``{subject, wrapped, digest, length, records}``: a subject's key, wrapped for this release
D     bytes of that subject's sealed part, in order, until ``length`` are there
S     ``{subject}``: this subject was stopped; what came of it is to be discarded
T     ``{trailer, signature}``: the exchange's signed account; once, last
====  ==========================================================================================

Nothing outside the trailer is believed: a stream without one, or one that says something else than
what arrived, is worth nothing. Source: decision D4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

from exchange.errors import EnvelopeCorrupt, EnvelopeVersionUnknown
from ledger.commitment import canonical, parse_canonical
from ledger.errors import MalformedValue

MEDIA_TYPE = "application/vnd.assent.release"
MAGIC = b"ASR1"
HEADER, KEY, DATA, STOPPED, TRAILER = b"H", b"K", b"D", b"S", b"T"
MAX_DATA = 1 << 20
"""Most bytes of one D message."""

_HEAD = struct.Struct(">cI")
_MAX_JSON = 64 << 20


def message(kind: bytes, payload: bytes) -> bytes:
    """Return one message."""
    return _HEAD.pack(kind, len(payload)) + payload


def told(kind: bytes, document: dict[str, Any]) -> bytes:
    """Return one message that carries JSON."""
    return message(kind, canonical(document))


def read_messages(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield (type, payload) from pieces of any size.

    Raises:
        EnvelopeVersionUnknown: another version, or a type that this code does not know.
        EnvelopeCorrupt: not such a stream, cut, or a message that is too long.

    """
    source = _Source(chunks)
    magic = source.take(len(MAGIC))
    if magic != MAGIC:
        if magic[:3] == MAGIC[:3]:
            raise EnvelopeVersionUnknown("a release stream of an unknown version")
        raise EnvelopeCorrupt("not a release stream")
    while not source.exhausted():
        kind, length = _HEAD.unpack(source.take(_HEAD.size))
        if kind not in (HEADER, KEY, DATA, STOPPED, TRAILER):
            raise EnvelopeVersionUnknown("a release stream holds an unknown message")
        if length > (MAX_DATA if kind == DATA else _MAX_JSON):
            raise EnvelopeCorrupt("a message of a release stream is too long")
        yield kind, source.take(length)


def read_json(payload: bytes, names: set[str]) -> dict[str, Any]:
    """Return a JSON payload that has exactly these members. Raises EnvelopeCorrupt."""
    try:
        document = parse_canonical(payload)
    except MalformedValue:
        raise EnvelopeCorrupt("a message of a release stream is malformed") from None
    if not isinstance(document, dict) or set(document) != names:
        raise EnvelopeCorrupt("a message of a release stream is malformed")
    return document


class _Source:
    """Takes exact amounts; copies each byte once however small the amounts are."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._waiting = b""
        self._at = 0

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._waiting):
            pieces = [self._waiting[self._at :]]
            have = len(pieces[0])
            while have < count:
                piece = next(self._chunks, None)
                if piece is None:
                    raise EnvelopeCorrupt("a release stream was cut")
                pieces.append(piece)
                have += len(piece)
            self._waiting, self._at, end = b"".join(pieces), 0, count
        found = self._waiting[self._at : end]
        self._at = end
        return found

    def exhausted(self) -> bool:
        while self._at >= len(self._waiting):
            piece = next(self._chunks, None)
            if piece is None:
                return True
            self._waiting, self._at = piece, 0
        return False
