"""The signed structs of EIP-712, their types and digests. Twin of the contracts and the browser.

Every domain is ``{name "Assent", version "1", salt = deployment id}``, without chain id and address,
so that signatures outlive a contract fix or a move to another network (D2). Digests are packed by
hand: an auditor verifies thousands. :mod:`ledger.signing` signs and recovers them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

from ledger.commitment import NO_END_DAY, keccak256
from ledger.errors import MalformedValue
from ledger.ids import SubjectId

WORD = 32
ADDRESS = 20
_DOMAIN_TYPE = keccak256(b"EIP712Domain(string name,string version,bytes32 salt)")
_NAME = keccak256(b"Assent")
_VERSION = keccak256(b"1")


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


@dataclass(frozen=True)
class Domain:
    """What signatures are valid for: one deployment. ``deployment_id`` is 32 bytes.

    All zero means no deployment, which no contract accepts: what is signed there (a hospital's
    card) is valid before and outside any.
    """

    deployment_id: bytes

    def __post_init__(self) -> None:
        if len(self.deployment_id) != WORD:
            raise MalformedValue("a deployment id is 32 bytes")

    @cached_property
    def separator(self) -> bytes:
        """EIP-712 domain separator, equal to the contracts' ``domainSeparator``."""
        return keccak256(_DOMAIN_TYPE + _NAME + _VERSION + self.deployment_id)


@lru_cache(maxsize=4096)
def text_word(value: str) -> bytes:
    """Return the word of a string member: its keccak-256. The few texts in use repeat."""
    return keccak256(value.encode("utf-8"))


def bytes32_word(value: bytes) -> bytes:
    """Return the word of a bytes32 member. Raises MalformedValue."""
    if len(value) != WORD:
        raise MalformedValue("a bytes32 member is not 32 bytes")
    return value


def address_word(value: bytes) -> bytes:
    """Return the word of an address member. Raises MalformedValue."""
    if len(value) != ADDRESS:
        raise MalformedValue("an address is not 20 bytes")
    return bytes(WORD - ADDRESS) + value


def uint_word(value: int, bits: int) -> bytes:
    """Return the word of a uint member of so many bits. Raises MalformedValue."""
    if not 0 <= value < 1 << bits:
        raise MalformedValue(f"a number does not fit into uint{bits}")
    return value.to_bytes(WORD, "big")


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
class Grant(Message):
    """The consent key's grant, for the chain."""

    TYPE = "Grant(bytes32 commitment,uint32 untilDay)"

    commitment: bytes
    until_day: int = NO_END_DAY

    def _words(self) -> bytes:
        return bytes32_word(self.commitment) + uint_word(self.until_day, 32)


@dataclass(frozen=True)
class Withdraw(Message):
    """The consent key's withdrawal, for the chain; signed together with the grant."""

    TYPE = "Withdraw(bytes32 commitment,uint32 untilDay)"

    commitment: bytes
    until_day: int = NO_END_DAY

    def _words(self) -> bytes:
        return bytes32_word(self.commitment) + uint_word(self.until_day, 32)


@dataclass(frozen=True)
class Lift(Message):
    """The identity key lifts an objection."""

    TYPE = "Lift(bytes32 commitment)"

    commitment: bytes

    def _words(self) -> bytes:
        return bytes32_word(self.commitment)


@dataclass(frozen=True)
class Invited(Message):
    """The hospital invites: who holds the code of ``code_key`` may redeem until ``expiry`` (s)."""

    TYPE = "Invited(bytes32 subject,address codeKey,uint64 expiry)"

    subject: SubjectId
    code_key: bytes
    expiry: int

    def _words(self) -> bytes:
        return self.subject.raw + address_word(self.code_key) + uint_word(self.expiry, 64)


@dataclass(frozen=True)
class Redeemed(Message):
    """The code key names the patient's identity key; the first redemption wins."""

    TYPE = "Redeemed(bytes32 subject,address identityKey)"

    subject: SubjectId
    identity_key: bytes

    def _words(self) -> bytes:
        return self.subject.raw + address_word(self.identity_key)


@dataclass(frozen=True)
class Login(Message):
    """The identity key answers a challenge; ``expiry`` in epoch seconds."""

    TYPE = "Login(bytes32 subject,bytes32 challenge,uint64 expiry)"

    subject: SubjectId
    challenge: bytes
    expiry: int

    def _words(self) -> bytes:
        return self.subject.raw + bytes32_word(self.challenge) + uint_word(self.expiry, 64)


@dataclass(frozen=True)
class Desk(Message):
    """The hospital's desk withdraws for a patient: two officers, at epoch seconds."""

    TYPE = "Desk(bytes32 commitment,string officers,uint64 at)"

    commitment: bytes
    officers: str
    at: int

    def _words(self) -> bytes:
        return bytes32_word(self.commitment) + text_word(self.officers) + uint_word(self.at, 64)


@dataclass(frozen=True)
class Document(Message):
    """Any document: its kind and the SHA-256 of its canonical JSON."""

    TYPE = "Document(string kind,bytes32 documentHash)"

    kind: str
    document_hash: bytes

    def _words(self) -> bytes:
        return text_word(self.kind) + bytes32_word(self.document_hash)


@dataclass(frozen=True)
class Checkpoint(Message):
    """The log key vouches for the log's first ``size`` leaves."""

    TYPE = "Checkpoint(uint64 size,bytes32 root)"

    size: int
    root: bytes

    def _words(self) -> bytes:
        return uint_word(self.size, 64) + bytes32_word(self.root)


@dataclass(frozen=True)
class Receipt(Message):
    """The log key promises that the leaf stands at ``index``."""

    TYPE = "Receipt(uint64 index,bytes32 leafHash)"

    index: int
    leaf_hash: bytes

    def _words(self) -> bytes:
        return uint_word(self.index, 64) + bytes32_word(self.leaf_hash)


@dataclass(frozen=True)
class Admit(Message):
    """A member admits a newcomer's key."""

    TYPE = "Admit(address participant)"

    participant: bytes

    def _words(self) -> bytes:
        return address_word(self.participant)


@dataclass(frozen=True)
class Rotate(Message):
    """The old and the new key move a membership."""

    TYPE = "Rotate(address from,address to)"

    old: bytes
    new: bytes

    def _words(self) -> bytes:
        return address_word(self.old) + address_word(self.new)


@dataclass(frozen=True)
class Replace(Message):
    """Members, and the new key, replace a lost key."""

    TYPE = "Replace(address from,address to)"

    old: bytes
    new: bytes

    def _words(self) -> bytes:
        return address_word(self.old) + address_word(self.new)


@dataclass(frozen=True)
class Retire(Message):
    """A member ends its membership."""

    TYPE = "Retire(address participant)"

    participant: bytes

    def _words(self) -> bytes:
        return address_word(self.participant)
