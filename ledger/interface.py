"""The Python twin of the contracts: what any ledger promises, method for method.

Sizes are bytes inside and ``0x``-hex at the edge: ids, commitments, roots and hashes 32, addresses
20, ERC-2098 signatures 64. ``until_day`` counts days since 1970-01-01 UTC; :data:`NO_END` means
that no end was named. Source: ``contracts/IConsentLedger.sol``, ``IParticipants.sol``,
``IAuditAnchor.sol``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, Protocol

from ledger.errors import MalformedValue

NO_END = 2**32 - 1
"""``until_day`` of a consent without an end."""

MAX_ITEMS_PER_TRANSACTION = 200
"""A batch of 200 grants stays below half of the 16,777,216 gas of EIP-7825."""


class ChainStatus(IntEnum):
    """State of a consent id on the chain; the numbers are those of ``Types.sol``."""

    NONE = 0
    ACTIVE = 1
    WITHDRAWN = 2


def _require(name: str, value: bytes, size: int) -> None:
    if not isinstance(value, bytes) or len(value) != size:
        raise MalformedValue(f"{name} must be {size} bytes")


@dataclass(frozen=True, slots=True)
class _Item:
    """What the consent key signed. Raises MalformedValue for wrong sizes."""

    consent_key: bytes
    commitment: bytes
    until_day: int
    signature: bytes

    def __post_init__(self) -> None:
        _require("consent_key", self.consent_key, 20)
        _require("commitment", self.commitment, 32)
        _require("signature", self.signature, 64)
        if not 0 <= self.until_day <= NO_END:
            raise MalformedValue("until_day must fit into 32 bits")


@dataclass(frozen=True, slots=True)
class GrantItem(_Item):
    """``Grant{commitment, untilDay}`` signed by ``consent_key`` (ERC-2098, 64 bytes)."""


@dataclass(frozen=True, slots=True)
class WithdrawItem(_Item):
    """``Withdraw{commitment, untilDay}`` signed by ``consent_key`` (ERC-2098, 64 bytes)."""


@dataclass(frozen=True, slots=True)
class Head:
    """A block: its number and hash."""

    number: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Rejection:
    """A batch item that the contract skipped: its consent id and the name of the error."""

    id: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Submission:
    """Transactions handed in. This is never a proof of record: recorded means the event.

    ``rejected`` names the items that were skipped, as the receipts tell: ``AlreadyActive`` means
    that the record is there, ``NotTheConsentKey`` that it never will be.
    """

    tx_hashes: tuple[bytes, ...]
    rejected: tuple[Rejection, ...] = ()


EventKind = Literal["granted", "withdrawn", "checkpoint", "participant"]
ParticipantChange = Literal["admitted", "rotated", "replaced", "retired"]


@dataclass(frozen=True, slots=True)
class ChainEvent:
    """One event of our contracts, with its place.

    ``id`` is the consent id for ``granted`` and ``withdrawn`` and empty otherwise. ``size``,
    ``root`` and ``cosignatures`` belong to ``checkpoint``. ``change``, ``participant`` (the key
    before) and ``successor`` (the key after a rotation or replacement) belong to ``participant``.
    ``timestamp`` is the block's, in Unix seconds.
    """

    kind: EventKind
    id: bytes
    block_number: int
    block_hash: bytes
    log_index: int
    tx_hash: bytes
    timestamp: int
    size: int | None = None
    root: bytes | None = None
    cosignatures: int | None = None
    change: ParticipantChange | None = None
    participant: bytes | None = None
    successor: bytes | None = None


class ConsentLedger(Protocol):
    """What the chain keeps: who consented, who withdrew, who takes part, what was anchored.

    Every method may raise :class:`ledger.errors.ChainError`. Submitting the same item twice is
    harmless: the second one is skipped by the batch, or reported as ``AlreadyActive`` and the
    like, and changes nothing.
    """

    def grant(self, items: Sequence[GrantItem]) -> Submission:
        """Submit grants, in batches; a bad item is skipped by the contract and gets no event."""
        ...

    def withdraw(self, items: Sequence[WithdrawItem]) -> Submission:
        """Submit withdrawals, in batches; a bad item is skipped and gets no event."""
        ...

    def anchor(
        self, size: int, root: bytes, log_signature: bytes, cosignatures: Sequence[bytes] = ()
    ) -> Submission:
        """Anchor a checkpoint. ``cosignatures`` in ascending order of their signers' addresses.

        Raises Reverted: ``SizeShrinks``, ``SecondRoot``, ``NotTheLogKey`` ...
        """
        ...

    def admit(self, participant: bytes, signatures: Sequence[bytes]) -> Submission:
        """Admit a newcomer by min(2, n) members' signatures, ascending by signer."""
        ...

    def rotate(
        self, old: bytes, new: bytes, *, old_signature: bytes, new_signature: bytes
    ) -> Submission:
        """Move a membership from one key to another; both keys sign."""
        ...

    def replace(
        self, lost: bytes, new: bytes, signatures: Sequence[bytes], *, new_signature: bytes
    ) -> Submission:
        """Replace a lost key: more than half of the other members, at least two, and the new."""
        ...

    def retire(self, participant: bytes, signature: bytes) -> Submission:
        """End a membership for good, signed by the member."""
        ...

    def status_of(self, consent_id: bytes) -> tuple[ChainStatus, int]:
        """Return state and ``until_day`` (0 unless active)."""
        ...

    def in_force(self, consent_id: bytes, day: int) -> bool:
        """Whether the id is active and ``day`` is not after its ``until_day``."""
        ...

    def participants(self) -> frozenset[bytes]:
        """Addresses of the current members."""
        ...

    def head(self) -> Head:
        """Return the newest block."""
        ...

    def head_at(self, number: int) -> Head | None:
        """Return the block of that number, or None where the chain does not reach it."""
        ...

    def events(self, from_block: int, to_block: int) -> Iterable[ChainEvent]:
        """Our contracts' events of both bounding blocks and those between, in chain order."""
        ...
