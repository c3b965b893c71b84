"""Telephone, pager and fax numbers: North American Numbering Plan and ITU-T E.123 international.

164.514(b)(2)(i)(D) and (E). A label makes anything of four digits or more a number to call.
"""

from __future__ import annotations

import regex

from anonymize.profile import Identifier
from anonymize.recognizers.pattern import LIKELY, Pattern, PatternFamily

_EXT = r"(?:\s*(?:,|;)?\s*(?:x|ext\.?|extension)\s*[:.#]?\s*\d{1,6})?"
_AREA = r"(?:\(\s?\d{3}\s?\)\s?[-.]?\s?|\d{3}[-.]\s?|\d{3}\s)"
_NANP = rf"(?:\+?1[-.\s]?)?{_AREA}\d{{3}}[-.\s]\s?\d{{4}}"
_FAX = (
    r"(?i:\b(?:fax|facsimile|telefax|f)\b\.?\s*(?:no\.?|number|#)?\s*(?:is|at|to)?\s*[:#=\-]?\s*)"
)
_TEL = (
    r"(?i:\b(?:tel(?:ephone)?|ph(?:one)?|cell(?:ular)?|mobile|mob|pager|beeper|contact|call(?: back)?|"
    r"callback|hotline|home|work|whatsapp|text|extension|ext)\b\.?\s*(?:phone|no\.?|number|#)?\s*"
    r"(?:is|at|on|to)?\s*[:#=\-]?\s*)"
)
_DIGITS = r"\+?\(?\d[\d\s().\-]{5,18}\d"
_UNITS = r"(?!\s*(?:mg|mcg|ml|mL|cc|g\b|kg|units?|mm|cm|k?cal|%|bpm|/|x10|years?|K\b))"


def _seven_or_more(match: regex.Match[str]) -> bool:
    digits: int = sum(c.isdigit() for c in match.group("v"))
    return 7 <= digits <= 15


PATTERNS = (
    Pattern(
        _FAX + rf"(?P<v>{_DIGITS}{_EXT})",
        kind=Identifier.FAX,
        gate=("fax", "facsimile", "f:", "f."),
        check=_seven_or_more,
    ),
    Pattern(
        _FAX + r"(?P<v>\d{3}[-. ]?\d{4})(?!\d)", kind=Identifier.FAX, gate=("fax", "facsimile")
    ),
    Pattern(rf"(?<![\d\p{{L}}\-.])(?P<v>{_NANP}{_EXT})(?![\d]|-\d)"),
    Pattern(
        r"(?<![\d\p{L}])(?P<v>\+\d{1,3}[\s.\-]?(?:\(0?\d{1,4}\)[\s.\-]?)?\d{1,4}(?:[\s.\-]?\d{2,4}){2,4})(?!\d)",
        gate=("+",),
    ),
    Pattern(_TEL + rf"(?P<v>{_DIGITS}{_EXT})(?!\d)" + _UNITS, check=_seven_or_more),
    Pattern(
        r"(?i:\b(?:ext(?:ension)?|pager|beeper)\b\.?\s*(?:no\.?|number|#|id)?\s*(?:is)?\s*[:#=]?\s*)(?P<v>x?\d{3,7})(?!\d)",
        gate=("ext", "pager", "beeper"),
    ),
    Pattern(r"(?<![\d\p{L}\-./])(?P<v>\d{3}-\d{4})(?![\d\p{L}]|[-/.]\d)" + _UNITS, LIKELY),
    Pattern(
        r"(?i:\b(?:phone|tel|cell|mobile|call)\b[^\n\d]{0,12})(?P<v>\d{3}[-. ]?\d{4})(?![\d])",
        gate=("phone", "tel", "cell", "mobile", "call"),
    ),
)


def phones() -> PatternFamily:
    """Build the family."""
    return PatternFamily(Identifier.PHONE, PATTERNS, name="phones")
