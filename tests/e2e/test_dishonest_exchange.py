"""The exchange lies about one access, and ``python -m ledger verify`` says at which step.

Every part is real: contracts on a managed node, a keys process, the store, the patients' and the
hospitals' keys. The operator has the store and every verb of the exchange, and no key of a patient
or of a hospital. Each story is told twice: honestly, and then it verifies, and with the lie.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from exchange import log
from exchange.claims import unclaimed
from exchange.consents import Consents
from exchange.documents import MANIFEST_KIND, REQUEST_KIND
from exchange.errors import KeysRefused
from exchange.granting import Checked, read_submission
from exchange.store import schema
from exchange.streaming import Part
from exchange.taking import take
from ledger.commitment import canonical, sha256
from ledger.consent import parse_document
from ledger.ids import DatasetId, SubjectId
from ledger.leaf import Kind
from ledger.messages import Desk, from_hex
from ledger.signing import Invited, Key, Lift, Redeemed, sign_document, to_hex
from tests.audited import Audited, changed
from tests.auditor import Auditor
from tests.deployed import Deployed, Patient
from tests.ledgers import Chain

OPERATOR = Key.new()
Act = Callable[[Audited, Patient], object]


@pytest.fixture(scope="module")
def chain(tmp_path_factory, anvil_path):
    running = Chain(tmp_path_factory.mktemp("node"), anvil_path)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def house(tmp_path_factory, chain):
    """One exchange; every story has a dataset and patients of its own."""
    deployed = Audited(tmp_path_factory.mktemp("house") / "a", chain)
    yield deployed
    deployed.close()


@pytest.fixture
def auditor(house, tmp_path):
    return Auditor(house, tmp_path / "audit")


def fails(verdict: dict[str, Any], step: int, what: str) -> None:
    assert (verdict["verified"], verdict.get("step")) == (False, step), verdict
    assert what in verdict["what"]


# What an operator can write ----------------------------------------------------------------


def enter(house: Audited, patient: Patient, submission: dict[str, Any], at_ms: int) -> None:
    """Store a consent without asking who signed it."""
    given = read_submission(submission)
    checked = Checked(
        id=given.terms.consent_id(),
        commitment=given.terms.commitment(),
        until_day=given.terms.until_day,
        parsed=parse_document(submission["document"]),
        given=given,
    )

    def work(conn: sa.Connection) -> None:
        log.lock_head(conn)
        take(conn, patient.subject, {0: checked}, at_ms=at_ms)

    house.store.transact(work)
    house.step()


def set_row(house: Audited, patient: Patient, place: int = 0, **values: Any) -> None:
    """Change a consent's row."""
    mine = schema.consents.c.consent_id == patient.consents[place].consent_id().hex
    house.edit(sa.update(schema.consents).where(mine).values(**values))


def append(house: Audited, kind: Kind, body: dict[str, Any], patient: Patient, place: int) -> None:
    """Write a leaf of the operator's own into a subject's chain."""
    draft = log.Draft(kind, body, patient.subject, patient.consents[place].consent_id())
    house.store.transact(lambda conn: log.append_many(conn, [draft], house.clock.now_ms()))


# Lies that make the gate permit, or the log say what was not -----------------------------------


def nothing(_house: Audited, _victim: Patient) -> None:
    """The patient signs nothing."""


def forge_consent(house: Audited, victim: Patient) -> None:
    submission = house.submission(Patient(victim.subject, OPERATOR))
    victim.consents.append(read_submission(submission).terms)
    enter(house, victim, submission, house.clock.now_ms())


def forge_patient(house: Audited, victim: Patient) -> None:
    """Invite in the hospital's name, with a key that is not the hospital's."""
    code, expiry = Key.new(), int(time.time()) + 86_400
    invited = OPERATOR.sign(Invited(victim.subject, code.address, expiry), house.domain)
    row = {
        "subject": victim.subject.hex,
        "org_id": house.publisher.org.hex,
        "code_key": to_hex(code.address),
        "expiry": expiry,
        "signature": to_hex(invited),
        "status": "open",
    }
    house.edit(sa.insert(schema.invitations).values(row))
    redeemed = code.sign(Redeemed(victim.subject, victim.identity.address), house.domain)
    house.enrolment.redeem(victim.subject, victim.identity.address, redeemed)
    house.grant(victim)


def grant(house: Audited, victim: Patient) -> None:
    house.grant(victim)


def grant_and_withdraw(house: Audited, victim: Patient) -> None:
    house.grant(victim)
    house.withdraw(victim)


def undo_withdrawal(house: Audited, victim: Patient) -> None:
    set_row(house, victim, status="active", ended_leaf=None, ended_by=None)


def grant_unrecorded(house: Audited, victim: Patient) -> None:
    house.consents.grant(victim.actor, house.submission(victim))


def invent_record(house: Audited, victim: Patient) -> None:
    """Say that the chain holds a consent which it was never handed."""
    mine = schema.outbox.c.consent_id == victim.consent.hex
    house.edit(sa.update(schema.outbox).where(mine).values(status="recorded"))
    Deployed.record(house, [(victim, victim.consent)])


def grant_and_object(house: Audited, victim: Patient) -> None:
    house.grant(victim)
    house.grant(victim, decision="deny", purpose="*", categories="*")


def ignore_objection(house: Audited, victim: Patient) -> None:
    set_row(house, victim, 1, status="inactive")


def forge_lift(house: Audited, victim: Patient) -> None:
    commitment = victim.consents[1].commitment()
    signed = to_hex(OPERATOR.sign(Lift(commitment), house.domain))
    body = {"commitment": to_hex(commitment), "lift": signed}
    append(house, Kind.OBJECTION_LIFTED, body, victim, 1)
    recorded = {"block": 1, "blockHash": "0x" + "00" * 32, "transaction": "0x" + "00" * 32}
    append(house, Kind.CONSENT_RECORDED, recorded, victim, 1)
    set_row(house, victim, 1, status="inactive")


def grant_for_treatment(house: Audited, victim: Patient) -> None:
    house.grant(victim, purpose=["TREAT"])


def widen_purpose(house: Audited, victim: Patient) -> None:
    set_row(house, victim, purposes='["HRESCH"]')


def desk(house: Audited, victim: Patient, *, signer: Key | None = None, late: int = 0) -> None:
    """The desk withdraws; entered by the exchange, which looks at nothing."""
    at = int(time.time()) - late
    message = Desk(victim.consents[0].commitment(), "ana,ben", at)
    signed = (signer or house.publisher.key).sign(message, house.domain)
    said = {
        "org": house.publisher.org.hex,
        "officers": "ana,ben",
        "at": at,
        "signature": to_hex(signed),
    }
    end = Consents._end
    end(house.consents, victim.consent, by="desk", desk=said, claim=unclaimed)


def delay_desk(house: Audited, victim: Patient) -> None:
    desk(house, victim, late=7_200)


def invent_desk(house: Audited, victim: Patient) -> None:
    desk(house, victim, signer=OPERATOR)


@dataclass(frozen=True)
class Lie:
    """What the patient did, what the operator did to it, and how the auditor notices."""

    patient: Act
    lie: Act
    step: int
    what: str
    honest: Act = nothing
    enrolled: bool = True
    permits: bool = True
    signed: bool = False


LIES = {
    "a consent forged with keys of the operator's own": Lie(
        nothing, forge_consent, 2, "Terms is not signed by"
    ),
    "a patient invented with an invitation of the operator's own": Lie(
        nothing, forge_patient, 2, "invitation is not signed", enrolled=False
    ),
    "a withdrawal undone": Lie(grant_and_withdraw, undo_withdrawal, 4, "not in force"),
    "a record on the chain invented": Lie(
        grant_unrecorded, invent_record, 4, "the chain holds no grant", signed=True
    ),
    "an objection ignored": Lie(grant_and_object, ignore_objection, 5, "another ruling"),
    "an objection lifted without the patient": Lie(grant_and_object, forge_lift, 2, "subject"),
    "a purpose widened": Lie(grant_for_treatment, widen_purpose, 5, "another ruling"),
    "a desk's withdrawal entered two hours late": Lie(
        grant, delay_desk, 2, "not entered when it was signed", honest=desk, permits=False
    ),
    "a desk's withdrawal invented": Lie(
        grant, invent_desk, 2, "not signed by", honest=desk, permits=False
    ),
}


def tell(house: Audited, lie: Lie, act: Act) -> tuple[bytes, bytes, Patient]:
    """Publish, ask, stream and anchor; the bundle, what arrived, and the patient it is about."""
    house.dataset = DatasetId.new()
    (willing,) = house.enrol(1)
    victim = Patient(SubjectId.new(house.publisher.org), Key.new())
    if lie.enrolled:
        (victim,) = house.enrol(1)
    house.grant(willing)
    lie.patient(house, victim)
    act(house, victim)
    house.publish_for([willing, victim])
    release = house.ask()
    received = house.stream(release)
    house.anchor()
    assert house.blobs[willing.subject] in received
    return house.bundle(release), received, victim


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_lie_about_a_consent_is_named_and_nothing_unsigned_leaves(house, auditor, lie):
    honest, _, _ = tell(house, lie, lie.honest)
    proved = auditor.verdict(honest, leaves=auditor.leaves())
    assert (proved["verified"], proved["permitted"], proved["withheld"]) == (True, 1, 1), proved
    lied, received, victim = tell(house, lie, lie.lie)
    fails(auditor.verdict(lied), lie.step, lie.what)
    # The gate believed its rows; the keys process believes what patients have signed, and no row.
    permitted = lied.count(b'"decision":"permit","expires"')
    assert permitted == (2 if lie.permits else 1)
    assert (house.blobs[victim.subject] in received) == lie.signed


# Lies about who asked, what was published, and what left --------------------------------------


@dataclass
class Case:
    """A dataset of one who is willing and one who is not."""

    house: Audited
    willing: Patient
    unwilling: Patient

    def part(self, patient: Patient, *, digest_of: Patient | None = None) -> Part:
        """Where a patient's part lies, or a claim about it."""
        blob = self.house.blobs[patient.subject]
        told = self.house.blobs[(digest_of or patient).subject]
        return Part(patient.subject, 0, len(blob), to_hex(sha256(told)), 1)


@pytest.fixture
def case(house):
    house.dataset = DatasetId.new()
    willing, unwilling = house.enrol(2)
    house.grant(willing)
    return Case(house, willing, unwilling)


def test_a_request_that_nobody_made_fails_at_step_2(house, case, auditor):
    house.publish_for([case.willing, case.unwilling])
    honest = house.ask()
    document = house.request(nonce=to_hex(secrets.token_bytes(16)))
    mine = schema.orgs.c.org_id == house.requester.org.hex
    address = schema.orgs.c.address.name
    house.edit(sa.update(schema.orgs).where(mine).values({address: to_hex(OPERATOR.address)}))
    signature = sign_document(OPERATOR, REQUEST_KIND, document, house.domain)
    forged = house.requests.ask(house.requester.actor, document, signature).release
    real = to_hex(house.requester.key.address)
    house.edit(sa.update(schema.orgs).where(mine).values({address: real}))
    with pytest.raises(KeysRefused):
        house.stream(forged)
    house.anchor()
    assert auditor.verdict(house.bundle(honest))["verified"]
    fails(auditor.verdict(house.bundle(forged)), 2, "assent.request/1 is not signed by")


def test_a_publication_that_the_hospital_did_not_sign_fails_at_step_2(house, case, auditor):
    sealed = house.seal(
        [case.willing, case.unwilling], house.client.status().keys_key, records=1, size=60
    )
    house.client.deposit(house.dataset, 1, sealed)
    table = schema.dataset_versions
    mine = table.c.dataset_id == house.dataset.hex
    with house.store.reading() as conn:
        text = conn.execute(sa.select(table.c.manifest).where(mine)).scalar_one()
    manifest = json.loads(text)
    signature = to_hex(sign_document(OPERATOR, MANIFEST_KIND, manifest, house.domain))
    house.edit(sa.update(table).where(mine).values(manifest_signature=signature))
    house.publish()
    release = house.ask()
    with pytest.raises(KeysRefused):
        house.stream(release)
    house.anchor()
    fails(auditor.verdict(house.bundle(release)), 2, "assent.manifest/1 is not signed by")


def test_a_record_released_without_its_ruling_fails_at_step_7(house, case, auditor):
    house.publish_for([case.willing, case.unwilling])
    honest, lied = house.ask(), house.ask()
    house.releases.close(honest, [case.part(case.willing)], [], "delivered")
    both = [case.part(case.willing), case.part(case.unwilling)]
    house.releases.close(lied, both, [], "delivered")
    house.anchor()
    assert auditor.verdict(house.bundle(honest))["delivered"] == 1
    fails(auditor.verdict(house.bundle(lied)), 7, "delivered that was not permitted")


def test_another_record_than_the_published_one_fails_at_step_7(house, case, auditor):
    house.publish_for([case.willing, case.unwilling])
    release = house.ask()
    swapped = case.part(case.willing, digest_of=case.unwilling)
    house.releases.close(release, [swapped], [], "delivered")
    house.anchor()
    fails(auditor.verdict(house.bundle(release)), 7, "not what was published")


def test_a_checkpoint_that_is_said_to_be_anchored_fails_at_step_6(house, case, auditor):
    house.publish_for([case.willing, case.unwilling])
    release = house.ask()
    house.chain.checkpoint()
    table = schema.checkpoints
    waiting = table.c.status != "anchored"
    house.edit(sa.update(table).where(waiting).values(status="anchored"))
    lied = house.bundle(release)
    fails(auditor.verdict(lied), 6, "no checkpoint of size")
    house.step()
    assert auditor.verdict(lied)["verified"]


# Lies in the file that is handed out -----------------------------------------------------------


@pytest.fixture(scope="module")
def told(house):
    """The bundle of an honest release: granted, withdrawn, objecting, unwilling."""
    house.dataset = DatasetId.new()
    granted, withdrawn, objecting, unwilling = house.enrol(4)
    house.grant(granted)
    grant_and_withdraw(house, withdrawn)
    grant_and_object(house, objecting)
    house.publish_for([granted, withdrawn, objecting, unwilling])
    release = house.ask()
    house.stream(release)
    house.anchor()
    return house.bundle(release)


def subject_with(bundle: Any, kind: Kind) -> Any:
    """The subject whose chain holds a leaf of this kind."""
    for subject in bundle["subjects"]:
        if kind in [kind_of(leaf) for leaf in subject["consentChain"]]:
            return subject
    raise AssertionError(kind)


def kind_of(leaf: Any) -> int:
    return from_hex(leaf["skeleton"])[1]


def leave_out(kind: Kind) -> Callable[[Any], None]:
    def change(bundle: Any) -> None:
        chain = subject_with(bundle, kind)["consentChain"]
        place = [kind_of(leaf) for leaf in chain].index(kind)
        if place == len(chain) - 1:
            chain[place - 1].update(index=chain[place]["index"], proof=chain[place]["proof"])
        del chain[place]

    return change


def rewrite(leaf: Any, **members: Any) -> None:
    """Change a body, and its leaf with it, so that the two agree."""
    leaf["body"].update(members)
    skeleton = from_hex(leaf["skeleton"])
    leaf["skeleton"] = to_hex(skeleton[:-32] + sha256(canonical(leaf["body"])))


def redate(leaf: Any) -> None:
    """Let a leaf be an hour older."""
    skeleton = from_hex(leaf["skeleton"])
    earlier = int.from_bytes(skeleton[2:10], "big") - 3_600_000
    leaf["skeleton"] = to_hex(skeleton[:2] + earlier.to_bytes(8, "big") + skeleton[10:])


def permitted(bundle: Any) -> Any:
    return next(
        one
        for one in bundle["subjects"]
        if one["decided"]["body"]["ruling"]["decision"] == "permit"
    )


FILES: dict[str, tuple[Callable[[Any], object], int]] = {
    "a withdrawal left out": (leave_out(Kind.CONSENT_WITHDRAWN), 4),
    "an objection left out": (leave_out(Kind.OBJECTION_RECORDED), 4),
    "a record on the chain left out": (leave_out(Kind.CONSENT_RECORDED), 4),
    "a whole subject left out": (lambda one: one["subjects"].pop(), 7),
    "a ruling taken from another subject": (
        lambda one: one["subjects"][0].update(decided=one["subjects"][1]["decided"]),
        1,
    ),
    "a consent dated back": (lambda one: redate(permitted(one)["consentChain"][1]), 4),
    "a ruling dated back": (lambda one: redate(permitted(one)["decided"]), 5),
    "a body changed": (lambda one: one["access"]["closing"]["body"].update(outcome="stopped"), 1),
    "a delivery changed with its leaf": (
        lambda one: rewrite(one["access"]["closing"], delivered=[]),
        6,
    ),
    "a publication changed with its leaf": (
        lambda one: rewrite(one["dataset"]["leaf"], org="0x" + "12" * 8),
        2,
    ),
    "a total changed with its leaf": (lambda one: rewrite(one["access"]["leaf"], withheld=0), 6),
    "a reason changed with its leaf": (
        lambda one: rewrite(
            subject_with(one, Kind.CONSENT_WITHDRAWN)["decided"],
            ruling={
                "decision": "deny",
                "because": [],
                "reasons": ["chain-stale"],
                "expires": None,
                "policy": "assent.policy/1",
            },
        ),
        6,
    ),
    "another access's name": (lambda one: one.update(id="0x" + "12" * 16), 1),
    "another log's root": (lambda one: one["checkpoint"].update(root="0x" + "12" * 32), 6),
    "a smaller log": (lambda one: one["checkpoint"].update(size=one["checkpoint"]["size"] - 1), 6),
}


@pytest.mark.parametrize(("change", "step"), FILES.values(), ids=FILES)
def test_a_lie_in_the_file_is_named(told, auditor, change, step):
    assert auditor.verdict(told)["verified"]
    verdict = auditor.verdict(changed(told, change))
    assert (verdict["verified"], verdict.get("step")) == (False, step), verdict
