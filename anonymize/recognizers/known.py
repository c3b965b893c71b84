"""The patient's own record, looked for in the patient's own texts.

Names in every order, case and spelling that folding undoes, with initials, run together, over line
breaks; numbers with any separators; telephone numbers in any grouping; streets, towns, birth date.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import regex
from presidio_analyzer import EntityRecognizer, RecognizerResult

from anonymize.context import PatientContext, name_tokens
from anonymize.profile import Identifier
from anonymize.recognizers.lexicon import NOT_NAMES
from anonymize.recognizers.pattern import timed_matches
from anonymize.shadow import fold

KNOWN = 1.0
_SEPARATOR = r"[\s,.'\-_/]{1,4}"
_DIGIT_SEPARATOR = r"[\s\-./_()]{0,3}"
_NO_LETTER_BEFORE = r"(?<!\p{L})"
_NO_LETTER_AFTER = r"(?!\p{L})"
_ALONE = (r"(?<![\p{L}\d])", r"(?![\p{L}\d])")
_MIN_ID_CHARS = 4


class KnownRecognizer(EntityRecognizer):
    """Finds one patient's values. Works on folded text, which has the same offsets."""

    def __init__(self, context: PatientContext) -> None:
        """Compile the patient's values."""
        self._patterns = [
            (kind, capital, regex.compile(expression, regex.VERSION1))
            for kind, capital, expression in _expressions(context)
        ]
        self.name: str = "known"
        super().__init__(supported_entities=[i.value for i in Identifier], name="known")

    def load(self) -> None:
        """Nothing to load: the patterns are compiled."""

    def analyze(
        self,
        text: str,
        entities: Iterable[str],  # noqa: ARG002  # Presidio's signature
        nlp_artifacts: object = None,  # noqa: ARG002
    ) -> list[RecognizerResult]:
        """Return every occurrence.

        Raises:
            RecognizerFailed: out of time.
        """
        folded = fold(text)
        found = []
        for kind, capital, compiled in self._patterns:
            for match in timed_matches(compiled, folded, self.name):
                group = 1 if compiled.groups else 0
                start, end = match.span(group)
                if capital and not any(c.isupper() for c in text[start:end]):
                    continue
                found.append(RecognizerResult(kind.value, start, end, KNOWN))
        return found


@lru_cache(maxsize=1024)
def known(context: PatientContext) -> KnownRecognizer:
    """Return the recogniser of a patient, compiled once."""
    return KnownRecognizer(context)


def _expressions(context: PatientContext) -> list[tuple[Identifier, bool, str]]:
    out: list[tuple[Identifier, bool, str]] = []
    for names in (context.names, context.relatives, context.clinicians):
        out += _names(names)
    for value in context.identifiers:
        out += _identifier(value)
    for value in context.phones:
        out += _phone(value)
    for value in context.emails:
        out.append((Identifier.EMAIL, False, _bounded(regex.escape(fold(value)))))
    for value in context.addresses:
        out += _address(value)
    if context.birth_date is not None:
        out.append((Identifier.DATE, False, _birth_date(context)))
    return out


def _bounded(expression: str) -> str:
    return f"{_ALONE[0]}(?:{expression}){_ALONE[1]}"


def _spellings(token: str) -> set[str]:
    # "Sumiko254" as well without its number; "josé" as UTF-8 misread as Latin-1.
    spelled = {token, token.rstrip("0123456789")}
    return {s for s in spelled if len(s) >= 2}


def _mojibake(names: Iterable[str]) -> set[str]:
    wrong = set()
    for name in names:
        for part in name.split():
            if not part.isascii():
                wrong.add(fold(part.encode("utf-8").decode("latin-1")))
                wrong.add(fold(part.encode("utf-8").decode("cp1252", "ignore")))
    return {w for w in wrong if len(w) >= 3}


def _names(names: tuple[str, ...]) -> list[tuple[Identifier, bool, str]]:
    persons = [tokens for tokens in map(name_tokens, names) if tokens]
    if not persons:
        return []
    words = {s for tokens in persons for t in tokens if len(t) > 1 for s in _spellings(t)}
    joined = {
        form
        for first, *_, last in (tokens for tokens in persons if len(tokens) > 1)
        for form in (first + last, last + first, first[0] + last, last + first[0])
        if len(form) >= 4
    }
    careful = {w for w in words if len(w) < 3 or w in NOT_NAMES}
    sure = (words - careful) | joined | _mojibake(names)
    initials = "".join(sorted({t[0] for tokens in persons for t in tokens}))
    out = []
    every = _alternation(words | joined)
    initial = rf"[{regex.escape(initials)}]\.?{_NO_LETTER_AFTER}" if initials else r"(?!)"
    # With initials or several words together it is a name in any case and over line breaks.
    chain = (
        rf"{_NO_LETTER_BEFORE}(?:(?:{initial}{_SEPARATOR}){{1,2}}(?:{every})|(?:{every}))"
        rf"(?:{_SEPARATOR}(?:{initial}{_SEPARATOR})?(?:{every}))+(?:{_SEPARATOR}{initial})?{_NO_LETTER_AFTER}"
    )
    out.append((Identifier.NAME, False, chain))
    with_initial = rf"{_NO_LETTER_BEFORE}(?:{initial}[\s.]{{1,2}}(?:{every})|(?:{every}),?\s{initial}){_NO_LETTER_AFTER}"
    out.append((Identifier.NAME, True, with_initial))
    if sure:
        single = rf"{_NO_LETTER_BEFORE}(?:{_alternation(sure)}){_NO_LETTER_AFTER}"
        out.append((Identifier.NAME, False, single))
        broken = "|".join(
            r"(?:-\n\s*)?".join(map(regex.escape, w)) for w in sorted(sure) if len(w) > 3
        )
        if broken:
            split = rf"{_NO_LETTER_BEFORE}(?:{broken}){_NO_LETTER_AFTER}(?<=-\n\s*\p{{L}}+)"
            out.append((Identifier.NAME, False, split))
    if careful:
        # "Young", "Li": words of their own; only with a capital are they taken for the name.
        alone = rf"{_NO_LETTER_BEFORE}(?:{_alternation(careful)}){_NO_LETTER_AFTER}"
        out.append((Identifier.NAME, True, alone))
    return out


def _alternation(words: Iterable[str]) -> str:
    return "|".join(regex.escape(w) for w in sorted(words, key=lambda w: (-len(w), w)))


def _identifier(value: str) -> list[tuple[Identifier, bool, str]]:
    chars = [c for c in fold(value) if c.isalnum()]
    if len(chars) < _MIN_ID_CHARS:
        return []
    spaced = r"[\s\-./_]?".join(map(regex.escape, chars))
    out = [(Identifier.CODE, False, _bounded(spaced))]
    if regex.fullmatch(r"\d{3}-?\d{2}-?\d{4}", value):
        tail = rf"(?:last\s*(?:4|four)|ending|ends)\D{{0,24}}({''.join(chars[-4:])})(?!\d)"
        out = [(Identifier.SSN, False, _bounded(spaced)), (Identifier.SSN, False, tail)]
    return out


def _phone(value: str) -> list[tuple[Identifier, bool, str]]:
    digits = [c for c in fold(value) if c.isdigit()]
    if len(digits) < 7:
        return []
    out = [_DIGIT_SEPARATOR.join(digits[-10:])]
    if len(digits) >= 10:
        out.append(digits[-7] + digits[-6] + digits[-5] + r"[\s\-.]?" + "".join(digits[-4:]))
    return [(Identifier.PHONE, False, rf"(?<!\d)(?:{form})(?!\d)") for form in out]


def _address(value: str) -> list[tuple[Identifier, bool, str]]:
    words = [w for w in regex.split(r"[^\p{L}\d]+", fold(value)) if w]
    if not words:
        return []
    if regex.fullmatch(r"\d{5}(?:-?\d{4})?", value.strip()):
        zipcode = words[0][:5]
        return [(Identifier.ZIP, False, rf"(?<!\d){zipcode}(?:-?\d{{4}})?(?!\d)")]
    gap = r"[\s,.#'\-]{1,4}"
    if words[0][0].isdigit() and len(words) > 1:
        rest = "".join(rf"(?:{gap}{regex.escape(w)})?" for w in words[2:])
        head = regex.escape(words[0]) + gap + regex.escape(words[1])
        out = [(Identifier.LOCATION, False, _bounded(head + rest))]
        if len(words) > 2 and not words[1].isdigit():
            name = gap.join(map(regex.escape, words[1:]))
            out.append((Identifier.LOCATION, False, _bounded(name)))
        return out
    return [(Identifier.LOCATION, True, _bounded(gap.join(map(regex.escape, words))))]


def _birth_date(context: PatientContext) -> str:
    born = context.birth_date
    if born is None:
        return r"(?!)"
    day, month, year, short = f"0?{born.day}", f"0?{born.month}", f"{born.year}", f"{born:%y}"
    gap = r"[\s\-./,]{0,3}"
    numeric = [
        year + gap + f"{born:%m}" + gap + f"{born:%d}",
        month + gap + day + gap + year,
        day + gap + month + gap + year,
        month + r"[\-./]" + day + r"[\-./]" + short,
    ]
    return _bounded("|".join(numeric))
