"""What the hospital knows of the patient: the values to look for in that patient's own records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import Any

import regex

from anonymize.shadow import fold

_WORDS = regex.compile(r"[\p{L}\p{M}\d]+")
PARTICLES = frozenset(
    "de da do dos del della der den di du la le van von bin ibn al el ter ten y e st jr sr ii iii iv "
    "mr mrs ms miss dr prof md phd rn do".split()
)


def name_tokens(name: str) -> tuple[str, ...]:
    """Return the folded words of a name, particles and titles left out."""
    words = [fold(word) for word in _WORDS.findall(name)]
    return tuple(word for word in words if word not in PARTICLES)


@dataclass(frozen=True)
class PatientContext:
    """One patient's structured record.

    `names` are the patient's own (current, former, maiden) as "Given Middle Family" or
    "Family, Given"; `relatives` and `clinicians` other people's. `addresses` are street lines and
    towns, one entry each. `subject` is the handle of the `Record`s it belongs to.
    """

    subject: str
    names: tuple[str, ...] = ()
    identifiers: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    phones: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    birth_date: date | None = None
    relatives: tuple[str, ...] = ()
    clinicians: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Confess nothing."""
        return "PatientContext(**********)"

    def merged(self, other: PatientContext) -> PatientContext:
        """Return this context with everything `other` knows as well."""
        added: dict[str, Any] = {}
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, tuple):
                added[field.name] = tuple(dict.fromkeys(mine + theirs))
        return replace(self, birth_date=self.birth_date or other.birth_date, **added)

    def persons(self) -> list[tuple[str, tuple[str, ...]]]:
        """Return (who, name tokens) of everybody; every name of the patient is one person."""
        own = tuple(dict.fromkeys(t for name in self.names for t in name_tokens(name)))
        people = [("patient", own)] if own else []
        for role, names in (("relative", self.relatives), ("clinician", self.clinicians)):
            for name in names:
                tokens = name_tokens(name)
                if tokens:
                    people.append((role + ":" + " ".join(sorted(tokens)), tokens))
        return people

    @classmethod
    def from_fhir(cls, patient: Mapping[str, Any], *, subject: str) -> PatientContext:
        """Read a FHIR R4 `Patient`.

        Its name, identifier, address, telecom, contact, birthDate, generalPractitioner.display and
        the extension for the mother's maiden name. Elements of an unexpected shape are passed over: the treatment of the resource itself does
        not depend on this reading.
        """
        contacts = _dicts(patient.get("contact"))
        addresses = _dicts(patient.get("address")) + [
            a for c in contacts for a in _dicts(c.get("address"))
        ]
        telecoms = _dicts(patient.get("telecom")) + [
            t for c in contacts for t in _dicts(c.get("telecom"))
        ]
        extensions = _dicts(patient.get("extension"))
        addresses += [a for e in extensions for a in _dicts(e.get("valueAddress"))]
        relatives = [n for c in contacts for n in _human_names(c.get("name"))]
        relatives += _texts(
            e.get("valueString")
            for e in extensions
            if str(e.get("url")).endswith("patient-mothersMaidenName")
        )
        own_id = patient.get("id")
        ids = _texts([own_id]) + _texts(i.get("value") for i in _dicts(patient.get("identifier")))
        return cls(
            subject=subject,
            names=tuple(_human_names(patient.get("name"))),
            identifiers=tuple(dict.fromkeys(ids)),
            addresses=tuple(dict.fromkeys(part for a in addresses for part in _address_parts(a))),
            phones=tuple(_values(telecoms, {"phone", "fax", "pager", "sms", "other"})),
            emails=tuple(_values(telecoms, {"email"})),
            birth_date=_date(patient.get("birthDate")),
            relatives=tuple(dict.fromkeys(relatives)),
            clinicians=tuple(
                _texts(g.get("display") for g in _dicts(patient.get("generalPractitioner")))
            ),
        )


def _dicts(value: object) -> list[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        return [value]
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, list) else []


def _texts(values: Iterable[object] | object) -> list[str]:
    if isinstance(values, str):
        return [values]
    if not isinstance(values, Iterable):
        return []
    return [v.strip() for v in values if isinstance(v, str) and v.strip()]


def _human_names(value: object) -> list[str]:
    names = []
    for name in _dicts(value):
        whole = " ".join([*_texts(name.get("given")), *_texts(name.get("family"))])
        names += [n for n in (whole, *_texts(name.get("text"))) if n]
    return list(dict.fromkeys(names))


def _address_parts(address: Mapping[str, Any]) -> list[str]:
    return [
        *_texts(address.get("line")),
        *_texts([address.get("city"), address.get("district"), address.get("postalCode")]),
        *_texts(address.get("text")),
    ]


def _values(telecoms: list[Mapping[str, Any]], systems: set[str]) -> list[str]:
    return _texts(t.get("value") for t in telecoms if t.get("system") in systems)


def _date(value: object) -> date | None:
    try:
        return date.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
