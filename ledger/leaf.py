"""The leaf of the log: a fixed binary skeleton that commits to a body which alone can be erased.

Skeleton, big-endian, 142 bytes: version u8 = 1, kind u8, at u64 (Unix ms, UTC), subject handle 32,
seq u32, prev 32, consent id 32, body hash 32. ``prev`` is the hash of the previous leaf of the
same handle and chain, zeros for the first (seq 0). A subject has two chains: changes of consent
and accesses. Leaves of no chain have zeros for handle, seq and prev. Source: D15, RFC 6962 §2.1.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Literal

from ledger.errors import MalformedValue, VersionUnknown

VERSION = 1
ZEROS = bytes(32)
_FIRST_ACCESS = 16
_FIRST_CHAINLESS = 32
_SKELETON = struct.Struct(">BBQ32sI32s32s32s")
SIZE = _SKELETON.size

Chain = Literal["consent", "access"]


class Kind(IntEnum):
    """What happened. Numbers are never reused; 1-15 consent chain, 16-31 access chain, then none."""

    SUBJECT_ENROLLED = 1
    CONSENT_GRANTED = 2
    OBJECTION_RECORDED = 3
    CONSENT_RECORDED = 4
    CONSENT_WITHDRAWN = 5
    OBJECTION_LIFTED = 6
    ACCESS_DECIDED = 16
    DATASET_PUBLISHED = 32
    INTAKE_OPENED = 33
    DATASET_REFUSED = 34
    RELEASE_DECIDED = 40
    DATA_RELEASED = 41
    JOB_DECIDED = 48
    JOB_FINISHED = 49
    MODEL_REGISTERED = 56
    PARTICIPANT_PINNED = 64


def chain_of(kind: Kind) -> Chain | None:
    """Return the subject's chain that a leaf of this kind belongs to."""
    if kind < _FIRST_ACCESS:
        return "consent"
    return "access" if kind < _FIRST_CHAINLESS else None


@dataclass(frozen=True)
class Leaf:
    """One skeleton. Raises MalformedValue where sizes or the rules of chains are broken."""

    kind: Kind
    at_ms: int
    handle: bytes
    seq: int
    prev: bytes
    consent_id: bytes
    body_hash: bytes

    def __post_init__(self) -> None:
        fields = (self.handle, self.prev, self.consent_id, self.body_hash)
        if any(len(field) != len(ZEROS) for field in fields):
            raise MalformedValue("a leaf's handle, prev, consent id and body hash are 32 bytes")
        if not 0 <= self.at_ms < 2**53 or not 0 <= self.seq < 2**32:
            raise MalformedValue("a leaf's time or seq is out of range")
        if chain_of(self.kind) is None:
            if self.handle != ZEROS or self.seq or self.prev != ZEROS:
                raise MalformedValue("a leaf of no chain has zeros for handle, seq and prev")
        elif self.handle == ZEROS or (self.seq == 0) != (self.prev == ZEROS):
            raise MalformedValue("a chain's leaf needs its handle, and prev unless it is the first")

    def pack(self) -> bytes:
        """Return the 142 bytes of the skeleton."""
        return _SKELETON.pack(
            VERSION,
            self.kind,
            self.at_ms,
            self.handle,
            self.seq,
            self.prev,
            self.consent_id,
            self.body_hash,
        )

    @classmethod
    def unpack(cls, skeleton: bytes) -> Leaf:
        """Read a skeleton. Raises VersionUnknown (also for unknown kinds) or MalformedValue."""
        if len(skeleton) != SIZE:
            raise MalformedValue(f"a leaf's skeleton is {SIZE} bytes")
        version, kind, at_ms, handle, seq, prev, consent_id, body_hash = _SKELETON.unpack(skeleton)
        if version != VERSION:
            raise VersionUnknown(f"leaf version {version}")
        try:
            known = Kind(kind)
        except ValueError:
            raise VersionUnknown(f"leaf kind {kind}") from None
        return cls(known, at_ms, handle, seq, prev, consent_id, body_hash)

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 of 0x00 and the skeleton: the RFC 6962 leaf hash, and the next leaf's prev."""
        return hashlib.sha256(b"\x00" + self.pack()).digest()
