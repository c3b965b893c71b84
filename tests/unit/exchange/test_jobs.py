"""Submitting a job: who may, what is refused and where, what a requester is told, and what stands in the log."""

from __future__ import annotations

import json
import time

import pytest
import sqlalchemy as sa

from exchange.documents import JOB_KIND
from exchange.errors import DocumentMalformed, IdempotencyMismatch, NotFound, VersionNotReady
from exchange.idempotency import begin
from exchange.store import schema
from ledger.errors import SignatureInvalid
from ledger.ids import DatasetId, JobId
from ledger.leaf import Kind
from ledger.signing import Key
from tests.deployed import Hospital
from tests.worked import Worked, a_column

COLUMNS = [a_column("age")]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One published table of thirteen patients; two of them said nothing."""
    worked = Worked(tmp_path_factory.mktemp("jobs"))
    worked.covered, _ = worked.consenting(11)
    worked.silent = worked.enrol(2)
    worked.publish_rows(
        [(one, {"age": "70"}) for one in [*worked.covered, *worked.silent]], COLUMNS
    )
    yield worked
    worked.close()


@pytest.fixture
def house(shared):
    shared.answer_chain()
    return shared


def submit(house, spec, *, actor=None, key=None):
    signer = key or house.requester.key
    signature = house.sign(spec["kind"], spec, Hospital("x", signer))
    return house.jobs.submit(actor or house.requester.actor, spec, signature)


def test_a_job_is_ruled_and_recorded_before_it_runs(house):
    before = len(house.bodies(Kind.ACCESS_DECIDED))
    told = submit(house, house.spec())
    assert (told["status"], told["covered"], told["withheld"]) == ("queued", 11, None)
    assert len(house.bodies(Kind.ACCESS_DECIDED)) == before + 13
    leaf = house.bodies(Kind.JOB_DECIDED)[-1]
    assert (leaf["job"], leaf["covered"], leaf["withheld"]) == (told["job"], 11, 2)
    table = schema.job_subjects
    with house.store.reading() as conn:
        rows = conn.execute(sa.select(table).where(table.c.job_id == told["job"])).all()
    assert {row.decision for row in rows if row.state == "withheld"} == {"deny"}
    assert sum(row.state == "permitted" for row in rows) == 11
    assert {json.loads(row.reasons)[0] for row in rows if row.state == "withheld"}


def test_the_same_signed_job_is_one_job(house):
    spec = house.spec()
    assert submit(house, spec)["job"] == submit(house, spec)["job"]
    assert submit(house, house.spec())["job"] != submit(house, spec)["job"]


def test_a_key_claimed_for_another_request_undoes_the_submission(house):
    def claim(conn):
        begin(conn, actor="a", key="k", route="r", request_digest=bytes(32), at_ms=1)
        raise IdempotencyMismatch("the key was used with another payload")

    spec = house.spec()
    before = len(house.bodies(Kind.JOB_DECIDED))
    with pytest.raises(IdempotencyMismatch):
        house.jobs.submit(house.requester.actor, spec, house.sign(JOB_KIND, spec), claim=claim)
    assert len(house.bodies(Kind.JOB_DECIDED)) == before


def test_nobody_covered_is_an_answer_with_its_leaf(house):
    told = submit(house, house.spec(purpose="HMARKT"))
    assert (told["status"], told["detail"], told["covered"]) == ("refused", "nobody-covered", 0)
    assert told["withheld"] == 13
    assert house.bodies(Kind.JOB_DECIDED)[-1]["job"] == told["job"]
    assert house.runner.run(JobId.parse(told["job"])) == "refused"


def test_rows_are_disclosed_and_counts_used(house):
    rows = {"filters": [], "want": "rows", "columns": ["age"]}
    with pytest.raises(DocumentMalformed, match="must be disclose"):
        submit(house, house.spec(parameters=rows))
    with pytest.raises(DocumentMalformed, match="must be use"):
        submit(house, house.spec(action="disclose"))
    with pytest.raises(DocumentMalformed, match="must be use"):
        submit(house, house.spec(job="statistics", action="disclose", parameters={"columns": []}))
    assert submit(house, house.spec(parameters=rows, action="disclose"))["status"] == "queued"


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"job": "train"}, "/job"),
        ({"action": "take"}, "/action"),
        ({"purpose": ""}, "/purpose"),
        ({"purpose": 7}, "/purpose"),
        ({"parameters": []}, "/parameters"),
        ({"parameters": {"filters": [], "want": "all"}}, "/parameters/want"),
        ({"parameters": {"filters": [{}], "want": "count"}}, "/parameters/filters/0"),
        ({"nonce": "0x00"}, "/nonce"),
        ({"model": "0x" + "11" * 32}, "/model"),
        ({"slots": []}, "/slots"),
        ({"dataset": None}, "/slots"),
        ({"dataset": "../../etc"}, "/dataset"),
        ({"version": 0}, "/version"),
        ({"version": "1"}, "/version"),
        ({"version": True}, "/version"),
        ({"categories": []}, "/categories"),
        ({"categories": ["tables", "notes"]}, "/categories"),
        ({"categories": ["notes"]}, "/categories"),
        ({"categories": ["secrets"]}, "/categories"),
        ({"receiveKey": "0x" + "AA" * 32}, "/receiveKey"),
        ({"at": 1}, "/at"),
        ({"at": int(time.time()) + 3600}, "/at"),
        ({"at": "now"}, "/at"),
        ({"more": 1}, "/more"),
        ({"kind": "assent.request/1"}, "/kind"),
        ({"requester": "0x" + "11" * 8}, "/requester"),
        ({"job": "plain-inference"}, "/model"),
        ({"job": "statistics", "parameters": {"columns": "age"}}, "/parameters"),
        ({"job": "encrypted-inference", "model": "0x" + "11" * 32, "dataset": None,
          "version": None, "slots": [["0x00", "0x00"]]}, "/slots/0"),
        ({"job": "encrypted-inference", "model": "0x" + "11" * 32, "dataset": None,
          "version": None, "slots": [{"0": 1, "1": 2}]}, "/slots/0"),
        ({"job": "encrypted-inference", "model": "0x" + "11" * 32, "dataset": None,
          "version": None, "slots": [[1, 2]]}, "/slots/0"),
    ],
)  # fmt: skip
def test_a_malformed_job_is_refused_with_its_place(house, changes, pointer):
    before = len(house.bodies(Kind.JOB_DECIDED))
    with pytest.raises(DocumentMalformed) as refused:
        submit(house, house.spec(**changes))
    assert refused.value.pointer == pointer
    assert refused.value.next_step
    assert len(house.bodies(Kind.JOB_DECIDED)) == before


def test_a_member_that_is_missing_is_named(house):
    spec = house.spec()
    del spec["parameters"]
    with pytest.raises(DocumentMalformed, match="/parameters is missing"):
        submit(house, spec)
    with pytest.raises(DocumentMalformed):
        house.jobs.submit(house.requester.actor, [], bytes(64))


def test_only_the_requester_signs(house):
    with pytest.raises(SignatureInvalid):
        submit(house, house.spec(), key=Key.new())
    with pytest.raises(SignatureInvalid):
        submit(house, house.spec(), key=house.publisher.key)
    stranger = Hospital("Elsewhere")
    spec = house.spec(requester=stranger.org.hex)
    with pytest.raises(DocumentMalformed):
        submit(house, spec, key=stranger.key)
    with pytest.raises(NotFound):
        submit(house, spec, key=stranger.key, actor=stranger.actor)


@pytest.mark.parametrize(
    "changes", [{"dataset": DatasetId.new().hex}, {"version": 2}, {"version": 2**40}]
)
def test_what_is_not_published_is_not_found(house, changes):
    with pytest.raises(NotFound):
        submit(house, house.spec(**changes))


def test_an_unknown_model_is_not_found(house):
    with pytest.raises(NotFound, match="model"):
        submit(house, house.spec(job="plain-inference", model="0x" + "11" * 32, parameters={}))


def test_a_stale_chain_covers_nobody(house):
    house.answer_chain(ago_ms=3_600_000)
    told = submit(house, house.spec())
    assert (told["status"], told["covered"]) == ("refused", 0)


def test_jobs_are_their_requesters_alone(house):
    job = JobId.parse(submit(house, house.spec())["job"])
    assert job.hex in {one["job"] for one in house.jobs.mine(house.requester.actor)}
    assert house.jobs.mine(house.publisher.actor) == []
    for verb in (house.jobs.status, house.jobs.result):
        with pytest.raises(NotFound):
            verb(house.publisher.actor, job)
    with pytest.raises(VersionNotReady, match="has no result"):
        house.jobs.result(house.requester.actor, job)
