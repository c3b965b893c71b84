"""Move a written date by days and write it again in the same form.

What cannot be read as a whole date gives its year at most. A date more than 89 years ago tells an
age over 89 and goes altogether (45 CFR 164.514(b)(2)(i)(C)).
"""

from __future__ import annotations

import calendar
from datetime import date, timedelta

import regex

REDACTED = "[DATE]"
_MAX_YEARS_BACK = 89
_MONTHS = {name.lower(): i for i, name in enumerate(calendar.month_name) if name}
_ABBREVIATED = {name.lower(): i for i, name in enumerate(calendar.month_abbr) if name} | {"sept": 9}
_WEEKDAY = regex.compile(
    r"^(?:mon|tues?|wed(?:nes)?|thu(?:rs?)?|fri|sat(?:ur)?|sun)(?:day)?\.?,?\s+", regex.IGNORECASE
)
_M = r"(?P<month>\p{L}{3,9})\.?"
_FORMS = tuple(
    regex.compile(form, regex.IGNORECASE)
    for form in (
        r"(?P<y>\d{4})(?P<s1>\s?[-/.]\s?)(?P<m>\d{1,2})(?P<s2>\s?[-/.]\s?)(?P<d>\d{1,2})",
        r"(?P<m>\d{1,2})(?P<s1>\s?[-/. ]\s?)(?P<d>\d{1,2})(?P<s2>\s?[-/. ]\s?)(?P<y>\d{4}|\d\d)",
        r"(?P<y>\d{4})(?P<m>\d\d)(?P<d>\d\d)",
        _M
        + r"(?P<s1>\s*-?)(?P<d>\d{1,2})(?P<o>st|nd|rd|th)?(?P<s2>\s*,\s*|\s+of\s+|\s+|-)(?:the year\s+)?(?P<y>\d{4}|['’]?\d\d)",
        r"(?P<d>\d{1,2})(?P<o>st|nd|rd|th)?(?P<s1>\s*(?:day\s+)?(?:of\s+)?[-/,. ]?\s*)"
        + _M
        + r"(?P<s2>[-/,. ]*\s*)(?P<y>\d{4}|['’]?\d\d)",
        r"(?P<y>\d{4})(?P<s1>[-/ ])" + _M + r"(?P<s2>[-/ ])(?P<d>\d{1,2})",
    )
)
_MONTH_YEAR = (
    regex.compile(_M + r"(?P<s1>\s*(?:,|of|/|-)?\s*)(?P<y>\d{4}|['’]\d\d)", regex.IGNORECASE),
    regex.compile(r"(?P<m>\d{1,2})(?P<s1>/)(?P<y>\d{4})"),
)
_YEAR = regex.compile(r"(?<!\d)(1[89]\d\d|2[01]\d\d)(?!\d)")


def shift(text: str, days: int, today: date) -> str:
    """Return `text`, a date in one of the known forms, moved by `days` in the same form.

    A weekday before it is dropped: it would no longer fit, and would give the offset away modulo 7.
    """
    body = _WEEKDAY.sub("", text.strip())
    for form in _FORMS:
        match = form.fullmatch(body)
        if match is not None:
            when, swapped = _read(match, today)
            if when is None:
                return year_only(text, today)
            moved = _moved(when, days)
            if moved is None or too_old(when, today) or too_old(moved, today):
                return REDACTED
            return _write(match, body, moved, swapped=swapped)
    for form in _MONTH_YEAR:
        match = form.fullmatch(body)
        if match is not None:
            when, _ = _read(match, today, day=15)
            moved = None if when is None else _moved(when, days)
            if when is None or moved is None or too_old(when, today):
                return REDACTED
            return _write(match, body, moved, swapped=False)
    return year_only(text, today)


def year_only(text: str, today: date) -> str:
    """Return the year alone if the text has exactly one of four digits, else `[DATE]`."""
    years = _YEAR.findall(text)
    if len(years) != 1 or today.year - int(years[0]) > _MAX_YEARS_BACK:
        return REDACTED
    return str(years[0])


def shift_iso(text: str, days: int, today: date) -> str | None:
    """Move a FHIR `date`, `dateTime` or `instant`, keeping its precision and time of day.

    None where nothing may stay: malformed, out of range, or telling an age over 89.
    """
    match = regex.fullmatch(r"(\d{4})(?:-(\d\d)(?:-(\d\d)(T[\d:.]+(?:Z|[+-]\d\d:\d\d)?)?)?)?", text)
    if match is None:
        return None
    year, month, day, clock = match.groups()
    try:
        when = date(int(year), int(month or 7), int(day or 15))
    except ValueError:
        return None
    moved = _moved(when, days)
    if moved is None or too_old(when, today) or too_old(moved, today):
        return None
    if month is None:
        return str(year)  # a bare year may stay (164.514(b)(2)(i)(C): "except year")
    if day is None:
        return f"{moved.year:04}-{moved.month:02}"
    return f"{moved:%Y-%m-%d}{clock or ''}"


def too_old(when: date, today: date) -> bool:
    """Tell whether `when` is more than 89 years ago."""
    return today.year - when.year > _MAX_YEARS_BACK


def _moved(when: date, days: int) -> date | None:
    try:
        return when + timedelta(days=days)
    except OverflowError:
        return None


def _read(match: regex.Match[str], today: date, day: int = 0) -> tuple[date | None, bool]:
    groups = match.groupdict()
    year_text = groups["y"].lstrip("'’")
    year = int(year_text)
    if len(year_text) == 2:
        # A two-digit year is the latest one that is not in the future.
        year += today.year // 100 * 100
        if year > today.year + 1:
            year -= 100
    if groups.get("month"):
        word = groups["month"].lower()
        month = _MONTHS.get(word) or _ABBREVIATED.get(word, 0)
    else:
        month = int(groups["m"])
    number = int(groups["d"]) if groups.get("d") else day
    swapped = month > 12 >= number
    if swapped:
        month, number = number, month
    try:
        return date(year, month, number), swapped
    except ValueError:
        return None, False


def _write(match: regex.Match[str], body: str, moved: date, *, swapped: bool) -> str:
    groups = match.groupdict()
    month, day = (moved.day, moved.month) if swapped else (moved.month, moved.day)
    values: dict[str, str] = {}
    if groups.get("month"):
        word = groups["month"]
        # "May" is whole and abbreviated at once: before the day it is taken for the whole name.
        first = not groups.get("d") or match.start("month") < match.start("d")
        whole = word.lower() in _MONTHS and (word.lower() != "may" or first)
        name = (calendar.month_name if whole else calendar.month_abbr)[moved.month]
        values["month"] = (
            name.upper() if word.isupper() else name.lower() if word.islower() else name
        )
    else:
        values["m"] = _number(groups["m"], month)
    if groups.get("d"):
        values["d"] = _number(groups["d"], day)
    if groups.get("o"):
        values["o"] = _ordinal(day)
    year = groups["y"]
    values["y"] = f"{moved.year:04}" if len(year) == 4 else year[:-2] + f"{moved.year % 100:02}"
    out, at = [], 0
    for start, end, new in sorted((*match.span(name), new) for name, new in values.items()):
        out += [body[at:start], new]
        at = end
    return "".join(out) + body[at:]


def _number(old: str, new: int) -> str:
    return f"{new:02}" if len(old) == 2 else str(new)


def _ordinal(day: int) -> str:
    return "th" if 11 <= day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
