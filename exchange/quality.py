"""Is a record fit to be used? The same checks at the hospital, before sealing, and at intake.

Pure: records in, verdicts out, no text of a record in any verdict. A table's columns are described by
``{"name", "type": number|integer|text|date, "unit": str|null, "min": str|null, "max": str|null}`` (bounds
are decimal strings, since signed documents hold no floats).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from exchange.errors import DocumentMalformed

TYPES = ("date", "integer", "number", "text")
#: A version with more than this share of unfit records is refused whole: something is wrong with all of it.
REFUSE_ABOVE = Decimal("0.5")
#: A column with more than this share of missing cells is reported.
MISSING_ABOVE = Decimal("0.4")
_SMALL_COLUMN = 20
#: What de-identification writes for an age over 89 (45 CFR 164.514(b)(2)(i)(C)).
GENERALISED_AGE = "90+"


@dataclass(frozen=True)
class Column:
    """What a column promises: type, unit and inclusive bounds."""

    name: str
    type: str
    unit: str | None
    least: Decimal | None
    most: Decimal | None


def read_columns(described: Sequence[Mapping[str, Any]]) -> list[Column]:
    """The columns of a manifest.

    Raises:
        DocumentMalformed: an unknown type, a repeated name, a bound that is no number.
    """
    columns: list[Column] = []
    for index, raw in enumerate(described):
        pointer = f"/columns/{index}"
        if set(raw) != {"name", "type", "unit", "min", "max"}:
            raise DocumentMalformed(pointer, "must have exactly max, min, name, type, unit")
        if raw["type"] not in TYPES:
            raise DocumentMalformed(f"{pointer}/type", "must be one of " + ", ".join(TYPES))
        if not isinstance(raw["name"], str) or not raw["name"]:
            raise DocumentMalformed(f"{pointer}/name", "must be a name")
        if raw["unit"] is not None and not isinstance(raw["unit"], str):
            raise DocumentMalformed(f"{pointer}/unit", "must be null or a unit's name")
        if any(column.name == raw["name"] for column in columns):
            raise DocumentMalformed(f"{pointer}/name", "is repeated")
        columns.append(
            Column(
                raw["name"],
                raw["type"],
                raw["unit"],
                _bound(raw["min"], f"{pointer}/min"),
                _bound(raw["max"], f"{pointer}/max"),
            )
        )
    return columns


@dataclass
class Quality:
    """Verdicts over a dataset version, by record, and what they come to."""

    checked: int = 0
    unfit: list[tuple[str, int, str]] = field(default_factory=list)
    missing: Counter[str] = field(default_factory=Counter)
    seen: set[bytes] = field(default_factory=set)

    def check(self, subject: str, index: int, record: Any, columns: Sequence[Column]) -> str | None:
        """The reason why record ``index`` of ``subject`` is unfit, or None when it is fit."""
        self.checked += 1
        reason = _verdict(record, columns, self.missing)
        if reason is None:
            # Its id numbers it within its part, so two copies of one record differ in nothing else.
            told = json.dumps([subject, record["kind"], record["content"]], sort_keys=True)
            mark = hashlib.sha256(told.encode()).digest()
            if mark in self.seen:
                reason = "duplicate"
            self.seen.add(mark)
        if reason is not None:
            self.unfit.append((subject, index, reason))
        return reason

    @property
    def refused(self) -> str | None:
        """Why the whole version must be refused, or None."""
        if self.checked == 0:
            return "empty"
        if Decimal(len(self.unfit)) / self.checked > REFUSE_ABOVE:
            return "too-many-unfit-records"
        return None

    def report(self) -> dict[str, Any]:
        """Counts by reason; columns with many missing cells by name. No contents."""
        worst = [
            column
            for column, missing in sorted(self.missing.items())
            if self.checked >= _SMALL_COLUMN and Decimal(missing) / self.checked > MISSING_ABOVE
        ]
        return {
            "checked": self.checked,
            "passed": self.checked - len(self.unfit),
            "unfit": dict(sorted(Counter(reason for _, _, reason in self.unfit).items())),
            "mostlyMissing": worst,
            "refused": self.refused,
        }


def _verdict(record: Any, columns: Sequence[Column], missing: Counter[str]) -> str | None:
    if not isinstance(record, dict) or set(record) != {"id", "kind", "content"}:
        return "shape"
    content = record["content"]
    match record["kind"]:
        case "note":
            return None if isinstance(content, str) and content.strip() else "empty"
        case "fhir":
            known = isinstance(content, dict) and isinstance(content.get("resourceType"), str)
            return None if known else "not-a-resource"
        case "row":
            return _row(content, columns, missing)
        case _:
            return "kind"


def _row(content: Any, columns: Sequence[Column], missing: Counter[str]) -> str | None:
    if not isinstance(content, dict):
        return "shape"
    if set(content) != {column.name for column in columns}:
        return "columns"
    filled = 0
    for column in columns:
        value = content[column.name]
        if value is None or value == "":
            missing[column.name] += 1
            continue
        filled += 1
        reason = _cell(value, column)
        if reason is not None:
            return reason
    return None if filled else "empty"


def _cell(value: Any, column: Column) -> str | None:
    if column.type in ("text", "date"):
        return None if isinstance(value, str) else "type"
    if value == GENERALISED_AGE:
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return "type"
    if not number.is_finite():
        return "type"
    if column.type == "integer" and number != number.to_integral_value():
        return "type"
    if column.least is not None and number < column.least:
        return "range"
    if column.most is not None and number > column.most:
        return "range"
    return None


def _bound(value: Any, pointer: str) -> Decimal | None:
    if value is None:
        return None
    try:
        bound = Decimal(value) if isinstance(value, str) else Decimal("NaN")
    except InvalidOperation:
        bound = Decimal("NaN")
    if not bound.is_finite():
        raise DocumentMalformed(pointer, "must be null or a decimal number in quotes")
    return bound


def fit(records: Iterable[tuple[str, Any]], columns: Sequence[Column]) -> Quality:
    """Check ``(subject, record)`` pairs, numbering each subject's records from 0."""
    quality = Quality()
    numbers: Counter[str] = Counter()
    for subject, record in records:
        quality.check(subject, numbers[subject], record, columns)
        numbers[subject] += 1
    return quality
