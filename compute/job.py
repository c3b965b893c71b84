"""What a job is: its description, its states, its result. Pure values, no heavy library.

A `JobSpec` says what to compute, never on whom: the subjects come with the inputs, after the gate
has ruled. Kinds are an open registry (`KINDS`); a kind that is not in it is refused.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from compute import canonical as cj
from compute.errors import IllegalTransition, InputMalformed, NotComputable

SPEC_FORMAT = "assent.jobspec/1"
RESULT_FORMAT = "assent.result/1"
PLAIN_INFERENCE = "plain-inference"
ENCRYPTED_INFERENCE = "encrypted-inference"
STATISTICS = "statistics"
# CMS cell suppression policy: no cell of 1 to 10 is shown (threats P2).
MIN_COHORT = 11
_MAX_COLUMNS = 256
_DIGEST_BYTES = 32


class JobStatus(StrEnum):
    """Where a job stands."""

    DRAFT = "draft"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    STOPPED = "stopped"


_NEXT: Mapping[JobStatus, frozenset[JobStatus]] = MappingProxyType(
    {
        # An encrypted job is a draft until its ciphertext has been handed in.
        JobStatus.DRAFT: frozenset({JobStatus.QUEUED, JobStatus.REFUSED, JobStatus.STOPPED}),
        JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.REFUSED, JobStatus.STOPPED}),
        JobStatus.RUNNING: frozenset(
            {JobStatus.DONE, JobStatus.FAILED, JobStatus.REFUSED, JobStatus.STOPPED}
        ),
    }
)


def is_terminal(status: JobStatus) -> bool:
    """Whether nothing can follow."""
    return not _NEXT.get(status)


def legal(before: JobStatus, after: JobStatus) -> bool:
    """Whether a job may go from `before` to `after`. A job resumed after a crash stays running."""
    return after in _NEXT.get(before, frozenset())


def transition(before: JobStatus, after: JobStatus) -> JobStatus:
    """`after`, where it may follow `before`.

    Raises:
        IllegalTransition: otherwise.
    """
    if not legal(before, after):
        raise IllegalTransition(f"a job cannot go from {before} to {after}")
    return after


@dataclass(frozen=True)
class Kind:
    """One kind of job: what it needs, and how its parameters are checked."""

    name: str
    needs_model: bool
    encrypted: bool
    check: Callable[[Mapping[str, Any]], None]


def _check_inference(parameters: Mapping[str, Any]) -> None:
    """`want` is `rows` (a score per subject, the default) or `aggregate` (counts only)."""
    _only(parameters, "want", "digits")
    if parameters.get("want", "rows") not in ("rows", "aggregate"):
        raise InputMalformed("parameters.want is rows or aggregate")
    digits = parameters.get("digits", 2)
    if not isinstance(digits, int) or isinstance(digits, bool):
        raise InputMalformed("parameters.digits is a whole number")


def _check_encrypted(parameters: Mapping[str, Any]) -> None:
    """Everything a ciphertext needs stands in its own authenticated header."""
    _only(parameters)


def _check_statistics(parameters: Mapping[str, Any]) -> None:
    """`columns` to average, optionally `by` one column; `measures` of `count` and `mean`."""
    _only(parameters, "columns", "by", "measures")
    columns = parameters.get("columns", [])
    if (
        not isinstance(columns, list | tuple)
        or len(columns) > _MAX_COLUMNS
        or not all(isinstance(column, str) for column in columns)
        or len(set(columns)) != len(columns)
    ):
        raise InputMalformed("parameters.columns is a list of different column names")
    measures = parameters.get("measures", ["count"])
    if (
        not isinstance(measures, list | tuple)
        or not measures
        or not all(measure in ("count", "mean") for measure in measures)
    ):
        raise InputMalformed("parameters.measures is a list out of count and mean")
    if "mean" in measures and not columns:
        raise InputMalformed("parameters.columns names what to average")
    by = parameters.get("by")
    if by is not None and (not isinstance(by, str) or by in columns):
        raise InputMalformed("parameters.by is one column that is not averaged")


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind(PLAIN_INFERENCE, needs_model=True, encrypted=False, check=_check_inference),
            Kind(ENCRYPTED_INFERENCE, needs_model=True, encrypted=True, check=_check_encrypted),
            Kind(STATISTICS, needs_model=False, encrypted=False, check=_check_statistics),
        )
    }
)


@dataclass(frozen=True)
class JobSpec:
    """What to compute.

    Attributes:
        kind: a key of `KINDS`.
        model_digest: SHA-256 of the model's exact bytes, 32 bytes; None where no model is needed.
        parameters: the kind's own words; JSON without fractions.
        min_cohort: people below which no aggregate leaves; a requester may only raise it (J15).

    Raises:
        NotComputable: for an unknown kind.
        InputMalformed: for parameters that the kind does not know.
    """

    kind: str
    model_digest: bytes | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    min_cohort: int = MIN_COHORT

    def __post_init__(self) -> None:
        """Check everything once, and freeze the parameters by a round trip through their bytes."""
        kind = KINDS.get(self.kind)
        if kind is None:
            raise NotComputable("unknown kind of job")
        if kind.needs_model != (self.model_digest is not None):
            raise InputMalformed(f"{kind.name}: model_digest " + _need(kind.needs_model))
        if self.model_digest is not None and len(self.model_digest) != _DIGEST_BYTES:
            raise InputMalformed("model_digest has 32 bytes")
        if not isinstance(self.min_cohort, int) or isinstance(self.min_cohort, bool):
            raise InputMalformed("min_cohort is a whole number")
        if self.min_cohort < MIN_COHORT:
            raise InputMalformed(f"min_cohort may be raised above {MIN_COHORT}, never lowered")
        if not isinstance(self.parameters, Mapping):
            raise InputMalformed("parameters is an object")
        kind.check(self.parameters)
        copied = cj.parse_json(cj.canonical(self.parameters))
        object.__setattr__(self, "parameters", MappingProxyType(copied))

    def __hash__(self) -> int:
        """Equal specifications hash alike."""
        return hash(self.to_json())

    def to_value(self) -> dict[str, Any]:
        """The specification as a JSON value."""
        return {
            "format": SPEC_FORMAT,
            "kind": self.kind,
            "minCohort": self.min_cohort,
            "model": None if self.model_digest is None else cj.to_hex(self.model_digest),
            "parameters": dict(self.parameters),
        }

    def to_json(self) -> bytes:
        """The specification as canonical JSON."""
        return cj.canonical(self.to_value())

    @classmethod
    def from_json(cls, data: bytes) -> "JobSpec":
        """Read canonical JSON back.

        Raises:
            InputMalformed, NotComputable: as the constructor, or for another format.
        """
        names = ("format", "kind", "minCohort", "model", "parameters")
        value = cj.fields(cj.parse_canonical(data), names=names, where="job")
        if value["format"] != SPEC_FORMAT:
            raise InputMalformed("job: unknown format")
        if not isinstance(value["kind"], str):
            raise InputMalformed("job: kind is a string")
        model = value["model"]
        return cls(
            kind=value["kind"],
            model_digest=None if model is None else cj.from_hex(model, _DIGEST_BYTES),
            parameters=value["parameters"],
            min_cohort=value["minCohort"],
        )

    @property
    def digest(self) -> bytes:
        """SHA-256 of the canonical JSON."""
        return cj.sha256(self.to_json())


@dataclass(frozen=True)
class Result:
    """What a run gives back after the guard, and what the record needs to know of it.

    Attributes:
        kind: the job's kind.
        payload: the bytes to seal to the requester.
        media_type: of the payload.
        digests: name → 32 bytes: `model`, `input`, `payload`, `spec` where they apply.
        counts: name → number, for the record inside; people below the cohort are not for pages.
        engine: name and version of what computed it.
        used: subjects whose values entered the result, 0x-hex, sorted.
        dropped: subjects left out because their cover ended during the run.
    """

    kind: str
    payload: bytes
    media_type: str
    digests: Mapping[str, bytes]
    counts: Mapping[str, int]
    engine: str
    used: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """The result as canonical JSON, the payload in base64."""
        return cj.canonical(
            {
                "format": RESULT_FORMAT,
                "counts": dict(self.counts),
                "digests": {name: cj.to_hex(digest) for name, digest in self.digests.items()},
                "dropped": list(self.dropped),
                "engine": self.engine,
                "kind": self.kind,
                "mediaType": self.media_type,
                "payload": base64.b64encode(self.payload).decode("ascii"),
                "used": list(self.used),
            }
        )

    @classmethod
    def from_json(cls, data: bytes) -> "Result":
        """Read canonical JSON back.

        Raises:
            InputMalformed: for another format, or a payload that is not the digested one.
        """
        names = ("format", "counts", "digests", "dropped", "engine", "kind", "mediaType")
        value = cj.fields(
            cj.parse_canonical(data), names=(*names, "payload", "used"), where="result"
        )
        if value["format"] != RESULT_FORMAT:
            raise InputMalformed("result: unknown format")
        try:
            payload = base64.b64decode(value["payload"], validate=True)
        except (ValueError, TypeError):
            raise InputMalformed("result: payload is base64") from None
        result = cls(
            kind=value["kind"],
            payload=payload,
            media_type=value["mediaType"],
            digests={name: cj.from_hex(text, 32) for name, text in value["digests"].items()},
            counts=dict(value["counts"]),
            engine=value["engine"],
            used=tuple(value["used"]),
            dropped=tuple(value["dropped"]),
        )
        if result.digests.get("payload") != cj.sha256(payload):
            raise InputMalformed("result: the payload is not the one its digest names")
        return result


def _need(needed: bool) -> str:
    return "is required" if needed else "is not used"


def _only(parameters: Mapping[str, Any], *names: str) -> None:
    unknown = set(parameters) - set(names)
    if unknown:
        raise InputMalformed(f"parameters: {len(unknown)} unknown key(s); known: {sorted(names)}")
