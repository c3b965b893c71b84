"""Synthea's patients: none of their own values is left, in notes and in whole bundles."""

from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import regex

from anonymize.context import PatientContext
from anonymize.deidentify import Deidentifier, Inspector, Record, Released
from anonymize.engine import load_engine
from anonymize.keys import DeidentificationKey
from anonymize.profile import SAFE_HARBOR, Identifier
from anonymize.report import RECALL

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "fhir"
KEY = DeidentificationKey(bytes(range(32)))

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="../shared/data/fhir is not here")


def lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def test_notes_in_their_patients_context() -> None:
    folder = DATA / "bulk10"
    patients = {p["id"]: p for p in lines(folder / "Patient.000.ndjson.gz")}
    worker = Deidentifier(SAFE_HARBOR, KEY, timeout_seconds=30)
    inspector = Inspector(timeout_seconds=30)
    seen = 0
    for index, document in enumerate(lines(folder / "DocumentReference.000.ndjson.gz")):
        if index % 15:
            continue
        who = document["subject"]["reference"].removeprefix("Patient/")
        context = PatientContext.from_fhir(patients[who], subject=who)
        record = Record("fhir", who, document, context, position=f"note {index}")
        outcome = worker.deidentify(record)
        assert isinstance(outcome, Released), outcome
        assert isinstance(outcome.record.content, dict)
        data = outcome.record.content["content"][0]["attachment"]["data"]
        text = base64.b64decode(data).decode()
        whole = text + json.dumps(outcome.record.content)
        for part in (n for name in context.names for n in name.split()):
            assert not regex.search(rf"(?i){regex.escape(part)}", whole)
        assert who not in whole
        assert inspector.inspect(outcome.record) == []
        seen += 1
    assert seen >= 80


def test_bundles_keep_no_value_of_their_patient() -> None:
    worker = Deidentifier(SAFE_HARBOR, KEY, timeout_seconds=30)
    for index, bundle in enumerate(lines(DATA / "synthea_r4_bundles_dev.ndjson.gz")):
        if index >= 4:
            break
        (patient,) = (
            e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "Patient"
        )
        outcome = worker.deidentify(Record("fhir", patient["id"], bundle, position=str(index)))
        assert isinstance(outcome, Released), outcome
        assert isinstance(outcome.record.content, dict)
        text = json.dumps(outcome.record.content).lower()
        names = [n for name in patient["name"] for n in [*name["given"], name["family"]]]
        values = [i["value"] for i in patient["identifier"]]
        values += [t["value"] for t in patient["telecom"]]
        values += [v for a in patient["address"] for v in [*a["line"], a["city"]]]
        values.append(patient["birthDate"])
        for value in names + values:
            assert not regex.search(rf"(?<!\p{{L}}){regex.escape(value.lower())}(?!\p{{L}})", text)
        assert len(outcome.record.content["entry"]) == len(bundle["entry"])


QUERIES = DATA.parent / "deid" / "asq_phi_even.txt"
KINDS = {
    "NAME": Identifier.NAME,
    "GEOGRAPHIC_LOCATION": Identifier.LOCATION,
    "DATE": Identifier.DATE,
    "MEDICAL_RECORD_NUMBER": Identifier.MRN,
}


@pytest.mark.skipif(not QUERIES.is_file(), reason="../shared/data/deid is not here")
def test_recall_without_a_context_is_at_least_what_the_report_assumes() -> None:
    # Development figures: names and cities were added after looking at this half of ASQ-PHI.
    total: Counter[Identifier] = Counter()
    covered: Counter[Identifier] = Counter()
    analysis = load_engine("en")
    for block in QUERIES.read_text(encoding="utf-8").split("===QUERY===")[1:]:
        query, _, tags = block.partition("===PHI_TAGS===")
        spans = analysis.find(query, timeout_seconds=30)
        for tag in map(json.loads, filter(str.strip, tags.splitlines())):
            kind, start = KINDS.get(tag["identifier_type"]), query.find(tag["value"])
            if kind is None or start < 0:
                continue
            words = [
                (start + m.start(), start + m.end())
                for m in regex.finditer(r"\w+", tag["value"])
                if m.group().lower() not in {"dr", "mr", "mrs", "ms", "in", "the", "of", "at"}
            ]
            total[kind] += 1
            covered[kind] += all(any(s.start <= a and b <= s.end for s in spans) for a, b in words)
    for kind, count in total.items():
        assert covered[kind] / count >= RECALL[kind], kind
