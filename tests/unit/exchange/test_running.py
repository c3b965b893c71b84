"""Jobs in their children: who is in the answer, what small groups hide, and what a withdrawal does to it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
from hashlib import sha256

import pytest
import sqlalchemy as sa

from compute.models import ModelCard
from exchange.errors import BlobMissing, JobFailed, KeysUnavailable, NotFound, VersionNotReady
from exchange.keys.client import KeysClient
from exchange.store import schema
from exchange.vault import model_path, result_path
from exchange.worker import running, sandbox
from exchange.worker.sandbox import Limits
from exchange.worker.turns import Turns
from ledger.ids import JobId, handle
from ledger.leaf import Kind
from tests.worked import Before, Worked, a_column, a_note, children, lines

COLUMNS = [a_column("age", "integer"), a_column("city", "text")]
OLD = {"field": "age", "op": ">=", "value": "60"}


@pytest.fixture
def house(tmp_path):
    worked = Worked(tmp_path / "a")
    yield worked
    worked.close()


def a_table(house, count, *, old=None, **consent):
    """A published table: ``count`` consenting patients, of whom ``old`` are 70 years old."""
    patients, _ = house.consenting(count, **consent)
    rows = [
        (patient, {"age": "70" if old is None or number < old else "40", "city": f"c{number}"})
        for number, patient in enumerate(patients)
    ]
    house.publish_rows(rows, COLUMNS)
    return patients


@pytest.mark.parametrize(("old", "shown"), [(11, 11), (10, None), (1, None), (0, 0)])
def test_a_count_from_one_to_ten_is_hidden(house, old, shown):
    a_table(house, 12, old=old)
    job = house.count(OLD)
    assert house.runner.run(job) == "done"
    assert house.answer(job) == {
        "want": "count",
        "subjects": shown,
        "records": shown,
        "suppressedBelow": 11,
    }


def test_a_count_is_of_people_and_not_of_their_records(house):
    patients, _ = house.consenting(6)
    parts = {one.subject: lines([a_note("fever"), a_note("fever", 1)]) for one in patients}
    house.publish_parts(parts)
    job = house.count()
    house.runner.run(job)
    assert house.answer(job)["subjects"] is None
    assert house.answer(job)["records"] is None
    by_field = house.count(OLD)
    house.runner.run(by_field)
    assert house.answer(by_field)["subjects"] == 0


def test_rows_are_of_those_who_permit_rows_and_of_nobody_else(house):
    open_handed, _ = house.consenting(3)
    counted, _ = house.consenting(2, actions=["use"])
    silent = house.enrol(2)
    everybody = [*open_handed, *counted, *silent]
    cells = [{"age": "70", "city": f"c{number}"} for number in range(len(everybody))]
    house.publish_rows(list(zip(everybody, cells, strict=True)), COLUMNS)
    job = house.rows_of(OLD, columns=["city"])
    assert house.runner.run(job) == "done"
    rows = house.answer(job)["rows"]
    expected = sorted([one.subject.hex, f"c{number}"] for number, one in enumerate(open_handed))
    assert sorted(rows) == expected
    states = house.states(job)
    assert [states[one.subject.hex] for one in open_handed] == ["used"] * 3
    assert [states[one.subject.hex] for one in [*counted, *silent]] == ["withheld"] * 4
    twin = house.count()
    house.runner.run(twin)
    assert house.status(twin)["used"] == 5


def test_a_result_is_for_its_requester_alone_and_the_leaf_says_who_was_used(house):
    patients = a_table(house, 12)
    job = house.count()
    house.runner.run(job)
    with pytest.raises(NotFound):
        house.jobs.result(house.publisher.actor, job)
    (leaf,) = house.bodies(Kind.JOB_FINISHED)
    assert leaf["used"] == sorted("0x" + handle(one.subject).hex() for one in patients)
    sealed = house.jobs.result(house.requester.actor, job)
    assert leaf["resultDigest"] == "0x" + sha256(sealed).hexdigest()
    assert b'"subjects"' not in sealed


def test_who_withdrew_before_the_run_is_left_out(house):
    patients = a_table(house, 13)
    job = house.count()
    house.withdraw(patients[0])
    assert house.runner.run(job) == "done"
    assert house.answer(job)["subjects"] == 12
    assert house.states(job)[patients[0].subject.hex] == "dropped"
    assert house.status(job)["dropped"] == 1


def test_who_withdraws_while_the_child_works_is_dropped(house):
    patients = a_table(house, 13)
    job = house.count()
    keys = Before(house.client, "open_job", lambda: house.withdraw(patients[0]))
    runner = dataclasses.replace(house.runner, keys=keys)
    assert runner.run(job) == "done"
    assert house.answer(job)["subjects"] == 12
    assert house.states(job)[patients[0].subject.hex] == "dropped"


def test_who_withdraws_while_the_result_is_stored_is_in_no_result(house):
    patients = a_table(house, 13)
    job = house.count()
    vault = Before(house.vault, "put_bytes", lambda: house.withdraw(patients[0]))
    runner = dataclasses.replace(house.runner, vault=vault)
    assert runner.run(job) == "done"
    assert house.answer(job)["subjects"] == 12
    assert len(house.bodies(Kind.JOB_FINISHED)) == 1


def test_a_job_whose_last_patient_withdrew_leaves_no_result(house):
    (patient,) = a_table(house, 1)
    job = house.count()
    vault = Before(house.vault, "put_bytes", lambda: house.withdraw(patient))
    runner = dataclasses.replace(house.runner, vault=vault)
    assert runner.run(job) == "refused"
    assert house.status(job)["detail"] == "nobody-covered"
    with pytest.raises(VersionNotReady):
        house.jobs.result(house.requester.actor, job)
    with pytest.raises(BlobMissing):
        house.vault.read(result_path(job))


def test_nobody_is_used_who_gave_consent_after_the_ruling(house):
    """A job is decided when it is submitted; a later consent is for a later job."""
    patients = a_table(house, 11)
    (late,) = house.enrol(1)
    rows = [(one, {"age": "70", "city": "c"}) for one in [*patients, late]]
    house.publish_rows(rows, COLUMNS)
    job = house.count()
    house.grant(late, categories="*")
    house.runner.run(job)
    assert house.answer(job)["subjects"] == 11
    assert house.runner.run(twin := house.count()) == "done"
    assert house.answer(twin)["subjects"] == 12


def test_running_again_after_the_end_changes_nothing(house):
    a_table(house, 11)
    job = house.count()
    assert house.runner.run(job) == "done"
    before = house.jobs.result(house.requester.actor, job)
    assert house.runner.run(job) == "done"
    assert house.jobs.result(house.requester.actor, job) == before
    assert len(house.bodies(Kind.JOB_FINISHED)) == 1


def test_two_attempts_at_once_make_one_result(house):
    a_table(house, 11)
    job = house.count()
    ended: list[str] = []
    attempts = [
        threading.Thread(target=lambda: ended.append(house.runner.run(job))) for _ in range(3)
    ]
    for attempt in attempts:
        attempt.start()
    for attempt in attempts:
        attempt.join()
    assert ended == ["done"] * 3
    assert len(house.bodies(Kind.JOB_FINISHED)) == 1
    assert house.answer(job)["subjects"] == 11


def test_a_turn_is_given_to_one_at_a_time_and_forgotten_after_the_last():
    turns, inside, most = Turns(), [0], [0]

    def one() -> None:
        with turns.of("a"):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            inside[0] -= 1

    threads = [threading.Thread(target=one) for _ in range(20)]
    with turns.of("a"), turns.of("b"):
        for thread in threads:
            thread.start()
        assert most[0] == 0
    for thread in threads:
        thread.join()
    assert most[0] == 1
    assert turns._known == {}


def test_a_keys_process_that_is_away_ends_nothing(house):
    a_table(house, 11)
    job = house.count()
    house.stop_keys()
    with pytest.raises(KeysUnavailable):
        house.runner.run(job)
    assert house.status(job)["status"] == "running"
    house.start_keys()
    house.client = KeysClient(house.settings.keys_socket, timeout_seconds=20)
    assert dataclasses.replace(house.runner, keys=house.client).run(job) == "done"


def test_a_child_that_is_lost_is_followed_by_another_but_not_for_ever(house, monkeypatch):
    a_table(house, 11)
    lost: list[int] = []

    def losing(times):
        def run_child(feed, limits):
            if len(lost) < times:
                lost.append(1)
                parts = feed.parts
                feed = dataclasses.replace(feed, parts=killing(parts))
            return sandbox.run_child(feed, limits)

        return run_child

    def killing(parts):
        for part in parts:
            for child in children():
                os.kill(child, signal.SIGKILL)
            yield part

    monkeypatch.setattr(running, "run_child", losing(sandbox.MOST_LOSSES - 1))
    assert house.runner.run(house.count()) == "done"
    lost.clear()
    monkeypatch.setattr(running, "run_child", losing(sandbox.MOST_LOSSES))
    job = house.count(OLD)
    assert house.runner.run(job) == "failed"
    assert house.status(job)["detail"] == "sandbox-lost"


def test_a_part_that_was_changed_in_the_vault_fails_the_job(house):
    patients = a_table(house, 11)
    job = house.count()
    path = house.store.transact(
        lambda conn: conn.execute(
            sa.select(schema.dataset_versions.c.blob).where(
                schema.dataset_versions.c.dataset_id == house.dataset.hex
            )
        ).scalar_one()
    )
    stored = bytearray(house.vault.read(path))
    stored[-1] ^= 1
    house.vault.delete(path)
    house.vault.put_bytes(path, bytes(stored))
    assert house.runner.run(job) == "failed"
    assert house.status(job)["detail"] == "part-corrupt"
    assert house.status(job)["used"] == 0
    assert set(house.states(job).values()) == {"stopped"}
    assert len(patients) == house.status(job)["dropped"]


def test_a_job_whose_input_is_gone_fails(house):
    a_table(house, 11)
    job = house.count()
    with house.store.reading() as conn:
        path = conn.execute(sa.select(schema.dataset_versions.c.blob)).scalar_one()
    house.vault.delete(path)
    assert house.runner.run(job) == "failed"
    assert house.status(job)["detail"] == "input-missing"


def test_a_job_beyond_its_memory_or_time_fails_with_the_word(house):
    patients, _ = house.consenting(1)
    parts = {patients[0].subject: lines([a_note("x" * (48 << 20))])}
    house.publish_parts(parts)
    small = dataclasses.replace(house.runner, limits=Limits(120, 80 << 20))
    assert small.run(job := house.count()) == "failed"
    assert house.status(job)["detail"] == "memory"
    brief = dataclasses.replace(house.runner, limits=Limits(0.0, 2 << 30))
    assert brief.run(job := house.count(OLD)) == "failed"
    assert house.status(job)["detail"] == "time"
    assert house.runner.run(house.count({**OLD, "value": "0"})) == "done"


def test_the_child_may_name_only_those_whom_it_was_given(house):
    patients = a_table(house, 2)
    permits = {one.subject: object() for one in patients}
    mine = [one.subject.hex for one in patients]
    assert running._used({"used": mine[:1]}, permits) == [patients[0].subject]
    for wrong in ([*mine, "0x" + "11" * 32], None, "0x", [1], [[]]):
        with pytest.raises(JobFailed):
            running._used({"used": wrong}, permits)


def test_fhir_is_searched_by_paths_and_dotted_columns_by_name(house):
    patients, _ = house.consenting(11)
    resource = {
        "resourceType": "Condition",
        "code": {"coding": [{"code": "59621000"}, {"code": "I10"}], "text": "Hypertension"},
    }
    parts = {
        one.subject: lines([{"id": "0", "kind": "fhir", "content": resource}]) for one in patients
    }
    house.publish_parts(parts, form="fhir")
    found = house.count({"field": "code.coding.code", "op": "=", "value": "I10"})
    missed = house.count({"field": "code.coding.code", "op": "=", "value": "I11"})
    assert [house.runner.run(found), house.runner.run(missed)] == ["done", "done"]
    assert house.answer(found)["subjects"] == 11
    assert house.answer(missed)["subjects"] == 0


def test_statistics_are_of_the_covered_and_of_eleven_at_least(house):
    patients = a_table(house, 12)
    parameters = {"columns": ["age"]}
    job = house.submit(job="statistics", parameters=parameters)
    assert house.runner.run(job) == "done"
    assert "age" in json.dumps(house.answer(job))
    for one in patients[:2]:
        house.withdraw(one)
    small = house.submit(job="statistics", parameters=parameters)
    assert house.runner.run(small) == "failed"
    assert house.status(small)["detail"] == "cohort-too-small"


WEIGHTS = json.dumps({"layers": [{"weight": [[0.1, -0.01]], "bias": [-5]}]}).encode()
CARD = ModelCard(
    "Risk", "1", "logistic-regression", ("age", "pressure"), ("risk",), sha256(WEIGHTS).digest()
)


def test_a_model_in_the_clear_is_run_on_the_covered_by_a_confined_child(house):
    model = house.register(WEIGHTS, CARD.to_value())
    patients, _ = house.consenting(12)
    columns = [a_column("age"), a_column("pressure")]
    cells = [{"age": str(40 + 2 * number), "pressure": "100"} for number in range(12)]
    house.publish_rows(list(zip(patients, cells, strict=True)), columns)
    house.withdraw(patients[0])
    job = house.submit(job="plain-inference", model=model.hex, parameters={})
    assert house.runner.run(job) == "done", house.status(job)
    assert (house.status(job)["used"], house.status(job)["withheld"]) == (11, None)
    assert patients[0].subject.hex not in json.dumps(house.answer(job))
    path = model_path(model)
    house.vault.delete(path)
    house.vault.put_bytes(path, WEIGHTS.replace(b"-5", b"-4"))
    job = house.submit(job="plain-inference", model=model.hex, parameters={})
    assert house.runner.run(job) == "failed"
    assert house.status(job)["detail"] == "model-digest-mismatch"


def test_an_unknown_job_is_nobodys(house):
    with pytest.raises(NotFound):
        house.jobs.status(house.requester.actor, JobId.new())
