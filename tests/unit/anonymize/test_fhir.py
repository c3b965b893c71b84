"""FHIR R4: what is not listed does not leave."""

from __future__ import annotations

import base64
import json
from datetime import date
from typing import Any

import pytest

from anonymize.deidentify import Deidentifier, Inspector, Quarantined, Record, Released
from anonymize.errors import RecordUnreadable, UnsupportedResource
from anonymize.fhir.walk import Walk
from anonymize.keys import DeidentificationKey
from anonymize.profile import SAFE_HARBOR
from anonymize.strict_json import parse

KEY = DeidentificationKey(bytes(range(32)))
TODAY = date(2026, 1, 1)
PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p-77",
    "text": {"status": "generated", "div": "<div>Zebulon Quix</div>"},
    "extension": [{"url": "http://x/y", "valueString": "Zebulon"}],
    "identifier": [
        {"system": "http://hl7.org/fhir/sid/us-ssn", "value": "999-11-2222"},
        {"system": "http://hospital.example", "value": "MRN-4711"},
    ],
    "name": [{"use": "official", "family": "Quix", "given": ["Zebulon"], "prefix": ["Mr."]}],
    "telecom": [{"system": "phone", "value": "412-555-9911", "use": "home"}],
    "gender": "male",
    "birthDate": "1960-05-06",
    "_birthDate": {"extension": [{"url": "x", "valueDateTime": "1960-05-06T10:00:00Z"}]},
    "address": [
        {"line": ["9 Elm Way"], "city": "Erie", "state": "PA", "postalCode": "16501"},
    ],
    "photo": [{"contentType": "image/png", "data": "AAAA"}],
    "unheardOf": "Zebulon Quix",
}


@pytest.fixture(scope="module")
def worker() -> Deidentifier:
    return Deidentifier(SAFE_HARBOR, KEY, today=TODAY, timeout_seconds=20)


def treat(worker: Deidentifier, resource: dict[str, Any]) -> dict[str, Any]:
    outcome = worker.deidentify(Record("fhir", "s", resource))
    assert isinstance(outcome, Released), outcome
    assert isinstance(outcome.record.content, dict)
    return outcome.record.content


def test_a_patient(worker: Deidentifier) -> None:
    out = treat(worker, PATIENT)
    text = json.dumps(out)
    for gone in ("Quix", "Zebulon", "4711", "2222", "9911", "Elm", "Erie", "1960-05-06", "p-77"):
        assert gone not in text
    assert not {"text", "extension", "_birthDate", "photo", "unheardOf"} & set(out)
    assert out["gender"] == "male"
    assert out["address"] == [{"state": "PA", "postalCode": "165**"}]
    moved = date.fromisoformat(out["birthDate"])
    assert (moved - date(1960, 5, 6)).days == KEY.shift_days("s")
    assert Inspector(timeout_seconds=20).inspect(Record("fhir", "s", out)) == []


def test_over_89_the_birth_date_goes(worker: Deidentifier) -> None:
    assert "birthDate" not in treat(worker, {**PATIENT, "birthDate": "1930-05-06"})


def test_references_stay_consistent(worker: Deidentifier) -> None:
    patient = treat(worker, PATIENT)
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {
            "coding": [{"system": "http://loinc.org", "code": "8302-2", "display": "Body Height"}],
            "text": "Body Height",
        },
        "subject": {"reference": "Patient/p-77", "display": "Mr. Zebulon Quix"},
        "effectiveDateTime": "2011-02-02T16:30:49-05:00",
        "valueQuantity": {"value": 181.2, "unit": "cm", "code": "cm"},
    }
    out = treat(worker, observation)
    assert out["subject"] == {"reference": "Patient/" + patient["id"]}
    assert out["valueQuantity"] == {"value": 181.2, "unit": "cm", "code": "cm"}
    assert out["code"] == observation["code"]
    assert out["effectiveDateTime"].endswith("T16:30:49-05:00")
    urn = treat(worker, {**observation, "subject": {"reference": "urn:uuid:p-77"}})
    assert urn["subject"]["reference"] == "urn:uuid:" + patient["id"]
    remote = {**observation, "subject": {"reference": "https://h.example/fhir/Patient/p-77"}}
    assert treat(worker, remote)["subject"]["reference"] == "Patient/" + patient["id"]


def test_a_note_inside_a_bundle_is_treated_in_its_patients_context(worker: Deidentifier) -> None:
    data = base64.b64encode(b"quix was here; Zebulon's BP 120/80").decode()
    document = {
        "resourceType": "DocumentReference",
        "status": "current",
        "content": [{"attachment": {"contentType": "text/plain", "data": data, "url": "http://h"}}],
    }
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"fullUrl": "urn:uuid:p-77", "resource": PATIENT}, {"resource": document}],
    }
    out = treat(worker, bundle)
    attachment = out["entry"][1]["resource"]["content"][0]["attachment"]
    text = base64.b64decode(attachment["data"]).decode()
    assert "quix" not in text.lower()
    assert "zebulon" not in text.lower()
    assert "BP 120/80" in text
    assert "url" not in attachment


@pytest.mark.parametrize("data", ["%%%", base64.b64encode(b"\xff\xfe\x00").decode(), 7])
def test_base64_that_is_no_text_is_held(worker: Deidentifier, data: object) -> None:
    attachment = {"contentType": "text/plain", "data": data}
    resource = {"resourceType": "DocumentReference", "content": [{"attachment": attachment}]}
    outcome = worker.deidentify(Record("fhir", "s", resource))
    assert outcome == Quarantined("record", "bad-attachment")


def test_an_unknown_type_is_named_with_its_position(worker: Deidentifier) -> None:
    bundle = {"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Basic"}}]}
    walk = Walk(worker._treatments(Record("fhir", "s", bundle)))
    with pytest.raises(UnsupportedResource, match=r"Basic at Bundle\.entry\[0\]\.resource"):
        walk.resource(bundle, "Bundle")


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": Infinity}',
        '{"a": "\\ud800"}',
        '{"a":' * 65 + "1" + "}" * 65,
        '{"a": ' + "[" * 100_000,
        '{"a": ' + "9" * 5000 + "}",
        "[1]",
        "{",
        "",
    ],
)
def test_strict_json(text: str) -> None:
    with pytest.raises(RecordUnreadable):
        parse(text, "p")


def test_strict_json_takes_what_is_right() -> None:
    assert parse('{"a": ["[[[", {"b\\"": 1.5}], "c": null}', "p")["a"] == ["[[[", {'b"': 1.5}]


def test_json_text_comes_back_as_text(worker: Deidentifier) -> None:
    outcome = worker.deidentify(Record("fhir", "s", json.dumps(PATIENT)))
    assert isinstance(outcome, Released)
    assert isinstance(outcome.record.content, str)
    assert json.loads(outcome.record.content)["resourceType"] == "Patient"
