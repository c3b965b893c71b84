"""Intake: is every record fit, and does any still hold an identifier? Counts out, never contents."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

from anonymize.deidentify import Inspector
from anonymize.engine import block_torch
from anonymize.errors import AnonymizeError
from anonymize.record import Record
from exchange.quality import Quality, read_columns
from exchange.worker.child import Input

_KINDS = {"notes": "note", "fhir": "fhir", "table": "row"}


@cache
def _inspector() -> Inspector:
    """One for the whole version; starting it takes seconds, which an unreadable part need not wait for."""
    return Inspector()


def inspect(given: Input) -> tuple[dict[str, Any], bytes]:
    """Judge every part of a dataset version.

    A part with a record that is unfit, unreadable or holds an identifier is quarantined whole: the part
    is the grain of consent, and its bytes are signed.
    """
    block_torch()
    columns = read_columns(given.task["columns"] or [])
    expected = _KINDS[given.task["format"]]
    quality = Quality()
    leaks: Counter[str] = Counter()
    unreadable = 0
    quarantined: dict[str, str] = {}
    total = int(given.task["parts"])
    for done, (subject, records) in enumerate(given.parts(), start=1):
        if len(records) != given.task["records"].get(subject.hex):
            # A receiver counts, and would discard the part.
            quarantined.setdefault(subject.hex, "count")
        for index, record in enumerate(records):
            reason = quality.check(subject.hex, index, record, columns)
            if reason is None and record["kind"] != expected:
                reason = "kind"
            if reason is not None:
                quarantined.setdefault(subject.hex, reason)
                continue
            try:
                findings = _inspector().inspect(
                    Record(
                        kind=record["kind"],
                        subject=subject.hex,
                        content=record["content"],
                        position=f"{done}/{index}",
                    )
                )
            except AnonymizeError:
                unreadable += 1
                quarantined.setdefault(subject.hex, "not-judged")
                continue
            if findings:
                leaks.update({finding.kind.value: finding.count for finding in findings})
                quarantined.setdefault(subject.hex, "leak")
        given.lines.progress(done, total)
    for subject in given.unopened:
        quarantined[subject.hex] = "no-key"
    report = {
        **quality.report(),
        "leaks": dict(sorted(leaks.items())),
        "notJudged": unreadable,
        "quarantined": dict(sorted(Counter(quarantined.values()).items())),
    }
    if report["refused"] is None and quarantined and len(quarantined) * 2 > total:
        report["refused"] = "too-many-quarantined-parts"
    return {"report": report, "quarantined": sorted(quarantined)}, b""
