"""The terms of a consent: what the identity key signs so that a wallet shows it (D2).

The full consent document hangs on ``documentHash``, so that its grammar can grow without a new
signed type; every member of the terms must say what the document says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ledger.commitment import MAX_INTEGER, consent_id, digest_of
from ledger.commitment import until_day as last_day
from ledger.consent import (
    ParsedDocument,
    categories_text,
    parse_document,
    purpose_text,
    requester_text,
)
from ledger.errors import ConsentMalformed, MalformedValue
from ledger.ids import ConsentId, SubjectId
from ledger.messages import (
    ADDRESS,
    WORD,
    Message,
    address_word,
    bytes32_word,
    from_hex,
    text_word,
    to_hex,
    uint_word,
)

NO_END = 2**64 - 1
"""``until`` of a consent without an end, in the signed struct."""


@dataclass(frozen=True)
class Terms(Message):
    """What the identity key signs, off chain: the readable terms of one consent (D2).

    ``starts``, ``ends`` and ``sign_by`` in epoch seconds; ``ends`` None means no end.
    """

    TYPE = (
        "Terms(string decision,bytes32 subject,string purpose,string requester,string categories,"
        "uint64 from,uint64 until,uint64 signBy,bytes32 documentHash,bytes32 noticeHash,"
        "bytes32 salt,address consentKey)"
    )

    decision: str
    subject: SubjectId
    purpose: str
    requester: str
    categories: str
    starts: int
    ends: int | None
    sign_by: int
    document_hash: bytes
    notice_hash: bytes
    salt: bytes
    consent_key: bytes

    def _words(self) -> bytes:
        return b"".join(
            (
                text_word(self.decision),
                self.subject.raw,
                text_word(self.purpose),
                text_word(self.requester),
                text_word(self.categories),
                uint_word(self.starts, 64),
                uint_word(NO_END if self.ends is None else self.ends, 64),
                uint_word(self.sign_by, 64),
                bytes32_word(self.document_hash),
                bytes32_word(self.notice_hash),
                bytes32_word(self.salt),
                address_word(self.consent_key),
            )
        )

    def struct_hash(self) -> bytes:
        """EIP-712 hashStruct, 32 bytes. Raises MalformedValue for members of the wrong size."""
        return self._struct_hash

    @cached_property
    def _struct_hash(self) -> bytes:
        # The id, the digest and the grant all stand on it; the members never change.
        return super().struct_hash()

    def commitment(self) -> bytes:
        """Return hashStruct(Terms), 32 bytes: all that the chain ever sees of the terms."""
        return self.struct_hash()

    @property
    def until_day(self) -> int:
        """Last day of the end's month, in days since 1970-01-01; 2^32 - 1 for no end."""
        return last_day(self.ends)

    def consent_id(self) -> ConsentId:
        """Return the id under which the chain keeps this consent."""
        return consent_id(self.consent_key, self.commitment(), self.until_day)

    @classmethod
    def of_document(
        cls, document: Mapping[str, object], *, sign_by: int, consent_key: bytes, salt: bytes
    ) -> Terms:
        """Build the terms that belong to a consent document. ``salt`` is 32 random bytes.

        Raises GrammarUnknown, ConsentMalformed.
        """
        parsed = parse_document(document)
        return cls(
            decision=parsed.decision.value,
            subject=parsed.subject,
            purpose=purpose_text(parsed.provision),
            requester=requester_text(parsed.provision),
            categories=categories_text(parsed.provision),
            starts=parsed.starts,
            ends=parsed.ends,
            sign_by=sign_by,
            document_hash=digest_of(document),
            notice_hash=parsed.notice_hash,
            salt=salt,
            consent_key=consent_key,
        )

    def to_json(self) -> dict[str, object]:
        """Return the members under the type string's names; bytes in hex, no end as null."""
        return {
            "decision": self.decision,
            "subject": self.subject.hex,
            "purpose": self.purpose,
            "requester": self.requester,
            "categories": self.categories,
            "from": self.starts,
            "until": self.ends,
            "signBy": self.sign_by,
            "documentHash": to_hex(self.document_hash),
            "noticeHash": to_hex(self.notice_hash),
            "salt": to_hex(self.salt),
            "consentKey": to_hex(self.consent_key),
        }

    @classmethod
    def from_json(cls, value: object) -> Terms:
        """Read :meth:`to_json`. Raises ConsentMalformed with a pointer below ``/terms``."""
        if not isinstance(value, Mapping) or set(value) != _TERMS_KEYS:
            raise ConsentMalformed("/terms", "must have exactly the members of Terms")

        def text(key: str) -> str:
            found = value[key]
            if not isinstance(found, str):
                raise ConsentMalformed(f"/terms/{key}", "must be a string")
            return found

        def seconds(key: str) -> int:
            found = value[key]
            if type(found) is not int or not 0 <= found <= MAX_INTEGER:
                raise ConsentMalformed(f"/terms/{key}", "must be whole seconds since 1970-01-01")
            return found

        def raw(key: str, size: int) -> bytes:
            try:
                return from_hex(value[key], size)
            except MalformedValue:
                raise ConsentMalformed(f"/terms/{key}", f"not {size} bytes of hex") from None

        decision = text("decision")
        if decision not in ("permit", "deny"):
            raise ConsentMalformed("/terms/decision", "must be permit or deny")
        return cls(
            decision=decision,
            subject=SubjectId(raw("subject", WORD)),
            purpose=text("purpose"),
            requester=text("requester"),
            categories=text("categories"),
            starts=seconds("from"),
            ends=None if value["until"] is None else seconds("until"),
            sign_by=seconds("signBy"),
            document_hash=raw("documentHash", WORD),
            notice_hash=raw("noticeHash", WORD),
            salt=raw("salt", WORD),
            consent_key=raw("consentKey", ADDRESS),
        )


_TERMS_KEYS = frozenset(
    {
        "decision",
        "subject",
        "purpose",
        "requester",
        "categories",
        "from",
        "until",
        "signBy",
        "documentHash",
        "noticeHash",
        "salt",
        "consentKey",
    }
)


def check_terms(terms: Terms, document: Mapping[str, object]) -> ParsedDocument:
    """Return the parsed document if every member of the terms says what the document says.

    Raises GrammarUnknown, or ConsentMalformed with the pointer of the differing member.
    """
    expected = Terms.of_document(
        document, sign_by=terms.sign_by, consent_key=terms.consent_key, salt=terms.salt
    )
    if terms != expected:
        mine, theirs = terms.to_json(), expected.to_json()
        differing = next(key for key in mine if mine[key] != theirs[key])
        raise ConsentMalformed(f"/terms/{differing}", "differs from the document")
    return parse_document(document)
