"""The only rules: who may do what with a subject's data, at one moment.

Pure: no clock, chain, disk or network. Rules never change in place; an older version stays callable
under its name, so that an old ruling can be re-run. Silence denies. A refusal is a value.

How ``assent.policy/1`` decides: (1) an objection in force that overlaps with the request denies;
(2) every category asked for must be carried by a permit that is active, begun, not ended, not
superseded, and covers requester, purpose, action and data use; (3) conditions that only a person
can judge turn the permit into questions. Among several permits for one category the one without
questions, then the one that ends last, then the smallest id carries it. The permit ends when the
first of its carriers ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from ledger import datause
from ledger.consent import Consent, ConsentStatus, Decision
from ledger.datause import ACTIONS, CATEGORIES, PURPOSES, DataUse
from ledger.ids import ConsentId, DatasetId, OrgId, SubjectId

POLICY_VERSION = "assent.policy/1"

REASONS = (
    "policy-unknown",
    "objection",
    "no-consent",
    "withdrawn",
    "expired",
    "not-yet-valid",
    "not-recorded",
    "requester",
    "purpose",
    "category",
    "action",
    "data-use",
    "chain-stale",
    "dataset-retired",
)
"""Every reason of a denial, in the order in which denials list them."""

CIRCUMSTANCES = frozenset({"chain-stale", "dataset-retired"})
"""Reasons that the gate gives and no consent decides; they can only narrow."""


@dataclass(frozen=True, slots=True)
class AccessRequest:
    """Who asks for what, about whom. ``data_use`` None takes the purpose's own meaning."""

    subject: SubjectId
    requester: OrgId
    purpose: str
    categories: frozenset[str]
    action: str
    data_use: DataUse | None = None
    dataset: DatasetId | None = None


@dataclass(frozen=True, slots=True)
class Permit:
    """Allowed because of these consents, until ``expires`` (epoch seconds; None: no end)."""

    because: tuple[ConsentId, ...]
    expires: int | None
    policy_version: str = POLICY_VERSION


@dataclass(frozen=True, slots=True)
class Denial:
    """Not allowed. Reasons come from :data:`REASONS`, at least one."""

    reasons: tuple[str, ...]
    policy_version: str = POLICY_VERSION


@dataclass(frozen=True, slots=True)
class Referral:
    """A person must answer these DUO modifiers first; nothing is allowed before."""

    questions: tuple[str, ...]
    policy_version: str = POLICY_VERSION


Ruling = Permit | Referral | Denial


def decide(
    request: AccessRequest,
    consents: Iterable[Consent],
    *,
    at: datetime,
    policy_version: str = POLICY_VERSION,
) -> Ruling:
    """Rule on one request about one subject. ``at`` is aware; fractions of a second are dropped.

    Other subjects' consents are ignored; the order does not matter; an unknown version denies.
    Raises ValueError for a naive ``at``.
    """
    if at.tzinfo is None or at.utcoffset() is None:
        raise ValueError("the time of a ruling must be aware")
    rules = _VERSIONS.get(policy_version)
    if rules is None:
        return Denial(("policy-unknown",), policy_version)
    own = [consent for consent in consents if consent.subject == request.subject]
    return rules(request, own, int(at.timestamp() // 1))


def as_body(ruling: Ruling) -> dict[str, object]:
    """Return ``{decision, because, reasons, expires, policy}`` as a leaf's body carries a ruling.

    A referral's questions stand under ``reasons``.
    """
    because: list[str] = []
    reasons: list[str] = []
    expires: int | None = None
    if isinstance(ruling, Permit):
        decision, because, expires = "permit", [i.hex for i in ruling.because], ruling.expires
    elif isinstance(ruling, Referral):
        decision, reasons = "refer", list(ruling.questions)
    else:
        decision, reasons = "deny", list(ruling.reasons)
    return {
        "decision": decision,
        "because": because,
        "reasons": reasons,
        "expires": expires,
        "policy": ruling.policy_version,
    }


def _in_order(reasons: Iterable[str]) -> tuple[str, ...]:
    found = set(reasons)
    return tuple(reason for reason in REASONS if reason in found)


def _rules_1(request: AccessRequest, own: Sequence[Consent], now: int) -> Ruling:
    malformed = _unaskable(request)
    if malformed:
        return Denial(malformed)
    if any(_objects(consent, request, now) for consent in own):
        return Denial(("objection",))
    permits = [
        consent
        for consent in own
        if consent.decision is Decision.PERMIT
        and consent.status is not ConsentStatus.ENTERED_IN_ERROR
    ]
    if not permits:
        return Denial(("no-consent",))
    superseded = {
        consent.supersedes
        for consent in own
        if consent.supersedes is not None and consent.status is not ConsentStatus.ENTERED_IN_ERROR
    }
    carriers: set[Consent] = set()
    reasons: set[str] = set()
    for category in sorted(request.categories):
        able = []
        for consent in permits:
            failure = _failure(consent, request, category, now, superseded)
            if failure is None:
                able.append(consent)
            else:
                reasons.add(failure)
        if not able:
            return Denial(_in_order(reasons))
        carriers.add(min(able, key=_preference))
    questions = {question for consent in carriers for question in _questions(consent)}
    if questions:
        return Referral(tuple(sorted(questions)))
    ends = [consent.ends for consent in carriers if consent.ends is not None]
    return Permit(tuple(sorted(consent.id for consent in carriers)), min(ends, default=None))


_VERSIONS: dict[str, Callable[[AccessRequest, Sequence[Consent], int], Ruling]] = {
    POLICY_VERSION: _rules_1
}


def _unaskable(request: AccessRequest) -> tuple[str, ...]:
    """Reasons why no consent could ever cover the request: codes that nobody knows."""
    data_use = request.data_use
    return _in_order(
        reason
        for reason, known in (
            ("purpose", request.purpose in PURPOSES),
            ("category", bool(request.categories) and request.categories <= CATEGORIES),
            ("action", request.action in ACTIONS),
            ("data-use", data_use is None or data_use.known),
        )
        if not known
    )


def _objects(consent: Consent, request: AccessRequest, now: int) -> bool:
    """Whether this is an objection in force that touches any part of the request."""
    if consent.decision is not Decision.DENY or consent.status not in (
        ConsentStatus.DRAFT,
        ConsentStatus.ACTIVE,
    ):
        return False
    if now < consent.starts or (consent.ends is not None and now >= consent.ends):
        return False
    about = consent.provision
    return (
        (about.requesters is None or request.requester in about.requesters)
        # A request for a wider purpose would include what was objected to.
        and (
            about.purposes is None
            or any(
                datause.covers(purpose, request.purpose) or datause.covers(request.purpose, purpose)
                for purpose in about.purposes
            )
        )
        and (about.categories is None or not about.categories.isdisjoint(request.categories))
        and request.action in about.actions
    )


def _failure(
    consent: Consent,
    request: AccessRequest,
    category: str,
    now: int,
    superseded: set[ConsentId],
) -> str | None:
    """Return the first reason why this permit does not carry the category, or None."""
    about = consent.provision
    if consent.status is ConsentStatus.INACTIVE or consent.id in superseded:
        return "withdrawn"
    if consent.ends is not None and now >= consent.ends:
        return "expired"
    if now < consent.starts:
        return "not-yet-valid"
    if consent.status is not ConsentStatus.ACTIVE:
        return "not-recorded"
    if about.requesters is not None and request.requester not in about.requesters:
        return "requester"
    if about.purposes is not None and not any(
        datause.covers(purpose, request.purpose) for purpose in about.purposes
    ):
        return "purpose"
    if about.categories is not None and category not in about.categories:
        return "category"
    if request.action not in about.actions:
        return "action"
    return None if _use_covered(consent, request) else "data-use"


def _use_covered(consent: Consent, request: AccessRequest) -> bool:
    granted = consent.provision.data_use
    if not granted.known:
        return False
    asked = request.data_use
    if datause.is_research(request.purpose):
        wanted = {datause.research_of(request.purpose)}
    else:
        # A DUO permission limits research. Another purpose must be named by the patient, not only
        # fall under "any", unless the data use itself opens it.
        if consent.provision.purposes is None and not (
            granted.code == datause.NRES
            or (datause.CC in granted.modifiers and datause.covers("TREAT", request.purpose))
        ):
            return False
        wanted = set()
    if asked is not None:
        wanted.add(asked.code)
    if datause.NPOA in granted.modifiers and datause.POA in wanted:
        return False
    return all(datause.includes(granted.code, code) for code in wanted)


# Modifiers that the rules above settle; every other one is a question for a person.
_SETTLED = frozenset({datause.CC, datause.NPOA})


def _questions(consent: Consent) -> tuple[str, ...]:
    data_use = consent.provision.data_use
    disease = (data_use.code,) if data_use.code == datause.DS else ()
    return disease + tuple(m for m in data_use.modifiers if m not in _SETTLED)


def _preference(consent: Consent) -> tuple[bool, bool, int, ConsentId]:
    """Sort key: no questions first, then the latest end, then the smallest id."""
    ends = consent.ends
    return (bool(_questions(consent)), ends is not None, -(ends or 0), consent.id)
