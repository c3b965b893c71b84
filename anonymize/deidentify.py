"""The one door: records in, de-identified records and counts out.

Fail closed: a record leaves only if every recogniser answered in time, every part of it was
understood, and none of the patient's own values is left in it. Everything else is quarantined with
a reason code, and a batch goes on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from anonymize import strict_json
from anonymize.context import PatientContext
from anonymize.engine import ENGINE_VERSION, load_engine
from anonymize.errors import AnonymizeError, EngineUnavailable, ProfileError, RecordUnreadable
from anonymize.fhir.walk import Walk
from anonymize.inspection import strings
from anonymize.keys import DeidentificationKey
from anonymize.profile import SAFE_HARBOR, Identifier, Profile
from anonymize.record import Finding, Outcome, Quarantined, Record, Released
from anonymize.report import Report
from anonymize.table import TableSchema, deidentify_row
from anonymize.text import Treatments, deidentify_text, leaks

__all__ = [
    "Deidentifier",
    "Finding",
    "Inspector",
    "Outcome",
    "Quarantined",
    "Record",
    "Released",
]


class Deidentifier:
    """De-identifies under one profile with one hospital's key. Not for use by two threads."""

    def __init__(
        self,
        profile: Profile,
        key: DeidentificationKey,
        *,
        language: str = "en",
        timeout_seconds: float = 2.0,
        today: date | None = None,
    ) -> None:
        """Start the engine. `today` (default: now, UTC) decides which dates tell an age over 89.

        Raises:
            ProfileError: no recognisers for `language`, or a time limit of nothing.
            EngineUnavailable: the recognisers could not be started.
        """
        if not timeout_seconds > 0:
            raise ProfileError("the time limit must be positive")
        self._profile = profile
        self._key = key
        self._timeout_seconds = timeout_seconds
        self._today = today or datetime.now(UTC).date()
        self._analysis = load_engine(language)
        self._released = 0
        self._counts: Counter[Identifier] = Counter()
        self._quarantined: Counter[str] = Counter()

    def deidentify(self, record: Record) -> Outcome:
        """Return the record as it may leave, or why it must not.

        A note's or FHIR JSON's text comes back as text, a dict as a dict. The subject is handed
        back as it came.

        Raises:
            EngineUnavailable: nothing can be answered at all; the record was not judged.
        """
        try:
            content, counts = self._treated(record)
        except EngineUnavailable:
            raise
        except AnonymizeError as error:
            return self._hold(record, error.reason)
        except Exception:  # noqa: BLE001  # a fault in a rule must not release, nor end the batch
            return self._hold(record, "failed")
        self._released += 1
        self._counts.update(counts)
        return Released(replace(record, content=content, context=None), dict(counts))

    def deidentify_batch(self, records: Iterable[Record]) -> Iterator[Outcome]:
        """Yield one outcome per record, in order."""
        for record in records:
            yield self.deidentify(record)

    @property
    def report(self) -> Report:
        """What was done so far."""
        return Report(
            profile=self._profile.name,
            engine=ENGINE_VERSION,
            recognizers=self._analysis.digests,
            records=self._released + sum(self._quarantined.values()),
            released=self._released,
            counts=dict(self._counts),
            quarantined=dict(self._quarantined),
        )

    def _hold(self, record: Record, reason: str) -> Quarantined:
        self._quarantined[reason] += 1
        return Quarantined(record.position, reason)

    def _treated(self, record: Record) -> tuple[str | dict[str, Any], Counter[Identifier]]:
        content = record.content
        if not isinstance(record.subject, str) or not record.subject:
            raise RecordUnreadable("no-subject", record.position, "every record has a subject")
        if record.kind == "note":
            if not isinstance(content, str):
                raise RecordUnreadable("bad-note", record.position, "a note is a text")
            return deidentify_text(content, record.position, self._treatments(record))
        value = parsed(content, record.position)
        if record.kind == "fhir":
            context = in_resource(value, record)
            walk = Walk(self._treatments(replace(record, context=context)))
            treated = walk.resource(value, str(value.get("resourceType", "resource")))
            if isinstance(content, str):
                return json.dumps(treated, ensure_ascii=False), walk.counts
            return treated, walk.counts
        if record.kind == "row":
            if not isinstance(record.schema, TableSchema):
                raise RecordUnreadable("no-schema", record.position, "a row needs a schema")
            row, counts = deidentify_row(
                value, record.schema, record.position, self._treatments(record)
            )
            return row, counts
        raise RecordUnreadable("unknown-kind", record.position, "note, fhir or row")

    def _treatments(self, record: Record) -> Treatments:
        return Treatments(
            self._analysis,
            self._profile,
            self._key,
            record.subject,
            record.context,
            self._today,
            self._timeout_seconds,
        )


class Inspector:
    """Looks for identifiers in records that should hold none; needs no key."""

    def __init__(
        self,
        profile: Profile = SAFE_HARBOR,
        *,
        language: str = "en",
        timeout_seconds: float = 2.0,
    ) -> None:
        """Start the engine; what `profile` keeps is not a finding.

        Raises:
            ProfileError: no recognisers for `language`.
            EngineUnavailable: the recognisers could not be started.
        """
        self._profile = profile
        self._analysis = load_engine(language)
        self._timeout_seconds = timeout_seconds

    def inspect(self, record: Record) -> list[Finding]:
        """Return the findings by kind; an empty list is the only good answer.

        Raises:
            RecordUnreadable: the record could not be read, hence not judged.
            RecognizerFailed: a recogniser failed or ran out of time: not judged either.
        """
        content = record.content
        if record.kind == "note":
            if not isinstance(content, str):
                raise RecordUnreadable("bad-note", record.position, "a note is a text")
            texts: Iterable[str] = [content]
        else:
            texts = strings(parsed(content, record.position), record.position)
        counts: Counter[Identifier] = Counter()
        for text in texts:
            spans = leaks(
                text, record.position, self._analysis, self._profile, self._timeout_seconds
            )
            counts.update(span.kind for span in spans)
        return [Finding(kind, count) for kind, count in sorted(counts.items())]


def parsed(content: str | dict[str, Any], position: str) -> dict[str, Any]:
    """Return the record's object, held to the strict reading of JSON.

    Raises:
        RecordUnreadable: it is none.
    """
    if isinstance(content, str):
        return strict_json.parse(content, position)
    if not isinstance(content, dict):
        raise RecordUnreadable("bad-json", position, "the record must be an object")
    strict_json.check(content, position)
    return content


def in_resource(resource: Mapping[str, Any], record: Record) -> PatientContext | None:
    """Return the record's context with what Patient resources inside the record themselves tell."""
    context = record.context
    inside = [resource]
    entries = resource.get("entry")
    inside.extend(
        entry["resource"]
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, Mapping) and isinstance(entry.get("resource"), Mapping)
    )
    for found in inside:
        if found.get("resourceType") == "Patient":
            more = PatientContext.from_fhir(found, subject=record.subject)
            context = more if context is None else context.merged(more)
    return context
