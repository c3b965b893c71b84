"""One reader of JSON at the door: what it takes, every other reader understands in the same way.

Refused, with the position (a character offset, never the text): duplicate keys, ``NaN`` and infinities,
numbers that overflow, nesting deeper than 64, lone surrogates, invalid UTF-8, anything after the value
(RFC 8259; ASVS 1.5.3).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, Final

from exchange.errors import BodyMalformed

MAX_DEPTH: Final = 64
#: No number that we exchange needs more digits; a million of them would be quadratic work.
_MAX_DIGITS: Final = 40

# Possessive, and an unclosed string reaches to the end: linear for whatever is sent.
_STRING: Final = r'"(?:[^"\\]+|\\.)*+(?:"|\\?\Z)'
_TOKEN: Final = re.compile(
    rf"(?P<string>{_STRING})|(?P<open>[\[{{])|(?P<close>[\]}}])|(?P<scalar>[^\s\[\]{{}},:\"]+)",
    re.DOTALL,
)
_BRACKET: Final = re.compile(rf"{_STRING}|[\[{{\]}}]", re.DOTALL)
_COLON: Final = re.compile(r"\s*:")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class _Refused(Exception):
    """Leaves the C parser early; :func:`parse` turns it into a ``BodyMalformed`` with a position."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused
    return found


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise _Refused
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refused
    return value


def _constant(_text: str) -> float:
    raise _Refused


def parse(body: bytes) -> Any:
    """The value that ``body`` (UTF-8 JSON) denotes.

    Raises:
        BodyMalformed: with what is wrong and its character offset.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BodyMalformed("is not UTF-8", error.start) from None
    if (depth_at := _too_deep(text)) is not None:
        raise BodyMalformed(f"is nested deeper than {MAX_DEPTH}", depth_at)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as error:
        raise BodyMalformed("is not JSON", error.pos) from None
    except _Refused:
        what, offset = _locate(text)
        raise BodyMalformed(what, offset) from None
    if "\\u" in text and _has_surrogate(value):
        what, offset = _locate(text)
        raise BodyMalformed(what, offset)
    return value


def _too_deep(text: str) -> int | None:
    """Offset of the bracket that opens level 65. Linear, and before any recursion."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return None
    depth = 0
    for match in _BRACKET.finditer(text):
        piece = match.group()
        if piece in ("[", "{"):
            depth += 1
            if depth > MAX_DEPTH:
                return match.start()
        elif piece in ("]", "}"):
            depth -= 1
    return None


def _has_surrogate(value: Any) -> bool:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            if _SURROGATE.search(item):
                return True
        elif isinstance(item, dict):
            pending.extend(item)
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return False


def _locate(text: str) -> tuple[str, int]:
    """What the parser refused, and where: a second, slow reading that only refused bodies get."""
    for what, offset in _offences(text):
        return what, offset
    return "is not JSON", 0


def _offences(text: str) -> Iterator[tuple[str, int]]:
    levels: list[set[str] | None] = []
    for match in _TOKEN.finditer(text):
        kind, piece = match.lastgroup, match.group()
        if kind == "open":
            levels.append(set() if piece == "{" else None)
        elif kind == "close" and levels:
            levels.pop()
        elif kind == "string":
            plain = json.loads(piece, strict=False) if "\\" in piece else piece[1:-1]
            if _SURROGATE.search(plain):
                yield "holds half of a surrogate pair", match.start()
            keys = levels[-1] if levels else None
            if keys is not None and _COLON.match(text, match.end()):
                if plain in keys:
                    yield "names a key twice in one object", match.start()
                keys.add(plain)
        elif kind == "scalar" and piece not in ("true", "false", "null"):
            digits = piece.lstrip("-")
            if digits.isdigit():
                if len(piece) > _MAX_DIGITS:
                    yield f"holds a number of more than {_MAX_DIGITS} digits", match.start()
            elif not digits[:1].isdigit() or not math.isfinite(float(piece)):
                yield "holds a number that JSON does not have or that overflows", match.start()
