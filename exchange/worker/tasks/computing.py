"""A compute job: covered rows (or one ciphertext) in, a guarded result out, through ``compute.run``."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np

from compute.errors import CohortTooSmall, ComputeError, CoverLost
from compute.job import ENCRYPTED_INFERENCE, JobSpec, Result
from compute.models import ModelCard, ModelFile
from compute.run import ClearInputs, EncryptedInputs, Progress, run_chunks
from exchange.sealing import result_info, seal_to
from exchange.worker.child import Input
from exchange.worker.refusal import Refused
from ledger.ids import ConsentId, JobId
from ledger.policy import Permit

_CHUNK_ROWS = 64


def compute(given: Input) -> tuple[dict[str, Any], bytes]:
    """Run the job; its result is sealed to the requester.

    The permits were ruled by the worker a moment ago and end with the lease that stands in the task, so
    that a child that was held up does not compute on a ruling that nobody remembers.
    """
    task = given.task
    model = None
    if "weights" in given.blobs:
        model = ModelFile(given.blobs["weights"], ModelCard.from_value(task["card"]))
    spec = JobSpec(
        kind=task["kind"],
        model_digest=None if task["model"] is None else bytes.fromhex(task["model"][2:]),
        parameters=task["parameters"],
    )
    lease = int(task["leaseUntil"])
    permits = {
        subject: Permit(
            tuple(ConsentId.parse(one) for one in because),
            lease if expires is None else min(lease, expires),
            task["policy"],
        )
        for subject, (because, expires) in task["permits"].items()
    }
    if spec.kind == ENCRYPTED_INFERENCE:
        given.no_parts()
        inputs: ClearInputs | EncryptedInputs = EncryptedInputs(
            given.blobs["request"], given.blobs["context"], model
        )
    else:
        inputs = _table(given, model)
    result = _run(given, spec, inputs, permits)
    payload = result.payload
    if spec.kind != ENCRYPTED_INFERENCE:
        job = JobId.parse(task["job"])
        key = bytes.fromhex(task["receiveKey"][2:])
        payload = seal_to(key, payload, info=result_info(job))
    head = {
        "used": list(result.used),
        "dropped": list(result.dropped),
        "media": result.media_type,
        "engine": result.engine,
        "digests": {name: "0x" + digest.hex() for name, digest in result.digests.items()},
    }
    return head, payload


def _run(
    given: Input,
    spec: JobSpec,
    inputs: ClearInputs | EncryptedInputs,
    permits: dict[str, Permit],
) -> Result:
    try:
        for step in run_chunks(
            spec,
            inputs,
            permits,
            at=datetime.now(UTC),
            chunk_rows=int(given.task.get("chunkRows", _CHUNK_ROWS)),
            covered=given.lines.covered,
        ):
            if isinstance(step, Progress):
                given.lines.progress(step.done, step.total)
            else:
                return step
    except CoverLost as lost:
        raise Refused("cover-lost:" + ",".join(str(slot) for slot in lost.slots)) from None
    except CohortTooSmall:
        raise Refused("cohort-too-small") from None
    except ComputeError as error:
        raise Refused(_word(type(error).__name__)) from None
    raise Refused("no-result")


def _table(given: Input, model: ModelFile | None) -> ClearInputs:
    """The rows of every covered subject: the model's columns, or those that the statistics name."""
    parameters = given.task["parameters"]
    labels: list[str] = []
    if model is not None:
        columns = list(model.card.features)
    else:
        columns = list(parameters.get("columns", []))
        labels = [] if parameters.get("by") is None else [parameters["by"]]
    subjects: list[str] = []
    rows: list[list[float]] = []
    texts: dict[str, list[str | None]] = {name: [] for name in labels}
    for subject, records in given.parts():
        for record in records:
            content = record["content"]
            if record["kind"] != "row" or not isinstance(content, dict):
                raise Refused("not-a-table")
            if missing := [name for name in (*columns, *labels) if name not in content]:
                raise Refused(f"columns-missing-{len(missing)}")
            subjects.append(subject.hex)
            rows.append([_cell(content[name]) for name in columns])
            for name in labels:
                texts[name].append(None if content[name] is None else str(content[name]))
    if not rows:
        raise Refused("nobody-covered")
    matrix = np.array(rows, dtype=np.float64).reshape(len(rows), len(columns))
    return ClearInputs(subjects, columns, matrix, labels=texts, model=model)


def _cell(value: Any) -> float:
    if value is None or value == "":
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _word(name: str) -> str:
    """``InputMalformed`` → ``input-malformed``."""
    return "".join("-" + one.lower() if one.isupper() else one for one in name).lstrip("-")
