"""Canonical JSON, its digest, salted leaf bodies, and the id under which the chain keeps a consent.

Canonical JSON is the subset of RFC 8785 (JCS) without fractions: objects with keys sorted by UTF-16
code units, strings of Unicode scalar values (not normalised), integers of magnitude below 2^53,
true, false, null. Whatever is signed or hashed here has exactly one spelling.
"""

from __future__ import annotations

import calendar
import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import NoReturn

from eth_hash.auto import keccak as _keccak

from ledger.errors import MalformedValue
from ledger.ids import ConsentId

MAX_INTEGER = 2**53 - 1
MAX_DEPTH = 64
NO_END_DAY = 2**32 - 1
SALT_SIZE = 16
_ADDRESS_SIZE = 20
_HASH_SIZE = 32
_EPOCH = date(1970, 1, 1)


def sha256(data: bytes) -> bytes:
    """Return the 32 bytes of SHA-256."""
    return hashlib.sha256(data).digest()


def keccak256(data: bytes) -> bytes:
    """Return the 32 bytes of Keccak-256, as Ethereum uses it."""
    return bytes(_keccak(data))


def _sort_key(key: str) -> bytes:
    return key.encode("utf-16-be")


_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":"), sort_keys=True
)
_UNSORTED = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
)


_SIMPLE = frozenset({str, bool, type(None)})


def _plain(value: object, depth: int) -> bool:
    """Check one value; True where the encoder's own sorting of keys is the canonical one.

    ASCII keys sort alike by code unit and by character, which is the common case. Simple members
    are settled where they stand: a call for each would cost more than the encoding.
    """
    kind = type(value)
    if kind in _SIMPLE:
        return True
    if type(value) is int:
        if not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise MalformedValue("an integer of 2^53 or more cannot be canonical JSON")
        return True
    if depth >= MAX_DEPTH:
        raise MalformedValue(f"JSON nested deeper than {MAX_DEPTH}")
    plain = True
    if isinstance(value, (list, tuple)):
        for item in value:
            if type(item) not in _SIMPLE and not _plain(item, depth + 1):
                plain = False
        return plain
    if isinstance(value, Mapping):
        plain = kind is dict
        for key, item in value.items():
            if not isinstance(key, str):
                raise MalformedValue("a JSON key must be a string")
            if not key.isascii():
                plain = False
            if type(item) not in _SIMPLE and not _plain(item, depth + 1):
                plain = False
        return plain
    if isinstance(value, str):
        return True
    raise MalformedValue(f"{kind.__name__} cannot be canonical JSON")


def _ordered(value: object) -> object:
    """Return a checked value with the keys of every object in canonical order."""
    if isinstance(value, (list, tuple)):
        return [_ordered(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _ordered(value[key]) for key in sorted(value, key=_sort_key)}
    return value


def canonical(value: object) -> bytes:
    """Return the one canonical spelling of a JSON value (RFC 8785, no fractions), as UTF-8.

    Raises MalformedValue for floats, big integers, lone surrogates, other types, or too deep a
    nesting.
    """
    try:
        if _plain(value, 0):
            return _ENCODER.encode(value).encode("utf-8")
        return _UNSORTED.encode(_ordered(value)).encode("utf-8")
    except UnicodeEncodeError:
        raise MalformedValue("a lone surrogate cannot be canonical JSON") from None


def _refuse(_: str) -> NoReturn:
    raise MalformedValue("a fraction, NaN or Infinity cannot be canonical JSON")


# One decoder for all: making it costs as much as reading a short document.
_DECODER = json.JSONDecoder(parse_float=_refuse, parse_constant=_refuse)
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


def require_shallow(data: bytes) -> None:
    """Raise MalformedValue for deep nesting, before the decoder recurses.

    A library that raises the interpreter's recursion limit would turn the decoder's own
    RecursionError into a crash of the process.
    """
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise MalformedValue(f"JSON nested deeper than {MAX_DEPTH}")


def parse_canonical(data: bytes) -> object:
    """Read canonical JSON, and nothing else: any other spelling of the same value is refused.

    Raises MalformedValue (also for duplicate keys, invalid UTF-8, floats and deep nesting).
    """
    require_shallow(data)
    try:
        value: object = _DECODER.decode(data.decode("utf-8"))
    except ValueError:
        raise MalformedValue("not JSON") from None
    # Duplicate keys, blanks, escapes and key order all show as a difference here.
    if canonical(value) != data:
        raise MalformedValue("not canonical JSON")
    return value


def digest_of(value: object) -> bytes:
    """Return SHA-256 of the canonical spelling."""
    return sha256(canonical(value))


def new_salt() -> str:
    """Draw the salt of a leaf body: 16 random bytes, 0x-hex."""
    return "0x" + secrets.token_hex(SALT_SIZE)


def salted_body_hash(body: Mapping[str, object]) -> bytes:
    """Return the digest by which a leaf commits to its body. The body must contain its salt.

    Without the salt a short body could be guessed from its digest, and erasing it would erase
    nothing (D15). Raises MalformedValue.
    """
    salt = body.get("salt")
    if not isinstance(salt, str) or len(salt) != 2 + 2 * SALT_SIZE or salt[:2] != "0x":
        raise MalformedValue("a leaf body needs a salt of 16 bytes")
    return digest_of(body)


def until_day(ends: int | None) -> int:
    """Return the last day of the month in which a consent ends, in days since 1970-01-01 UTC.

    ``ends`` in epoch seconds; None (no end) gives 2^32 - 1. The chain sees only the month, since a
    precise end would mark its consent (D3).
    """
    if ends is None:
        return NO_END_DAY
    at = datetime.fromtimestamp(ends, UTC)
    last = date(at.year, at.month, calendar.monthrange(at.year, at.month)[1])
    return (last - _EPOCH).days


def consent_id(consent_key: bytes, commitment: bytes, until: int) -> ConsentId:
    """Return keccak-256 of consent key (20), commitment (32) and last day (4), packed (D3)."""
    if (
        len(consent_key) != _ADDRESS_SIZE
        or len(commitment) != _HASH_SIZE
        or not 0 <= until <= NO_END_DAY
    ):
        raise MalformedValue("consent key, commitment or last day of the wrong size")
    return ConsentId(keccak256(consent_key + commitment + until.to_bytes(4, "big")))
