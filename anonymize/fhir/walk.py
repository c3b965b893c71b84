"""Treat one FHIR R4 resource, element by element, as `schema` says.

Whole elements are built anew from what is listed; nothing is copied and then cleaned. Ids and
references become keyed UUIDs, so links between one subject's resources survive. Primitive
extensions (`_birthDate`), narratives and everything unlisted do not leave.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import regex

from anonymize.errors import RecordUnreadable, UnsupportedResource
from anonymize.fhir.attachment import read_attachment, write_attachment
from anonymize.fhir.leaves import Leaves
from anonymize.fhir.schema import CUSTOM, KEPT_EXTENSIONS, PUBLIC_SYSTEMS, RESOURCES, SCHEMA
from anonymize.profile import Identifier
from anonymize.text import Treatments, deidentify_text

_DISPLAYED = frozenset(
    "Condition Observation Medication MedicationRequest Procedure DiagnosticReport Immunization "
    "AllergyIntolerance CarePlan Goal ServiceRequest Specimen".split()
)
_REFERENCE = regex.compile(
    r"(?:[a-z][a-z0-9+.\-]*://[^\s|]*/)?(?P<type>[A-Z][A-Za-z]{2,40})/(?P<id>[A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?"
)
_SEARCH = regex.compile(
    r"(?P<type>[A-Z][A-Za-z]{2,40})\?identifier=(?:[^|]*\|)?(?P<value>[^|&]{1,200})"
)


def public(system: object) -> bool:
    """Tell whether codes of this system are a public terminology, not numbers of people."""
    return (
        isinstance(system, str)
        and system.startswith(PUBLIC_SYSTEMS)
        and not system.startswith("http://hl7.org/fhir/sid/us-")
    )


class Walk:
    """One record's walk: the treatments of its subject, and the counts."""

    def __init__(self, by: Treatments) -> None:
        """Set the counts to nothing."""
        self._by = by
        self.counts: Counter[Identifier] = Counter()
        self._leaves = Leaves(by, self.counts)
        self._custom: dict[str, Callable[[Any, str], object]] = {
            "Coding": self._coding,
            "Identifier": self._identifier,
            "Reference": self._reference,
            "HumanName": self._human_name,
            "Address": self._address,
            "ContactPoint": self._contact_point,
            "Attachment": self._attachment,
            "Extension": self._extension,
            "resource": self.resource,
            "Age": self._age,
        }

    def resource(self, value: Any, position: str) -> dict[str, Any]:  # JSON
        """Return the treated resource.

        Raises:
            UnsupportedResource: its type has no rules.
            RecordUnreadable: it is no resource, or an attachment cannot be read.
        """
        if not isinstance(value, Mapping):
            raise RecordUnreadable("bad-fhir", position, "a resource is an object")
        name = value.get("resourceType")
        if not isinstance(name, str) or name not in RESOURCES:
            raise UnsupportedResource(str(name), position)
        treated = self._structure(name, value, position)
        return {"resourceType": name, **treated}

    def _structure(self, name: str, value: object, position: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise RecordUnreadable("bad-fhir", position, "an object was expected")
        out: dict[str, Any] = {}
        table = SCHEMA[name]
        for element, inner in value.items():
            kind = table.get(element)
            if kind is None:
                continue
            treated = self._element(kind, inner, f"{position}.{element}")
            if treated is not None:
                out[element] = treated
        return out

    def _element(self, kind: str, value: object, position: str) -> object:
        if isinstance(value, list):
            items = [self._element(kind, v, f"{position}[{i}]") for i, v in enumerate(value)]
            kept = [item for item in items if item is not None]
            return kept or None
        if kind in CUSTOM:
            return self._custom[kind](value, position)
        if kind in SCHEMA:
            if kind == "CodeableConcept":
                return self._concept(value, position)
            return self._structure(kind, value, position) or None
        return self._leaves.treat(kind, value, position)

    def _concept(self, value: object, position: str) -> object:
        if not isinstance(value, Mapping):
            raise RecordUnreadable("bad-fhir", position, "an object was expected")
        codings = value.get("coding")
        out: dict[str, Any] = {}
        if isinstance(codings, list):
            treated = self._element("Coding", codings, f"{position}.coding")
            if treated is not None:
                out["coding"] = treated
        text = value.get("text")
        if isinstance(text, str):
            shown = [
                c.get("display")
                for c in (codings if isinstance(codings, list) else [])
                if isinstance(c, Mapping) and public(c.get("system"))
            ]
            out["text"] = self._leaves.text(text, f"{position}.text", coded=text in shown)
        return out or None

    def _coding(self, value: object, position: str) -> object:
        if not isinstance(value, Mapping):
            raise RecordUnreadable("bad-fhir", position, "an object was expected")
        known = public(value.get("system"))
        out: dict[str, Any] = {}
        if known:
            out["system"] = value["system"]
            code = value.get("code")
            if isinstance(code, str) and regex.fullmatch(r"[\p{L}\d.\-_^/+()]{1,64}", code):
                out["code"] = code
            version = value.get("version")
            if isinstance(version, str) and regex.fullmatch(r"[\d.\-/a-z:]{1,80}", version):
                out["version"] = version
        display = value.get("display")
        if isinstance(display, str):
            out["display"] = self._leaves.text(display, f"{position}.display", coded=known)
        return out or None

    def _identifier(self, value: object, position: str) -> object:
        if not isinstance(value, Mapping):
            raise RecordUnreadable("bad-fhir", position, "an object was expected")
        out = self._structure_of(
            {"use": "kept", "type": "CodeableConcept", "period": "Period"}, value, position
        )
        system = value.get("system")
        if isinstance(system, str) and system.startswith(PUBLIC_SYSTEMS):
            out["system"] = system
        number = value.get("value")
        if isinstance(number, str) and number:
            out["value"] = self._identifier_value(number, system)
        return out or None

    def _identifier_value(self, number: str, system: object) -> str:
        # SSN: even a keyed code of so small a space is not kept, as the profile says of SSNs.
        if system == "http://hl7.org/fhir/sid/us-ssn":
            self.counts[Identifier.SSN] += 1
            return "[SSN]"
        self.counts[Identifier.CODE] += 1
        prefix = "urn:uuid:" if number.startswith("urn:") else ""
        return prefix + self._by.key.resource_id(self._by.subject, number.removeprefix("urn:uuid:"))

    def _structure_of(
        self, table: Mapping[str, str], value: Mapping[str, Any], position: str
    ) -> dict[str, Any]:
        out = {}
        for element, kind in table.items():
            if element in value:
                treated = self._element(kind, value[element], f"{position}.{element}")
                if treated is not None:
                    out[element] = treated
        return out

    def _reference(self, value: object, position: str) -> object:
        if not isinstance(value, Mapping):
            raise RecordUnreadable("bad-fhir", position, "an object was expected")
        out = self._structure_of({"type": "kept", "identifier": "Identifier"}, value, position)
        target = ""
        reference = value.get("reference")
        if isinstance(reference, str):
            treated, target = self._reference_text(reference)
            if treated is not None:
                out["reference"] = treated
        display = value.get("display")
        if isinstance(display, str):
            if target in _DISPLAYED or value.get("type") in _DISPLAYED:
                out["display"] = self._leaves.text(display, f"{position}.display", coded=False)
            else:  # the name of a person or an institution, or nobody knows of what
                self.counts[Identifier.NAME] += 1
        return out or None

    def _reference_text(self, reference: str) -> tuple[str | None, str]:
        self.counts[Identifier.CODE] += 1
        identify = self._leaves.resource_id
        if reference.startswith("#"):
            return "#" + identify(reference[1:]) if len(reference) > 1 else "#", ""
        if reference.startswith("urn:"):
            return "urn:uuid:" + identify(reference.removeprefix("urn:uuid:")), ""
        match = _REFERENCE.fullmatch(reference)
        if match is not None:
            return f"{match['type']}/{identify(match['id'])}", match["type"]
        match = _SEARCH.fullmatch(reference)
        if match is not None:
            return f"{match['type']}?identifier={identify(match['value'])}", match["type"]
        return None, ""

    def _human_name(self, value: object, position: str) -> object:
        if not isinstance(value, Mapping):
            raise RecordUnreadable("bad-fhir", position, "an object was expected")
        parts = [value.get("text")] if isinstance(value.get("text"), str) else []
        if not parts:
            given = value.get("given")
            parts = [*(given if isinstance(given, list) else []), value.get("family")]
        name = " ".join(p for p in parts if isinstance(p, str))
        out = self._structure_of({"use": "kept", "period": "Period"}, value, position)
        if name.strip():
            out["text"] = self._leaves.name(name)
        return out or None

    def _address(self, value: object, position: str) -> object:
        if not isinstance(value, Mapping):
            raise RecordUnreadable("bad-fhir", position, "an object was expected")
        self.counts[Identifier.LOCATION] += 1
        table = {
            "use": "kept",
            "type": "kept",
            "state": "state",
            "postalCode": "zip",
            "country": "country",
            "period": "Period",
        }
        return self._structure_of(table, value, position) or None

    def _contact_point(self, value: object, position: str) -> object:
        if not isinstance(value, Mapping):
            raise RecordUnreadable("bad-fhir", position, "an object was expected")
        email = value.get("system") == "email"
        self.counts[Identifier.EMAIL if email else Identifier.PHONE] += 1
        return self._structure_of({"system": "kept", "use": "kept"}, value, position) or None

    def _attachment(self, value: object, position: str) -> object:
        if not isinstance(value, Mapping):
            raise RecordUnreadable("bad-fhir", position, "an object was expected")
        out = self._structure_of(
            {"contentType": "mime", "language": "kept", "title": "text", "creation": "date"},
            value,
            position,
        )
        text = read_attachment(value, position)
        if text is None:
            return out or None
        treated, counts = deidentify_text(text, f"{position}.data", self._by)
        self.counts.update(counts)
        return out | write_attachment(treated)

    def _extension(self, value: object, position: str) -> object:
        if not isinstance(value, Mapping) or value.get("url") not in KEPT_EXTENSIONS:
            return None
        out: dict[str, Any] = {"url": value["url"]}
        out |= self._structure_of({"valueCode": "kept", "valueCoding": "Coding"}, value, position)
        inner = value.get("extension")
        for index, part in enumerate(inner if isinstance(inner, list) else []):
            if isinstance(part, Mapping) and part.get("url") in {"ombCategory", "detailed", "text"}:
                table = {"valueCoding": "Coding", "valueString": "text"}
                treated = self._structure_of(table, part, f"{position}.extension[{index}]")
                if treated:
                    out.setdefault("extension", []).append({"url": part["url"], **treated})
        return out if len(out) > 1 else None

    def _age(self, value: object, position: str) -> object:
        out = self._structure("Quantity", value, position)
        age = out.get("value")
        years = out.get("code", out.get("unit", "a")) in {"a", "year", "years", "yr"}
        if not self._by.profile.keeps(Identifier.AGE) and (age is None or (years and age > 89)):
            self.counts[Identifier.AGE] += 1
            return {**out, "value": 90, "comparator": ">="} if age is not None else None
        return out or None
