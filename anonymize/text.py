"""Free text: read, find, treat, look again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import regex

from anonymize.context import PatientContext
from anonymize.errors import LeakDetected
from anonymize.keys import DeidentificationKey
from anonymize.profile import Identifier, Profile
from anonymize.shadow import readable

if TYPE_CHECKING:
    from anonymize.analysis import Analysis, Span

_PLACEHOLDER = regex.compile(
    r"\[(?:" + "|".join(i.value for i in Identifier) + r"|REDACTED)(?:-[a-z2-7]{10})?\]"
)


@dataclass(frozen=True)
class Treatments:
    """Everything that is the same for all texts of one subject's record."""

    analysis: Analysis
    profile: Profile
    key: DeidentificationKey
    subject: str
    context: PatientContext | None
    today: date
    timeout_seconds: float


def deidentify_text(text: str, position: str, by: Treatments) -> tuple[str, Counter[Identifier]]:
    """Return the treated text and how many identifiers of each kind were treated.

    Raises:
        RecordUnreadable: not a text, or too long.
        RecognizerFailed: a recogniser failed or ran out of time.
        LeakDetected: a value of the patient's own record was still there afterwards.
    """
    from anonymize.operators import operators_for  # Presidio loads with the engine
    from anonymize.persons import canonical

    text = readable(text, position)
    spans = by.analysis.find(text, timeout_seconds=by.timeout_seconds, context=by.context)
    spans = [s for s in spans if not by.profile.keeps(s.kind)]
    counts = Counter(s.kind for s in spans)
    if not spans:
        return text, counts
    mentions = {text[s.start : s.end] for s in spans if s.kind is Identifier.NAME}
    operators = operators_for(
        by.profile,
        by.key,
        by.subject,
        today=by.today,
        canonical=canonical(mentions, by.context),
    )
    treated = by.analysis.treat(text, spans, operators)
    check_left(treated, position, by)
    return treated, counts


def check_left(text: str, position: str, by: Treatments) -> None:
    """Look for the patient's own values in what is about to leave.

    Raises:
        LeakDetected: some are there.
    """
    if by.context is None:
        return
    left = by.analysis.known_left(text, by.context, timeout_seconds=by.timeout_seconds)
    left = [s for s in left if not by.profile.keeps(s.kind)]
    ours = [m.span() for m in _PLACEHOLDER.finditer(text)] if left else []
    leaks = [s for s in left if not any(a <= s.start and s.end <= b for a, b in ours)]
    if leaks:
        raise LeakDetected(position, len(leaks))


def without_placeholders(text: str) -> str:
    """Return `text` with the marks of de-identification blanked out, at the same length."""
    return str(_PLACEHOLDER.sub(lambda m: " " * len(m.group()), text))


def leaks(
    text: str, position: str, analysis: Analysis, profile: Profile, timeout_seconds: float
) -> list[Span]:
    """Return what looks like an identifier beyond doubt in a text that should hold none.

    Dates are not among it, since shifted dates look like dates; nor is what `profile` keeps.

    Raises:
        RecordUnreadable: not a text, or too long.
        RecognizerFailed: a recogniser failed or ran out of time.
    """
    from anonymize.recognizers.pattern import STRONG

    spans = analysis.find(
        without_placeholders(readable(text, position)),
        timeout_seconds=timeout_seconds,
        threshold=STRONG,
    )
    return [s for s in spans if s.kind is not Identifier.DATE and not profile.keeps(s.kind)]
