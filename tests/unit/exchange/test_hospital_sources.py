"""Files at the hospital: the good part is read, the rest is set aside with its position and a stable reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exchange.errors import Malformed
from exchange.hospital import sources
from exchange.hospital.asking import read_filter
from exchange.hospital.sources import Read, read, read_patients, strict_json


def aside(found: Read):
    return [(one.position, one.reason) for one in found.aside]


def records(found: Read):
    return [(one.record, one.position) for one in found.sources]


@pytest.fixture
def file(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_table_with_ragged_rows_keeps_its_good_rows(file):
    path = file(
        "heart.csv",
        "record,age,city\r\n"
        "1,70,Boston\r\n"
        "2,70\r\n"
        "3,70,Boston,more\r\n"
        '4,71,"Cambridge, MA"\r\n'
        ",72,Nowhere\r\n"
        "5,,\r\n",
    )
    found = read(path, "table")
    assert records(found) == [("1", "heart.csv:2"), ("4", "heart.csv:5"), ("5", "heart.csv:7")]
    assert aside(found) == [
        ("heart.csv:3", "ragged-row"),
        ("heart.csv:4", "ragged-row"),
        ("heart.csv:6", "no-record-number"),
    ]
    assert found.columns == ["age", "city"]
    assert found.sources[1].content == {"age": "71", "city": "Cambridge, MA"}
    assert found.sources[2].content == {"age": None, "city": None}


def test_a_row_that_is_no_csv_is_set_aside_alone(file):
    found = read(file("t.csv", 'record,a\n1,"x"y\n2,z\n'), "table")
    assert aside(found) == [("t.csv:2", "not-csv")]
    assert [one.record for one in found.sources] == ["2"]


def test_the_record_column_may_be_any(file):
    path = file("t.csv", "age,mrn\n70,a1\n")
    assert records(read(path, "table", record_column="mrn")) == [("a1", "t.csv:2")]
    with pytest.raises(Malformed, match="no column is called"):
        read(path, "table", record_column="id")


@pytest.mark.parametrize("header", ["", "a,a\n1,2\n", "a,,b\n1,2,3\n"])
def test_a_table_names_every_column_once(file, header):
    with pytest.raises(Malformed, match="line 1"):
        read(file("t.csv", header), "table")


PATIENT = {"resourceType": "Patient", "id": "p1", "name": [{"family": "Doe"}]}
CONDITION = {"resourceType": "Condition", "id": "c1", "subject": {"reference": "Patient/p1"}}


def test_a_bundle_with_a_broken_resource_keeps_its_good_ones(file):
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"fullUrl": "urn:uuid:1", "resource": PATIENT},
            {"resource": "broken"},
            {"resource": {"id": "no type"}},
            7,
            {"resource": CONDITION | {"subject": {"reference": "urn:uuid:1"}}},
            {"resource": CONDITION | {"id": "c2", "subject": {"reference": "Group/1"}}},
            {"resource": CONDITION | {"id": "c3", "subject": "p1"}},
        ],
    }
    found = read(file("b.json", json.dumps(bundle)), "fhir")
    assert records(found) == [("p1", "b.json/entry/0"), ("p1", "b.json/entry/4")]
    assert sorted(aside(found)) == [
        ("b.json/entry/1", "not-a-resource"),
        ("b.json/entry/2", "not-a-resource"),
        ("b.json/entry/3", "not-a-resource"),
        ("b.json/entry/5", "no-patient"),
        ("b.json/entry/6", "no-patient"),
    ]
    assert found.patients == {"p1": PATIENT}
    assert found.sources[1].content["subject"]["reference"] == "Patient/p1"


def test_lines_of_resources_are_read_around_a_broken_one(file):
    lines = [
        json.dumps(PATIENT),
        "{broken",
        '{"resourceType":"Condition","resourceType":"Patient"}',
        '{"resourceType": 7}',
        json.dumps(CONDITION),
        '{"resourceType":"Observation","subject":{"reference":"Patient/p1"},"value":NaN}',
        '{"resourceType":"Bundle","entry":{}}',
        "[" * 200 + "]" * 200,
    ]
    path = file("r.ndjson", "\n".join(lines))
    found = read(path, "fhir")
    assert records(found) == [("p1", "r.ndjson:1"), ("p1", "r.ndjson:5")]
    assert aside(found) == [
        ("r.ndjson:2", "not-json"),
        ("r.ndjson:3", "not-json"),
        ("r.ndjson:4", "not-a-resource"),
        ("r.ndjson:6", "not-json"),
        ("r.ndjson:7", "not-a-bundle"),
        ("r.ndjson:8", "not-json"),
    ]


def test_a_patients_file_is_whole_or_refused(file):
    """Whose names are not understood would stay named in the notes."""
    good = "\n".join(map(json.dumps, (PATIENT, CONDITION, {"resourceType": "Organization"})))
    assert read_patients(file("p.ndjson", good)) == {"p1": PATIENT}
    broken = [
        good + "\n{broken",
        good + '\n{"record":"r1","names":["Ada Byron"]}',
        json.dumps(CONDITION),
        "",
    ]
    for text in broken:
        with pytest.raises(Malformed):
            read_patients(file("q.ndjson", text))
    with pytest.raises(Malformed, match="cannot be read"):
        read_patients(Path("nowhere.ndjson"))


def test_notes_are_read_around_broken_lines(file, monkeypatch):
    monkeypatch.setattr(sources, "MAX_LINE", 200)
    lines = [
        json.dumps({"record": "r1", "id": "n1", "text": "fever"}),
        "",
        "not json",
        json.dumps({"record": "", "text": "fever"}),
        json.dumps({"record": "r1", "text": 7}),
        json.dumps(["a list"]),
        json.dumps({"record": "r2", "text": "x" * 300}),
        json.dumps({"record": 3, "text": "cough"}),
    ]
    found = read(file("n.ndjson", "\ufeff" + "\n".join(lines)), "notes")
    assert records(found) == [("r1", "n.ndjson:1"), ("3", "n.ndjson:8")]
    assert aside(found) == [
        ("n.ndjson:3", "not-json"),
        ("n.ndjson:4", "not-a-note"),
        ("n.ndjson:5", "not-a-note"),
        ("n.ndjson:6", "not-a-note"),
        ("n.ndjson:7", "too-long"),
    ]
    assert "fever" not in repr(found.sources)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(file, tmp_path):
    with pytest.raises(Malformed, match="cannot be read"):
        read(tmp_path / "absent.csv", "table")
    with pytest.raises(Malformed, match="not UTF-8 at byte"):
        read(file("t.csv", b"record,a\n1,\xff\n"), "table")
    with pytest.raises(Malformed, match="use notes, fhir or table"):
        read(file("t.txt", ""), "images")


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":2}', "NaN", "[Infinity]", "{", "[" * 70 + "]" * 70, "[" * 200_000]
)
def test_json_is_strict(text):
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own errors are ValueErrors too
        strict_json(text)
    assert strict_json('{"a":[1,{"b":null}]}') == {"a": [1, {"b": None}]}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("age >= 60", ("age", ">=", "60")),
        ("age!=60", ("age", "!=", "60")),
        ("code.text contains asthma, mild", ("code.text", "contains", "asthma, mild")),
        ("city = ", ("city", "=", "")),
    ],
)
def test_a_filter_is_read(text, parts):
    assert tuple(read_filter(text).values()) == parts
    with pytest.raises(Malformed):
        read_filter("age")
