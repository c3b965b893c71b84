"""EIP-712 messages: build, sign, recover. Twin of ``contracts/IConsentLedger.sol`` and the browser.

Every domain is ``{name "Assent", version "1", salt = deployment id}``, without chain id and address,
so that signatures outlive a contract fix or a move to another network (D2). Signatures are the 64
bytes of ERC-2098 with a low s: one message, one key, one valid form. Digests are packed by hand and
recovered by libsecp256k1, since an auditor verifies thousands.

Documents: ``Document.kind`` is the document's own member ``kind`` (``assent.request/1`` ...), and
``documentHash`` SHA-256 of its canonical JSON.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from coincurve import PrivateKey, PublicKey

from ledger.commitment import NO_END_DAY, consent_id, digest_of, keccak256
from ledger.commitment import until_day as last_day
from ledger.consent import (
    ParsedDocument,
    categories_text,
    parse_document,
    purpose_text,
    requester_text,
)
from ledger.errors import ConsentMalformed, MalformedValue, SignatureInvalid
from ledger.ids import ConsentId, OrgId, SubjectId

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Order of secp256k1 (SEC 2)."""
NO_END = 2**64 - 1
"""``Terms.until`` of a consent without an end, in the signed struct."""
_HALF = ORDER // 2
_PARITY = 1 << 255
_DOMAIN_TYPE = keccak256(b"EIP712Domain(string name,string version,bytes32 salt)")
_NAME = keccak256(b"Assent")
_VERSION = keccak256(b"1")


@dataclass(frozen=True, slots=True)
class Domain:
    """What signatures are valid for: one deployment. ``deployment_id`` is 32 bytes."""

    deployment_id: bytes

    def __post_init__(self) -> None:
        if len(self.deployment_id) != 32 or self.deployment_id == bytes(32):
            raise MalformedValue("a deployment id is 32 bytes, not all zero")

    @property
    def separator(self) -> bytes:
        """EIP-712 domain separator, equal to the contracts' ``domainSeparator``."""
        return keccak256(_DOMAIN_TYPE + _NAME + _VERSION + self.deployment_id)


def _text(value: str) -> bytes:
    return keccak256(value.encode("utf-8"))


def _bytes32(value: bytes) -> bytes:
    if len(value) != 32:
        raise MalformedValue("a bytes32 member is not 32 bytes")
    return value


def _address(value: bytes) -> bytes:
    if len(value) != 20:
        raise MalformedValue("an address is not 20 bytes")
    return bytes(12) + value


def _uint(value: int, bits: int) -> bytes:
    if not 0 <= value < 1 << bits:
        raise MalformedValue(f"a number does not fit into uint{bits}")
    return value.to_bytes(32, "big")


class Message:
    """A signed struct: its EIP-712 type and the 32-byte words of its members, in type order."""

    __slots__ = ()
    TYPE: ClassVar[str]
    TYPE_HASH: ClassVar[bytes]

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if "TYPE" in cls.__dict__:
            cls.TYPE_HASH = keccak256(cls.TYPE.encode("ascii"))

    def _words(self) -> bytes:
        raise TypeError(f"{type(self).__name__} has no words")

    def struct_hash(self) -> bytes:
        """EIP-712 hashStruct, 32 bytes. Raises MalformedValue for members of the wrong size."""
        return keccak256(self.TYPE_HASH + self._words())

    def digest(self, domain: Domain) -> bytes:
        """Return the 32 bytes that are signed: keccak-256 of 0x1901, separator, hashStruct."""
        return keccak256(b"\x19\x01" + domain.separator + self.struct_hash())


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
                _text(self.decision),
                self.subject.raw,
                _text(self.purpose),
                _text(self.requester),
                _text(self.categories),
                _uint(self.starts, 64),
                _uint(NO_END if self.ends is None else self.ends, 64),
                _uint(self.sign_by, 64),
                _bytes32(self.document_hash),
                _bytes32(self.notice_hash),
                _bytes32(self.salt),
                _address(self.consent_key),
            )
        )

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
            if type(found) is not int or not 0 <= found < 2**53:
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
            subject=SubjectId(raw("subject", 32)),
            purpose=text("purpose"),
            requester=text("requester"),
            categories=text("categories"),
            starts=seconds("from"),
            ends=None if value["until"] is None else seconds("until"),
            sign_by=seconds("signBy"),
            document_hash=raw("documentHash", 32),
            notice_hash=raw("noticeHash", 32),
            salt=raw("salt", 32),
            consent_key=raw("consentKey", 20),
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


@dataclass(frozen=True)
class Grant(Message):
    """The consent key's grant, for the chain."""

    TYPE = "Grant(bytes32 commitment,uint32 untilDay)"

    commitment: bytes
    until_day: int = NO_END_DAY

    def _words(self) -> bytes:
        return _bytes32(self.commitment) + _uint(self.until_day, 32)


@dataclass(frozen=True)
class Withdraw(Message):
    """The consent key's withdrawal, for the chain; signed together with the grant."""

    TYPE = "Withdraw(bytes32 commitment,uint32 untilDay)"

    commitment: bytes
    until_day: int = NO_END_DAY

    def _words(self) -> bytes:
        return _bytes32(self.commitment) + _uint(self.until_day, 32)


@dataclass(frozen=True)
class Lift(Message):
    """The identity key lifts an objection."""

    TYPE = "Lift(bytes32 commitment)"

    commitment: bytes

    def _words(self) -> bytes:
        return _bytes32(self.commitment)


@dataclass(frozen=True)
class Invited(Message):
    """The hospital invites: who holds the code of ``code_key`` may redeem until ``expiry`` (s)."""

    TYPE = "Invited(bytes32 subject,address codeKey,uint64 expiry)"

    subject: SubjectId
    code_key: bytes
    expiry: int

    def _words(self) -> bytes:
        return self.subject.raw + _address(self.code_key) + _uint(self.expiry, 64)


@dataclass(frozen=True)
class Redeemed(Message):
    """The code key names the patient's identity key; the first redemption wins."""

    TYPE = "Redeemed(bytes32 subject,address identityKey)"

    subject: SubjectId
    identity_key: bytes

    def _words(self) -> bytes:
        return self.subject.raw + _address(self.identity_key)


@dataclass(frozen=True)
class Login(Message):
    """The identity key answers a challenge; ``expiry`` in epoch seconds."""

    TYPE = "Login(bytes32 subject,bytes32 challenge,uint64 expiry)"

    subject: SubjectId
    challenge: bytes
    expiry: int

    def _words(self) -> bytes:
        return self.subject.raw + _bytes32(self.challenge) + _uint(self.expiry, 64)


@dataclass(frozen=True)
class Desk(Message):
    """The hospital's desk withdraws for a patient: two officers, at epoch seconds."""

    TYPE = "Desk(bytes32 commitment,string officers,uint64 at)"

    commitment: bytes
    officers: str
    at: int

    def _words(self) -> bytes:
        return _bytes32(self.commitment) + _text(self.officers) + _uint(self.at, 64)


@dataclass(frozen=True)
class Document(Message):
    """Any document: its kind and the SHA-256 of its canonical JSON."""

    TYPE = "Document(string kind,bytes32 documentHash)"

    kind: str
    document_hash: bytes

    def _words(self) -> bytes:
        return _text(self.kind) + _bytes32(self.document_hash)


@dataclass(frozen=True)
class Checkpoint(Message):
    """The log key vouches for the log's first ``size`` leaves."""

    TYPE = "Checkpoint(uint64 size,bytes32 root)"

    size: int
    root: bytes

    def _words(self) -> bytes:
        return _uint(self.size, 64) + _bytes32(self.root)


@dataclass(frozen=True)
class Receipt(Message):
    """The log key promises that the leaf stands at ``index``."""

    TYPE = "Receipt(uint64 index,bytes32 leafHash)"

    index: int
    leaf_hash: bytes

    def _words(self) -> bytes:
        return _uint(self.index, 64) + _bytes32(self.leaf_hash)


@dataclass(frozen=True)
class Admit(Message):
    """A member admits a newcomer's key."""

    TYPE = "Admit(address participant)"

    participant: bytes

    def _words(self) -> bytes:
        return _address(self.participant)


@dataclass(frozen=True)
class Rotate(Message):
    """The old and the new key move a membership."""

    TYPE = "Rotate(address from,address to)"

    old: bytes
    new: bytes

    def _words(self) -> bytes:
        return _address(self.old) + _address(self.new)


@dataclass(frozen=True)
class Replace(Message):
    """Members, and the new key, replace a lost key."""

    TYPE = "Replace(address from,address to)"

    old: bytes
    new: bytes

    def _words(self) -> bytes:
        return _address(self.old) + _address(self.new)


@dataclass(frozen=True)
class Retire(Message):
    """A member ends its membership."""

    TYPE = "Retire(address participant)"

    participant: bytes

    def _words(self) -> bytes:
        return _address(self.participant)


class Key:
    """A secp256k1 signing key. Its text never shows the secret."""

    __slots__ = ("_private", "address")

    def __init__(self, private: PrivateKey) -> None:
        self._private = private
        self.address = _address_of(private.public_key)
        """20 bytes."""

    @classmethod
    def new(cls) -> Key:
        """Draw a key."""
        return cls(PrivateKey())

    @classmethod
    def from_bytes(cls, secret: bytes) -> Key:
        """Take the 32 bytes of a scalar. Raises MalformedValue if it is none."""
        if len(secret) != 32 or not 0 < int.from_bytes(secret, "big") < ORDER:
            raise MalformedValue("not a secp256k1 key")
        return cls(PrivateKey(secret))

    def to_bytes(self) -> bytes:
        """Return the secret's 32 bytes, for its owner to store."""
        return bytes(self._private.secret)

    def sign(self, message: Message, domain: Domain) -> bytes:
        """Return the ERC-2098 signature, 64 bytes."""
        return self.sign_digest(message.digest(domain))

    def sign_digest(self, digest: bytes) -> bytes:
        """Sign 32 bytes as they are; ERC-2098, deterministic (RFC 6979), low s."""
        full = self._private.sign_recoverable(digest, hasher=None)
        r, s, v = full[:32], int.from_bytes(full[32:64], "big"), full[64]
        return r + (s | (_PARITY if v else 0)).to_bytes(32, "big")

    def __repr__(self) -> str:
        return f"Key({to_hex(self.address)})"


def _address_of(key: PublicKey) -> bytes:
    return keccak256(key.format(compressed=False)[1:])[12:]


def recover_digest(digest: bytes, signature: bytes) -> bytes:
    """Return the 20-byte address that signed these 32 bytes. Raises SignatureInvalid.

    High s, another length, or values outside the curve's order are refused (ERC-2098, EIP-2).
    Recovery of a changed signature yields some other address: compare with the expected one.
    """
    if len(signature) != 64:
        raise SignatureInvalid("a signature is 64 bytes (ERC-2098)")
    r = int.from_bytes(signature[:32], "big")
    vs = int.from_bytes(signature[32:], "big")
    s, parity = vs & (_PARITY - 1), vs >> 255
    if not 0 < r < ORDER or not 0 < s <= _HALF:
        raise SignatureInvalid("the signature is malleated or out of range")
    try:
        key = PublicKey.from_signature_and_message(
            signature[:32] + s.to_bytes(32, "big") + bytes([parity]), digest, hasher=None
        )
    except ValueError:
        raise SignatureInvalid("the signature belongs to no key") from None
    return _address_of(key)


def recover(message: Message, signature: bytes, domain: Domain) -> bytes:
    """Return the 20-byte address that signed the message. Raises SignatureInvalid."""
    return recover_digest(message.digest(domain), signature)


def verify(message: Message, signature: bytes, address: bytes, domain: Domain) -> None:
    """Raise SignatureInvalid unless ``address`` signed the message for this deployment."""
    if recover(message, signature, domain) != address:
        raise SignatureInvalid(f"{type(message).__name__} is not signed by {to_hex(address)}")


def _document(kind: str, document: Mapping[str, object]) -> Document:
    if document.get("kind") != kind:
        raise SignatureInvalid("the document is of another kind")
    return Document(kind, digest_of(document))


def sign_document(key: Key, kind: str, document: Mapping[str, object], domain: Domain) -> bytes:
    """Sign a document whose member ``kind`` is ``kind``; 64 bytes."""
    return key.sign(_document(kind, document), domain)


def verify_document(
    kind: str, document: Mapping[str, object], signature: bytes, address: bytes, domain: Domain
) -> None:
    """Raise SignatureInvalid unless ``address`` signed this document as of this kind."""
    verify(_document(kind, document), signature, address, domain)


def _hkdf(secret: bytes, info: bytes) -> bytes:
    # RFC 5869 with SHA-256, no salt (a string of 32 zeros), one block of output.
    prk = hmac.new(bytes(32), secret, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()


def _derive(secret: bytes, info: bytes, expand: Callable[[bytes, bytes], bytes] = _hkdf) -> Key:
    scalar = expand(secret, info)
    counter = 0
    # A scalar outside 1..order-1 has a chance of 2^-128; the counter keeps both sides agreed.
    while not 0 < int.from_bytes(scalar, "big") < ORDER:
        scalar = expand(secret, info + bytes([counter]))
        counter += 1
    return Key.from_bytes(scalar)


def code_key(code: bytes) -> Key:
    """Return the key that an invitation's code stands for (HKDF-SHA256, info "assent code/1").

    ``code`` is at least 16 bytes. Raises MalformedValue.
    """
    if len(code) < 16:
        raise MalformedValue("a code has at least 128 bits")
    return _derive(code, b"assent code/1")


def identity_key(seed: bytes, org: OrgId) -> Key:
    """Return the patient's key at one hospital (HKDF-SHA256, info "assent identity/1" + org).

    ``seed`` is 32 bytes. Different hospitals see unlinkable keys. Raises MalformedValue.
    """
    if len(seed) != 32:
        raise MalformedValue("a seed is 32 bytes")
    return _derive(seed, b"assent identity/1" + org.raw)


def new_code() -> bytes:
    """Draw an invitation's code: 16 random bytes."""
    return secrets.token_bytes(16)


def code_to_text(code: bytes) -> str:
    """Show a code: RFC 4648 base32 without padding, groups of four joined by hyphens."""
    text = base64.b32encode(code).decode("ascii").rstrip("=")
    return "-".join(text[i : i + 4] for i in range(0, len(text), 4))


def code_from_text(text: str) -> bytes:
    """Read a typed code; case, blanks and hyphens do not matter. Raises MalformedValue."""
    plain = "".join(text.split()).replace("-", "").upper()
    try:
        code = base64.b32decode(plain + "=" * (-len(plain) % 8))
    except (binascii.Error, ValueError):
        raise MalformedValue("not a code") from None
    if len(code) < 16 or code_to_text(code).replace("-", "") != plain:
        raise MalformedValue("not a code")
    return code


def to_hex(value: bytes) -> str:
    """Return lower-case hex with ``0x``."""
    return "0x" + value.hex()


def from_hex(value: object, size: int | None = None) -> bytes:
    """Read lower-case ``0x``-hex, of ``size`` bytes if given. Raises MalformedValue."""
    if not isinstance(value, str) or value[:2] != "0x":
        raise MalformedValue("not 0x-hex")
    try:
        raw = bytes.fromhex(value[2:])
    except ValueError:
        raise MalformedValue("not 0x-hex") from None
    if raw.hex() != value[2:] or (size is not None and len(raw) != size):
        raise MalformedValue("not lower-case 0x-hex of the right length")
    return raw
