"""The bytes of one release on their way: keys just before their parts, a look before every piece.

For a few subjects at a time the keys process rules and hands out wrapped keys, and while their parts
leave it already rules on the next few. Before every piece that leaves, at most :data:`PIECE_BYTES`,
the store is asked whether anything happened since the ruling; if so, or if the ruling is older than
:data:`RULING_MS`, the gate rules again. A withdrawal stops the subject's remaining bytes with the
next piece; the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from exchange.clock import Clock
from exchange.errors import ExchangeError, KeysError
from exchange.gate import Access, Gate
from exchange.keys.client import KeysClient, OpenedPart, OpenedParts, PendingParts
from exchange.store import schema
from exchange.store.database import Store
from exchange.stream import DATA, HEADER, KEY, MAGIC, STOPPED, TRAILER, message, told
from exchange.vault import Vault
from ledger.errors import LedgerError
from ledger.ids import ReleaseId, SubjectId
from ledger.signing import to_hex

log = logging.getLogger(__name__)

PIECE_BYTES = 512 << 10
"""Most bytes between two looks at the store."""
GROUP_SUBJECTS = 32
"""Subjects ruled on together; they leave in the next pieces, right after the ruling."""
_GROUP_BYTES = 2 * PIECE_BYTES
RULING_MS = 1_000
"""How long a ruling serves while nothing happens."""

Outcome = Literal["complete", "partial", "interrupted"]


@dataclass(frozen=True, slots=True)
class Part:
    """Where a subject's sealed records lie in the blob (bytes); ``digest`` in hex."""

    subject: SubjectId
    offset: int
    length: int
    digest: str
    records: int


@dataclass(frozen=True)
class Plan:
    """What the store says of a release before its first byte."""

    access: Access
    blob: str
    parts: tuple[Part, ...]


Close = Callable[[ReleaseId, list[Part], list[SubjectId], Outcome], int]
"""Writes the closing leaf and returns its index."""


class ReleaseStream:
    """An iterator over the bytes of one release. :meth:`close` it, whatever happens."""

    def __init__(
        self,
        release: ReleaseId,
        planned: Plan,
        header: dict[str, Any],
        *,
        close: Close,
        store: Store,
        gate: Gate,
        keys: KeysClient,
        vault: Vault,
        clock: Clock,
    ) -> None:
        self.release = release
        self._planned = planned
        self._header = header
        self._close = close
        self._store = store
        self._gate = gate
        self._keys = keys
        self._vault = vault
        self._clock = clock
        self._delivered: list[Part] = []
        self._stopped: list[SubjectId] = []
        self._closed = False
        self._size = 0
        self._ruled_ms = 0
        self._pieces = self._run()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def close(self) -> None:
        """Give up if it has not ended: the release is closed as partial, without a trailer.

        What the last piece held may have arrived, so it counts as delivered where it was whole,
        and as stopped where more was to follow.
        """
        self._pieces.close()
        if not self._closed:
            self._finish("partial")

    def _finish(self, outcome: Outcome) -> int:
        index = self._close(self.release, self._delivered, self._stopped, outcome)
        self._closed = True
        return index

    def _run(self) -> Generator[bytes]:
        yield MAGIC + told(HEADER, self._header)
        try:
            with closing(self._opened()) as opened:
                for group, answer in opened:
                    yield from self._group(group, answer)
        except (ExchangeError, LedgerError):
            # What went wrong is in the log of who refused; the receiver gets no trailer, and with
            # it the word that this is not everything.
            log.warning("release broke off", extra={"release": self.release.hex}, exc_info=True)
            self._finish("partial")
            return
        index = self._finish("complete")
        try:
            trailer, signature = self._keys.sign_trailer(self.release)
        except KeysError:
            log.warning(
                "no trailer", extra={"release": self.release.hex, "leaf": index}, exc_info=True
            )
            return
        yield told(TRAILER, {"trailer": trailer, "signature": to_hex(signature)})

    def _opened(self) -> Generator[tuple[list[Part], OpenedParts]]:
        """Each group with its keys; the next group's are asked for while this one leaves."""
        groups = list(_grouped(self._planned.parts, GROUP_SUBJECTS, _GROUP_BYTES))
        pending: tuple[int, PendingParts] | None = None
        try:
            for number, group in enumerate(groups):
                asked_ms, question = pending or self._ask(group)
                pending = (asked_ms, question)
                opened = question.result()
                pending = self._ask(groups[number + 1]) if number + 1 < len(groups) else None
                self._size, self._ruled_ms = opened.size, asked_ms
                yield group, opened
        finally:
            if pending is not None:
                pending[1].abandon()

    def _ask(self, group: list[Part]) -> tuple[int, PendingParts]:
        subjects = [part.subject for part in group]
        return self._clock.now_ms(), self._keys.begin_parts(self.release, subjects)

    def _group(self, group: list[Part], opened: OpenedParts) -> Iterator[bytes]:
        answers = {one.subject: one for one in opened.parts}
        for piece in _grouped(group, GROUP_SUBJECTS, PIECE_BYTES):
            if piece[0].length > PIECE_BYTES:
                yield from self._large(piece[0], answers[piece[0].subject])
            else:
                yield self._piece(piece, answers)

    def _piece(self, group: list[Part], answers: dict[SubjectId, OpenedPart]) -> bytes:
        opened = [part for part in group if answers[part.subject].wrapped is not None]
        self._stopped.extend(
            part.subject for part in group if answers[part.subject].wrapped is None
        )
        ranges = [(part.offset, part.length) for part in opened]
        ready = list(zip(opened, self._vault.read_ranges(self._planned.blob, ranges), strict=True))
        covered = self._covered({part.subject: answers[part.subject].expires for part, _ in ready})
        pieces = [
            told(STOPPED, {"subject": part.subject.hex})
            for part in group
            if part.subject not in covered
        ]
        for part, sealed in ready:
            if part.subject in covered:
                self._delivered.append(part)
                pieces += (_key_message(part, answers[part.subject]), message(DATA, sealed))
            else:
                self._stopped.append(part.subject)
        return b"".join(pieces)

    def _large(self, part: Part, answer: OpenedPart) -> Iterator[bytes]:
        stop = told(STOPPED, {"subject": part.subject.hex})
        # Stopped until the last byte has left: a hang-up between must not count as delivered.
        self._stopped.append(part.subject)
        if answer.wrapped is None:
            yield stop
            return
        head = _key_message(part, answer)
        for at in range(0, part.length, PIECE_BYTES):
            length = min(PIECE_BYTES, part.length - at)
            piece = self._vault.read(self._planned.blob, offset=part.offset + at, length=length)
            if not self._covered({part.subject: answer.expires}):
                yield stop
                return
            if at + length == part.length:
                self._stopped.pop()
                self._delivered.append(part)
            yield head + message(DATA, piece)
            head = b""

    def _covered(self, subjects: dict[SubjectId, int | None]) -> set[SubjectId]:
        """Who may still leave, right now. While the log has not grown, nothing was withdrawn."""
        now_ms = self._clock.now_ms()
        now = now_ms // 1000
        running = [subject for subject, ends in subjects.items() if ends is None or now < ends]
        with self._store.reading() as conn:
            size = conn.execute(sa.select(schema.tree_head.c.size)).scalar_one()
            recent = 0 <= now_ms - self._ruled_ms <= RULING_MS
            if (size == self._size and recent) or not running:
                return set(running)
            return self._gate.covered(conn, self._planned.access, running)


def _grouped(parts: Sequence[Part], most: int, most_bytes: int) -> Iterator[list[Part]]:
    """Neighbours together, so many and of so many bytes; a larger one stands alone."""
    group: list[Part] = []
    size = 0
    for part in parts:
        if group and (len(group) == most or size + part.length > most_bytes):
            yield group
            group, size = [], 0
        group.append(part)
        size += part.length
    if group:
        yield group


def _key_message(part: Part, answer: OpenedPart) -> bytes:
    return told(
        KEY,
        {
            "subject": part.subject.hex,
            "wrapped": to_hex(answer.wrapped or b""),
            "digest": part.digest,
            "length": part.length,
            "records": part.records,
        },
    )
