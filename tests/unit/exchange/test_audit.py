from __future__ import annotations

import json

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from exchange import log
from exchange.actor import Actor, Role
from exchange.api.auth import anybody
from exchange.app import create_app
from exchange.audit import MEDIA_TYPE, MOST_LEAVES
from exchange.auditing.accesses import find
from exchange.auditing.assembly import assemble
from exchange.errors import Conflict, NotEntitled, NotFound, StoreError, VersionNotReady
from exchange.store import schema
from exchange.wiring import build
from exchange.worker.execution import Runner
from exchange.worker.sandbox import Limits
from ledger.errors import ReleaseMismatch
from ledger.ids import handle
from ledger.leaf import Kind, Leaf
from ledger.merkle import verify_consistency, verify_inclusion
from ledger.messages import from_hex
from ledger.signing import Checkpoint, verify
from ledger.verify import verify_bundle
from tests.audited import AUDITOR, Audited
from tests.ledgers import Chain


@pytest.fixture(scope="module")
def chain(tmp_path_factory, anvil_path):
    running = Chain(tmp_path_factory.mktemp("node"), anvil_path)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory, chain):
    """A house with one release of two permitted and two withheld, closed and anchored."""
    deployed = Audited(tmp_path_factory.mktemp("shared") / "a", chain)
    patients = deployed.enrol(4)
    for patient in patients[:3]:
        deployed.grant(patient)
    deployed.withdraw(patients[2])
    deployed.publish_for(patients)
    deployed.release = deployed.ask()
    deployed.stream(deployed.release)
    deployed.anchor()
    yield deployed
    deployed.close()


@pytest.fixture
def house(tmp_path, chain):
    deployed = Audited(tmp_path / "a", chain)
    yield deployed
    deployed.close()


@pytest.fixture
def http(shared):
    exchange = build(shared.settings)
    app = create_app(exchange, pages=None)
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)

    def as_(actor):
        app.dependency_overrides[anybody] = lambda: actor
        return client

    client.as_ = as_
    yield client
    exchange.close()


def hospital(one):
    return Actor(Role.HOSPITAL, one.org.hex)


SOMEBODY = Actor(Role.SUBJECT, "0x" + "11" * 32)
STRANGER = Actor(Role.HOSPITAL, "0x" + "11" * 8)


# Bundles -----------------------------------------------------------------------------------


def test_a_release_is_proved_from_its_bundle_alone(tmp_path, chain, store_url):
    house = Audited(tmp_path / "a", chain, url=store_url)
    try:
        patients = house.enrol(7)
        granted, objecting, lifted, renewed, withdrawn, waiting, _ = patients
        house.grant(granted, purpose="*")
        house.grant(granted)
        house.grant(objecting)
        house.grant(objecting, decision="deny", purpose="*", categories="*")
        house.grant(lifted)
        house.grant(lifted, decision="deny", requester="*")
        older = house.grant(renewed)
        house.grant(renewed, supersedes=older.hex)
        house.grant(withdrawn)
        house.withdraw(withdrawn)
        house.lift(lifted, lifted.consents[1])
        house.step()
        house.consents.grant(waiting.actor, house.submission(waiting))
        house.publish_for(patients)
        release = house.ask()
        house.stream(release)
        house.anchor()
        found = house.verify(release)
        assert (found.kind, found.id) == ("release", release.hex)
        assert (found.permitted, found.withheld) == (3, 4)
        assert (found.delivered, found.stopped) == (3, 0)
        assert house.bundle(release) == house.bundle(release)
        house.anchor()
        assert house.verify(release) == found
    finally:
        house.close()


def test_a_release_that_stopped_somebody_is_proved_as_such(house):
    patients = house.enrol(2)
    for patient in patients:
        house.grant(patient)
    house.publish_for(patients, records=40, size=40_000)
    release = house.ask()
    stream = house.releases.open(house.requester.org, release)
    next(stream), next(stream)
    house.withdraw(min(patients, key=lambda one: one.subject))
    with pytest.raises(VersionNotReady, match="streaming"):
        house.bundle(release)
    list(stream)
    stream.close()
    house.anchor()
    found = house.verify(release)
    assert (found.permitted, found.delivered, found.stopped) == (2, 1, 1)


def test_a_denied_release_and_one_never_fetched_are_proved_as_well(house):
    patients = house.enrol(2)
    house.grant(patients[0])
    house.publish_for(patients)
    denied = house.ask(purpose="TREAT")
    decided = house.ask()
    house.anchor()
    assert (house.verify(denied).permitted, house.verify(denied).withheld) == (0, 2)
    assert (house.verify(decided).permitted, house.verify(decided).delivered) == (1, 0)


def test_a_denial_because_the_chain_was_silent_shows_no_consent(house):
    patients = house.enrol(2)
    for patient in patients:
        house.grant(patient)
    house.publish_for(patients)
    house.edit(sa.update(schema.chain_cursor).values(answered_ms=1))
    release = house.ask()
    house.step()
    house.anchor()
    assert house.verify(release).withheld == 2
    shown = json.loads(house.bundle(release))
    for subject in shown["subjects"]:
        assert subject["consentChain"][1]["body"] is None


def test_no_bundle_before_an_anchored_checkpoint_covers_it(house):
    patients = house.enrol(1)
    house.grant(patients[0])
    house.publish_for(patients)
    house.anchor()
    release = house.ask()
    for prepare in (lambda: None, house.chain.checkpoint, house.chain.hand_in):
        prepare()
        with pytest.raises(VersionNotReady, match="no anchored checkpoint") as caught:
            house.bundle(release)
        assert "few seconds" in caught.value.next_step
    house.step()
    assert house.verify(release).permitted == 1
    (item,) = house.audit.accesses(AUDITOR, None, 10).items
    assert item["bundle"] is True
    house.stream(release)
    (item,) = house.audit.accesses(AUDITOR, None, 10).items
    assert item["bundle"] is False


def test_a_bundle_shows_no_more_than_the_proof_needs(shared):
    shown = json.loads(shared.bundle(shared.release))
    assert {one["body"]["org"] for one in shown["participants"]} == {
        shared.publisher.org.hex,
        shared.requester.org.hex,
    }
    for subject in shown["subjects"]:
        *earlier, _head = subject["consentChain"]
        assert all(leaf["proof"] is None and leaf["index"] is None for leaf in earlier)


def test_earlier_grants_of_a_permitted_subject_stay_private(house):
    patient, stranger = house.enrol(2)
    house.grant(patient, purpose=["TREAT"])
    house.grant(patient)
    house.publish_for([patient])
    release = house.ask()
    house.anchor()
    assert house.verify(release).permitted == 1
    (subject,) = json.loads(house.bundle(release))["subjects"]
    grants = [leaf["body"] for leaf in subject["consentChain"] if leaf["body"] is not None]
    assert [body["document"]["purpose"] for body in grants if "document" in body] == [["HRESCH"]]
    assert stranger.subject.hex not in json.dumps(subject)


def test_an_erased_body_is_told_and_nothing_is_made_up(house):
    patients = house.enrol(1)
    house.grant(patients[0])
    house.publish_for(patients)
    release = house.ask()
    house.anchor()
    with house.store.reading() as conn:
        access = find(conn, release.hex)
    mine = schema.leaves.c.idx == access.leaf
    house.edit(sa.update(schema.leaves).where(mine).values(body=None))
    with pytest.raises(Conflict, match="erased"):
        house.bundle(release)
    house.edit(sa.delete(schema.leaves).where(mine))
    with pytest.raises(StoreError, match=f"leaf {access.leaf}"):
        house.bundle(release)


def test_the_number_of_statements_does_not_grow_with_the_subjects(house):
    patients = house.enrol(40)
    house.consents_of = [house.submission(patient) for patient in patients]
    for patient, submission in zip(patients, house.consents_of, strict=True):
        house.consents.grant(patient.actor, submission)
    house.step()
    house.publish_for(patients)
    release = house.ask()
    house.anchor()
    with house.store.reading() as conn:
        access = find(conn, release.hex)
        statements = []
        sa.event.listen(conn, "before_cursor_execute", lambda *given: statements.append(given[2]))
        bundle = assemble(conn, house.deployment.id, access)
    assert len(bundle.subjects) == 40
    assert len(statements) < 40


# Who may have one --------------------------------------------------------------------------


def test_parties_get_their_evidence_and_others_nothing(shared):
    audit, release = shared.audit, shared.release.hex
    whole = audit.bundle(AUDITOR, release)
    assert audit.bundle(hospital(shared.publisher), release) == whole
    for actor in (STRANGER, SOMEBODY):
        with pytest.raises(NotFound, match="no such access"):
            audit.bundle(actor, release)
    with pytest.raises(NotFound, match="no such access"):
        audit.bundle(AUDITOR, "0x" + "00" * 16)


def test_a_requester_is_not_told_who_was_withheld(shared, house):
    with pytest.raises(Conflict, match="withheld"):
        shared.audit.bundle(hospital(shared.requester), shared.release.hex)
    patients = house.enrol(1)
    house.grant(patients[0])
    house.publish_for(patients)
    release = house.ask()
    house.anchor()
    own = house.audit.bundle(hospital(house.requester), release.hex)
    assert verify_bundle(own, house.trust()).permitted == 1


# Jobs --------------------------------------------------------------------------------------


def run(house, job):
    limits = Limits(120.0, 2 << 30)
    runner = Runner(house.store, house.vault, house.client, house.gate, house.clock, limits)
    return runner.run(job)


def test_a_job_is_proved_like_a_release_without_parts(house):
    patients = house.enrol(3)
    for patient in patients[:2]:
        house.grant(patient)
    house.publish_for(patients)
    job = house.job()
    with pytest.raises(VersionNotReady, match="queued"):
        house.bundle(job)
    assert run(house, job) == "done"
    house.anchor()
    found = house.verify(job)
    assert (found.kind, found.permitted, found.withheld) == ("job", 2, 1)
    assert (found.delivered, found.stopped) == (2, 0)
    refused = house.job(purpose="TREAT")
    house.anchor()
    assert (house.verify(refused).permitted, house.verify(refused).withheld) == (0, 3)


def finish(house, job, used):
    """Close a job with what an operator chooses to say."""

    def work(conn):
        body = {
            "job": job.hex,
            "outcome": "done",
            "resultDigest": None,
            "used": sorted("0x" + handle(one.subject).hex() for one in used),
            "dropped": 0,
            "detail": None,
        }
        at_ms = house.clock.now_ms()
        entry = log.append(conn, kind=Kind.JOB_FINISHED, body=body, at_ms=at_ms)
        mine = schema.jobs.c.job_id == job.hex
        values = {"status": "done", "closing_leaf": entry.index}
        conn.execute(sa.update(schema.jobs).where(mine).values(values))

    house.store.transact(work)
    house.anchor()


def test_a_job_that_used_somebody_without_a_permit_fails_at_step_7(house):
    patients = house.enrol(2)
    house.grant(patients[0])
    house.publish_for(patients)
    job = house.job()
    finish(house, job, patients)
    with pytest.raises(ReleaseMismatch, match="not permitted") as caught:
        house.verify(job)
    assert caught.value.step == 7


@pytest.mark.parametrize("own", [True, False])
def test_each_slot_of_an_encrypted_job_is_covered_by_the_consent_that_it_names(house, own):
    patients = house.enrol(2, house.requester)
    consents = [house.grant(patient).hex for patient in patients]
    weights = "0x" + "22" * 32
    row = {"digest": weights, "org_id": house.requester.org.hex, "card": "{}", "path": "none"}
    house.edit(sa.insert(schema.models).values(**row, signature="0x", leaf_idx=0))
    named = consents if own else consents[::-1]
    job = house.job(
        job="encrypted-inference",
        dataset=None,
        version=None,
        model=weights,
        parameters={},
        slots=[[one.subject.hex, consent] for one, consent in zip(patients, named, strict=True)],
    )
    house.anchor()
    found = house.verify(job)
    assert (found.permitted, found.withheld, found.delivered) == (2, 0, 0)
    assert house.audit.bundle(hospital(house.requester), job.hex) == house.bundle(job)
    finish(house, job, patients)
    if own:
        assert house.verify(job).delivered == 2
        return
    with pytest.raises(ReleaseMismatch, match="the consent that it names") as caught:
        house.verify(job)
    assert caught.value.step == 7


# The log -----------------------------------------------------------------------------------


def test_checkpoints_are_signed_and_consistent_with_each_other(shared):
    shared.grant(shared.enrol(1)[0])
    shared.anchor()
    page = shared.audit.checkpoints(None, 1)
    rest = shared.audit.checkpoints(int(page.next), 50)
    newer, older = page.items[0], rest.items[0]
    assert rest.next is None
    assert shared.audit.latest() == newer
    assert newer["status"] == "anchored"
    assert newer["block"] > 0
    for one in (newer, older):
        message = Checkpoint(one["size"], from_hex(one["root"], 32))
        signature = from_hex(one["signature"], 64)
        verify(message, signature, shared.deployment.exchange, shared.domain)
    proof = shared.audit.consistency(older["size"], newer["size"])
    assert (proof["firstRoot"], proof["secondRoot"]) == (older["root"], newer["root"])
    verify_consistency(
        older["size"],
        newer["size"],
        from_hex(older["root"]),
        from_hex(newer["root"]),
        [from_hex(node) for node in proof["hashes"]],
    )
    trusted = shared.trust().checkpoints
    assert trusted[newer["size"]] == from_hex(newer["root"])


def test_no_checkpoint_is_the_latest_before_one_is_anchored(house):
    with pytest.raises(VersionNotReady, match="no checkpoint"):
        house.audit.latest()
    house.chain.checkpoint()
    with pytest.raises(VersionNotReady, match="no checkpoint"):
        house.audit.latest()


def test_every_leaf_is_proved_by_its_skeleton(shared):
    size = shared.audit.latest()["size"]
    told = shared.audit.leaves(AUDITOR, 0, size)
    assert (told["from"], told["to"]) == (0, size)
    for index, text in enumerate(told["skeletons"]):
        proof = shared.audit.inclusion(index, size)
        leaf = Leaf.unpack(from_hex(text))
        assert proof["leafHash"] == "0x" + leaf.hash.hex()
        hashes = [from_hex(node) for node in proof["hashes"]]
        verify_inclusion(leaf.hash, index, size, hashes, from_hex(proof["rootHash"]))


def test_leaves_come_in_bounded_pages_to_auditors_alone(shared):
    told = shared.audit.leaves(AUDITOR, 3, 5)
    assert (told["from"], told["to"], len(told["skeletons"])) == (3, 5, 2)
    beyond = shared.audit.leaves(AUDITOR, told["size"], told["size"] + 10 * MOST_LEAVES)
    assert beyond["skeletons"] == []
    assert shared.audit.leaves(AUDITOR, 5, 3)["skeletons"] == []
    for actor in (STRANGER, SOMEBODY):
        with pytest.raises(NotEntitled):
            shared.audit.leaves(actor, 0, 5)
        with pytest.raises(NotEntitled):
            shared.audit.accesses(actor, None, 5)


def test_proofs_beyond_the_log_are_not_found(shared):
    size = shared.audit.latest()["size"]
    for ask in (
        lambda: shared.audit.inclusion(size, size),
        lambda: shared.audit.inclusion(0, size + 10_000),
        lambda: shared.audit.inclusion(2**53, 2**53),
        lambda: shared.audit.consistency(size + 10_000, size + 10_001),
        lambda: shared.audit.consistency(size, size - 1),
    ):
        with pytest.raises(NotFound):
            ask()


def test_accesses_are_paged_newest_first(house):
    patients = house.enrol(1)
    house.grant(patients[0])
    house.publish_for(patients)
    made = [house.ask(), house.job(), house.ask()]
    found, cursor = [], None
    while True:
        page = house.audit.accesses(AUDITOR, cursor, 2)
        found += page.items
        if page.next is None:
            break
        cursor = int(page.next)
    assert [item["id"] for item in found] == [one.hex for one in reversed(made)]
    assert [item["kind"] for item in found] == ["release", "job", "release"]
    assert found[1]["what"] == "query"
    assert found[0]["publisher"] == house.publisher.org.hex


# HTTP --------------------------------------------------------------------------------------


def test_the_bundle_arrives_byte_for_byte(http, shared):
    answer = http.as_(AUDITOR).get(f"/v1/bundles/{shared.release.hex}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert shared.release.hex in answer.headers["content-disposition"]
    assert answer.content == shared.bundle(shared.release)
    assert verify_bundle(answer.content, shared.trust()).delivered == 2


def test_refusals_arrive_as_problems(http, shared):
    path = f"/v1/bundles/{shared.release.hex}"
    assert http.get(path).status_code == 401
    assert http.as_(STRANGER).get(path).status_code == 404
    assert http.as_(hospital(shared.requester)).get(path).status_code == 409
    fresh = shared.ask()
    answer = http.as_(AUDITOR).get(f"/v1/bundles/{fresh.hex}")
    assert answer.status_code == 409
    assert answer.json()["type"] == "/problems/version-not-ready"
    assert "few seconds" in answer.json()["next"]
    assert http.get("/v1/bundles/0x12").status_code in (400, 404, 422)


def test_proofs_are_for_everybody_logged_in_and_accesses_for_auditors(http, shared):
    size = shared.audit.latest()["size"]
    public = (
        "/v1/checkpoints",
        "/v1/checkpoints/latest",
        f"/v1/proofs/inclusion?index=0&size={size}",
        f"/v1/proofs/consistency?first=1&second={size}",
    )
    private = (
        "/v1/leaves?from=0&to=5",
        "/v1/accesses?limit=1",
        f"/v1/accesses/{shared.release.hex}/audit-events",
        f"/v1/accesses/{shared.release.hex}/audit-events?event=disclosure",
    )
    for path in public + private:
        assert http.get(path).status_code == 401
    for actor, allowed in ((SOMEBODY, public), (STRANGER, public), (AUDITOR, public + private)):
        client = http.as_(actor)
        for path in public + private:
            assert client.get(path).status_code == (200 if path in allowed else 404), path
