"""What a patient signs, made at the patient's: documents, terms, grants, withdrawals, log-ins (D2).

The identity key signs the readable terms. A fresh consent key signs the grant and, at once, the
withdrawal, and is forgotten when the function returns.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ledger.consent import ANY, GRAMMAR
from ledger.ids import ConsentId, OrgId, SubjectId
from ledger.messages import Domain, Grant, Lift, Withdraw, to_hex
from ledger.signing import Key
from ledger.terms import Terms

GENERAL_RESEARCH = "DUO:0000042"
#: How long the exchange may take the signed terms; well within the day that it accepts.
SIGN_BY_SECONDS = 3600


def consent_document(
    subject: SubjectId,
    decision: str,
    *,
    notice: bytes,
    purposes: Collection[str] | None = None,
    requesters: Collection[OrgId] | None = None,
    categories: Collection[str] | None = None,
    actions: Collection[str] = ("disclose", "use"),
    data_use: str = GENERAL_RESEARCH,
    modifiers: Collection[str] = (),
    starts: int | None = None,
    ends: int | None = None,
    supersedes: ConsentId | None = None,
    locale: str = "en",
) -> dict[str, Any]:
    """A document of grammar ``assent.consent/1``; None for any. Times in epoch seconds.

    ``notice`` is the SHA-256 (32 bytes) of the notice that the patient has read.
    """
    return {
        "grammar": GRAMMAR,
        "decision": decision,
        "subject": subject.hex,
        "purpose": ANY if purposes is None else sorted(purposes),
        "requester": ANY if requesters is None else sorted(org.hex for org in requesters),
        "categories": ANY if categories is None else sorted(categories),
        "actions": sorted(actions),
        "dataUse": {"code": data_use, "modifiers": sorted(modifiers)},
        "from": int(time.time()) if starts is None else starts,
        "until": ends,
        "supersedes": None if supersedes is None else supersedes.hex,
        "locale": locale,
        "notice": to_hex(notice),
    }


@dataclass(frozen=True)
class SignedConsent:
    """A consent ready to be handed in, and its withdrawal, which a patient keeps."""

    id: ConsentId
    commitment: bytes
    decision: str
    withdraw_signature: bytes
    submission: dict[str, Any]
    """The body of ``POST /v1/consents``."""


def sign_consent(
    document: dict[str, Any], identity: Key, domain: Domain, *, sign_by: int | None = None
) -> SignedConsent:
    """Sign the terms, the grant and the withdrawal of one consent.

    Raises:
        GrammarUnknown, ConsentMalformed: the document breaks its grammar.
    """
    consent_key = Key.new()
    terms = Terms.of_document(
        document,
        sign_by=int(time.time()) + SIGN_BY_SECONDS if sign_by is None else sign_by,
        consent_key=consent_key.address,
        salt=secrets.token_bytes(32),
    )
    commitment = terms.commitment()
    grant = consent_key.sign(Grant(commitment, terms.until_day), domain)
    withdraw = consent_key.sign(Withdraw(commitment, terms.until_day), domain)
    return SignedConsent(
        id=terms.consent_id(),
        commitment=commitment,
        decision=terms.decision,
        withdraw_signature=withdraw,
        submission={
            "terms": terms.to_json(),
            "termsSignature": to_hex(identity.sign(terms, domain)),
            "document": document,
            "grantSignature": to_hex(grant),
            # An objection's withdrawal stays here: who held it could lift the objection.
            "withdrawSignature": to_hex(withdraw) if terms.decision == "permit" else None,
        },
    )


def sign_lift(commitment: bytes, identity: Key, domain: Domain) -> bytes:
    """The identity key's word that an objection is lifted, 64 bytes."""
    return identity.sign(Lift(commitment), domain)
