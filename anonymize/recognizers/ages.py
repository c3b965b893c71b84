"""Ages over 89, in digits and words (164.514(b)(2)(i)(C)). Younger ages stay."""

from __future__ import annotations

from anonymize.profile import Identifier
from anonymize.recognizers.pattern import LIKELY, Pattern, PatternFamily

_OLD = r"(?:9\d|1[0-4]\d)"
_UNIT = r"(?:years?|yrs?\.?|y\.?/?o?\.?)"
_ONES = r"(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?"
_WORD = rf"(?:ninety{_ONES}|(?:one|a)[- ]hundred(?:(?:[- ]and)?[- ](?:one|two|three|four|five|six|seven|eight|nine|ten))?)"

PATTERNS = (
    Pattern(
        rf"(?<![\d.,/\-])(?P<v>{_OLD})(?:\s*[-–]?\s*){_UNIT}[-\s]*(?:old|o/?\b|of age\b|/o|aged?\b)",
        case=False,
    ),
    Pattern(rf"(?<![\d.,/])(?P<v>{_OLD})\s*[- ]?y/?\.?o\b", case=False),
    Pattern(
        rf"(?<![\d.,/])(?P<v>{_OLD})\s?(?:[- ]?(?:year|yr|y)s?[- ]?)?(?:M|F|male|female|man|woman|gentleman|lady)\b",
        LIKELY,
    ),
    Pattern(
        rf"\b(?:age[ds]?|age is|age at \w+|turned|turning)\b[\s:=]*(?:is |of |was )?(?P<v>{_OLD})(?![\d/.+%])",
        case=False,
    ),
    Pattern(
        rf"\b(?:died|lived|passed away|expired)\s+(?:at|to|until)\s+(?:the age of\s+)?(?P<v>{_OLD})(?![\d/.+%])",
        LIKELY,
        case=False,
    ),
    Pattern(rf"(?<!\p{{L}})(?P<v>{_WORD})[- ]{_UNIT}[- ]?(?:old|of age)\b", case=False),
    Pattern(rf"\bage[ds]?\s+(?:of\s+)?(?P<v>{_WORD})\b", case=False),
    Pattern(
        r"\b(?:in (?:his|her|their)|early|mid|late)[ -](?:early |mid[- ]?|late )?(?P<v>90['’]?s|nineties)\b",
        LIKELY,
        case=False,
    ),
    Pattern(r"\b(?P<v>(?:nona|cente)narian)s?\b", case=False),
)


def ages() -> PatternFamily:
    """Build the family."""
    return PatternFamily(Identifier.AGE, PATTERNS, name="ages")
