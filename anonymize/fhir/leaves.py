"""Treat single values of FHIR R4's primitive types."""

from __future__ import annotations

import uuid
from collections import Counter

import regex

from anonymize.errors import RecordUnreadable
from anonymize.fhir.schema import PUBLIC_SYSTEMS
from anonymize.profile import Identifier, Treatment
from anonymize.recognizers.lexicon import STATE_CODES, STATES
from anonymize.shifting import shift_iso
from anonymize.text import Treatments, check_left, deidentify_text

# Codes of required bindings: lower-case words with hyphens ("final", "entered-in-error"), or the
# short upper-case ones of v3 tables ("AMB"). A capitalised word could be somebody's name.
_KEPT = regex.compile(r"[a-z][a-z\-]{0,39}|[A-Z]{1,10}|[a-z]{2}-[A-Z]{2}|[0-5]?\d:[0-5]\d")
_UNIT = regex.compile(r"[\p{L}%/µμ°.\d*^\[\]{}'\"()\-_ #]{1,40}")
_SHAPES = {
    "comparator": regex.compile(r"<|<=|>=|>"),
    "samples": regex.compile(r"(?:[EUL]|-?\d+(?:\.\d+)?)(?: (?:[EUL]|-?\d+(?:\.\d+)?))*"),
    "time": regex.compile(r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d+)?)?"),
    "state": regex.compile(f"{STATES}|{STATE_CODES}"),
    "country": regex.compile(r"[A-Z]{2,3}"),
    "mime": regex.compile(r"[a-z]+/[a-z0-9.+\-]+(?:; ?charset=[A-Za-z0-9\-]+)?"),
    "requestUrl": regex.compile(r"[A-Z][A-Za-z]{2,40}"),
    "kept": _KEPT,
}


class Leaves:
    """One record's values; adds to the counts of the walk it belongs to."""

    def __init__(self, by: Treatments, counts: Counter[Identifier]) -> None:
        """Take the treatments and the counter to add to."""
        self._by = by
        self._counts = counts

    def treat(self, kind: str, value: object, position: str) -> object:
        """Return the treated value, or None where nothing may stay.

        Raises:
            RecordUnreadable: a number or a boolean where a string belongs, or the reverse.
        """
        if value is None or kind == "drop":
            return None
        if kind == "boolean":
            return value if isinstance(value, bool) else None
        if kind == "number":
            number = isinstance(value, int | float) and not isinstance(value, bool)
            return value if number else None
        if not isinstance(value, str):
            raise RecordUnreadable("bad-fhir", position, "a string was expected")
        if kind in _SHAPES:
            return value if _SHAPES[kind].fullmatch(value) else None
        return self._string(kind, value, position)

    def _string(self, kind: str, value: str, position: str) -> object:
        if kind in {"text", "concept"}:
            return self.text(value, position, coded=False)
        if kind == "unit":
            return self.text(value, position, coded=True) if _UNIT.fullmatch(value) else None
        if kind in {"date", "birthDate"}:
            return self._date(value)
        if kind == "id":
            self._counts[Identifier.CODE] += 1
            return self.resource_id(value)
        if kind == "fullUrl":
            return self._full_url(value)
        if kind == "oid":
            self._counts[Identifier.CODE] += 1
            return "2.25." + str(uuid.UUID(self.resource_id(value)).int)
        if kind == "canonical":
            return value if value.startswith(PUBLIC_SYSTEMS) else None
        if kind == "zip":
            return self._zip(value)
        if kind in {"device", "facility"}:
            return self._labelled(Identifier(kind.upper()), value)
        return None

    def resource_id(self, value: str) -> str:
        """Return the keyed UUID of a technical id."""
        return self._by.key.resource_id(self._by.subject, value)

    def name(self, value: str) -> str | None:
        """Return the pseudonym of a person's name, as in texts."""
        from anonymize.operators import normalised  # Presidio loads late
        from anonymize.persons import canonical

        who = canonical([value], self._by.context).get(normalised(value), value)
        return self._labelled(Identifier.NAME, value, who)

    def text(self, value: str, position: str, *, coded: bool) -> str:
        """Return the treated text.

        The display of a `coded` value is a public terminology's own words, so that only the
        patient's own values and unmistakable identifiers are treated in it.
        """
        if coded and self._clean(value):
            return value
        treated, counts = deidentify_text(value, position, self._by)
        self._counts.update(counts)
        return treated

    def _clean(self, value: str) -> bool:
        context = self._by.context
        if not self._by.analysis.clean(value, timeout_seconds=self._by.timeout_seconds):
            return False
        return context is None or not (
            self._by.analysis.known_left(value, context, timeout_seconds=self._by.timeout_seconds)
        )

    def _date(self, value: str) -> str | None:
        treatment = self._by.profile.treatment(Identifier.DATE)
        if treatment is Treatment.KEEP:
            return value if regex.fullmatch(r"[\d\-T:.Z+]{4,35}", value) else None
        self._counts[Identifier.DATE] += 1
        if treatment is Treatment.REDACT:
            return None
        year_only = treatment is Treatment.GENERALISE
        days = 0 if year_only else self._by.key.shift_days(self._by.subject)
        moved = shift_iso(value, days, self._by.today)
        return moved[:4] if moved is not None and year_only else moved

    def _full_url(self, value: str) -> str | None:
        self._counts[Identifier.CODE] += 1
        if value.startswith("urn:"):
            return "urn:uuid:" + self.resource_id(value.removeprefix("urn:uuid:"))
        last = value.rstrip("/").rpartition("/")[2]
        return "urn:uuid:" + self.resource_id(last) if last else None

    def _zip(self, value: str) -> str | None:
        from anonymize.operators import coarse_zip  # Presidio loads late

        treatment = self._by.profile.treatment(Identifier.ZIP)
        if treatment is Treatment.KEEP:
            return value if regex.fullmatch(r"\d{5}(?:-?\d{4})?", value) else None
        self._counts[Identifier.ZIP] += 1
        return coarse_zip(value) if treatment is Treatment.GENERALISE else None

    def _labelled(self, kind: Identifier, value: str, who: str | None = None) -> str | None:
        from anonymize.operators import normalised  # Presidio loads late

        treatment = self._by.profile.treatment(kind)
        if treatment is Treatment.KEEP:
            check_left(value, kind.value, self._by)
            return value
        self._counts[kind] += 1
        if treatment is not Treatment.PSEUDONYM:
            return f"[{kind.value}]"
        code = self._by.key.pseudonym(kind.value, self._by.subject, who or normalised(value))
        return f"[{kind.value}-{code}]"
