"""Following a ledger forward, through lost tails, reorganisations and wiped chains."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from ledger.chain import ChainLedger, deploy
from ledger.errors import InsecureLedgerWarning, MalformedValue, Reorganised
from ledger.follow import Cursor, Follower, FollowResult
from ledger.interface import ChainEvent
from ledger.memory import MemoryLedger
from ledger.signing import Domain
from tests.ledgers import LOG, RELAYER, OpenAnvil, Signed, a_key

DOMAIN = Domain(b"f" * 32)


class Projection:
    """What a caller keeps: the ids by block, and the cursor, changed together."""

    def __init__(self) -> None:
        self.cursor: Cursor | None = None
        self.granted: dict[bytes, int] = {}

    def take(self, result: FollowResult) -> FollowResult:
        if result.rewound_to is not None:
            known = result.rewound_to
            self.granted = {key: at for key, at in self.granted.items() if at <= known}
        for event in result.events:
            if event.kind == "granted":
                assert event.id not in self.granted
                self.granted[event.id] = event.block_number
        self.cursor = Cursor.from_json(result.cursor.to_json())
        return result

    def catch_up(self, follower: Follower) -> FollowResult:
        result = self.take(follower.poll())
        while result.more:
            result = self.take(follower.poll())
        return result


def a_memory_ledger(deployment_id: bytes = DOMAIN.deployment_id) -> MemoryLedger:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureLedgerWarning)
        return MemoryLedger(deployment_id, [a_key("f").address], LOG.address)


def follower(ledger: MemoryLedger | ChainLedger, kept: Projection, **changes: int) -> Follower:
    return Follower(ledger, lambda: kept.cursor, **changes)


def test_events_arrive_once_and_in_order() -> None:
    ledger, kept = a_memory_ledger(), Projection()
    following = follower(ledger, kept, max_blocks=2)
    for _ in range(5):
        ledger.grant([Signed(DOMAIN).grant])
    kept.catch_up(following)
    assert len(kept.granted) == 5
    quiet = kept.take(following.poll())
    assert (quiet.events, quiet.rewound_to, quiet.reset) == ([], None, False)


def test_a_crash_before_storing_repeats_the_same_events() -> None:
    ledger, kept = a_memory_ledger(), Projection()
    following = follower(ledger, kept)
    kept.catch_up(following)
    ledger.grant([Signed(DOMAIN).grant])
    assert following.poll().events == following.poll().events != []


def test_confirmations_keep_a_distance() -> None:
    ledger, kept = a_memory_ledger(), Projection()
    following = follower(ledger, kept, confirmations=2)
    assert kept.take(following.poll()).events == []
    for expected in (0, 0, 1, 2):
        ledger.grant([Signed(DOMAIN).grant])
        kept.catch_up(following)
        assert len(kept.granted) == max(0, expected)


def test_a_lost_tail_is_rewound_and_followed_again() -> None:
    ledger, kept = a_memory_ledger(), Projection()
    following = follower(ledger, kept)
    consents = [Signed(DOMAIN) for _ in range(4)]
    for consent in consents:
        ledger.grant([consent.grant])
        kept.catch_up(following)
    ledger.lose_tail(3)
    other = Signed(DOMAIN)
    ledger.grant([other.grant])
    result = kept.catch_up(following)
    assert (result.rewound_to, result.reset) == (3, False)
    assert set(kept.granted) == {consents[0].id, consents[1].id, other.id}


def test_a_tail_lost_without_a_successor_is_noticed() -> None:
    ledger, kept = a_memory_ledger(), Projection()
    following = follower(ledger, kept)
    ledger.grant([Signed(DOMAIN).grant])
    kept.catch_up(following)
    ledger.grant([Signed(DOMAIN).grant])
    kept.catch_up(following)
    ledger.lose_tail(2)
    result = kept.catch_up(following)
    assert (result.rewound_to, len(kept.granted)) == (2, 1)
    assert kept.take(following.poll()).rewound_to is None


def test_a_chain_that_lost_everything_but_its_genesis_is_a_reset() -> None:
    ledger, kept = a_memory_ledger(), Projection()
    following = follower(ledger, kept)
    ledger.grant([Signed(DOMAIN).grant])
    kept.catch_up(following)
    ledger.lose_tail(0)
    result = kept.catch_up(following)
    assert (result.rewound_to, result.reset, kept.granted) == (0, True, {})


def test_another_genesis_is_a_reset() -> None:
    kept = Projection()
    ledger = a_memory_ledger()
    ledger.grant([Signed(DOMAIN).grant])
    kept.catch_up(follower(ledger, kept))
    other = a_memory_ledger(b"o" * 32)
    result = kept.catch_up(follower(other, kept))
    assert (result.rewound_to, result.reset, kept.granted) == (-1, True, {})
    assert kept.take(follower(other, kept).poll()).rewound_to is None


def test_a_chain_that_changes_under_the_reader_is_an_error() -> None:
    ledger = a_memory_ledger()
    ledger.grant([Signed(DOMAIN).grant])

    class Shifting(MemoryLedger):
        def events(self, from_block: int, to_block: int) -> Iterable[ChainEvent]:
            found = list(super().events(from_block, to_block))
            self.lose_tail(1)
            self.grant([Signed(DOMAIN).grant])
            return found

    ledger.__class__ = Shifting
    with pytest.raises(Reorganised, match="block 2"):
        follower(ledger, Projection()).poll()


def test_a_broken_cursor_is_refused() -> None:
    for broken in ({}, {"number": 1, "hash": None, "history": []}):
        with pytest.raises(MalformedValue):
            Cursor.from_json(broken)


@pytest.fixture
def network(anvil_path: Path) -> Iterator[OpenAnvil]:
    running = OpenAnvil(anvil_path)
    yield running
    running.stop()


def test_a_reorganisation_of_a_real_chain(network: OpenAnvil) -> None:
    deployment = deploy(
        network.url, DOMAIN.deployment_id, [a_key("f").address], LOG.address, RELAYER
    )
    ledger = ChainLedger.of(network.url, deployment, RELAYER)
    kept = Projection()
    following = follower(ledger, kept)
    consents = [Signed(DOMAIN) for _ in range(4)]
    for consent in consents:
        ledger.grant([consent.grant])
        kept.catch_up(following)
    network.rpc.call("anvil_reorg", 2, [])
    result = kept.catch_up(following)
    assert result.rewound_to is not None
    assert not result.reset
    assert set(kept.granted) == {consent.id for consent in consents[:2]}
    ledger.grant([consent.grant for consent in consents])
    kept.catch_up(following)
    assert set(kept.granted) == {consent.id for consent in consents}
    ledger.close()
