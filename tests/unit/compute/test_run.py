import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from compute import clear
from compute.client.decryption import decrypt
from compute.errors import (
    CohortTooSmall,
    CoverLost,
    InputMalformed,
    ModelDigestMismatch,
    ModelUnknown,
    PermitExpired,
    PermitMissing,
)
from compute.job import ENCRYPTED_INFERENCE, PLAIN_INFERENCE, STATISTICS, JobSpec, Result
from compute.models import load
from compute.run import ClearInputs, EncryptedInputs, Progress, run, run_chunks
from ledger.policy import Denial, Permit

AT = datetime(2026, 6, 1, tzinfo=UTC)
COLUMNS = ("age", "pressure", "glucose", "creatinine", "stays")


@pytest.fixture
def clear_inputs(patients, logistic):
    return ClearInputs(patients.subjects, COLUMNS, patients.rows, model=logistic)


@pytest.fixture
def spec(logistic):
    return JobSpec(PLAIN_INFERENCE, logistic.card.digest)


def first(inputs, count, **changes):
    return ClearInputs(
        inputs.subjects[:count], inputs.columns, inputs.rows[:count], model=inputs.model, **changes
    )


def test_scores_of_covered_rows(spec, clear_inputs, permit, logistic, patients):
    result = run(spec, clear_inputs, permit, at=AT)
    found = json.loads(result.payload)
    plain = clear.predict(load(logistic.data, logistic.card), patients.rows)
    assert found["count"] == 120
    assert [row["decision"] for row in found["predictions"]] == plain.decisions.tolist()
    assert [row["score"] for row in found["predictions"]] == np.round(plain.scores, 2).tolist()
    assert found["model"] == "0x" + logistic.card.digest.hex()
    assert result.used == tuple(sorted(patients.subjects))
    assert Result.from_json(result.to_json()) == result


def test_columns_are_chosen_by_name_and_a_missing_one_is_named(spec, clear_inputs, permit):
    turned = ClearInputs(
        clear_inputs.subjects, ("more", *COLUMNS[::-1]),
        np.hstack([np.zeros((120, 1)), clear_inputs.rows[:, ::-1]]), model=clear_inputs.model,
    )  # fmt: skip
    straight = run(spec, clear_inputs, permit, at=AT)
    assert run(spec, turned, permit, at=AT).payload == straight.payload
    short = ClearInputs(
        clear_inputs.subjects, COLUMNS[1:], clear_inputs.rows[:, 1:], model=clear_inputs.model
    )
    with pytest.raises(InputMalformed, match="age"):
        run(spec, short, permit, at=AT)


def test_an_incomplete_row_is_counted_and_left_out(spec, clear_inputs, permit):
    rows = clear_inputs.rows.copy()
    rows[4, 0] = np.nan
    inputs = ClearInputs(clear_inputs.subjects, COLUMNS, rows, model=clear_inputs.model)
    result = run(spec, inputs, permit, at=AT)
    assert result.counts["incomplete"] == 1
    assert clear_inputs.subjects[4] not in result.used


@pytest.mark.parametrize("permit", [None, True, Denial(("no-consent",)), {}, {"0x00": None}])
def test_nothing_runs_without_a_permit(permit, spec, clear_inputs):
    with pytest.raises(PermitMissing):
        run(spec, clear_inputs, permit, at=AT)


def test_nothing_runs_when_one_subject_has_no_permit(spec, clear_inputs, permit):
    permits = dict.fromkeys(clear_inputs.subjects, permit)
    assert run(spec, clear_inputs, permits, at=AT).counts["rows"] == 120
    del permits[clear_inputs.subjects[-1]]
    with pytest.raises(PermitMissing):
        run(spec, clear_inputs, permits, at=AT)


def test_an_expired_permit_does_not_carry_a_run(spec, clear_inputs, permit):
    run(spec, clear_inputs, permit, at=AT + timedelta(seconds=59))
    with pytest.raises(PermitExpired):
        run(spec, clear_inputs, permit, at=AT + timedelta(seconds=60))
    run(spec, clear_inputs, Permit((), None), at=AT + timedelta(days=9999))
    with pytest.raises(InputMalformed):
        run(spec, clear_inputs, permit, at=AT.replace(tzinfo=None))
    # At the call already, not at the first step.
    with pytest.raises(PermitExpired):
        run_chunks(spec, clear_inputs, permit, at=AT + timedelta(seconds=60))


def test_the_model_is_the_one_that_the_job_names(clear_inputs, permit, patients):
    with pytest.raises(ModelDigestMismatch):
        run(JobSpec(PLAIN_INFERENCE, bytes(32)), clear_inputs, permit, at=AT)
    bare = ClearInputs(patients.subjects, COLUMNS, patients.rows)
    with pytest.raises(ModelUnknown):
        run(JobSpec(PLAIN_INFERENCE, bytes(32)), bare, permit, at=AT)


def test_an_aggregate_needs_a_cohort(logistic, clear_inputs, permit):
    spec = JobSpec(PLAIN_INFERENCE, logistic.card.digest, {"want": "aggregate"})
    with pytest.raises(CohortTooSmall):
        run(spec, first(clear_inputs, 10), permit, at=AT)
    found = json.loads(run(spec, clear_inputs, permit, at=AT).payload)
    assert sum(found["decisions"].values()) == found["total"] == 120
    assert "predictions" not in found
    strict = JobSpec(PLAIN_INFERENCE, logistic.card.digest, {"want": "aggregate"}, min_cohort=121)
    with pytest.raises(CohortTooSmall):
        run(strict, clear_inputs, permit, at=AT)


def test_a_person_with_many_rows_is_one_person(logistic, patients, permit):
    spec = JobSpec(PLAIN_INFERENCE, logistic.card.digest, {"want": "aggregate"})
    inputs = ClearInputs(patients.subjects[:1] * 120, COLUMNS, patients.rows, model=logistic)
    with pytest.raises(CohortTooSmall):
        run(spec, inputs, permit, at=AT)


def test_more_decimals_than_the_house_gives_are_refused(logistic, clear_inputs, permit):
    spec = JobSpec(PLAIN_INFERENCE, logistic.card.digest, {"digits": 9})
    with pytest.raises(InputMalformed):
        run(spec, clear_inputs, permit, at=AT)


def test_a_run_reports_its_progress_and_can_be_left(spec, clear_inputs, permit):
    steps = list(run_chunks(spec, clear_inputs, permit, at=AT, chunk_rows=50))
    assert steps[:-1] == [Progress(50, 120), Progress(100, 120), Progress(120, 120)]
    assert steps[-1].payload == run(spec, clear_inputs, permit, at=AT).payload
    running = run_chunks(spec, clear_inputs, permit, at=AT, chunk_rows=50)
    next(running)
    running.close()
    assert list(running) == []
    with pytest.raises(InputMalformed):
        run_chunks(spec, clear_inputs, permit, at=AT, chunk_rows=0)


def test_who_withdraws_while_it_runs_is_in_no_result(spec, clear_inputs, permit):
    gone = clear_inputs.subjects[0]
    left: set[str] = set()

    def covered(subjects):
        return [subject for subject in subjects if subject not in left]

    running = run_chunks(spec, clear_inputs, permit, at=AT, chunk_rows=50, covered=covered)
    next(running)
    left.add(gone)
    result = list(running)[-1]
    assert gone.encode() not in result.payload
    assert result.dropped == (gone,)
    assert gone not in result.used
    assert result.counts == {"rows": 119, "incomplete": 0, "subjects": 119, "dropped": 1}


def test_when_everybody_withdraws_nothing_is_left(spec, clear_inputs, permit):
    result = run(spec, clear_inputs, permit, at=AT, covered=lambda subjects: [])
    assert json.loads(result.payload)["predictions"] == []
    statistics = JobSpec(STATISTICS)
    with pytest.raises(CohortTooSmall):
        run(statistics, clear_inputs, permit, at=AT, covered=lambda subjects: [])


def test_statistics(clear_inputs, permit, patients):
    spec = JobSpec(STATISTICS, parameters={"columns": ["age"], "measures": ["count", "mean"]})
    found = json.loads(run(spec, clear_inputs, permit, at=AT).payload)
    assert found["cells"][0]["count"] == found["total"] == 120
    assert found["cells"][0]["mean"]["age"] == pytest.approx(patients.rows[:, 0].mean(), abs=0.1)
    with pytest.raises(CohortTooSmall):
        run(spec, first(clear_inputs, 10), permit, at=AT)


@pytest.mark.parametrize(
    "changes",
    [
        {"rows": np.zeros((3, 5))},
        {"rows": np.zeros(5)},
        {"columns": ("a", "a", "b", "c", "d")},
        {"labels": {"site": ["x"]}},
        {"labels": {"age": ["x"] * 120}},
        {"subjects": [], "rows": np.zeros((0, 5))},
    ],
)
def test_a_table_that_does_not_fit_is_refused(changes, patients, permit):
    given = {"subjects": patients.subjects, "columns": COLUMNS, "rows": patients.rows}
    with pytest.raises(InputMalformed):
        run(JobSpec(STATISTICS), ClearInputs(**(given | changes)), permit, at=AT)


@pytest.fixture
def encrypted_inputs(request_linear, linear_key, logistic):
    return EncryptedInputs(request_linear.to_bytes(), linear_key.evaluator_bytes(), logistic)


def test_encrypted_inference(encrypted_inputs, logistic, permit, linear_key, request_linear):
    spec = JobSpec(ENCRYPTED_INFERENCE, logistic.card.digest)
    *progress, result = run_chunks(spec, encrypted_inputs, permit, at=AT)
    assert progress == [Progress(0, 120), Progress(120, 120)]
    assert decrypt(linear_key, result.payload, request_linear.header).shape == (120, 1)
    assert result.digests["input"] == request_linear.header.digest
    assert result.engine.startswith("tenseal ")


def test_every_slot_needs_a_permit(encrypted_inputs, logistic, permit, patients):
    spec = JobSpec(ENCRYPTED_INFERENCE, logistic.card.digest)
    permits = dict.fromkeys(patients.subjects[1:], permit)
    with pytest.raises(PermitMissing):
        run(spec, encrypted_inputs, permits, at=AT)


@pytest.mark.parametrize("asked", [0, 1])
def test_a_slot_that_loses_its_cover_withholds_the_reply(
    asked, encrypted_inputs, logistic, permit, patients
):
    spec = JobSpec(ENCRYPTED_INFERENCE, logistic.card.digest)
    calls: list[int] = []

    def covered(subjects):
        calls.append(len(subjects))
        return subjects if len(calls) <= asked else set(subjects) - {patients.subjects[7]}

    with pytest.raises(CoverLost) as lost:
        run(spec, encrypted_inputs, permit, at=AT, covered=covered)
    assert lost.value.slots == (7,)
    assert len(calls) == asked + 1


def test_inputs_of_another_kind_are_refused(spec, encrypted_inputs, clear_inputs, logistic, permit):
    with pytest.raises(InputMalformed):
        run(spec, encrypted_inputs, permit, at=AT)
    with pytest.raises(InputMalformed):
        run(JobSpec(ENCRYPTED_INFERENCE, logistic.card.digest), clear_inputs, permit, at=AT)
