from __future__ import annotations

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from exchange import outbox
from exchange.errors import Conflict
from exchange.store.database import Store
from exchange.store.schema import consents
from ledger.interface import GrantItem
from tests import factories
from tests.factories import NOW_MS, a_consent, enrol, grant, record, withdraw


@pytest.fixture
def people(store: Store) -> list[factories.Subject]:
    hospital, domain = factories.a_hospital(), factories.a_domain()
    made = [factories.a_subject(hospital, domain=domain) for _ in range(3)]
    enrol(store, *made)
    return made


def due(store: Store, limit: int = 100) -> list[outbox.Promise]:
    with store.reading() as conn:
        return next(iter(outbox.rounds(conn, limit)), [])


def send(store: Store, promises: list[outbox.Promise], at_ms: int = NOW_MS) -> None:
    ids = [one.id for one in promises]
    store.transact(lambda conn: outbox.mark_sent(conn, ids, at_ms=at_ms, tx=b"\x01" * 32))


def test_a_promise_holds_what_the_chain_verifies(
    store: Store, people: list[factories.Subject]
) -> None:
    consent = a_consent(people[0])
    grant(store, consent, recorded=False)
    (promise,) = due(store)
    assert (promise.verb, promise.consent, promise.attempts) == ("grant", consent.id, 0)
    item = GrantItem(
        consent_key=bytes.fromhex(promise.payload["consentKey"][2:]),
        commitment=bytes.fromhex(promise.payload["commitment"][2:]),
        until_day=promise.payload["untilDay"],
        signature=bytes.fromhex(promise.payload["signature"][2:]),
    )
    assert item.consent_key == consent.consent_key.address
    assert item.commitment == consent.terms.commitment()
    assert item.signature == consent.grant_signature


def test_two_messages_of_one_subject_never_share_a_block(
    store: Store, people: list[factories.Subject]
) -> None:
    one, other, third = people
    first, second = a_consent(one), a_consent(one)
    grant(store, first, second, a_consent(other), a_consent(third), recorded=False)
    withdraw(store, first)
    block = due(store)
    assert len(block) == 3
    assert block[0].consent == first.id
    send(store, block)
    assert due(store) == []
    store.transact(lambda conn: record(conn, first))
    (following,) = due(store)
    assert (following.verb, following.consent) == ("grant", second.id)
    send(store, [following])
    store.transact(lambda conn: record(conn, second))
    (last,) = due(store)
    assert (last.verb, last.consent) == ("withdraw", first.id)


def test_a_withdrawal_is_promised_once_and_needs_a_signature(
    store: Store, people: list[factories.Subject]
) -> None:
    permit, objection = a_consent(people[0]), a_consent(people[1], decision="deny")
    grant(store, permit, objection)

    def promise(one: factories.SignedConsent, signature: bytes | None = None) -> int:
        def work(conn: sa.Connection) -> int:
            query = sa.select(consents).where(consents.c.consent_id == one.id.hex)
            row = conn.execute(query).mappings().one()
            return outbox.promise_withdraw(conn, row, NOW_MS, signature=signature)

        return store.transact(work)

    assert promise(permit) == promise(permit)
    with pytest.raises(Conflict):
        promise(objection)
    promise(objection, objection.withdraw_signature)
    assert {one.consent for one in due(store)} == {permit.id, objection.id}


def test_a_recorded_withdrawal_settles_its_grant(
    store: Store, people: list[factories.Subject]
) -> None:
    consent = a_consent(people[0])
    grant(store, consent, recorded=False)
    withdraw(store, consent)
    changed = store.transact(lambda conn: outbox.mark_recorded(conn, [consent.id], verb="withdraw"))
    assert changed == 2
    assert due(store) == []
    with store.reading() as conn:
        assert outbox.waiting(conn) == 0
        assert [p.status for p in outbox.promises_of(conn, [consent.id])] == ["recorded"] * 2


def test_what_was_handed_in_and_not_seen_is_handed_in_again(
    store: Store, people: list[factories.Subject]
) -> None:
    grant(store, a_consent(people[0]), recorded=False)
    send(store, due(store), NOW_MS)
    store.transact(lambda conn: outbox.retry(conn, sent_before_ms=NOW_MS))
    assert due(store) == []
    assert store.transact(lambda conn: outbox.retry(conn, sent_before_ms=NOW_MS + 1)) == 1
    (again,) = due(store)
    assert again.attempts == 1


def test_a_recorded_promise_is_not_unsettled_by_a_late_answer(
    store: Store, people: list[factories.Subject]
) -> None:
    consent = a_consent(people[0])
    grant(store, consent, recorded=False)
    block = due(store)
    store.transact(lambda conn: record(conn, consent))
    send(store, block)
    with store.reading() as conn:
        assert outbox.waiting(conn) == 0


def test_a_lost_chain_is_filled_again_in_the_first_order(
    store: Store, people: list[factories.Subject]
) -> None:
    def participants(conn: sa.Connection) -> None:
        for verb in ("admit", "rotate"):
            outbox.promise_participant(conn, verb, {"participant": "0x01"}, NOW_MS)
        for size in (3, 5):
            outbox.promise_anchor(
                conn, size=size, root=bytes(32), signature=bytes(64), at_ms=NOW_MS
            )

    store.transact(participants)
    grant(store, *[a_consent(one) for one in people])
    first = due(store)
    assert [one.verb for one in first] == ["admit", "rotate", "anchor", "anchor"]
    store.transact(lambda conn: outbox.mark_kept(conn, [first[0].id, first[1].id]))
    assert store.transact(lambda conn: outbox.mark_anchored(conn, 3)) == 1
    assert [one.payload["size"] for one in due(store)] == [5]
    store.transact(lambda conn: outbox.mark_anchored(conn, 5))
    assert due(store) == []
    assert store.transact(lambda conn: outbox.reset_lost(conn, outbox.Held())) == 7
    again = due(store)
    assert [one.verb for one in again] == ["admit", "rotate", "anchor", "anchor", *["grant"] * 3]
    assert [one.id for one in again] == sorted(one.id for one in again)


def test_a_chain_that_lost_its_tail_gets_the_tail_alone(
    store: Store, people: list[factories.Subject]
) -> None:
    def others(conn: sa.Connection) -> None:
        for member in ("0x01", "0x02"):
            outbox.promise_participant(conn, "admit", {"participant": member}, NOW_MS)
        for size in (3, 5):
            outbox.promise_anchor(
                conn, size=size, root=bytes(32), signature=bytes(64), at_ms=NOW_MS
            )

    store.transact(others)
    kept, gone, ended = (a_consent(one) for one in people)
    grant(store, kept, gone, ended, recorded=False)
    withdraw(store, gone)
    withdraw(store, ended)
    with store.reading() as conn:
        everything = [one.id for some in outbox.rounds(conn, 100) for one in some]
    assert len(everything) == 9
    store.transact(lambda conn: outbox.mark_kept(conn, everything))
    held = outbox.Held(
        granted=frozenset({kept.id.hex, gone.id.hex}),
        withdrawn=frozenset({ended.id.hex}),
        anchored=frozenset({3}),
        participants=frozenset({("admitted", "0x01")}),
    )
    assert store.transact(lambda conn: outbox.reset_lost(conn, held)) == 3
    lost = due(store)
    assert [one.verb for one in lost] == ["admit", "anchor", "withdraw"]
    assert lost[0].payload["participant"] == "0x02"
    assert lost[1].payload["size"] == 5
    assert lost[2].consent == gone.id


def test_one_subject_has_one_promise_in_each_round(
    store: Store, people: list[factories.Subject]
) -> None:
    one, other, _ = people
    first, second = a_consent(one), a_consent(one)
    grant(store, first, second, a_consent(other), recorded=False)
    withdraw(store, first)
    with store.reading() as conn:
        found = outbox.rounds(conn, 100)
    assert [len(some) for some in found] == [2, 1, 1]
    assert [some[0].consent for some in found] == [first.id, second.id, first.id]
    assert [some[0].verb for some in found] == ["grant", "grant", "withdraw"]
    send(store, found[0][:1])
    with store.reading() as conn:
        (left,) = outbox.rounds(conn, 100)
    assert [promise.consent for promise in left] == [found[0][1].consent]


def test_an_undone_work_promises_nothing(store: Store, people: list[factories.Subject]) -> None:
    def work(conn: sa.Connection) -> None:
        outbox.promise_participant(conn, "admit", {}, NOW_MS)
        raise LookupError

    with pytest.raises(LookupError):
        store.transact(work)
    assert due(store) == []


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["grant", "withdraw", "send", "lose", "mine", "forget"]),
        st.integers(0, 2),
    ),
    max_size=25,
)


class World:
    """A store, a worker's rounds, and a chain that keeps what arrives until it forgets it all."""

    def __init__(self, store: Store) -> None:
        self.store = store
        hospital, domain = factories.a_hospital(), factories.a_domain()
        self.people = [factories.a_subject(hospital, domain=domain) for _ in range(3)]
        enrol(store, *self.people)
        self.consents: list[factories.SignedConsent] = []
        self.ended: set[bytes] = set()
        self.chain: dict[bytes, str] = {}

    def grant(self, who: int) -> None:
        self.consents.append(a_consent(self.people[who]))
        grant(self.store, self.consents[-1], recorded=False)

    def withdraw(self, who: int) -> None:
        for one in self.consents:
            if one.subject is self.people[who] and one.id.raw not in self.ended:
                self.ended.add(one.id.raw)
                withdraw(self.store, one)
                return

    def send(self, _who: int = 0) -> None:
        """All goes well: the block arrives, is noted as sent, and its events are seen."""
        block = due(self.store)
        self._arrive(block)
        send(self.store, block)
        self._follow()

    def lose(self, _who: int) -> None:
        """The block is noted as sent and never arrives."""
        send(self.store, due(self.store))
        self.store.transact(lambda conn: outbox.retry(conn, sent_before_ms=NOW_MS + 1))

    def mine(self, _who: int) -> None:
        """The block arrives, and the worker dies before it notes anything."""
        self._arrive(due(self.store))

    def forget(self, _who: int) -> None:
        self.chain.clear()
        self.store.transact(lambda conn: outbox.reset_lost(conn, outbox.Held()))

    def _arrive(self, block: list[outbox.Promise]) -> None:
        owners = {one.id: one.subject.id for one in self.consents}
        subjects = [owners[one.consent] for one in block if one.consent]
        assert len(subjects) == len(block) == len(set(subjects))
        for one in block:
            assert one.consent is not None
            if one.verb == "withdraw":
                self.chain[one.consent.raw] = "withdrawn"
            else:
                self.chain.setdefault(one.consent.raw, "active")

    def _follow(self) -> None:
        seen = {
            state: [one.id for one in self.consents if self.chain.get(one.id.raw) == state]
            for state in ("active", "withdrawn")
        }

        def work(conn: sa.Connection) -> None:
            outbox.mark_recorded(conn, seen["active"], verb="grant")
            outbox.mark_recorded(conn, seen["withdrawn"], verb="withdraw")

        self.store.transact(work)


@given(steps=STEPS)
def test_every_promise_is_kept_whatever_fails(
    steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = Store.open(f"sqlite:///{tmp_path_factory.mktemp('outbox') / 'store.sqlite'}")
    world = World(store)
    for step, who in steps:
        getattr(world, step)(who)
    for _ in range(2 * len(world.consents) + 2):
        world.send()
    with store.reading() as conn:
        assert outbox.waiting(conn) == 0
    store.close()
    assert world.chain == {
        one.id.raw: "withdrawn" if one.id.raw in world.ended else "active" for one in world.consents
    }
