"""Generated patients: who they are, what their hospital knows, what stands in their notes.

Seeded, so that a run can be repeated. Every identifier that is made up here stands in the structured record
or behind a label, and must never be seen outside the hospital: the tests look for each of them.
"""

from __future__ import annotations

import csv
import json
import math
import random
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

_FAMILIES = (
    "Abernathy Baumgartner Castellano Drummond Eastwick Fairweather Gallagher Hathaway Ingersoll "
    "Jankowski Kowalczyk Lindqvist Montague Novakova Okonkwo Pemberton Quintero Rosenthal Sandoval "
    "Thackeray Underhill Villanueva Whitcombe Xanthopoulos Yarborough Zimmermann"
).split()
_WOMEN = "Adelheid Beatrix Cordelia Daniela Eleonora Florence Gwendolyn Henrietta Isadora Josephine".split()
_MEN = "Alistair Bertrand Cornelius Dominic Ezekiel Frederick Gerhardt Horatio Ignatius Jeremiah".split()
_STREETS = "Juniper Magnolia Sycamore Larkspur Hawthorne Birchwood Cottonwood Dogwood".split()
_TOWNS = (("Millbrook", "NY", "12545"), ("Ashford", "CT", "06278"), ("Granby", "MA", "01033"))
_CLINICIANS = "Whitfield Okafor Lindgren Marchetti Delacroix Petrov".split()
_CONDITIONS = (
    ("38341003", "Hypertensive disorder", "hypertension"),
    ("44054006", "Type 2 diabetes mellitus", "type 2 diabetes"),
    ("195967001", "Asthma", "asthma"),
    ("53741008", "Coronary arteriosclerosis", "coronary artery disease"),
)

#: The features of the generated table, and of every model of the demonstration.
FEATURES = ("age", "systolic", "cholesterol", "glucose", "bmi", "max_heart_rate")
_WEIGHTS = (0.05, 0.03, 0.012, 0.015, 0.08, -0.03)
_CENTRES = (58.0, 134.0, 215.0, 112.0, 27.5, 148.0)
_SPREADS = (12.0, 17.0, 38.0, 28.0, 4.2, 20.0)


@dataclass(frozen=True)
class Person:
    """One generated patient as the hospital's structured record knows them."""

    record: str
    given: str
    family: str
    gender: str
    born: date
    ssn: str
    phone: str
    email: str
    street: str
    town: tuple[str, str, str]
    clinician: str
    condition: tuple[str, str, str]
    values: tuple[float, ...]

    @property
    def planted(self) -> tuple[str, ...]:
        """Every identifier of this person that must never leave the hospital."""
        return (
            self.family, self.record, self.ssn, self.phone, self.email, self.street,
            self.born.isoformat(), self.clinician,
        )  # fmt: skip

    @property
    def label(self) -> int:
        """Whether this person is at risk, by the rule that generated the data."""
        scaled = sum(
            weight * (value - centre)
            for weight, value, centre in zip(_WEIGHTS, self.values, _CENTRES, strict=True)
        )
        return int(scaled > 0)

    def resource(self) -> dict[str, Any]:
        """The FHIR R4 Patient."""
        town, state, code = self.town
        return {
            "resourceType": "Patient",
            "id": self.record,
            "identifier": [
                {"system": "urn:oid:hospital-mrn", "value": self.record},
                {"system": "http://hl7.org/fhir/sid/us-ssn", "value": self.ssn},
            ],
            "name": [{"use": "official", "family": self.family, "given": [self.given]}],
            "telecom": [
                {"system": "phone", "value": self.phone},
                {"system": "email", "value": self.email},
            ],
            "gender": self.gender,
            "birthDate": self.born.isoformat(),
            "address": [{"line": [self.street], "city": town, "state": state, "postalCode": code}],
        }


def generate(count: int, *, prefix: str, seed: int) -> list[Person]:
    """``count`` people with record numbers ``<prefix>-…``."""
    draw = random.Random(seed)
    people = []
    for index in range(count):
        female = draw.random() < 0.5
        given = draw.choice(_WOMEN if female else _MEN)
        family = f"{draw.choice(_FAMILIES)}-{draw.choice(_FAMILIES)}"
        born = date(1938, 1, 1) + timedelta(days=draw.randrange(24_000))
        values = tuple(
            round(draw.gauss(centre, spread), 1)
            for centre, spread in zip(_CENTRES, _SPREADS, strict=True)
        )
        age = float((date(2026, 6, 30) - born).days // 365)
        people.append(
            Person(
                record=f"{prefix}-{draw.randrange(10**7):07d}{index:03d}",
                given=given,
                family=family,
                gender="female" if female else "male",
                born=born,
                ssn=f"{draw.randrange(100, 665):03d}-{draw.randrange(10, 99)}-{draw.randrange(1000, 9999)}",
                phone=f"({draw.randrange(201, 989)}) 555-{draw.randrange(1000, 9999)}",
                email=f"{given}.{family}{index}@example.org".lower(),
                street=f"{draw.randrange(10, 9900)} {draw.choice(_STREETS)} Lane",
                town=draw.choice(_TOWNS),
                clinician=draw.choice(_CLINICIANS),
                condition=draw.choice(_CONDITIONS),
                values=(age, *values[1:]),
            )
        )
    return people


def notes_of(person: Person) -> list[dict[str, str]]:
    """Two notes, with the person's identifiers in the places where clinicians put them."""
    visit = person.born + timedelta(days=int(person.values[0] * 365) + 40)
    he, his = ("She", "her") if person.gender == "female" else ("He", "his")
    first = (
        f"PATIENT: {person.family.upper()}, {person.given.upper()}    MRN: {person.record}\n"
        f"DOB: {person.born:%m/%d/%Y}   SSN: {person.ssn}   Phone: {person.phone}\n"
        f"Visit date: {visit:%B %d, %Y}\n\n"
        f"{person.given} {person.family} is a {int(person.values[0])}-year-old patient with "
        f"{person.condition[2]}. {he} lives at {person.street}, {person.town[0]}, {person.town[1]} "
        f"{person.town[2]}.\n"
        f"Blood pressure {person.values[1]:.0f}/82 mmHg, glucose {person.values[3]:.0f} mg/dL, "
        f"BMI {person.values[4]:.1f}. Continues on {his} present medication.\n\n"
        f"Electronically signed by Dr. {person.clinician}, MD\n"
    )
    second = (
        f"Telephone encounter. Mr./Ms. {person.family} called from {person.phone} about refills; "
        f"results were sent to {person.email}. Cholesterol {person.values[2]:.0f} mg/dL. "
        f"Follow-up with Dr. {person.clinician} in three months.\n"
    )
    return [
        {"record": person.record, "id": f"{person.record}-1", "text": first},
        {"record": person.record, "id": f"{person.record}-2", "text": second},
    ]


def resources_of(person: Person) -> list[dict[str, Any]]:
    """The Patient, a Condition and two Observations (FHIR R4)."""
    subject = {"reference": f"Patient/{person.record}"}
    seen = person.born + timedelta(days=int(person.values[0] * 365))
    code, display, text = person.condition

    def observation(name: str, loinc: str, label: str, value: float, unit: str) -> dict[str, Any]:
        return {
            "resourceType": "Observation",
            "id": f"{person.record}-{name}",
            "status": "final",
            "code": {
                "coding": [{"system": "http://loinc.org", "code": loinc, "display": label}],
                "text": label,
            },
            "subject": subject,
            "effectiveDateTime": seen.isoformat(),
            "valueQuantity": {"value": value, "unit": unit},
        }

    return [
        person.resource(),
        {
            "resourceType": "Condition",
            "id": f"{person.record}-condition",
            "clinicalStatus": {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/condition-clinical",
                        "code": "active",
                    }
                ]
            },
            "code": {
                "coding": [{"system": "http://snomed.info/sct", "code": code, "display": display}],
                "text": text,
            },
            "subject": subject,
            "onsetDateTime": seen.isoformat(),
        },
        observation("bp", "8480-6", "Systolic blood pressure", person.values[1], "mm[Hg]"),
        observation("glucose", "2345-7", "Glucose", person.values[3], "mg/dL"),
    ]


def write_files(people: list[Person], folder: Path) -> dict[str, Path]:
    """Write the hospital's own files: ``patients``, ``notes``, ``fhir``, ``table``; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {
        "patients": folder / "patients.ndjson",
        "notes": folder / "notes.ndjson",
        "fhir": folder / "fhir.ndjson",
        "table": folder / "table.csv",
    }
    _ndjson(paths["patients"], [person.resource() for person in people])
    _ndjson(paths["notes"], [note for person in people for note in notes_of(person)])
    _ndjson(paths["fhir"], [item for person in people for item in resources_of(person)])
    with paths["table"].open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["record", *FEATURES, "at_risk"])
        for person in people:
            writer.writerow([person.record, *person.values, person.label])
    return paths


def training_set(count: int, *, seed: int) -> tuple[list[list[float]], list[int]]:
    """Rows and labels of people who are in no dataset, with a little noise in the labels."""
    draw = random.Random(seed)
    people = generate(count, prefix="T", seed=seed)
    labels = [
        int(draw.random() < 1 / (1 + math.exp(-4 * (2 * person.label - 1)))) for person in people
    ]
    return [list(person.values) for person in people], labels


def _ndjson(path: Path, items: list[Any]) -> None:
    text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    path.write_text(text, encoding="utf-8")
