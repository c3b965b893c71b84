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
BEFORE = 120
AFTER = 120
MAX_FINDINGS = 20_000  # per recogniser and call; more is an attack or not a note

_deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


def set_deadline(at: float) -> None:
    """Let every recogniser in this context stop at the monotonic time `at` (seconds)."""
    _deadline.set(at)


def regions(text: str, near: regex.Pattern[str], recognizer: str) -> list[tuple[int, int]]:
    """Return disjoint pieces of `text` around the matches of `near`, cut at white space.

    Raises:
        RecognizerFailed: the deadline passed.
    """
    out: list[tuple[int, int]] = []
    for match in timed_matches(near, text, recognizer):
        start, end = max(0, match.start() - BEFORE), min(len(text), match.end() + AFTER)
        while start > 0 and not text[start - 1].isspace() and match.start() - start < 2 * BEFORE:
            start -= 1
        while end < len(text) and not text[end].isspace() and end - match.end() < 2 * AFTER:
            end += 1
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return out


def timed_matches(
    compiled: regex.Pattern[str],
    text: str,
    recognizer: str,
    within: Iterable[tuple[int, int]] | None = None,
) -> list[regex.Match[str]]:
    """Return all matches, or those in the pieces `within`; stop at the deadline.

    Raises:
        RecognizerFailed: the deadline passed.
    """
    out: list[regex.Match[str]] = []
    for start, end in [(0, len(text))] if within is None else within:
        left = _deadline.get() - time.monotonic()
        if left <= 0:
            raise RecognizerFailed(recognizer, timed_out=True)
        timeout = None if left == float("inf") else left
        try:
            out += compiled.finditer(text, start, end, timeout=timeout)
        except TimeoutError:
            raise RecognizerFailed(recognizer, timed_out=True) from None
    return out


@dataclass(frozen=True)
class Pattern:
    """One expression. Its group `v` is the identifier; without one, the whole match is.

    `gate` is a cheap necessary condition on the lower-cased text (any of these substrings); `near`
    an expression that every match contains, around which alone is looked (`BEFORE` characters
    before it to `AFTER` behind it); `check` a last look at the match. `case` keeps capitals
    meaningful.
    """

    expression: str
    score: float = STRONG
    kind: Identifier | None = None
    gate: tuple[str, ...] = ()
    near: str | None = None
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
            "\n".join(
                f"{p.expression}\t{p.score}\t{p.kind}\t{p.case}\t{p.near}" for p in patterns
            ).encode()
        )
        self.digest: str = digest.hexdigest()
        self.name: str = name
        super().__init__(supported_entities=kinds, name=name, version=self.digest[:12])

    def load(self) -> None:
        """Nothing to load: the patterns are compiled."""

    def analyze(
        self,
        text: str,
        entities: Iterable[str],  # noqa: ARG002  # Presidio's signature
        nlp_artifacts: object = None,  # noqa: ARG002
    ) -> list[RecognizerResult]:
        """Return every match.

        Raises:
            RecognizerFailed: out of time, too many findings, or a fault in a check.
        """
        lowered = text.lower()
        found: list[RecognizerResult] = []
        pieces: dict[str, list[tuple[int, int]]] = {}
        for compiled, pattern, entity, grouped in self._compiled:
            if pattern.gate and not any(word in lowered for word in pattern.gate):
                continue
            group: str | int = "v" if grouped else 0
            within = None
            if pattern.near is not None:
                if pattern.near not in pieces:
                    near = regex.compile(pattern.near)
                    pieces[pattern.near] = regions(text, near, self.name)
                within = pieces[pattern.near]
            found += [
                RecognizerResult(entity, match.start(group), match.end(group), pattern.score)
                for match in timed_matches(compiled, text, self.name, within)
                if match.start(group) < match.end(group)
                and (pattern.check is None or pattern.check(match))
            ]
            if len(found) > MAX_FINDINGS:
                raise RecognizerFailed(self.name, timed_out=False)
        return found
