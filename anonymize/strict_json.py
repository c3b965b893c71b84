"""One reading of JSON: what two parsers could understand differently is refused.

RFC 8259 with I-JSON's limits (RFC 7493): no duplicate keys, no NaN or infinity, no lone surrogates,
depth at most 64, numbers that a double holds.
"""

from __future__ import annotations

import json
import math
from typing import Any

import regex

from anonymize.errors import RecordUnreadable

MAX_DEPTH = 64
MAX_CHARS = 16 * 1024 * 1024
_MAX_DIGITS = 40
_BRACKETS = regex.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]', regex.DOTALL)


def parse(text: str, position: str) -> dict[str, Any]:
    """Return the JSON object in `text`.

    Raises:
        RecordUnreadable: `bad-json` with what is wrong, or `too-large`.
    """
    if len(text) > MAX_CHARS:
        raise RecordUnreadable("too-large", position, f"over {MAX_CHARS} characters")
    _check_depth(text, position)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(items)
        if len(out) != len(items):
            raise RecordUnreadable("bad-json", position, "a key occurs twice in one object")
        return out

    def refuse(_constant: str) -> float:
        raise RecordUnreadable("bad-json", position, "NaN and infinity are not JSON")

    def integer(digits: str) -> int:
        if len(digits) > _MAX_DIGITS:
            raise RecordUnreadable("bad-json", position, "a number is too long")
        return int(digits)

    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=refuse, parse_int=integer)
    except (ValueError, RecursionError):
        raise RecordUnreadable("bad-json", position, "not JSON") from None
    if not isinstance(value, dict):
        raise RecordUnreadable("bad-json", position, "the record must be an object")
    check(value, position)
    return value


def check(value: object, position: str, depth: int = 1) -> None:
    """Hold an already parsed value to the same limits.

    Raises:
        RecordUnreadable: `bad-json` with what is wrong.
    """
    if depth > MAX_DEPTH:
        raise RecordUnreadable("bad-json", position, f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise RecordUnreadable("bad-json", position, "a key is not a string")
            _check_text(key, position)
            check(inner, position, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            check(inner, position, depth + 1)
    elif isinstance(value, str):
        _check_text(value, position)
    elif isinstance(value, bool) or value is None:
        return
    elif isinstance(value, int | float):
        if not math.isfinite(value) or abs(value) >= 10**_MAX_DIGITS:
            raise RecordUnreadable("bad-json", position, "a number is out of range")
    else:
        raise RecordUnreadable("bad-json", position, "a value of no JSON type")


def _check_text(text: str, position: str) -> None:
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        raise RecordUnreadable("bad-encoding", position, "a lone surrogate")


def _check_depth(text: str, position: str) -> None:
    # Before parsing, so that no parser's stack is tried; brackets inside strings do not count.
    depth = 0
    for token in _BRACKETS.finditer(text):
        mark = token.group()
        depth += (mark in "[{") - (mark in "]}")
        if depth > MAX_DEPTH:
            raise RecordUnreadable("bad-json", position, f"nested deeper than {MAX_DEPTH}")
