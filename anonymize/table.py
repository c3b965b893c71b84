"""Rows: every column has a role, and a column without one does not leave.

CSV is RFC 4180 with a header. `read_rows` refuses a ragged row by its number; `write_rows` guards
against formula injection (OWASP ASVS 1.2.10): a text cell that a spreadsheet would run is prefixed
with an apostrophe.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, Any

import regex

from anonymize.errors import ProfileError, RecordUnreadable
from anonymize.profile import Identifier, Treatment
from anonymize.record import Record
from anonymize.shifting import shift, shift_iso
from anonymize.text import Treatments, deidentify_text

_NUMBER = regex.compile(r"[+-]?(?:\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})(?:[eE][+-]?\d{1,3})?")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠")
_MAX_CELL = 1_000_000


class Role(StrEnum):
    """What a column holds."""

    SUBJECT = "subject"  # whose row it is; leaves as a pseudonym
    IDENTIFIER = "identifier"  # a name or number of a person; leaves as a pseudonym
    DATE = "date"
    AGE = "age"
    ZIP = "zip"
    FREE_TEXT = "free_text"
    VALUE = "value"  # a measurement or code; text in it is still looked through
    DROP = "drop"


@dataclass(frozen=True)
class TableSchema:
    """The role of every column; exactly one is the subject."""

    columns: Mapping[str, Role]

    def __post_init__(self) -> None:
        """Refuse a table without, or with two, subject columns."""
        if list(self.columns.values()).count(Role.SUBJECT) != 1:
            raise ProfileError("a table schema names exactly one subject column")

    @property
    def subject(self) -> str:
        """The name of the subject column."""
        return next(name for name, role in self.columns.items() if role is Role.SUBJECT)

    @classmethod
    def from_json(cls, text: str) -> TableSchema:
        """Read `{"columns": {"name": "role"}}`.

        Raises:
            ProfileError: malformed, or an unknown role.
        """
        try:
            listed = json.loads(text)["columns"]
            return cls({str(name): Role(role) for name, role in listed.items()})
        except (ValueError, KeyError, TypeError, AttributeError):
            roles = ", ".join(Role)
            raise ProfileError(
                f"a schema is {{'columns': {{name: role}}}}, roles {roles}"
            ) from None


def read_rows(file: IO[str], schema: TableSchema, source: str) -> Iterator[Record]:
    """Yield one record per row of a CSV file.

    Raises:
        RecordUnreadable: `ragged-row`, `bad-header` or `bad-csv`, naming the row (the header is 1).
    """
    reader = csv.reader(file, strict=True)
    number = 1
    try:
        header = next(reader, [])
        if header:
            header[0] = header[0].removeprefix("\ufeff")
        if len(set(header)) != len(header) or set(header) != set(schema.columns):
            raise RecordUnreadable("bad-header", f"{source} row 1", "columns must be the schema's")
        for number, row in enumerate(reader, start=2):
            where = f"{source} row {number}"
            if len(row) != len(header):
                hint = f"{len(row)} cells where the header has {len(header)}"
                raise RecordUnreadable("ragged-row", where, hint)
            cells = dict(zip(header, row, strict=True))
            subject = cells[schema.subject]
            yield Record("row", subject, dict(cells), position=where, schema=schema)
    except csv.Error:
        raise RecordUnreadable("bad-csv", f"{source} row {number + 1}", "quote it") from None


def write_rows(file: IO[str], rows: Iterable[Mapping[str, Any]], columns: list[str]) -> int:
    """Write rows as CSV and return how many cells were disarmed."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([_disarmed(name)[0] for name in columns])
    disarmed = 0
    for row in rows:
        cells = [_disarmed(row.get(name)) for name in columns]
        disarmed += sum(changed for _, changed in cells)
        writer.writerow([cell for cell, _ in cells])
    return disarmed


def deidentify_row(
    row: Mapping[str, Any], schema: TableSchema, position: str, by: Treatments
) -> tuple[dict[str, Any], Counter[Identifier]]:
    """Return the treated row and the counts.

    Raises:
        RecordUnreadable: `unknown-column`, or a cell that is neither text, number nor empty.
        RecognizerFailed, LeakDetected: as for texts.
    """
    unknown = set(row) - set(schema.columns)
    if unknown:
        raise RecordUnreadable("unknown-column", position, f"{len(unknown)} without a role")
    out: dict[str, Any] = {}
    counts: Counter[Identifier] = Counter()
    for index, (name, cell) in enumerate(row.items(), start=1):
        role = schema.columns[name]
        if role is Role.DROP:
            continue
        if cell is None or cell == "" or isinstance(cell, bool):
            out[name] = cell
            continue
        if not isinstance(cell, str | int | float) or len(str(cell)) > _MAX_CELL:
            raise RecordUnreadable("bad-cell", f"{position} column {index}", "not a value")
        out[name] = _cell(role, cell, f"{position} column {index}", by, counts)
    return out, counts


def _cell(
    role: Role, cell: str | float, position: str, by: Treatments, counts: Counter[Identifier]
) -> object:
    text = str(cell).strip()
    if role in {Role.SUBJECT, Role.IDENTIFIER}:
        counts[Identifier.CODE] += 1
        return f"[{Identifier.CODE}-{by.key.pseudonym(Identifier.CODE, by.subject, text)}]"
    if role is Role.DATE:
        return _date(text, by, counts)
    if role is Role.AGE:
        return _age(cell, text, by, counts)
    if role is Role.ZIP:
        return _zip(text, by, counts)
    if role is Role.VALUE and (not isinstance(cell, str) or _NUMBER.fullmatch(text)):
        return cell
    treated, found = deidentify_text(str(cell), position, by)
    counts.update(found)
    return treated


def _date(text: str, by: Treatments, counts: Counter[Identifier]) -> str:
    treatment = by.profile.treatment(Identifier.DATE)
    if treatment is Treatment.KEEP:
        return text if any(c.isdigit() for c in text) and len(text) <= 40 else "[DATE]"
    counts[Identifier.DATE] += 1
    if treatment is Treatment.REDACT:
        return "[DATE]"
    days = by.key.shift_days(by.subject) if treatment is Treatment.DATE_SHIFT else 0
    moved = shift_iso(text.replace(" ", "T", 1), days, by.today)
    if moved is not None:
        moved = moved.replace("T", " ", 1) if " " in text else moved
    else:
        moved = shift(text, days, by.today)
    return moved[:4] if treatment is Treatment.GENERALISE and moved[:4].isdigit() else moved


def _age(cell: str | float, text: str, by: Treatments, counts: Counter[Identifier]) -> str | float:
    if by.profile.keeps(Identifier.AGE):
        return cell if _NUMBER.fullmatch(text) else "[AGE]"
    if not _NUMBER.fullmatch(text):
        counts[Identifier.AGE] += 1
        return "[AGE]"
    if float(text) > 89:
        counts[Identifier.AGE] += 1
        return "90+"
    return cell


def _zip(text: str, by: Treatments, counts: Counter[Identifier]) -> str:
    from anonymize.operators import coarse_zip  # Presidio loads with the engine

    treatment = by.profile.treatment(Identifier.ZIP)
    if treatment is Treatment.KEEP:
        return text if regex.fullmatch(r"\d{5}(?:-?\d{4})?", text) else "[ZIP]"
    counts[Identifier.ZIP] += 1
    return coarse_zip(text) if treatment is Treatment.GENERALISE else "[ZIP]"


def _disarmed(cell: object) -> tuple[object, bool]:
    if isinstance(cell, str) and cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell):
        return "'" + cell, True
    return cell, False
