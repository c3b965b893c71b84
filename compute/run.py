"""The one door: `run(spec, inputs, permit, at=…) -> Result`.

Without a `Permit` of the gate there is no call. The door checks the permit against the time it is
given, picks the engine, and lets out only what `guard` allows. A long job runs in chunks, and asks
`covered` before each and once more before its result: who has lost cover by then is left out, or,
where patients share a ciphertext, the whole reply is withheld (decision D9).

Run it in a process of its own, without network, database or chain (decision D5): the libraries
hold the interpreter's lock, and read bytes from outside.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

import numpy as np

from compute import canonical as cj
from compute import guard
from compute.errors import CohortTooSmall, CoverLost, InputMalformed, PermitExpired, PermitMissing
from compute.job import ENCRYPTED_INFERENCE, PLAIN_INFERENCE, STATISTICS, JobSpec, Result
from compute.models import Array, Model, ModelFile, load_pinned
from compute.score import decisions, label, scores
from compute.tabulate import tabulate
from compute.wire import parse_request
from ledger.policy import Permit

CHUNK_ROWS = 1024
MAX_ROWS = 1_000_000
JSON_MEDIA_TYPE = "application/json"
REPLY_MEDIA_TYPE = "application/vnd.assent.he-reply"
INFERENCE_FORMAT = "assent.inference/1"

# Of the subjects it is given, those that are still covered.
Covered = Callable[[Sequence[str]], Collection[str]]
# One ruling for everybody in the input, or one for each subject, by 0x-hex.
Permits = Permit | Mapping[str, Permit]


@dataclass(frozen=True)
class ClearInputs:
    """Covered rows in the clear.

    Attributes:
        subjects: of each row, 0x-hex; a subject may have several rows.
        columns: names of the numeric columns.
        rows: [n, columns] float64; NaN is a missing cell.
        labels: text columns by name, for grouping.
        model: the weights file, where the job needs one.
    """

    subjects: Sequence[str]
    columns: Sequence[str]
    rows: Array = field(repr=False)
    labels: Mapping[str, Sequence[str | None]] = field(default_factory=dict, repr=False)
    model: ModelFile | None = field(default=None, repr=False)


@dataclass(frozen=True)
class EncryptedInputs:
    """One request of `compute.client`, the public half of its key, and the model."""

    request: bytes = field(repr=False)
    context: bytes = field(repr=False)
    model: ModelFile | None = field(default=None, repr=False)


Inputs = ClearInputs | EncryptedInputs


@dataclass(frozen=True)
class Progress:
    """How far a run is: `done` of `total` rows, or steps where rows cannot be told apart."""

    done: int
    total: int


def run(
    spec: JobSpec,
    inputs: Inputs,
    permit: Permits,
    *,
    at: datetime,
    covered: Covered | None = None,
) -> Result:
    """Run a job to its end.

    Args:
        spec: what to compute.
        inputs: on what; clear or encrypted, as the job's kind asks.
        permit: the gate's ruling, for everybody or by subject.
        at: the time of the run, aware.
        covered: asked before each chunk and before the result; None where nothing can change.

    Raises:
        PermitMissing, PermitExpired: when the permit does not carry this run.
        CoverLost: when a shared ciphertext may no longer be answered.
        CohortTooSmall: when an aggregate has too few people.
        ComputeError: the rest of the tree, as the engines say.
    """
    for step in run_chunks(spec, inputs, permit, at=at, covered=covered):
        if isinstance(step, Result):
            return step
    raise AssertionError("a run ends with its result")


def run_chunks(
    spec: JobSpec,
    inputs: Inputs,
    permit: Permits,
    *,
    at: datetime,
    chunk_rows: int = CHUNK_ROWS,
    covered: Covered | None = None,
) -> Iterator[Progress | Result]:
    """Run a job step by step: progress after each chunk, the result last.

    Permit and inputs are checked at the call, before the first step. Closing the iterator stops
    the run between two chunks, and nothing is left behind.

    Raises:
        as `run`; InputMalformed also for a chunk of no rows.
    """
    if chunk_rows < 1:
        raise InputMalformed("a chunk has at least one row")
    wanted = EncryptedInputs if spec.kind == ENCRYPTED_INFERENCE else ClearInputs
    if not isinstance(inputs, wanted):
        raise InputMalformed(f"{spec.kind} takes {wanted.__name__}")
    _require_permit(permit, _subjects(inputs), at)
    return _ENGINES[spec.kind](spec, inputs, chunk_rows, covered or _everybody)


def _require_permit(permit: Permits, subjects: Sequence[str], at: datetime) -> None:
    """Fail closed: no value, a value of another type, one subject without, or a time without zone.

    `ledger.policy`: `expires` is in epoch seconds, None has no end.
    """
    if at.tzinfo is None:
        raise InputMalformed("the time of a run has a zone")
    if isinstance(permit, Mapping):
        rulings = [permit.get(subject) for subject in subjects]
    else:
        rulings = [permit]
    for ruling in rulings:
        if not isinstance(ruling, Permit):
            raise PermitMissing("nothing runs without a permit for every subject")
        if ruling.expires is not None and at.timestamp() >= ruling.expires:
            raise PermitExpired("a permit has expired; ask the gate again")


def _subjects(inputs: Inputs) -> Sequence[str]:
    if isinstance(inputs, EncryptedInputs):
        return parse_request(inputs.request).header.subjects
    rows, columns = inputs.rows, inputs.columns
    if rows.ndim != 2 or rows.shape != (len(inputs.subjects), len(columns)):
        raise InputMalformed("rows is a table with one row per subject and one column per name")
    if not 0 < len(rows) <= MAX_ROWS:
        raise InputMalformed(f"a job has 1 to {MAX_ROWS} rows")
    names = (*columns, *inputs.labels)
    if len(set(names)) != len(names):
        raise InputMalformed("a column appears twice")
    if any(len(texts) != len(rows) for texts in inputs.labels.values()):
        raise InputMalformed("a text column is not as long as the table")
    return inputs.subjects


def _everybody(subjects: Sequence[str]) -> Collection[str]:
    return subjects


def _plain(
    spec: JobSpec, inputs: ClearInputs, chunk_rows: int, covered: Covered
) -> Iterator[Progress | Result]:
    """Inference in the clear. Rows with a missing feature are counted and left out."""
    model = load_pinned(inputs.model, spec.model_digest)
    digits = guard.score_digits(spec.parameters.get("digits", guard.SCORE_DIGITS))
    features = _features(model, inputs)
    from compute import clear

    total = len(features)
    outputs = np.full((total, len(model.card.outputs)), np.nan)
    for start in range(0, total, chunk_rows):
        chunk = slice(start, start + chunk_rows)
        allowed = set(covered(sorted(set(inputs.subjects[chunk]))))
        kept = np.array([subject in allowed for subject in inputs.subjects[chunk]])
        kept &= np.isfinite(features[chunk]).all(axis=1)
        if kept.any():
            part = outputs[chunk]
            part[kept] = clear.predict(model, features[chunk][kept]).outputs
        yield Progress(min(start + chunk_rows, total), total)
    allowed = set(covered(sorted(set(inputs.subjects))))
    present = np.isfinite(outputs).all(axis=1)
    rows = [
        index
        for index, subject in enumerate(inputs.subjects)
        if present[index] and subject in allowed
    ]
    subjects = [inputs.subjects[index] for index in rows]
    value: dict[str, Any] = {
        "format": INFERENCE_FORMAT,
        "model": cj.to_hex(model.card.digest),
    }
    if spec.parameters.get("want", "rows") == "aggregate":
        value |= _decision_counts(model, subjects, outputs[rows], spec.min_cohort)
    else:
        value |= {
            "count": len(rows),
            "outputs": list(model.card.outputs),
            "predictions": _predictions(model, subjects, outputs[rows], digits),
        }
    incomplete = int((~np.isfinite(features).all(axis=1)).sum())
    counts = {"rows": len(rows), "incomplete": incomplete}
    engine = clear.engine_name()
    yield _result(spec, inputs, value, counts=counts, engine=engine, used=subjects, allowed=allowed)


def _features(model: Model, inputs: ClearInputs) -> Array:
    """The model's columns in its order, and no others (compute-promises J3)."""
    places = {name: place for place, name in enumerate(inputs.columns)}
    missing = [name for name in model.card.features if name not in places]
    if missing:
        raise InputMalformed(f"{len(missing)} feature(s) missing, first {missing[0]!r}")
    chosen = [places[name] for name in model.card.features]
    return np.asarray(inputs.rows[:, chosen], dtype=np.float64)


def _predictions(
    model: Model, subjects: Sequence[str], outputs: Array, digits: int
) -> list[dict[str, Any]]:
    return [
        {
            "subject": subject,
            "score": guard.round_score(score, digits),
            "decision": int(decision),
            "label": label(model.card, int(decision)),
        }
        for subject, score, decision in zip(
            subjects,
            scores(model.card, outputs).tolist(),
            decisions(model.card, outputs),
            strict=True,
        )
    ]


def _decision_counts(
    model: Model, subjects: Sequence[str], outputs: Array, k: int
) -> dict[str, Any]:
    """People by decision, each once, by the mean of the outputs of all of one's rows."""
    people, place = np.unique(np.array(subjects, dtype=str), return_inverse=True)
    guard.require_cohort(len(people), k)
    sums = np.zeros((len(people), outputs.shape[1]))
    np.add.at(sums, place, outputs)
    decided = decisions(model.card, sums / np.bincount(place)[:, None])
    choices = max(2, len(model.card.outputs))
    table = guard.suppress(
        {label(model.card, choice): int((decided == choice).sum()) for choice in range(choices)}, k
    )
    return {"decisions": dict(table.cells), "hidden": table.hidden, "total": table.total}


def _statistics(
    spec: JobSpec, inputs: ClearInputs, _chunk_rows: int, covered: Covered
) -> Iterator[Progress | Result]:
    """Counts and means. The table is made at once, from who is covered when it is made."""
    total = len(inputs.rows)
    yield Progress(0, total)
    allowed = set(covered(sorted(set(inputs.subjects))))
    rows = [index for index, subject in enumerate(inputs.subjects) if subject in allowed]
    if not rows:
        raise CohortTooSmall(guard.threshold(spec.min_cohort))
    subjects = [inputs.subjects[index] for index in rows]
    value = tabulate(
        spec.parameters,
        subjects,
        list(inputs.columns),
        np.asarray(inputs.rows, dtype=np.float64)[rows],
        labels={name: [texts[row] for row in rows] for name, texts in inputs.labels.items()},
        k=guard.threshold(spec.min_cohort),
    )
    yield Progress(total, total)
    # Nothing is asked again in between: making the table takes milliseconds, and the caller's own
    # check before it lets a result go comes after this.
    engine = f"numpy {np.__version__}"
    counts = {"rows": len(rows)}
    yield _result(spec, inputs, value, counts=counts, engine=engine, used=subjects, allowed=allowed)


def _encrypted(
    spec: JobSpec, inputs: EncryptedInputs, _chunk_rows: int, covered: Covered
) -> Iterator[Progress | Result]:
    """Inference on ciphertext: all slots or none."""
    model = load_pinned(inputs.model, spec.model_digest)
    header = parse_request(inputs.request).header
    _require_slots(header.subjects, covered)
    yield Progress(0, header.count)
    from compute import encrypted

    reply = encrypted.evaluate(inputs.request, inputs.context, model)
    yield Progress(header.count, header.count)
    _require_slots(header.subjects, covered)
    payload = guard.require_size(reply)
    yield Result(
        kind=spec.kind,
        payload=payload,
        media_type=REPLY_MEDIA_TYPE,
        digests=_digests(spec, header.digest, payload),
        counts={"subjects": len(set(header.subjects)), "rows": header.count},
        engine=encrypted.engine_name(),
        used=tuple(sorted(set(header.subjects))),
    )


def _require_slots(subjects: Sequence[str], covered: Covered) -> None:
    allowed = set(covered(sorted(set(subjects))))
    lost = tuple(slot for slot, subject in enumerate(subjects) if subject not in allowed)
    if lost:
        raise CoverLost(lost)


def _result(
    spec: JobSpec,
    inputs: ClearInputs,
    value: dict[str, Any],
    *,
    counts: dict[str, int],
    engine: str,
    used: Sequence[str],
    allowed: Collection[str],
) -> Result:
    payload = guard.require_size(cj.canonical(value))
    everybody = set(inputs.subjects)
    return Result(
        kind=spec.kind,
        payload=payload,
        media_type=JSON_MEDIA_TYPE,
        digests=_digests(spec, _input_digest(inputs), payload),
        counts={**counts, "subjects": len(set(used)), "dropped": len(everybody - set(allowed))},
        engine=engine,
        used=tuple(sorted(set(used))),
        dropped=tuple(sorted(everybody - set(allowed))),
    )


def _digests(spec: JobSpec, input_digest: bytes, payload: bytes) -> dict[str, bytes]:
    digests = {"input": input_digest, "payload": cj.sha256(payload), "spec": spec.digest}
    if spec.model_digest is not None:
        digests["model"] = spec.model_digest
    return digests


def _input_digest(inputs: ClearInputs) -> bytes:
    """Over who, which columns and the exact numbers; little-endian float64, row by row."""
    names = cj.canonical(
        {
            "columns": list(inputs.columns),
            "labels": {name: list(texts) for name, texts in inputs.labels.items()},
            "subjects": list(inputs.subjects),
        }
    )
    return cj.sha256(cj.sha256(names) + np.ascontiguousarray(inputs.rows, dtype="<f8").tobytes())


_ENGINES: Mapping[str, Callable[..., Iterator[Progress | Result]]] = MappingProxyType(
    {
        PLAIN_INFERENCE: _plain,
        STATISTICS: _statistics,
        ENCRYPTED_INFERENCE: _encrypted,
    }
)
