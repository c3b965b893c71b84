"""For what data may be used: purposes of use, DUO permissions and modifiers, categories, actions.

Purposes are codes of HL7 v3-ActReason with the code system's own parents, except that preclinical
research stands directly under healthcare research. Data uses are DUO terms of the pinned release.
Unknown codes cover nothing and are covered by nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from ledger import _duo
from ledger.errors import MalformedValue


class Category(StrEnum):
    """Kinds of data that a consent can name."""

    NOTES = "notes"
    CLINICAL = "clinical"
    TABLES = "tables"
    IMAGES = "images"
    GENOMICS = "genomics"


CATEGORIES: frozenset[str] = frozenset(category.value for category in Category)


class Action(StrEnum):
    """What is done with data. Neither implies the other; a consent lists both explicitly."""

    DISCLOSE = "disclose"
    """Rows or records leave to the requester."""
    USE = "use"
    """Computed inside; only guarded results leave."""


ACTIONS: frozenset[str] = frozenset(action.value for action in Action)


class Purpose(StrEnum):
    """Purposes of use, http://terminology.hl7.org/CodeSystem/v3-ActReason."""

    TREAT = "TREAT"
    ETREAT = "ETREAT"
    BTG = "BTG"
    HPAYMT = "HPAYMT"
    HOPERAT = "HOPERAT"
    CAREMGT = "CAREMGT"
    PUBHLTH = "PUBHLTH"
    PATRQT = "PATRQT"
    FAMRQT = "FAMRQT"
    PWATRNY = "PWATRNY"
    SUPNWK = "SUPNWK"
    HRESCH = "HRESCH"
    BIORCH = "BIORCH"
    CLINTRCH = "CLINTRCH"
    CLINTRCHNPC = "CLINTRCHNPC"
    CLINTRCHPC = "CLINTRCHPC"
    PRECLINTRCH = "PRECLINTRCH"
    DSRCH = "DSRCH"
    POARCH = "POARCH"
    TRANSRCH = "TRANSRCH"
    HTEST = "HTEST"


PURPOSES: frozenset[str] = frozenset(purpose.value for purpose in Purpose)

_PARENT: dict[str, str] = {
    "ETREAT": "TREAT",
    "BTG": "ETREAT",
    "CAREMGT": "TREAT",
    "FAMRQT": "PATRQT",
    "PWATRNY": "PATRQT",
    "SUPNWK": "PATRQT",
    "BIORCH": "HRESCH",
    "CLINTRCH": "HRESCH",
    "CLINTRCHNPC": "CLINTRCH",
    "CLINTRCHPC": "CLINTRCH",
    "PRECLINTRCH": "HRESCH",
    "DSRCH": "HRESCH",
    "POARCH": "HRESCH",
    "TRANSRCH": "HRESCH",
}


def covers(granted: str, asked: str) -> bool:
    """Whether a grant for ``granted`` includes ``asked``: the same purpose or one beneath it."""
    if granted not in PURPOSES or asked not in PURPOSES:
        return False
    at: str | None = asked
    while at is not None:
        if at == granted:
            return True
        at = _PARENT.get(at)
    return False


NRES = "DUO:0000004"
HMB = "DUO:0000006"
DS = "DUO:0000007"
POA = "DUO:0000011"
GRU = "DUO:0000042"
CC = "DUO:0000043"
NPOA = "DUO:0000044"

PERMISSIONS: frozenset[str] = frozenset(_duo.PERMISSIONS)
MODIFIERS: frozenset[str] = frozenset(_duo.MODIFIERS)

# Which asked permissions each granted one includes (DUO's definitions: HMB and DS do not include
# the study of origins or ancestry). A DS grant names a disease, which only a person can compare.
_INCLUDES: dict[str, frozenset[str]] = {
    NRES: PERMISSIONS,
    GRU: frozenset({GRU, HMB, DS, POA}),
    HMB: frozenset({HMB, DS}),
    DS: frozenset({DS}),
    POA: frozenset({POA}),
}

# The research that a purpose stands for (conventions section 4; a proposal, not a standard).
_RESEARCH_OF: dict[str, str] = {
    "HRESCH": GRU,
    "BIORCH": HMB,
    "TRANSRCH": HMB,
    "CLINTRCH": HMB,
    "CLINTRCHNPC": HMB,
    "CLINTRCHPC": HMB,
    "PRECLINTRCH": HMB,
    "DSRCH": DS,
    "POARCH": POA,
}

_IRI = re.compile(r"http://purl\.obolibrary\.org/obo/DUO_(?:[0-9]{7}|00000044)")
_BY_SHORTHAND = {
    shorthand: code for code, (shorthand, _) in {**_duo.PERMISSIONS, **_duo.MODIFIERS}.items()
}


@dataclass(frozen=True, slots=True)
class DataUse:
    """A DUO permission and its modifiers, as ``DUO:…`` codes; modifiers sorted and unique."""

    code: str
    modifiers: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether every code is a term of the pinned release, each in its own branch."""
        return self.code in PERMISSIONS and MODIFIERS.issuperset(self.modifiers)

    def to_json(self) -> dict[str, object]:
        """Return ``{"code", "modifiers"}`` as a consent document carries it."""
        return {"code": self.code, "modifiers": list(self.modifiers)}


def is_research(purpose: str) -> bool:
    """Whether a purpose is research, which is what DUO permissions govern."""
    return purpose in _RESEARCH_OF


def research_of(purpose: str) -> str:
    """Return the DUO permission that a research purpose asks for. Raises KeyError otherwise."""
    return _RESEARCH_OF[purpose]


def includes(granted: str, asked: str) -> bool:
    """Whether a DUO permission includes another one; False for any unknown code."""
    return asked in _INCLUDES.get(granted, frozenset())


def parse_code(text: str) -> tuple[str, ...]:
    """Return the codes that a DUO id, IRI or shorthand stands for.

    Obsolete terms map to their successors (``DUO:0000005`` to GRU and CC, ``DUO:0000014`` to GRU).
    NPOA's IRI has eight digits in the release; both forms are read. Raises MalformedValue.
    """
    code = text
    if _IRI.fullmatch(text):
        code = "DUO:" + text[-7:]
    code = _BY_SHORTHAND.get(code, code)
    if code == "DUO:0000005":
        return (GRU, CC)
    if code == "DUO:0000014":
        return (GRU,)
    if code not in PERMISSIONS and code not in MODIFIERS:
        raise MalformedValue("not a DUO permission or modifier")
    return (code,)
