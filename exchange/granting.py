"""What the door checks before a consent is stored: everything that an auditor will check again (D2).

Pure: values in, a :class:`Checked` consent out, or one error per rule that is broken, with the pointer of
the member that breaks it. What depends on other rows (a key used twice, a superseded consent) is checked
in the transaction that stores it, in ``consents``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from exchange.errors import (
    ConsentKeyMismatch,
    DeadlineExpired,
    DeadlineTooFar,
    NoticeUnknown,
    PeriodInvalid,
    SignatureRefused,
    SubjectMismatch,
    TermsMismatch,
    UntilDayWrong,
    WithdrawMissing,
    WithdrawUnexpected,
)
from ledger.consent import Decision, ParsedDocument, parse_document
from ledger.errors import ConsentMalformed, MalformedValue, SignatureInvalid
from ledger.ids import ConsentId, SubjectId
from ledger.messages import Domain, Grant, Message, Withdraw, from_hex
from ledger.signing import recover
from ledger.terms import Terms, check_terms

#: Signed terms are handed in at once; a day leaves room for a phone without network.
SIGN_BY_SECONDS: Final = 86_400
_MEMBERS: Final = frozenset(
    {
        "terms",
        "termsSignature",
        "document",
        "grantSignature",
        "withdrawSignature",
        "untilDay",
    }
)
_LATEST_START_SECONDS: Final = 5 * 366 * 86_400
_LATEST_END_SECONDS: Final = 120 * 366 * 86_400


@dataclass(frozen=True)
class Submission:
    """What a patient hands in; signatures are 64 bytes."""

    terms: Terms
    terms_signature: bytes
    document: dict[str, Any]
    grant_signature: bytes
    withdraw_signature: bytes | None
    until_day: int | None
    """What the patient took ``untilDay`` to be, if it was said."""


@dataclass(frozen=True)
class Checked:
    """A consent whose signatures and terms hold together."""

    id: ConsentId
    commitment: bytes
    until_day: int
    parsed: ParsedDocument
    given: Submission

    @property
    def is_permit(self) -> bool:
        """Whether it permits; else it objects."""
        return self.parsed.decision is Decision.PERMIT


def read_submission(value: Mapping[str, Any]) -> Submission:
    """Read ``{terms, termsSignature, document, grantSignature, withdrawSignature, untilDay?}``.

    Raises:
        ConsentMalformed: with the pointer of the member that is missing or of another form.
    """
    if not isinstance(value, Mapping) or not set(value) <= _MEMBERS:
        raise ConsentMalformed("", "must have the members of a signed consent, and no others")
    document = value.get("document")
    if not isinstance(document, dict):
        raise ConsentMalformed("/document", "must be an object")
    withdraw = value.get("withdrawSignature")
    day = value.get("untilDay")
    if day is not None and type(day) is not int:
        raise ConsentMalformed("/untilDay", "must be a whole number of days")
    return Submission(
        terms=Terms.from_json(value.get("terms")),
        terms_signature=_signature(value, "termsSignature"),
        document=document,
        grant_signature=_signature(value, "grantSignature"),
        withdraw_signature=None if withdraw is None else _signature(value, "withdrawSignature"),
        until_day=day,
    )


def check(
    given: Submission,
    *,
    subject: SubjectId,
    identity_key: bytes,
    domain: Domain,
    notices: Collection[bytes],
    now: int,
) -> Checked:
    """Check one consent for the subject at the door. ``now`` in epoch seconds.

    Raises:
        GrammarUnknown, ConsentMalformed: the document breaks its grammar.
        ConsentRefused: one of its subclasses, for each rule of D2.
    """
    parsed = _document(given)
    terms = given.terms
    if parsed.subject != subject:
        raise SubjectMismatch("the consent speaks for another subject", pointer="/document/subject")
    try:
        check_terms(terms, given.document)
    except ConsentMalformed as error:
        raise TermsMismatch(str(error), pointer=error.pointer) from None
    if parsed.notice_hash not in notices:
        raise NoticeUnknown(
            "this notice was never shown by this deployment", pointer="/document/notice"
        )
    _times(terms, parsed, now)
    if given.until_day is not None and given.until_day != terms.until_day:
        raise UntilDayWrong(f"untilDay must be {terms.until_day} for this end", pointer="/untilDay")
    if _signer(terms, given.terms_signature, domain, "/termsSignature") != identity_key:
        raise SignatureRefused(
            "the terms are not signed by the subject's identity key for this deployment",
            pointer="/termsSignature",
        )
    commitment, day = terms.commitment(), terms.until_day
    signer = _signer(Grant(commitment, day), given.grant_signature, domain, "/grantSignature")
    if signer != terms.consent_key:
        raise ConsentKeyMismatch(
            "the grant is not signed by the consent key that the terms name",
            pointer="/grantSignature",
        )
    if parsed.decision is Decision.PERMIT:
        check_withdraw(terms, given.withdraw_signature, domain)
    elif given.withdraw_signature is not None:
        raise WithdrawUnexpected(
            "who holds an objection's withdrawal could weaken it", pointer="/withdrawSignature"
        )
    return Checked(terms.consent_id(), commitment, day, parsed, given)


def check_withdraw(
    terms: Terms, signature: bytes | None, domain: Domain, pointer: str = "/withdrawSignature"
) -> bytes:
    """The withdrawal's signature, if the consent key of the terms has signed it.

    Raises:
        WithdrawMissing: there is none.
        SignatureRefused: it is malleated.
        ConsentKeyMismatch: another key has signed it, or for another deployment.
    """
    if signature is None:
        raise WithdrawMissing("the signed withdrawal is missing", pointer=pointer)
    message = Withdraw(terms.commitment(), terms.until_day)
    if _signer(message, signature, domain, pointer) != terms.consent_key:
        raise ConsentKeyMismatch(
            "the withdrawal is not signed by the consent key that the terms name",
            pointer=pointer,
        )
    return signature


def _document(given: Submission) -> ParsedDocument:
    try:
        return parse_document(given.document)
    except ConsentMalformed as error:
        what = str(error).partition(": ")[2]
        raise ConsentMalformed("/document" + error.pointer, what) from None


def _times(terms: Terms, parsed: ParsedDocument, now: int) -> None:
    if terms.sign_by < now:
        raise DeadlineExpired("the terms came after their signBy", pointer="/terms/signBy")
    if terms.sign_by > now + SIGN_BY_SECONDS:
        raise DeadlineTooFar("signBy is more than a day ahead", pointer="/terms/signBy")
    if parsed.ends is not None and parsed.ends <= now:
        raise PeriodInvalid("the consent would have ended already", pointer="/document/until")
    if parsed.ends is not None and parsed.ends > now + _LATEST_END_SECONDS:
        raise PeriodInvalid("the end is more than 120 years away", pointer="/document/until")
    if parsed.starts > now + _LATEST_START_SECONDS:
        raise PeriodInvalid("the beginning is more than 5 years away", pointer="/document/from")


def _signature(value: Mapping[str, Any], member: str) -> bytes:
    try:
        return from_hex(value.get(member), 64)
    except MalformedValue:
        raise ConsentMalformed(f"/{member}", "must be a signature: 0x and 128 hex digits") from None


def _signer(message: Message, signature: bytes, domain: Domain, pointer: str) -> bytes:
    try:
        return recover(message, signature, domain)
    except SignatureInvalid as error:
        raise SignatureRefused(str(error), pointer=pointer) from None
