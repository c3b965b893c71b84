import itertools
import subprocess
import sys

import pytest

from compute import errors
from compute.canonical import canonical, parse_canonical, parse_json
from compute.errors import IllegalTransition, InputMalformed, NotComputable
from compute.job import (
    ENCRYPTED_INFERENCE,
    KINDS,
    PLAIN_INFERENCE,
    STATISTICS,
    JobSpec,
    JobStatus,
    Result,
    is_terminal,
    legal,
    transition,
)

DIGEST = bytes(range(32))


def test_a_specification_survives_its_json():
    spec = JobSpec(PLAIN_INFERENCE, DIGEST, {"want": "aggregate"}, min_cohort=20)
    assert JobSpec.from_json(spec.to_json()) == spec
    assert hash(JobSpec.from_json(spec.to_json())) == hash(spec)


def test_its_parameters_cannot_be_changed_from_outside():
    words = {"columns": ["age"], "measures": ["mean"]}
    spec = JobSpec(STATISTICS, parameters=words)
    words["columns"].append("sex")
    assert spec.parameters["columns"] == ["age"]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"kind": "shell"}, NotComputable),
        ({"kind": PLAIN_INFERENCE}, InputMalformed),
        ({"kind": STATISTICS, "model_digest": DIGEST}, InputMalformed),
        ({"kind": PLAIN_INFERENCE, "model_digest": b"short"}, InputMalformed),
        ({"kind": STATISTICS, "min_cohort": 10}, InputMalformed),
        ({"kind": STATISTICS, "min_cohort": True}, InputMalformed),
        ({"kind": STATISTICS, "parameters": {"sql": "x"}}, InputMalformed),
        ({"kind": STATISTICS, "parameters": {"measures": ["max"]}}, InputMalformed),
        ({"kind": STATISTICS, "parameters": {"measures": ["mean"]}}, InputMalformed),
        ({"kind": STATISTICS, "parameters": {"columns": "age"}}, InputMalformed),
        ({"kind": STATISTICS, "parameters": {"columns": ["a"], "by": "a"}}, InputMalformed),
        ({"kind": ENCRYPTED_INFERENCE, "model_digest": DIGEST, "parameters": {"k": 1}},
         InputMalformed),
        ({"kind": PLAIN_INFERENCE, "model_digest": DIGEST, "parameters": {"want": "all"}},
         InputMalformed),
        ({"kind": PLAIN_INFERENCE, "model_digest": DIGEST, "parameters": {"digits": "2"}},
         InputMalformed),
    ],
)  # fmt: skip
def test_refuses(given, error):
    with pytest.raises(error):
        JobSpec(**given)


def test_a_changed_or_loose_json_is_refused():
    data = JobSpec(STATISTICS).to_json()
    for bad in (data + b" ", data.replace(b"/1", b"/9"), data.replace(b'"kind"', b'"kin"'), b"[]"):
        with pytest.raises(InputMalformed):
            JobSpec.from_json(bad)


def test_only_the_drawn_transitions_are_legal():
    drawn = {
        ("draft", "queued"), ("draft", "refused"), ("draft", "stopped"),
        ("queued", "running"), ("queued", "refused"), ("queued", "stopped"),
        ("running", "done"), ("running", "failed"), ("running", "refused"),
        ("running", "stopped"),
    }  # fmt: skip
    for before, after in itertools.product(JobStatus, JobStatus):
        assert legal(before, after) == ((str(before), str(after)) in drawn)
    assert {status for status in JobStatus if is_terminal(status)} == {
        JobStatus.DONE, JobStatus.FAILED, JobStatus.REFUSED, JobStatus.STOPPED,
    }  # fmt: skip
    assert transition(JobStatus.DRAFT, JobStatus.QUEUED) is JobStatus.QUEUED
    with pytest.raises(IllegalTransition):
        transition(JobStatus.STOPPED, JobStatus.RUNNING)


def test_a_result_is_bound_to_its_payload():
    from compute.canonical import sha256

    result = Result(STATISTICS, b"ok", "application/json", {"payload": sha256(b"ok")}, {}, "e")
    assert Result.from_json(result.to_json()) == result
    with pytest.raises(InputMalformed):
        Result.from_json(result.to_json().replace(b"b2s=", b"b2w="))


@pytest.mark.parametrize(
    ("number", "text"),
    [(1e21, "1e+21"), (1e-7, "1e-7"), (0.000001, "0.000001"), (-0.0, "0"), (100.0, "100"),
     (5e-324, "5e-324"), (333333333.33333329, "333333333.3333333"), (0.5, "0.5"), (-1.5, "-1.5")],
)  # fmt: skip
def test_numbers_are_written_as_ecmascript_writes_them(number, text):
    assert canonical(number) == text.encode()


def test_keys_are_sorted_by_utf16():
    assert canonical({"\ufb33": 1, "\U0001f600": 2, "a": 3}) == '{"a":3,"😀":2,"\ufb33":1}'.encode()


@pytest.mark.parametrize(
    "bad", [b'{"a":1,"a":2}', b"NaN", b"[Infinity]", b"\xff", b"[" * 99 + b"]" * 99, b"{"]
)
def test_strict_json_refuses(bad):
    with pytest.raises(InputMalformed):
        parse_json(bad)
    with pytest.raises(InputMalformed):
        parse_canonical(b'{"b":1, "a":2}')


@pytest.mark.parametrize("bad", [float("nan"), 2**53, object(), {1: 2}, "\ud800"])
def test_canonical_refuses_what_json_cannot_carry(bad):
    with pytest.raises(InputMalformed):
        canonical(bad)


def test_every_error_stands_in_the_drawing():
    for name, found in vars(errors).items():
        if isinstance(found, type) and not name.startswith("_"):
            assert issubclass(found, errors.ComputeError)
            assert name in (errors.__doc__ or "")


def test_every_kind_has_an_engine():
    from compute import run

    assert set(run._ENGINES) == set(KINDS)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("compute.job", ("torch", "tenseal", "numpy")),
        ("compute.guard", ("torch", "tenseal", "numpy")),
        ("compute.errors", ("torch", "tenseal", "numpy")),
        ("compute.wire", ("torch", "tenseal")),
        ("compute.models", ("torch", "tenseal")),
        ("compute.run", ("torch", "tenseal")),
        ("compute.encrypted", ("torch",)),
        ("compute.client.encryption", ("torch",)),
        ("compute.clear", ("tenseal",)),
    ],
)
def test_heavy_libraries_stay_where_they_belong(module, absent):
    code = f"import sys, {module}; print([n for n in {absent!r} if n in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
