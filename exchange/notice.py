"""The notices that patients are shown before they sign: texts that are never changed, only followed.

One file per language and version, ``notices/<locale>.<version>.txt``; its SHA-256 stands in the signed
terms as ``noticeHash``, so that what was shown can be proved. Older versions stay, since consents given
under them stay (threat P17: the signed fields name the text that was read).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ledger.commitment import sha256

_FOLDER = Path(__file__).parent / "notices"
_NAME = re.compile(r"(?P<locale>[a-z]{2}(?:-[A-Z]{2})?)\.(?P<version>[1-9][0-9]*)\.txt")


@dataclass(frozen=True)
class Notices:
    """Every notice ever shown by its hash (32 bytes), and the present one of each language."""

    known: frozenset[bytes]
    current: Mapping[str, tuple[bytes, str]]
    """Locale to (hash, text)."""

    def to_json(self) -> dict[str, dict[str, str]]:
        """The present notices by locale: ``{"en": {"hash": "0x…", "text": "…"}}``."""
        return {
            locale: {"hash": "0x" + digest.hex(), "text": text}
            for locale, (digest, text) in self.current.items()
        }


def load_notices(folder: Path = _FOLDER) -> Notices:
    """Read every notice in ``folder``; files of other names are not notices."""
    known: set[bytes] = set()
    newest: dict[str, tuple[int, bytes, str]] = {}
    for path in sorted(folder.iterdir()):
        named = _NAME.fullmatch(path.name)
        if named is None:
            continue
        raw = path.read_bytes()
        digest = sha256(raw)
        known.add(digest)
        locale, version = named["locale"], int(named["version"])
        if locale not in newest or version > newest[locale][0]:
            newest[locale] = (version, digest, raw.decode("utf-8"))
    current = {locale: (digest, text) for locale, (_, digest, text) in sorted(newest.items())}
    return Notices(frozenset(known), MappingProxyType(current))
