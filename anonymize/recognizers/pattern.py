"""A recogniser made of patterns, under a deadline.

Presidio's own `PatternRecognizer` logs a pattern that runs out of time and goes on without its
findings: it fails open. `PatternFamily` raises instead, so that the record is quarantined.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

import regex
from presidio_analyzer import EntityRecognizer, RecognizerResult

from anonymize.errors import RecognizerFailed
from anonymize.profile import Identifier

STRONG = 0.95  # a label, a check digit or an unmistakable form: also a leak at intake
LIKELY = 0.7  # worth treating, not worth refusing a dataset for
MAX_FINDINGS = 20_000  # per recogniser and call; more is an attack or not a note

_deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


def set_deadline(at: float) -> None:
    """Let every recogniser in this context stop at the monotonic time `at` (seconds)."""
    _deadline.set(at)


def timed_matches(
    compiled: regex.Pattern[str], text: str, recognizer: str
) -> list[regex.Match[str]]:
    """Return all matches, or stop at the deadline.

    Raises:
        RecognizerFailed: the deadline passed.
    """
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise RecognizerFailed(recognizer, timed_out=True)
    try:
        return list(compiled.finditer(text, timeout=None if left == float("inf") else left))
    except TimeoutError:
        raise RecognizerFailed(recognizer, timed_out=True) from None


@dataclass(frozen=True)
class Pattern:
    """One expression. Its group `v` is the identifier; without one, the whole match is.

    `gate` is a cheap necessary condition on the lower-cased text (any of these substrings), `check`
    a last look at the match. `case` keeps capitals meaningful.
    """

    expression: str
    score: float = STRONG
    kind: Identifier | None = None
    gate: tuple[str, ...] = ()
    check: Callable[[regex.Match[str]], bool] | None = None
    case: bool = True


class PatternFamily(EntityRecognizer):
    """Patterns of one family, for one language."""

    def __init__(self, kind: Identifier, patterns: Sequence[Pattern], *, name: str) -> None:
        """Compile; `kind` is what a pattern finds unless it says otherwise."""
        flags = regex.MULTILINE | regex.VERSION1
        self._compiled = [
            (
                regex.compile(p.expression, flags | (0 if p.case else regex.IGNORECASE)),
                p,
                (p.kind or kind).value,
                "v" in regex.compile(p.expression).groupindex,
            )
            for p in patterns
        ]
        kinds = sorted({entity for _, _, entity, _ in self._compiled})
        digest = hashlib.sha256(
            "\n".join(f"{p.expression}\t{p.score}\t{p.kind}\t{p.case}" for p in patterns).encode()
        )
        self.digest = digest.hexdigest()
        super().__init__(supported_entities=kinds, name=name, version=self.digest[:12])

    def load(self) -> None:
        """Nothing to load: the patterns are compiled."""

    def analyze(
        self, text: str, entities: Iterable[str], nlp_artifacts: object = None
    ) -> list[RecognizerResult]:
        """Return every match.

        Raises:
            RecognizerFailed: out of time, too many findings, or a fault in a check.
        """
        lowered = text.lower()
        found: list[RecognizerResult] = []
        for compiled, pattern, entity, grouped in self._compiled:
            if pattern.gate and not any(word in lowered for word in pattern.gate):
                continue
            group: str | int = "v" if grouped else 0
            found += [
                RecognizerResult(entity, *match.span(group), pattern.score)
                for match in timed_matches(compiled, text, self.name)
                if match.start(group) < match.end(group)
                and (pattern.check is None or pattern.check(match))
            ]
            if len(found) > MAX_FINDINGS:
                raise RecognizerFailed(self.name, timed_out=False)
        return found
