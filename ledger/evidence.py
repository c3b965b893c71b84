"""Who signed what: one subject's enrolment, consents, withdrawals and lifts, re-verified.

Used by the auditor's proof (steps 2 and 3) on bodies of leaves, whose digests were checked before.
Everything raises :class:`ledger.errors.LedgerError` or the errors of a wrong shape; the proof turns
them into its numbered failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ledger.bundle import LoggedLeaf, SubjectEvidence
from ledger.commitment import consent_id
from ledger.consent import Decision, ParsedDocument
from ledger.errors import CommitmentMismatch, EvidenceInvalid
from ledger.ids import ConsentId, OrgId, SubjectId, handle
from ledger.leaf import Kind
from ledger.messages import Desk, Grant, Invited, Lift, Redeemed, Withdraw, from_hex
from ledger.signing import Domain, recover, verify
from ledger.terms import Terms, check_terms
from ledger.trust import Trust

_MS = 1000
_WITHDRAWERS = ("patient", "desk", "superseded")
_DESK_LATE, _DESK_AHEAD = 3_600, 60
"""How many seconds a desk's withdrawal may stand before, or after, its leaf; the door's own rule."""


@dataclass
class Signed:
    """One consent whose signatures hold: its terms and what its document says."""

    terms: Terms
    document: ParsedDocument


@dataclass
class Person:
    """What a subject's bodies prove. ``identity_key`` None: the enrolment was not shown."""

    subject: SubjectId | None = None
    identity_key: bytes | None = None
    signed: dict[ConsentId, Signed] = field(default_factory=dict)
    lifted: set[ConsentId] = field(default_factory=set)


def mapping(value: object) -> Mapping[str, object]:
    """Return the object. Raises TypeError for another shape."""
    if not isinstance(value, Mapping):
        raise TypeError
    return value


def whole(value: object) -> int:
    """Return the integer. Raises TypeError for another shape."""
    if type(value) is not int:
        raise TypeError
    return value


def text(value: object) -> str:
    """Return the string. Raises TypeError for another shape."""
    if not isinstance(value, str):
        raise TypeError
    return value


def examine(evidence: SubjectEvidence, trust: Trust) -> Person:
    """Verify every signature that a subject's shown bodies carry (step 2).

    Raises EvidenceInvalid, SignatureInvalid, ConsentError, MalformedValue, and TypeError, KeyError
    or ValueError for bodies of a wrong shape.
    """
    person = Person()
    for logged in evidence.consent_chain:
        leaf, body = logged.leaf, logged.body
        if leaf.kind is Kind.SUBJECT_ENROLLED:
            if body is not None:
                _enrolment(person, evidence.handle, logged, body, trust)
        elif body is None:
            if leaf.kind is Kind.OBJECTION_LIFTED:
                raise EvidenceInvalid("the lift of an objection is not shown")
        elif leaf.kind in (Kind.CONSENT_GRANTED, Kind.OBJECTION_RECORDED):
            _consent(person, logged, body, trust.domain)
        elif leaf.kind is Kind.CONSENT_WITHDRAWN:
            _withdrawal(person, logged, body, trust)
        elif leaf.kind is Kind.OBJECTION_LIFTED:
            _lift(person, logged, body, trust.domain)
    return person


def _enrolment(
    person: Person, named: bytes, logged: LoggedLeaf, body: Mapping[str, object], trust: Trust
) -> None:
    if logged.leaf.seq != 0:
        raise EvidenceInvalid("a subject was enrolled twice; the first redemption wins")
    subject = SubjectId.parse(body["subject"])
    if handle(subject) != named or handle(subject) != logged.leaf.handle:
        raise EvidenceInvalid("the enrolment is another subject's")
    org = OrgId.parse(body["org"])
    if org != subject.org or org not in trust.keys_of:
        raise EvidenceInvalid(f"no participant is the hospital {subject.org} of the subject")
    invited, redeemed = mapping(body["invited"]), mapping(body["redeemed"])
    code_key, expiry = from_hex(invited["codeKey"], 20), whole(invited["expiry"])
    inviter = recover(
        Invited(subject, code_key, expiry), from_hex(invited["signature"]), trust.domain
    )
    if inviter not in trust.keys_of[org]:
        raise EvidenceInvalid(f"the invitation is not signed by the hospital {org}")
    if logged.leaf.at_ms // _MS > expiry:
        raise EvidenceInvalid("the invitation had expired")
    identity = from_hex(redeemed["identityKey"], 20)
    verify(Redeemed(subject, identity), from_hex(redeemed["signature"]), code_key, trust.domain)
    person.subject, person.identity_key = subject, identity


def _consent(
    person: Person, logged: LoggedLeaf, body: Mapping[str, object], domain: Domain
) -> None:
    if person.subject is None or person.identity_key is None:
        raise EvidenceInvalid("a consent stands without its subject's enrolment")
    terms = Terms.from_json(body["terms"])
    verify(terms, from_hex(body["termsSignature"]), person.identity_key, domain)
    if terms.subject != person.subject:
        raise EvidenceInvalid("the terms are about another subject")
    if logged.leaf.at_ms // _MS > terms.sign_by:
        raise EvidenceInvalid("the terms arrived after their signing deadline")
    document = check_terms(terms, mapping(body["document"]))
    granted = logged.leaf.kind is Kind.CONSENT_GRANTED
    if (document.decision is Decision.PERMIT) is not granted:
        raise EvidenceInvalid("the decision is not the one that the leaf's kind says")
    grant = mapping(body["grant"])
    if whole(grant["untilDay"]) != terms.until_day:
        raise EvidenceInvalid("untilDay is not the end of the month of until")
    verify(
        Grant(terms.commitment(), terms.until_day),
        from_hex(grant["signature"]),
        terms.consent_key,
        domain,
    )
    person.signed[ConsentId(logged.leaf.consent_id)] = Signed(terms, document)


def _withdrawal(
    person: Person, logged: LoggedLeaf, body: Mapping[str, object], trust: Trust
) -> None:
    commitment, until = from_hex(body["commitment"], 32), whole(body["untilDay"])
    key = recover(Withdraw(commitment, until), from_hex(body["signature"]), trust.domain)
    if consent_id(key, commitment, until).raw != logged.leaf.consent_id:
        raise EvidenceInvalid("a withdrawal is not signed by the consent's key")
    # The exchange holds that signature: the leaf says who used it, and the desk signs that it did.
    if text(body["by"]) not in _WITHDRAWERS or (body["by"] == "desk") != (body["desk"] is not None):
        raise EvidenceInvalid("a withdrawal does not say by whom it is")
    if body["desk"] is not None:
        _desk(person, logged, commitment, mapping(body["desk"]), trust)


def _desk(
    person: Person, logged: LoggedLeaf, commitment: bytes, desk: Mapping[str, object], trust: Trust
) -> None:
    """Two officers of the subject's own hospital, in time: the patient waits at the desk."""
    if person.subject is None or OrgId.parse(desk["org"]) != person.subject.org:
        raise EvidenceInvalid("a desk withdrew that is not of the subject's hospital")
    officers, at = text(desk["officers"]), whole(desk["at"])
    named = officers.split(",")
    if len(named) != 2 or named[0] == named[1] or not all(named):
        raise EvidenceInvalid("a desk's withdrawal does not name two officers")
    signer = recover(Desk(commitment, officers, at), from_hex(desk["signature"]), trust.domain)
    if signer not in trust.keys_of.get(person.subject.org, frozenset()):
        raise EvidenceInvalid(f"a desk's withdrawal is not signed by {person.subject.org}")
    if not at - _DESK_AHEAD <= logged.leaf.at_ms // _MS <= at + _DESK_LATE:
        raise EvidenceInvalid("a desk's withdrawal was not entered when it was signed")


def _lift(person: Person, logged: LoggedLeaf, body: Mapping[str, object], domain: Domain) -> None:
    objection = ConsentId(logged.leaf.consent_id)
    if objection not in person.signed or person.identity_key is None:
        raise EvidenceInvalid("an objection was lifted that is not shown")
    commitment = from_hex(body["commitment"], 32)
    if commitment != person.signed[objection].terms.commitment():
        raise EvidenceInvalid("a lift names another commitment")
    verify(Lift(commitment), from_hex(body["lift"]), person.identity_key, domain)
    person.lifted.add(objection)


def require_commitments(person: Person) -> None:
    """Raise CommitmentMismatch unless each consent's id is that of its terms (step 3)."""
    for found, signed in person.signed.items():
        if signed.terms.consent_id() != found:
            raise CommitmentMismatch(f"consent {found} is not the id of its terms")
