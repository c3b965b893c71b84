"""Filters: which are well formed, with the place of what is not, and which record they find."""

from __future__ import annotations

import pytest

from exchange.filters import check, first, matcher

GOOD = {"filters": [{"field": "age", "op": ">=", "value": "60"}], "want": "count"}


def one(**changes):
    return {"filters": [{"field": "age", "op": "=", "value": "60"} | changes], "want": "count"}


@pytest.mark.parametrize(
    "parameters",
    [
        GOOD,
        {"filters": [], "want": "rows", "columns": ["age", "code.text"]},
        {"filters": [], "want": "count"},
        one(op="contains", value=""),
    ],
)
def test_a_query_is_taken(parameters):
    assert check(parameters) is None


@pytest.mark.parametrize(
    ("parameters", "place"),
    [
        ({}, "/parameters/want"),
        (GOOD | {"want": "all"}, "/parameters/want"),
        (GOOD | {"limit": 5}, "/parameters "),
        (GOOD | {"columns": "age"}, "/parameters/columns"),
        (GOOD | {"columns": [""]}, "/parameters/columns"),
        (GOOD | {"columns": [7]}, "/parameters/columns"),
        (GOOD | {"filters": {}}, "/parameters/filters "),
        (GOOD | {"filters": GOOD["filters"] * 51}, "/parameters/filters "),
        (GOOD | {"filters": [7]}, "/parameters/filters/0 "),
        (GOOD | {"filters": [{"field": "age"}]}, "/parameters/filters/0 "),
        (one(more=1), "/parameters/filters/0 "),
        (one(field=""), "/parameters/filters/0/field"),
        (one(field=7), "/parameters/filters/0/field"),
        (one(op="like"), "/parameters/filters/0/op"),
        (one(op=["="]), "/parameters/filters/0/op"),
        (one(op="<", value="old"), "/parameters/filters/0/value"),
        (one(op=">", value="NaN"), "/parameters/filters/0/value"),
        (one(op=">", value=60), "/parameters/filters/0/value"),
        (one(value=60), "/parameters/filters/0/value"),
    ],
)
def test_what_is_no_query_is_refused_with_its_place(parameters, place):
    assert f"{check(parameters)} ".startswith(place)


RECORD = {
    "resourceType": "Condition",
    "active": True,
    "note.text": "dotted",
    "age": "60.0",
    "none": None,
    "code": {"text": "Asthma, mild", "coding": [{"code": "I10"}, {"code": "J45", "rank": 2}]},
    "nested": [[{"a": 1}], [{"a": 2}]],
}


@pytest.mark.parametrize(
    ("field", "op", "value", "found"),
    [
        ("age", "=", "60", True),
        ("age", "=", "6e1", True),
        ("age", "!=", "60", False),
        ("age", "!=", "61", True),
        ("age", ">=", "60", True),
        ("age", ">", "60", False),
        ("age", "<=", "60", True),
        ("age", "<", "60.1", True),
        ("code.text", "=", "Asthma, mild", True),
        ("code.text", "=", "asthma, mild", False),
        ("code.text", "contains", "ASTHMA", True),
        ("code.text", "contains", "copd", False),
        ("code.text", "<", "5", False),
        ("code.coding.code", "=", "J45", True),
        ("code.coding.code", "=", "J46", False),
        ("code.coding.rank", "=", "2", True),
        ("code.coding", "=", "J45", False),
        ("nested.a", "=", "2", True),
        ("active", "=", "true", True),
        ("active", "=", "True", False),
        ("active", "=", "1", False),
        ("note.text", "=", "dotted", True),
        ("none", "=", "None", False),
        ("none", "!=", "x", False),
        ("missing", "!=", "x", False),
        ("missing", "=", "", False),
        ("age.deeper", "=", "60", False),
    ],
)
def test_a_filter_finds_what_it_names(field, op, value, found):
    assert matcher({"field": field, "op": op, "value": value})(RECORD) is found


def test_a_note_has_no_fields():
    assert not matcher({"field": "text", "op": "contains", "value": ""})("a note")
    assert first("a note", "text") is None


def test_the_first_value_of_a_field_is_told():
    assert first(RECORD, "code.coding.code") == "I10"
    assert first(RECORD, "code.coding.rank") == 2
    assert first(RECORD, "code") is None
    assert first(RECORD, "missing") is None
