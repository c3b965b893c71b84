from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from exchange import checkpoints, log
from exchange.errors import AlreadyExists, NotFound, StoreError
from exchange.store.database import Store
from exchange.store.schema import leaves, tree_nodes
from ledger import merkle
from ledger.commitment import salted_body_hash
from ledger.ids import ConsentId, OrgId, SubjectId, handle
from ledger.leaf import ZEROS, Kind

ORG = OrgId(b"\x01" * 8)
AT = 1_800_000_000_123


def subject() -> SubjectId:
    return SubjectId.new(ORG)


def filled(store: Store, count: int) -> list[bytes]:
    drafts = [log.Draft(Kind.INTAKE_OPENED, {"number": number}) for number in range(count)]
    entries = store.transact(lambda conn: log.append_many(conn, drafts, AT))
    return [entry.leaf.hash for entry in entries]


def test_an_empty_log_has_the_empty_root(store: Store) -> None:
    with store.reading() as conn:
        assert log.head(conn) == (0, merkle.EMPTY_ROOT)


def test_a_leaf_is_stored_as_it_was_hashed(store: Store) -> None:
    one, consent = subject(), ConsentId(b"\x07" * 32)
    entry = store.transact(
        lambda conn: log.append(
            conn,
            kind=Kind.CONSENT_GRANTED,
            body={"terms": {"ä": 1}},
            at_ms=AT,
            subject=one,
            consent=consent,
        )
    )
    assert entry.index == 0
    assert entry.leaf.at_ms == AT
    assert entry.leaf.handle == handle(one)
    assert entry.leaf.consent_id == consent.raw
    assert entry.body is not None
    assert entry.leaf.body_hash == salted_body_hash(entry.body)
    with store.reading() as conn:
        assert log.entry(conn, 0) == entry
        assert log.entries(conn, 0, 10) == [entry]
        kept = conn.execute(sa.select(leaves.c.hash, leaves.c.consent_id)).one()
        assert kept == ("0x" + entry.leaf.hash.hex(), consent.hex)
        with pytest.raises(NotFound):
            log.entry(conn, 1)


def test_equal_bodies_have_different_salts(store: Store) -> None:
    assert len(set(filled(store, 20))) == 20


def test_each_chain_of_a_subject_is_linked_from_its_first_leaf(store: Store) -> None:
    one, other = subject(), subject()
    drafts = [
        log.Draft(Kind.SUBJECT_ENROLLED, {}, one),
        log.Draft(Kind.ACCESS_DECIDED, {}, one),
        log.Draft(Kind.SUBJECT_ENROLLED, {}, other),
        log.Draft(Kind.CONSENT_GRANTED, {}, one),
        log.Draft(Kind.INTAKE_OPENED, {}),
    ]
    store.transact(lambda conn: log.append_many(conn, drafts, AT))
    later = [log.Draft(Kind.CONSENT_WITHDRAWN, {}, one), log.Draft(Kind.ACCESS_DECIDED, {}, one)]
    store.transact(lambda conn: log.append_many(conn, later, AT + 1))
    with store.reading() as conn:
        consent, access = (log.chain(conn, handle(one), name) for name in ("consent", "access"))
        assert [entry.index for entry in consent] == [0, 3, 5]
        assert [entry.index for entry in access] == [1, 6]
        for chain in (consent, access):
            assert [entry.leaf.seq for entry in chain] == list(range(len(chain)))
            previous = ZEROS
            for entry in chain:
                assert entry.leaf.prev == previous
                previous = entry.leaf.hash
        heads = log.heads(conn, [handle(one), handle(other), ZEROS], "consent")
        assert heads[handle(one)] == log.Head(2, consent[-1].leaf.hash)
        assert set(heads) == {handle(one), handle(other)}
        both = log.chains(conn, [handle(one), handle(other)], "consent")
        assert both[handle(one)] == consent
        assert len(both[handle(other)]) == 1


def test_a_subject_belongs_to_leaves_of_a_chain_only(store: Store) -> None:
    for draft in (
        log.Draft(Kind.INTAKE_OPENED, {}, subject()),
        log.Draft(Kind.ACCESS_DECIDED, {}),
        log.Draft(Kind.INTAKE_OPENED, {"salt": "0x" + "00" * 16}),
    ):
        with pytest.raises(ValueError, match=r"subject|salt"):
            store.transact(lambda conn, draft=draft: log.append_many(conn, [draft], AT))
    with store.reading() as conn:
        assert log.head(conn)[0] == 0


def test_writers_at_the_same_time_come_one_after_the_other(store: Store) -> None:
    one, each = subject(), 8

    draft = log.Draft(Kind.CONSENT_WITHDRAWN, {}, one)

    def write(_: int) -> None:
        for _round in range(each):
            store.transact(lambda conn: log.append_many(conn, [draft], AT))

    with ThreadPoolExecutor(4) as writers:
        list(writers.map(write, range(4)))
    with store.reading() as conn:
        found = log.entries(conn, 0, 100)
        assert [entry.index for entry in found] == list(range(4 * each))
        assert [entry.leaf.seq for entry in found] == list(range(4 * each))
        hashes = [entry.leaf.hash for entry in found]
        assert [entry.leaf.prev for entry in found] == [ZEROS, *hashes[:-1]]
        assert log.head(conn) == (4 * each, merkle.root(hashes))


def test_a_work_undone_leaves_the_head_as_it_was(store: Store) -> None:
    filled(store, 5)
    with store.reading() as conn:
        before = log.head(conn)

    def work(conn: sa.Connection) -> None:
        log.append(conn, kind=Kind.SUBJECT_ENROLLED, body={}, at_ms=AT, subject=subject())
        raise LookupError

    with pytest.raises(LookupError):
        store.transact(work)
    with store.reading() as conn:
        assert log.head(conn) == before
        assert conn.execute(sa.select(sa.func.count()).select_from(leaves)).scalar_one() == 5


def test_proofs_of_every_size_are_those_of_the_reference(store: Store) -> None:
    hashes = filled(store, 37)
    with store.reading() as conn:
        size, root = log.head(conn)
        assert (size, root) == (37, merkle.root(hashes))
        for smaller in range(38):
            assert log.root_at(conn, smaller) == merkle.root(hashes[:smaller])
            tree = merkle.Tree(hashes[:smaller])
            found = log.inclusions(conn, range(smaller), smaller)
            assert found == {i: tree.inclusion_proof(i) for i in range(smaller)}
            assert log.consistency(conn, smaller, 37) == merkle.consistency_proof(smaller, hashes)
        merkle.verify_inclusion(hashes[11], 11, size, log.inclusion(conn, 11, size), root)


def test_a_changed_leaf_does_not_verify(store: Store) -> None:
    hashes = filled(store, 9)
    with store.reading() as conn:
        size, root = log.head(conn)
        proof = log.inclusion(conn, 4, size)
    with pytest.raises(merkle.InclusionInvalid):
        merkle.verify_inclusion(hashes[5], 4, size, proof, root)


def test_a_lost_subtree_is_noticed_and_not_invented(store: Store) -> None:
    filled(store, 8)
    store.transact(lambda conn: conn.execute(sa.delete(tree_nodes)))
    with store.reading() as conn, pytest.raises(StoreError):
        log.inclusion(conn, 0, 8)


def test_what_lies_outside_the_log_is_not_found(store: Store) -> None:
    filled(store, 3)
    with store.reading() as conn:
        for question in (
            lambda: log.inclusion(conn, 3, 3),
            lambda: log.inclusion(conn, -1, 3),
            lambda: log.inclusion(conn, 0, 4),
            lambda: log.consistency(conn, 3, 2),
            lambda: log.root_at(conn, 4),
        ):
            with pytest.raises(NotFound):
                question()


def test_an_erased_body_leaves_its_skeleton(store: Store) -> None:
    hashes = filled(store, 2)
    store.transact(
        lambda conn: conn.execute(sa.update(leaves).where(leaves.c.idx == 0).values(body=None))
    )
    with store.reading() as conn:
        erased = log.entry(conn, 0)
        assert erased.body is None
        assert erased.leaf.hash == hashes[0]


def test_a_checkpoint_is_of_the_log_and_has_one_root_per_size(store: Store) -> None:
    hashes = filled(store, 6)
    root = merkle.root(hashes[:5])

    def add(root: bytes) -> checkpoints.CheckpointRow:
        return store.transact(
            lambda conn: checkpoints.add_checkpoint(
                conn, size=5, root=root, signature=b"\x01" * 64, at_ms=AT
            )
        )

    made = add(root)
    assert made.status == "pending"
    with pytest.raises(AlreadyExists):
        add(root)
    with pytest.raises(StoreError):
        add(merkle.root(hashes))
    store.transact(
        lambda conn: checkpoints.mark_checkpoint(conn, 5, "anchored", tx=b"\x02" * 32, block=7)
    )
    with store.reading() as conn:
        (only,) = checkpoints.list_checkpoints(conn)
        assert (only.size, only.root, only.status, only.block) == (5, root, "anchored", 7)
        assert checkpoints.list_checkpoints(conn, before=5) == []
    with pytest.raises(NotFound):
        store.transact(lambda conn: checkpoints.mark_checkpoint(conn, 4, "sent"))
