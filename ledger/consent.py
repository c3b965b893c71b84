"""Consents as values, and the grammar of the document that a patient signs.

Words follow FHIR Consent: ``decision`` (R5), ``provision``, consent-state-codes. A consent has one
decision; an objection is a consent of its own with ``decision = deny``, so that withdrawing a
permit never lifts a denial. *Withdrawn* is how one becomes inactive; *expired* is computed, never
stored (D10).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from ledger.datause import ACTIONS, CATEGORIES, MODIFIERS, PERMISSIONS, PURPOSES, DataUse
from ledger.errors import ConsentMalformed, GrammarUnknown, IdMalformed, IllegalTransition
from ledger.ids import ConsentId, OrgId, SubjectId

GRAMMAR = "assent.consent/1"
ANY = "*"
MAX_SECONDS = 253_402_300_799
"""9999-12-31T23:59:59Z: the last second that calendars here know."""

_KEYS = frozenset(
    {
        "grammar",
        "decision",
        "subject",
        "purpose",
        "requester",
        "categories",
        "actions",
        "dataUse",
        "from",
        "until",
        "supersedes",
        "locale",
        "notice",
    }
)
_LOCALE = re.compile(r"[a-zA-Z]{2,8}(-[a-zA-Z0-9]{1,8})*", re.ASCII)
_DECISION = re.compile(r"permit|deny")
_HASH = re.compile(r"0x[0-9a-f]{64}", re.ASCII)


_AnyId = TypeVar("_AnyId", SubjectId, ConsentId)


class Decision(StrEnum):
    """FHIR R5 Consent.decision."""

    PERMIT = "permit"
    DENY = "deny"


class ConsentStatus(StrEnum):
    """FHIR consent-state-codes, those in use here."""

    DRAFT = "draft"
    ACTIVE = "active"
    INACTIVE = "inactive"
    ENTERED_IN_ERROR = "entered-in-error"


@dataclass(frozen=True, slots=True)
class Provision:
    """What a consent is about. None means any; a set is never empty in a parsed document."""

    purposes: frozenset[str] | None
    requesters: frozenset[OrgId] | None
    categories: frozenset[str] | None
    actions: frozenset[str]
    data_use: DataUse


@dataclass(frozen=True, slots=True)
class Consent:
    """One consent. In force from ``starts`` (inclusive) to ``ends`` (exclusive), epoch seconds."""

    id: ConsentId
    subject: SubjectId
    decision: Decision
    provision: Provision
    starts: int
    ends: int | None
    status: ConsentStatus
    supersedes: ConsentId | None = None


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """A consent document whose every member was understood."""

    decision: Decision
    subject: SubjectId
    provision: Provision
    starts: int
    ends: int | None
    supersedes: ConsentId | None
    locale: str
    notice_hash: bytes

    def consent(self, consent_id: ConsentId, status: ConsentStatus) -> Consent:
        """Return the consent that this document describes, under its id and with a state."""
        return Consent(
            id=consent_id,
            subject=self.subject,
            decision=self.decision,
            provision=self.provision,
            starts=self.starts,
            ends=self.ends,
            status=status,
            supersedes=self.supersedes,
        )


_LEGAL: dict[ConsentStatus, frozenset[ConsentStatus]] = {
    ConsentStatus.DRAFT: frozenset(
        {ConsentStatus.ACTIVE, ConsentStatus.INACTIVE, ConsentStatus.ENTERED_IN_ERROR}
    ),
    ConsentStatus.ACTIVE: frozenset({ConsentStatus.INACTIVE, ConsentStatus.ENTERED_IN_ERROR}),
    ConsentStatus.INACTIVE: frozenset({ConsentStatus.ENTERED_IN_ERROR}),
    ConsentStatus.ENTERED_IN_ERROR: frozenset(),
}


def legal(from_: ConsentStatus, to: ConsentStatus) -> bool:
    """Whether a consent may go from one state to the other. Inactive never comes back."""
    return to in _LEGAL[from_]


def require_legal(from_: ConsentStatus, to: ConsentStatus) -> None:
    """Raise IllegalTransition unless :func:`legal`."""
    if not legal(from_, to):
        raise IllegalTransition(f"{from_.value} -> {to.value}")


def _texts(document: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = document[key]
    if not isinstance(value, list) or not value:
        raise ConsentMalformed(f"/{key}", "must be a list with at least one member")
    for index, item in enumerate(value):
        if not isinstance(item, str):
            raise ConsentMalformed(f"/{key}/{index}", "must be a string")
    if len(set(value)) != len(value):
        raise ConsentMalformed(f"/{key}", "names a member twice")
    return tuple(value)


def _codes(document: Mapping[str, object], key: str, known: frozenset[str]) -> frozenset[str]:
    values = _texts(document, key)
    for index, value in enumerate(values):
        if value not in known:
            raise ConsentMalformed(f"/{key}/{index}", "unknown code")
    return frozenset(values)


def _seconds(document: Mapping[str, object], key: str) -> int:
    value = document[key]
    if type(value) is not int or not 0 <= value <= MAX_SECONDS:
        raise ConsentMalformed(f"/{key}", "must be whole seconds since 1970-01-01")
    return value


def _data_use(value: object) -> DataUse:
    if not isinstance(value, Mapping) or set(value) != {"code", "modifiers"}:
        raise ConsentMalformed("/dataUse", "must have code and modifiers, and nothing else")
    code = value["code"]
    if not isinstance(code, str) or code not in PERMISSIONS:
        raise ConsentMalformed("/dataUse/code", "unknown code")
    modifiers = value["modifiers"]
    if not isinstance(modifiers, list):
        raise ConsentMalformed("/dataUse/modifiers", "must be a list")
    for index, modifier in enumerate(modifiers):
        if not isinstance(modifier, str) or modifier not in MODIFIERS:
            raise ConsentMalformed(f"/dataUse/modifiers/{index}", "unknown code")
    if len(set(modifiers)) != len(modifiers):
        raise ConsentMalformed("/dataUse/modifiers", "names a member twice")
    return DataUse(code=code, modifiers=tuple(sorted(modifiers)))


def _id(document: Mapping[str, object], key: str, kind: type[_AnyId], problem: str) -> _AnyId:
    try:
        return kind.parse(document[key])
    except IdMalformed:
        raise ConsentMalformed(f"/{key}", problem) from None


def _requesters(document: Mapping[str, object]) -> frozenset[OrgId]:
    found = []
    for index, text in enumerate(_texts(document, "requester")):
        try:
            found.append(OrgId.parse(text))
        except IdMalformed:
            raise ConsentMalformed(f"/requester/{index}", "not an organisation's id") from None
    return frozenset(found)


def _matching(document: Mapping[str, object], key: str, pattern: re.Pattern[str], what: str) -> str:
    value = document[key]
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise ConsentMalformed(f"/{key}", f"not {what}")
    return value


def _keys(document: object) -> Mapping[str, object]:
    if not isinstance(document, Mapping):
        raise ConsentMalformed("", "must be an object")
    if document.get("grammar") != GRAMMAR:
        raise GrammarUnknown(f"the document's grammar is not {GRAMMAR}")
    if not _KEYS.issuperset(document):
        raise ConsentMalformed("", "has a key that the grammar does not know")
    for key in sorted(_KEYS.difference(document)):
        raise ConsentMalformed(f"/{key}", "is missing")
    return document


def parse_document(document: object) -> ParsedDocument:
    """Read a consent document of grammar ``assent.consent/1``.

    Unknown grammars raise GrammarUnknown; a missing or unknown key, an unknown code or a wrong
    type raises ConsentMalformed with the pointer to it. Nothing is skipped or guessed.
    """
    known = _keys(document)

    def any_or(key: str, codes: frozenset[str]) -> frozenset[str] | None:
        return None if known[key] == ANY else _codes(known, key, codes)

    decision = _matching(known, "decision", _DECISION, "permit or deny")
    starts = _seconds(known, "from")
    ends = None if known["until"] is None else _seconds(known, "until")
    if ends is not None and ends <= starts:
        raise ConsentMalformed("/until", "must be after from")
    return ParsedDocument(
        decision=Decision(decision),
        subject=_id(known, "subject", SubjectId, "not a subject id"),
        provision=Provision(
            purposes=any_or("purpose", PURPOSES),
            requesters=None if known["requester"] == ANY else _requesters(known),
            categories=any_or("categories", CATEGORIES),
            actions=_codes(known, "actions", ACTIONS),
            data_use=_data_use(known["dataUse"]),
        ),
        starts=starts,
        ends=ends,
        supersedes=(
            None
            if known["supersedes"] is None
            else _id(known, "supersedes", ConsentId, "not a consent id")
        ),
        locale=_matching(known, "locale", _LOCALE, "a language tag"),
        notice_hash=bytes.fromhex(_matching(known, "notice", _HASH, "a SHA-256 digest")[2:]),
    )


def _listed(values: frozenset[str] | None) -> str:
    return ANY if values is None else ",".join(sorted(values))


def purpose_text(provision: Provision) -> str:
    """Return the purposes as ``Terms`` carries them: sorted, joined by commas, ``*`` for any."""
    return _listed(provision.purposes)


def requester_text(provision: Provision) -> str:
    """Return the requesters as ``Terms`` carries them."""
    requesters = provision.requesters
    return _listed(None if requesters is None else frozenset(org.hex for org in requesters))


def categories_text(provision: Provision) -> str:
    """Return the categories as ``Terms`` carries them."""
    return _listed(provision.categories)
