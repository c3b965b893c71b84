"""Quality: every check by a record that fails it and one that does not; verdicts hold no contents."""

from __future__ import annotations

import json

import pytest

from exchange.errors import DocumentMalformed
from exchange.quality import Quality, fit, read_columns
from tests.worked import a_column, a_note, a_row

COLUMNS = read_columns(
    [
        a_column("age", "integer", min="0", max="120"),
        a_column("pressure", min="40.5"),
        a_column("city", "text"),
        a_column("day", "date"),
    ]
)
FIT = {"age": "70", "pressure": "120.5", "city": "x", "day": "2020-01-02"}


def verdict(record, columns=COLUMNS):
    return Quality().check("s", 0, record, columns)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({}, None),
        ({"age": "90+"}, None),
        ({"age": 70}, None),
        ({"age": "70.0"}, None),
        ({"age": "0"}, None),
        ({"age": "120"}, None),
        ({"pressure": "40.5"}, None),
        ({"pressure": None}, None),
        ({"pressure": ""}, None),
        ({"age": "121"}, "range"),
        ({"age": "-1"}, "range"),
        ({"pressure": "40.4"}, "range"),
        ({"age": "70.5"}, "type"),
        ({"age": "seventy"}, "type"),
        ({"age": "NaN"}, "type"),
        ({"pressure": "Infinity"}, "type"),
        ({"age": True}, "type"),
        ({"age": [70]}, "type"),
        ({"city": 7}, "type"),
        ({"day": 20200102}, "type"),
        ({"weight": "1"}, "columns"),
        (dict.fromkeys(FIT), "empty"),
    ],
)
def test_a_row_is_held_to_its_columns(cells, reason):
    assert verdict(a_row(0, **(FIT | cells))) == reason


def test_a_row_without_a_column_is_ragged():
    assert verdict(a_row(0, **{k: v for k, v in FIT.items() if k != "city"})) == "columns"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (a_note("fever"), None),
        (a_note(" \n"), "empty"),
        (a_note(7), "empty"),
        ({"id": "0", "kind": "fhir", "content": {"resourceType": "Patient"}}, None),
        ({"id": "0", "kind": "fhir", "content": {"resourceType": 7}}, "not-a-resource"),
        ({"id": "0", "kind": "fhir", "content": {}}, "not-a-resource"),
        ({"id": "0", "kind": "fhir", "content": "{}"}, "not-a-resource"),
        ({"id": "0", "kind": "image", "content": "x"}, "kind"),
        ({"id": "0", "kind": "row", "content": []}, "shape"),
        ({"id": "0", "kind": "note"}, "shape"),
        ({"id": "0", "kind": "note", "content": "x", "more": 1}, "shape"),
        ([], "shape"),
        (None, "shape"),
    ],
)
def test_a_record_has_its_shape(record, reason):
    assert verdict(record) == reason


def test_the_same_record_twice_is_one_too_many_but_not_of_two_patients():
    quality = fit([("a", a_note("x", 0)), ("a", a_note("x", 1)), ("b", a_note("x", 0))], [])
    assert quality.unfit == [("a", 1, "duplicate")]
    assert quality.report()["unfit"] == {"duplicate": 1}


def test_a_version_is_refused_when_more_than_half_is_unfit_or_nothing_is_there():
    def refused(good, bad):
        records = [("s", a_note(f"n{number}", number)) for number in range(good)]
        records += [("s", a_note("", number)) for number in range(bad)]
        return fit(records, []).refused

    assert refused(0, 0) == "empty"
    assert refused(1, 1) is None
    assert refused(1, 2) == "too-many-unfit-records"


def test_columns_that_are_mostly_missing_are_named_once_there_are_enough_rows():
    def worst(rows, missing):
        cells = [a_row(n, **(FIT | {"day": None if n < missing else f"{n}"})) for n in range(rows)]
        return fit([(f"s{n}", row) for n, row in enumerate(cells)], COLUMNS).report()

    assert worst(20, 9)["mostlyMissing"] == ["day"]
    assert worst(20, 8)["mostlyMissing"] == []
    assert worst(10, 9)["mostlyMissing"] == []


def test_a_report_holds_counts_and_no_contents():
    report = fit([("s", a_note("a secret")), ("s", a_note(""))], []).report()
    assert "secret" not in json.dumps(report)
    assert (report["checked"], report["passed"]) == (2, 1)


@pytest.mark.parametrize(
    ("described", "pointer"),
    [
        ([{"name": "a"}], "/columns/0"),
        ([a_column("a"), a_column("a")], "/columns/1/name"),
        ([a_column("")], "/columns/0/name"),
        ([a_column(7)], "/columns/0/name"),
        ([a_column("a", "float")], "/columns/0/type"),
        ([a_column("a", unit=7)], "/columns/0/unit"),
        ([a_column("a", min="low")], "/columns/0/min"),
        ([a_column("a", max=5)], "/columns/0/max"),
        ([a_column("a", max="NaN")], "/columns/0/max"),
        ([a_column("a", more=1)], "/columns/0"),
    ],
)
def test_columns_that_promise_nothing_are_refused_with_their_place(described, pointer):
    with pytest.raises(DocumentMalformed) as refused:
        read_columns(described)
    assert refused.value.pointer == pointer


def test_columns_are_read():
    (column,) = read_columns([a_column("a", "integer", unit="years", min="0", max="1e2")])
    assert (column.name, column.type, column.unit) == ("a", "integer", "years")
    assert (column.least, column.most) == (0, 100)
