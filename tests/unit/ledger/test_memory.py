"""What the memory ledger says about itself; its behaviour is in tests/contract."""

from __future__ import annotations

import pytest

from ledger.errors import InsecureLedgerWarning, MalformedValue
from ledger.interface import GrantItem
from ledger.memory import MemoryLedger


def test_it_warns() -> None:
    with pytest.warns(InsecureLedgerWarning, match="forgets"):
        MemoryLedger(b"m" * 32, [b"\1" * 20], b"\2" * 20)


@pytest.mark.parametrize("founders", [[], [b"\1" * 20, b"\1" * 20]])
def test_founders_are_needed_and_differ(founders: list[bytes]) -> None:
    with pytest.raises(MalformedValue):
        MemoryLedger(b"m" * 32, founders, b"\2" * 20)


@pytest.mark.parametrize(
    "fields",
    [
        (bytes(19), bytes(32), 1, bytes(64)),
        (bytes(20), bytes(31), 1, bytes(64)),
        (bytes(20), bytes(32), 2**32, bytes(64)),
        (bytes(20), bytes(32), -1, bytes(64)),
        (bytes(20), bytes(32), 1, bytes(65)),
    ],
)
def test_items_have_their_sizes(fields: tuple[bytes, bytes, int, bytes]) -> None:
    with pytest.raises(MalformedValue):
        GrantItem(*fields)
