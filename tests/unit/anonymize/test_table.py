"""Rows: a role for every column, formulas disarmed, ragged rows refused by number."""

from __future__ import annotations

import io
from datetime import date

import pytest

from anonymize.deidentify import Deidentifier, Quarantined, Record, Released
from anonymize.errors import ProfileError, RecordUnreadable
from anonymize.keys import DeidentificationKey
from anonymize.profile import SAFE_HARBOR
from anonymize.table import Role, TableSchema, read_rows, write_rows

KEY = DeidentificationKey(bytes(range(32)))
SCHEMA = TableSchema(
    {
        "pid": Role.SUBJECT,
        "name": Role.IDENTIFIER,
        "seen": Role.DATE,
        "age": Role.AGE,
        "zip": Role.ZIP,
        "hr": Role.VALUE,
        "note": Role.FREE_TEXT,
        "phone": Role.DROP,
    }
)
CSV = (
    "pid,name,seen,age,zip,hr,note,phone\n7,Ann Poe,2020-02-03,91,15213,72.5,Dr. Smith saw her,1\n"
)


def test_a_row() -> None:
    worker = Deidentifier(SAFE_HARBOR, KEY, today=date(2026, 1, 1), timeout_seconds=20)
    (record,) = read_rows(io.StringIO(CSV), SCHEMA, "t.csv")
    assert record.subject == "7"
    outcome = worker.deidentify(record)
    assert isinstance(outcome, Released)
    row = outcome.record.content
    assert isinstance(row, dict)
    assert row["hr"] == "72.5"
    assert row["age"] == "90+"
    assert row["zip"] == "152**"
    assert row["pid"].startswith("[CODE-")
    assert "Poe" not in row["name"]
    assert "Smith" not in row["note"]
    assert "phone" not in row
    moved = date.fromisoformat(row["seen"]) - date(2020, 2, 3)
    assert moved.days == KEY.shift_days("7")


def test_text_in_a_value_column_is_looked_through() -> None:
    worker = Deidentifier(SAFE_HARBOR, KEY, timeout_seconds=20)
    row = {"pid": "7", "hr": "call 412-555-1000"}
    outcome = worker.deidentify(Record("row", "7", row, schema=SCHEMA))
    assert isinstance(outcome, Released)
    assert "555" not in str(outcome.record.content)


def test_an_unknown_column_holds_the_row() -> None:
    worker = Deidentifier(SAFE_HARBOR, KEY, timeout_seconds=20)
    outcome = worker.deidentify(Record("row", "7", {"pid": "7", "ssn": "1"}, schema=SCHEMA))
    assert outcome == Quarantined("record", "unknown-column")


@pytest.mark.parametrize("row", ["7,x\n", "7,a,b,c,d,e,f,g,h\n"])
def test_ragged_rows_are_named(row: str) -> None:
    with pytest.raises(RecordUnreadable, match=r"t\.csv row 3: ragged-row"):
        list(read_rows(io.StringIO(CSV + row), SCHEMA, "t.csv"))


def test_a_header_that_is_not_the_schemas_is_refused() -> None:
    with pytest.raises(RecordUnreadable, match="bad-header"):
        list(read_rows(io.StringIO("pid,extra\n"), SCHEMA, "t.csv"))


@pytest.mark.parametrize("cell", ["=1+1", "@x", "+A1", "-A1", "\tx", "＝1"])
def test_formulas_are_disarmed(cell: str) -> None:
    file = io.StringIO()
    assert write_rows(file, [{"a": cell, "b": "-1.5"}], ["a", "b"]) == 1
    assert "'" + cell.strip("\t") in file.getvalue().replace("\t", "")
    assert ",-1.5" in file.getvalue()


def test_a_schema_names_one_subject() -> None:
    with pytest.raises(ProfileError):
        TableSchema({"a": Role.VALUE})
    with pytest.raises(ProfileError):
        TableSchema.from_json('{"columns": {"a": "nothing"}}')
    assert TableSchema.from_json('{"columns": {"a": "subject"}}').subject == "a"
