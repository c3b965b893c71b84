from __future__ import annotations

import dataclasses

import pytest
import sqlalchemy as sa

from exchange import log
from exchange.gate import Access, Admission, Gate
from exchange.store.database import Store
from exchange.store.schema import dataset_versions, leaves
from ledger.ids import ReleaseId, SubjectId
from ledger.leaf import ZEROS, Kind
from ledger.policy import Denial, Permit, Referral, Ruling
from ledger.signing import Domain
from tests import factories
from tests.factories import FixedClock, a_consent, enrol, grant, node_answered, withdraw

STALE = 60.0


@dataclasses.dataclass
class House:
    store: Store
    clock: FixedClock
    gate: Gate
    hospital: factories.Hospital
    access: Access
    domain: Domain

    def subject(self) -> factories.Subject:
        made = factories.a_subject(self.hospital, domain=self.domain)
        enrol(self.store, made)
        return made

    def rule(self, *asked: factories.Subject, **changes) -> list[Ruling]:
        access = dataclasses.replace(self.access, **changes)
        with self.store.reading() as conn:
            rulings = self.gate.rule(conn, access, [one.id for one in asked])
        return [rulings[one.id] for one in asked]

    def admit(self, release: ReleaseId, *asked: factories.Subject) -> Admission:
        ids = [one.id for one in asked]
        return self.store.transact(lambda conn: self.gate.admit(conn, self.access, release, ids))


@pytest.fixture
def house(store: Store, clock: FixedClock) -> House:
    hospital = factories.a_hospital()
    node_answered(store)
    dataset = factories.a_published_dataset(store, hospital)
    access = Access(
        kind="release",
        requester=hospital.org,
        purpose="HRESCH",
        categories=frozenset({"notes"}),
        action="disclose",
        dataset=dataset,
        version=1,
        request_digest=b"\x05" * 32,
    )
    return House(store, clock, Gate(STALE, clock), hospital, access, factories.a_domain())


def test_silence_denies(house: House) -> None:
    assert house.rule(house.subject()) == [Denial(("no-consent",))]


def test_a_recorded_permit_permits_and_a_draft_does_not(house: House) -> None:
    recorded, draft = house.subject(), house.subject()
    consent = a_consent(recorded)
    grant(house.store, consent)
    grant(house.store, a_consent(draft), recorded=False)
    permit, denial = house.rule(recorded, draft)
    assert isinstance(permit, Permit)
    assert permit.because == (consent.id,)
    assert permit.expires == consent.terms.ends
    assert denial == Denial(("not-recorded",))


def test_a_withdrawal_denies_at_once_while_the_chain_still_holds_the_grant(house: House) -> None:
    subject = house.subject()
    consent = a_consent(subject)
    grant(house.store, consent)
    withdraw(house.store, consent)
    assert house.rule(subject) == [Denial(("withdrawn",))]


def test_an_objection_denies_even_before_the_chain_has_it(house: House) -> None:
    subject = house.subject()
    grant(house.store, a_consent(subject))
    grant(house.store, a_consent(subject, decision="deny"), recorded=False)
    assert house.rule(subject) == [Denial(("objection",))]


def test_time_is_computed_and_never_stored(house: House) -> None:
    subject = house.subject()
    now = house.clock.now_ms() // 1000
    grant(house.store, a_consent(subject, from_=now + 10, until=now + 20))
    assert house.rule(subject) == [Denial(("not-yet-valid",))]
    house.clock.advance(10)
    assert isinstance(house.rule(subject)[0], Permit)
    house.clock.advance(10)
    assert house.rule(subject) == [Denial(("expired",))]


def test_every_member_of_the_row_reaches_the_rules(house: House) -> None:
    stranger = factories.a_hospital("B").org
    for reason, changes in {
        "requester": {"requester": [stranger.hex]},
        "purpose": {"purpose": ["TREAT"]},
        "category": {"categories": ["images"]},
        "action": {"actions": ["use"]},
    }.items():
        subject = house.subject()
        grant(house.store, a_consent(subject, **changes))
        assert house.rule(subject) == [Denial((reason,))], reason


def test_a_condition_for_a_person_refers(house: House) -> None:
    subject = house.subject()
    use = {"code": "DUO:0000042", "modifiers": ["DUO:0000021"]}
    grant(house.store, a_consent(subject, dataUse=use))
    assert isinstance(house.rule(subject)[0], Referral)


@pytest.mark.parametrize("seconds", [STALE + 0.001, 3600, -STALE - 0.001])
def test_a_silent_node_denies_everybody(house: House, seconds: float) -> None:
    subject = house.subject()
    grant(house.store, a_consent(subject, from_=house.clock.now_ms() // 1000 - 3600))
    house.clock.advance(seconds)
    assert house.rule(subject) == [Denial(("chain-stale",))]
    node_answered(house.store, house.clock.now_ms())
    assert isinstance(house.rule(subject)[0], Permit)


def test_a_node_that_never_answered_denies(house: House) -> None:
    subject = house.subject()
    grant(house.store, a_consent(subject))
    house.store.transact(lambda conn: conn.execute(sa.delete(factories.chain_cursor)))
    assert house.rule(subject) == [Denial(("chain-stale",))]
    with house.store.reading() as conn:
        assert house.gate.is_stale(conn)


@pytest.mark.parametrize("status", ["draft", "received", "inspecting", "refused", "retired"])
def test_only_a_published_version_may_be_used(house: House, status: str) -> None:
    subject = house.subject()
    grant(house.store, a_consent(subject))
    house.store.transact(
        lambda conn: conn.execute(sa.update(dataset_versions).values(status=status))
    )
    assert house.rule(subject) == [Denial(("dataset-retired",))]
    assert house.rule(subject, version=2) == [Denial(("dataset-retired",))]
    (without,) = house.rule(subject, dataset=None, version=None)
    assert isinstance(without, Permit)


def test_admitting_records_every_ruling_and_the_chain_it_saw(house: House) -> None:
    covered, silent = house.subject(), house.subject()
    stranger = factories.a_subject(house.hospital, domain=house.domain)
    consent = a_consent(covered)
    grant(house.store, consent)
    release = ReleaseId.new()
    admission = house.admit(release, covered, silent, stranger, covered)
    assert admission.permitted == [covered.id]
    assert list(admission.rulings) == [covered.id, silent.id, stranger.id]
    with house.store.reading() as conn:
        for one in (covered, silent, stranger):
            entry = admission.entries[one.id]
            assert log.entry(conn, entry.index) == entry
            assert entry.leaf.kind is Kind.ACCESS_DECIDED
            assert entry.leaf.at_ms == admission.at_ms == house.clock.now_ms()
            body = entry.body
            assert body is not None
            head = log.heads(conn, [one.handle], "consent").get(one.handle)
            expected = (ZEROS, 0) if head is None else (head.hash, head.seq)
            assert (bytes.fromhex(body["consentHead"][2:]), body["consentSeq"]) == expected
            assert body["access"] == release.hex
            assert body["requestDigest"] == "0x" + "05" * 32
            assert body["request"] == {
                "requester": house.hospital.org.hex,
                "purpose": "HRESCH",
                "categories": ["notes"],
                "action": "disclose",
                "dataset": house.access.dataset.hex,
                "version": 1,
            }
        assert admission.entries[covered.id].body["ruling"]["because"] == [consent.id.hex]
        assert admission.entries[silent.id].body["ruling"]["reasons"] == ["no-consent"]
        assert admission.entries[stranger.id].body["ruling"]["decision"] == "deny"


def test_ruling_writes_nothing(house: House) -> None:
    subject = house.subject()
    with house.store.reading() as conn:
        before = log.head(conn)
    house.rule(subject)
    with house.store.reading() as conn:
        assert log.head(conn) == before
        assert house.gate.covered(conn, house.access, [subject.id]) == set()


def test_an_admission_undone_leaves_no_leaf(house: House) -> None:
    subject = house.subject()

    def work(conn: sa.Connection) -> None:
        house.gate.admit(conn, house.access, ReleaseId.new(), [subject.id])
        raise LookupError

    with pytest.raises(LookupError):
        house.store.transact(work)
    with house.store.reading() as conn:
        query = sa.select(sa.func.count()).where(leaves.c.kind == int(Kind.ACCESS_DECIDED))
        assert conn.execute(query).scalar_one() == 0


def test_many_subjects_are_ruled_each_by_their_own_consents(house: House) -> None:
    people = [factories.a_subject(house.hospital, domain=house.domain) for _ in range(60)]
    enrol(house.store, *people)
    grant(house.store, *[a_consent(one) for one in people[::2]])
    extra = [SubjectId.new(house.hospital.org) for _ in range(520)]
    with house.store.reading() as conn:
        covered = house.gate.covered(conn, house.access, [*(one.id for one in people), *extra])
    assert covered == {one.id for one in people[::2]}
