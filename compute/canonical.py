"""Canonical JSON: one value, one byte string (RFC 8785), and a strict way back.

Keys are sorted by UTF-16 code units, nothing is escaped that need not be, numbers are written as
ECMAScript writes them. Integers are limited to those a double holds exactly (|n| < 2^53).
Reading refuses duplicate keys, NaN and infinities, deep nesting, and, with `parse_canonical`, any
byte string that is not the canonical one.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from compute.errors import InputMalformed

_SAFE_INTEGER = 2**53
_MAX_DEPTH = 64


def canonical(value: object) -> bytes:
    """The RFC 8785 bytes of a JSON value.

    Raises:
        InputMalformed: for a value JSON cannot carry exactly.
    """
    return _write(value, 0).encode("utf-8")


def sha256(data: bytes) -> bytes:
    """SHA-256 of exact bytes, 32 bytes."""
    return hashlib.sha256(data).digest()


def to_hex(data: bytes) -> str:
    """Bytes as they appear at every edge: `0x` and lower-case digits."""
    return "0x" + data.hex()


def from_hex(text: object, length: int | None = None) -> bytes:
    """Bytes of an `0x…` string; `length` in bytes when it is fixed.

    Raises:
        InputMalformed: when the text is not lower-case hex of that length.
    """
    if not isinstance(text, str) or not text.startswith("0x") or text != text.lower():
        raise InputMalformed("expected lower-case hex with 0x in front")
    try:
        data = bytes.fromhex(text[2:])
    except ValueError:
        raise InputMalformed("expected lower-case hex with 0x in front") from None
    if (length is not None and len(data) != length) or to_hex(data) != text:
        raise InputMalformed(f"expected {length} bytes of hex")
    return data


def parse_json(data: bytes) -> Any:
    """Read JSON strictly: UTF-8, no duplicate keys, no NaN, at most 64 levels.

    Raises:
        InputMalformed: for anything else; the text itself is never repeated.
    """
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_pairs, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        raise InputMalformed("not strict JSON") from None
    _check_depth(value, 0)
    return value


def parse_canonical(data: bytes) -> Any:
    """Read JSON that must be in canonical form already.

    Raises:
        InputMalformed: when it is not JSON, or not in the one canonical form.
    """
    value = parse_json(data)
    if canonical(value) != data:
        raise InputMalformed("JSON is not in canonical form (RFC 8785)")
    return value


def fields(value: object, *, names: Iterable[str], where: str) -> dict[str, Any]:
    """The object `value`, which must have exactly these keys.

    Raises:
        InputMalformed: naming the missing or unknown keys' number, and `where`.
    """
    expected = set(names)
    if not isinstance(value, dict):
        raise InputMalformed(f"{where}: expected an object")
    if set(value) != expected:
        missing = sorted(expected - set(value))
        unknown = len(set(value) - expected)
        raise InputMalformed(f"{where}: missing {missing}, {unknown} unknown key(s)")
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate key")
    return found


def _no_constant(_: str) -> Any:
    raise ValueError("not a JSON number")


def _check_depth(value: object, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise InputMalformed(f"JSON nested deeper than {_MAX_DEPTH} levels")
    inner: Iterable[object] = ()
    if isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, list):
        inner = value
    for item in inner:
        _check_depth(item, depth + 1)


def _write(value: object, depth: int) -> str:
    if depth > _MAX_DEPTH:
        raise InputMalformed(f"JSON nested deeper than {_MAX_DEPTH} levels")
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int | float):
        return _number(value)
    if isinstance(value, list | tuple):
        return "[" + ",".join(_write(item, depth + 1) for item in value) + "]"
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise InputMalformed("JSON keys are strings")
        names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
        inside = (f"{_string(name)}:{_write(value[name], depth + 1)}" for name in names)
        return "{" + ",".join(inside) + "}"
    raise InputMalformed(f"JSON has no form for {type(value).__name__}")


def _string(value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InputMalformed("a lone surrogate is no text") from None
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    """ECMAScript's Number::toString, as RFC 8785 §3.2.2.3 asks."""
    if isinstance(value, int):
        if abs(value) >= _SAFE_INTEGER:
            raise InputMalformed("an integer beyond 2^53 has no exact JSON form")
        return str(value)
    if not math.isfinite(value):
        raise InputMalformed("NaN and infinities have no JSON form")
    if value == 0:
        return "0"
    text = repr(value)
    mantissa, _, exponent = text.lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    return ("-" if value < 0 else "") + _place(digits, point)


def _place(digits: str, point: int) -> str:
    """Digits with the point after `point` of them: the four cases of ECMA-262 Number::toString."""
    count = len(digits)
    if count <= point <= 21:
        return digits + "0" * (point - count)
    if 0 < point <= 21:
        return digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    power = f"e{point - 1:+d}"
    return digits[0] + ("." + digits[1:] if count > 1 else "") + power
