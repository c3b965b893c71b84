"""Walk a ledger's events forward, and notice when blocks that were seen are gone.

The follower keeps nothing: the caller stores the cursor of each result together with what it made
of the events, in one transaction. After a crash the next poll starts where that transaction ended.

A reorganised chain shows in a result as ``rewound_to``: undo everything above that block, then take
the events. ``reset`` says that nothing but the genesis block was recognised, or not even that: the
chain was wiped or replaced. Whoever sees it checks the chain's identity (``ChainLedger.connect``),
deploys again if need be, and hands every signed message in again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ledger.errors import MalformedValue, Reorganised
from ledger.interface import ChainEvent, ConsentLedger, Head

HISTORY = 64
"""Block hashes remembered for finding the place where a reorganised chain forks off."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last block followed, and hashes of earlier ones, oldest (the genesis) first."""

    number: int
    hash: bytes
    history: tuple[Head, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """``{number, hash, history: [[number, hash]]}`` with 0x-hex."""
        return {
            "number": self.number,
            "hash": "0x" + self.hash.hex(),
            "history": [[head.number, "0x" + head.hash.hex()] for head in self.history],
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Cursor:
        """Read :meth:`to_json`'s form. Raises MalformedValue."""
        try:
            return cls(
                int(value["number"]),
                bytes.fromhex(value["hash"][2:]),
                tuple(Head(int(n), bytes.fromhex(h[2:])) for n, h in value["history"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MalformedValue("the cursor is malformed") from error


@dataclass(frozen=True, slots=True)
class FollowResult:
    """What one poll saw.

    ``rewound_to``: the newest block still known, -1 for none, or None where nothing was undone.
    ``head`` is the chain's newest block, ``cursor`` what to store, ``more`` whether to poll again
    at once.
    """

    events: list[ChainEvent]
    rewound_to: int | None
    reset: bool
    head: Head
    cursor: Cursor
    more: bool


class Follower:
    """Follows one ledger. ``load_cursor`` returns what the caller stored last, None at first."""

    def __init__(
        self,
        ledger: ConsentLedger,
        load_cursor: Callable[[], Cursor | None],
        *,
        confirmations: int = 0,
        max_blocks: int = 2_000,
    ) -> None:
        """``confirmations``: blocks to stay behind the head; 0 for ``managed`` and QBFT.

        ``max_blocks``: how far one poll goes.
        """
        self._ledger = ledger
        self._load_cursor = load_cursor
        self._confirmations = confirmations
        self._max_blocks = max_blocks

    def poll(self) -> FollowResult:
        """Look once. Raises ChainError, among them Reorganised when the chain changed meanwhile."""
        ledger = self._ledger
        cursor = self._load_cursor()
        head = ledger.head()
        rewound_to: int | None = None
        reset = False
        if cursor is not None and ledger.head_at(cursor.number) != _tip(cursor):
            cursor = self._fork(cursor)
            rewound_to = cursor.number if cursor is not None else -1
            reset = rewound_to <= 0
        start = cursor.number + 1 if cursor is not None else 0
        confirmed = head.number - self._confirmations
        end = min(confirmed, start + self._max_blocks - 1)
        if end < start:
            if cursor is None:
                cursor = self._genesis()
            return FollowResult([], rewound_to, reset, head, cursor, more=False)
        last = ledger.head_at(end)
        events = list(ledger.events(start, end))
        if last is None or ledger.head_at(end) != last:
            raise Reorganised(f"block {end} changed while it was read")
        return FollowResult(
            events, rewound_to, reset, head, self._advance(cursor, last, events), end < confirmed
        )

    def _genesis(self) -> Cursor:
        genesis = self._ledger.head_at(0)
        if genesis is None:
            raise Reorganised("the chain has no genesis block")
        return Cursor(-1, b"", (genesis,))

    def _fork(self, cursor: Cursor) -> Cursor | None:
        """Find the newest remembered block that the chain still has: all before it are known too."""
        remembered = cursor.history
        known, lost = 0, len(remembered)
        while known < lost:
            middle = (known + lost) // 2
            if self._ledger.head_at(remembered[middle].number) == remembered[middle]:
                known = middle + 1
            else:
                lost = middle
        if known == 0:
            return None
        newest = remembered[known - 1]
        return Cursor(newest.number, newest.hash, remembered[: known - 1])

    def _advance(self, cursor: Cursor | None, last: Head, events: list[ChainEvent]) -> Cursor:
        base = cursor if cursor is not None else self._genesis()
        seen = {head.number: head for head in base.history}
        if base.number >= 0:
            seen[base.number] = Head(base.number, base.hash)
        for event in events:
            seen[event.block_number] = Head(event.block_number, event.block_hash)
        seen.pop(last.number, None)
        kept = [seen[number] for number in sorted(seen)]
        # The genesis stays: it tells a chain that lost its tail from one that was replaced.
        return Cursor(last.number, last.hash, tuple(kept[:1] + kept[1:][-HISTORY:]))


def _tip(cursor: Cursor) -> Head | None:
    return Head(cursor.number, cursor.hash) if cursor.number >= 0 else None
