"""What was done, in numbers: fit to be shown to anybody, since it holds no snippet of any record.

Residual risk. If a kind i was treated c_i times and a recogniser of that kind finds the share r_i of
what there is, then c_i * (1 - r_i) / r_i of them are expected to remain. `residual_per_record` is
the sum over all kinds, divided by the records released: the expected number of identifiers left in
one record. r_i (`RECALL`) are lower figures than those measured on the public ASQ-PHI queries and on
generated notes, since every hospital writes differently; a context (the patient's own record) makes
the true figure smaller, and no figure covers what identifies a person without being an identifier.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from anonymize.errors import ProfileError
from anonymize.profile import Identifier

_Key = TypeVar("_Key", bound=str)

FORMAT = "assent.deid-report/1"

RECALL: Mapping[Identifier, float] = MappingProxyType(
    dict.fromkeys(Identifier, 0.95)
    | {
        Identifier.NAME: 0.85,
        Identifier.LOCATION: 0.70,
        Identifier.FACILITY: 0.70,
        Identifier.DATE: 0.97,
        Identifier.EMAIL: 0.98,
        Identifier.SSN: 0.98,
    }
)


@dataclass(frozen=True)
class Report:
    """Counts of one or more runs under one profile and one engine."""

    profile: str
    engine: str
    recognizers: Mapping[str, str]
    records: int = 0
    released: int = 0
    counts: Mapping[Identifier, int] = field(default_factory=dict)
    quarantined: Mapping[str, int] = field(default_factory=dict)

    @property
    def residual_per_record(self) -> float:
        """Expected identifiers left in one released record; see the module's docstring."""
        if not self.released:
            return 0.0
        left = sum(n * (1 - RECALL[kind]) / RECALL[kind] for kind, n in self.counts.items())
        return round(left / self.released, 4)

    def plus(self, other: Report) -> Report:
        """Return both reports as one.

        Raises:
            ProfileError: they were made under different profiles or engines.
        """
        if (self.profile, self.engine, dict(self.recognizers)) != (
            other.profile,
            other.engine,
            dict(other.recognizers),
        ):
            raise ProfileError("reports of different profiles or engines cannot be added")
        return Report(
            self.profile,
            self.engine,
            self.recognizers,
            self.records + other.records,
            self.released + other.released,
            _sum(self.counts, other.counts),
            _sum(self.quarantined, other.quarantined),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values, keys sorted."""
        return {
            "format": FORMAT,
            "profile": self.profile,
            "engine": self.engine,
            "recognizers": dict(sorted(self.recognizers.items())),
            "records": self.records,
            "released": self.released,
            "counts": {k.value: n for k, n in sorted(self.counts.items())},
            "quarantined": dict(sorted(self.quarantined.items())),
            "residualPerRecord": self.residual_per_record,
        }

    @classmethod
    def from_json(cls, value: object) -> Report:
        """Read what `to_json` wrote (a dict, or its JSON text).

        Raises:
            ProfileError: another format, an unknown kind, a negative or inconsistent number.
        """
        try:
            data = json.loads(value) if isinstance(value, str | bytes) else value
            if not isinstance(data, dict) or data.get("format") != FORMAT:
                raise ProfileError(f"not a report of format {FORMAT}")
            report = cls(
                _text(data["profile"]),
                _text(data["engine"]),
                {_text(k): _text(v) for k, v in data["recognizers"].items()},
                _count(data["records"]),
                _count(data["released"]),
                {Identifier(k): _count(n) for k, n in data["counts"].items()},
                {_text(k): _count(n) for k, n in data["quarantined"].items()},
            )
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
            raise ProfileError("the report is malformed") from None
        if report.released + sum(report.quarantined.values()) != report.records:
            raise ProfileError("the report's numbers do not add up")
        return report


def _sum(a: Mapping[_Key, int], b: Mapping[_Key, int]) -> dict[_Key, int]:
    return {key: a.get(key, 0) + b.get(key, 0) for key in (*a, *b)}


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 200:
        raise TypeError
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError
    return value
