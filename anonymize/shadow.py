"""Look-alike characters: a shadow of a text, of the same length, in which patterns can be found.

Recognisers read the shadow; treatments are applied to the text at the same offsets. So a name
written with Cyrillic letters, a number in full-width digits or a dash of another kind is found,
and everything that is not an identifier leaves as it was written.
Sources: Unicode UAX #15 (NFKC), UTS #39 (confusables; the letters that occur in Latin names).
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from anonymize.errors import RecordUnreadable

MAX_NOTE_CHARS = 2_000_000

_CONFUSABLES = dict(
    zip(
        "АВЕЅІЈКМНОРСТУХаеѕіјорсухԁһԛѡвкмнтՏԼΑΒΕΖΗΙΚΜΝΟΡΤΥΧοανρтıɑɡ‐‑‒–—―−﹣－‘’‛ʼ′＇“”″",
        "ABESIJKMHOPCTYXaesijopcyxdhqwBKMHTSLABEZHIKMNOPTYXoavptiag---------''''''\"\"\"",
        strict=True,
    )
)
_LINE_BREAKS = {"\u2028": "\n", "\u2029": "\n", "\x85": "\n"}
_ALLOWED_CONTROLS = frozenset("\t\n\r\f\v\x85")


@lru_cache(maxsize=65_536)
def _plain(char: str) -> str:
    if char in _CONFUSABLES:
        return _CONFUSABLES[char]
    if char in _LINE_BREAKS:
        return _LINE_BREAKS[char]
    folded = unicodedata.normalize("NFKC", char)
    if len(folded) == 1:
        char = _CONFUSABLES.get(folded, folded)
    digit = unicodedata.decimal(char, None)
    return char if digit is None else str(digit)


@lru_cache(maxsize=65_536)
def _folded(char: str) -> str:
    plain = _plain(char)
    base = unicodedata.normalize("NFD", plain)[0]
    lower = base.lower()
    return lower if len(lower) == 1 else base


def readable(text: str, position: str) -> str:
    """Return `text` in NFC without invisible format characters, or refuse it.

    Bidirectional marks, zero-width joiners and soft hyphens (Unicode category Cf) carry nothing
    clinical and can split a name, so they go before anything is looked for.

    Raises:
        RecordUnreadable: `too-large`, `binary` (null bytes, control characters) or `bad-encoding`
            (lone surrogates, replacement characters left by a wrong decoding).
    """
    if len(text) > MAX_NOTE_CHARS:
        raise RecordUnreadable("too-large", position, f"over {MAX_NOTE_CHARS} characters; split it")
    if text.isascii():
        if text.isprintable():
            return text
    else:
        if any("\ud800" <= c <= "\udfff" or c == "\ufffd" for c in text):
            raise RecordUnreadable("bad-encoding", position, "decode the source as what it is")
        text = unicodedata.normalize("NFC", text)
        text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    for char in set(text):
        if unicodedata.category(char) == "Cc" and char not in _ALLOWED_CONTROLS:
            raise RecordUnreadable("binary", position, "control characters; not a text")
    return text


def shadow(text: str) -> str:
    """Return the shadow: same length, look-alikes, digits, dashes and quotes made plain."""
    return text if text.isascii() else "".join(map(_plain, text))


def fold(text: str) -> str:
    """Return the shadow in lower case and without accents, same length: for known values."""
    return text.lower() if text.isascii() else "".join(map(_folded, text))
