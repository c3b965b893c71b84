"""Dates in the forms that clinical English uses (164.514(b)(2)(i)(C)).

ISO 8601, US numeric with two or four digit years, European dotted, named months in both orders and
at any abbreviation, compact yyyymmdd, month and year, month and day, holidays, a year of birth.
What `shifting` cannot move is redacted by the treatment; recognising is generous.
"""

from __future__ import annotations

import regex

from anonymize.profile import Identifier
from anonymize.recognizers.pattern import LIKELY, STRONG, Pattern, PatternFamily

MONTH = (
    r"(?:Jan(?:uary|\.)?|Feb(?:ruary|\.)?|Mar(?:ch|\.)?|Apr(?:il|\.)?|May|June?\.?|July?\.?|"
    r"Aug(?:ust|\.)?|Sept?(?:ember|\.)?|Oct(?:ober|\.)?|Nov(?:ember|\.)?|Dec(?:ember|\.)?)"
)
_WEEKDAY = r"(?:(?:Mon|Tue(?:s)?|Wed(?:nes)?|Thu(?:rs?)?|Fri|Sat(?:ur)?|Sun)(?:day)?\.?,?\s+)?"
_DAY = r"(?:3[01]|[12]\d|0?[1-9])"
_MON = r"(?:1[0-2]|0?[1-9])"
_YEAR = r"(?:1[89]\d\d|20\d\d|21\d\d)"
_YY = r"(?:['’]?\d\d)"
_ORD = r"(?:st|nd|rd|th)?"
_END = r"(?![\d\p{L}])"
_START = r"(?<![\d\p{L}/.\-])"
_GATE = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_SEASONS = (
    r"(?:Christmas|Thanksgiving|New Year['’]?s|Easter|Halloween|Hanukkah|Memorial Day|Labor Day|"
    r"Independence Day|Valentine['’]?s|Ramadan|Passover|Diwali|Mother['’]?s Day|Father['’]?s Day)"
)


def _plausible(match: regex.Match[str]) -> bool:
    return not regex.match(r"\s*(?:mg|mcg|ml|mm|cm|%|units?|tab)", match.string[match.end() :][:8])


PATTERNS = (
    Pattern(_START + rf"{_YEAR}[-/.]{_MON}[-/.]{_DAY}(?![\d])"),
    Pattern(
        _START + _WEEKDAY + rf"{_MON}\s?/\s?{_DAY}\s?/\s?(?:{_YEAR}|\d\d)(?![\d/])",
        near=r"\d\s?/",
        case=False,
    ),
    Pattern(_START + rf"{_DAY}\s?/\s?{_MON}\s?/\s?(?:{_YEAR}|\d\d)(?![\d/])"),
    Pattern(_START + rf"(?:{_MON}-{_DAY}|{_DAY}-{_MON})-(?:{_YEAR}|\d\d)(?![\d\-])"),
    Pattern(_START + rf"(?:{_MON}\.{_DAY}|{_DAY}\.{_MON})\.(?:{_YEAR}|\d\d)(?![\d]|\.\d)"),
    Pattern(
        r"(?<![\p{L}\d])"
        + _WEEKDAY
        + rf"{MONTH}\s*{_DAY}{_ORD}(?:\s*,\s*|\s+of\s+|\s+)(?:the year\s+)?(?:{_YEAR}|['’]\d\d){_END}",
        gate=_GATE,
        near=r"\d",
        case=False,
    ),
    Pattern(
        r"(?<![\p{L}\d])"
        + _WEEKDAY
        + rf"{_DAY}{_ORD}\s*(?:day\s+)?(?:of\s+)?[-/,. ]?\s*{MONTH}[-/,. ]*\s*(?:{_YEAR}|{_YY}){_END}",
        gate=_GATE,
        near=r"\d",
        case=False,
    ),
    Pattern(
        rf"(?<![\p{{L}}\d]){MONTH}-{_DAY}-(?:{_YEAR}|\d\d){_END}",
        gate=_GATE,
        near=r"\d",
        case=False,
    ),
    Pattern(
        rf"(?<![\p{{L}}\d]){_YEAR}[-/ ]{MONTH}[-/ ]{_DAY}{_END}", gate=_GATE, near=r"\d", case=False
    ),
    Pattern(
        rf"(?<![\p{{L}}\d]){MONTH}\s*(?:,|of|/|-)?\s*(?:{_YEAR}|['’]\d\d){_END}",
        gate=_GATE,
        near=r"\d",
    ),
    Pattern(r"(?<![\d\p{L}\-.])(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?!\d)"),
    Pattern(rf"(?<![\d/.]){_MON}/(?:19|20)\d\d(?![\d/])"),
    # Without a year: month and day in words, or in digits after a word that announces a date.
    Pattern(
        r"(?<![\p{L}\d])" + _WEEKDAY + rf"{MONTH}\s+{_DAY}{_ORD}{_END}(?!\s*(?:mg|mcg|%))",
        gate=_GATE,
        near=r"\d",
        check=_plausible,
    ),
    Pattern(
        r"(?<![\p{L}\d/.\-])" + _WEEKDAY + rf"{_DAY}{_ORD}(?:\s+of)?[ \-]{MONTH}{_END}",
        gate=_GATE,
        near=r"\d",
    ),
    Pattern(
        r"(?i:\b(?:on|since|from|by|until|till|thru|through|dated?|seen|before|after|to|between|"
        r"and|of|for|visit|admit(?:ted)?|discharged?|due|scheduled|drawn|started|ended|dos|appt)"
        rf"[: ]\s*)(?P<v>{_MON}/{_DAY})(?![\d/])(?!\s*(?:mg|strength|murmur|systolic|tab|pain|of))",
        LIKELY,
    ),
    Pattern(
        rf"(?i:\b(?:in|since|last|this|next|early|late|mid|until|by|of|during|before|after)[ -])"
        r"(?P<v>(?:January|February|March|April|May|June|July|August|September|October|November|"
        rf"December)){_END}",
        LIKELY,
        gate=_GATE,
    ),
    Pattern(rf"\b{_SEASONS}(?:\s+(?:Day|Eve))?(?:,?\s+(?:of\s+)?{_YEAR})?{_END}", LIKELY),
    # A bare year says little, but one of long ago tells an age over 89; the treatment decides.
    Pattern(rf"(?i:\b(?:born|birth|dob|yob)\b\D{{0,12}})(?P<v>{_YEAR})(?![\d\-/])", STRONG),
    Pattern(
        r"(?<![\d.,/\-$#])(?P<v>(?:18\d\d|19[0-4]\d))(?![\d.,/\-]*\d)(?!\s*(?:mg|ml|mcg|units?|k?cal|cc|%))",
        LIKELY,
    ),
    Pattern(
        rf"(?i:\b(?:dob|date of birth|birth ?date|d\.o\.b\.?|dod|date of death|dos|date of service)"
        rf"\b[^\n\d\p{{L}}]{{0,6}})(?P<v>\d{{1,4}}[-/. ]\d{{1,2}}[-/. ]\d{{1,4}}){_END}"
    ),
)


def dates() -> PatternFamily:
    """Build the family."""
    return PatternFamily(Identifier.DATE, PATTERNS, name="dates")
