"""One frozen value type per kind of id: bytes inside, lower-case ``0x``-hex at every edge.

A subject's id begins with its hospital's id and is otherwise random, so it says nothing about the
person; a leaf shows only the subject's :func:`handle`. Source: decisions D2, D3 and D15.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import ClassVar, Self

from ledger.errors import IdMalformed

_HEX = re.compile(r"0x[0-9a-f]*", re.ASCII)
_ADDRESS_SIZE = 20
_HANDLE_PREFIX = b"assent.subject/1"


@dataclass(frozen=True, order=True, slots=True)
class _Id:
    raw: bytes

    SIZE: ClassVar[int]

    def __post_init__(self) -> None:
        if not isinstance(self.raw, bytes) or len(self.raw) != self.SIZE:
            raise IdMalformed(type(self).__name__, f"not {self.SIZE} bytes")

    @property
    def hex(self) -> str:
        """Lower-case hex with ``0x``."""
        return "0x" + self.raw.hex()

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read lower-case ``0x``-hex of exactly this type's length. Raises IdMalformed."""
        if (
            not isinstance(text, str)
            or len(text) != 2 + 2 * cls.SIZE
            or _HEX.fullmatch(text) is None
        ):
            raise IdMalformed(cls.__name__, text if isinstance(text, str) else type(text).__name__)
        return cls(bytes.fromhex(text[2:]))

    def __str__(self) -> str:
        return self.hex


class _Random(_Id):
    __slots__ = ()

    @classmethod
    def new(cls) -> Self:
        """Draw a random id."""
        return cls(secrets.token_bytes(cls.SIZE))


class OrgId(_Id):
    """8 bytes: the beginning of keccak-256 of the hospital's first signing address."""

    __slots__ = ()
    SIZE = 8

    @classmethod
    def of_address(cls, address: bytes) -> OrgId:
        """Derive the id from the 20 bytes of the first signing address. Raises IdMalformed."""
        # Imported here because policy reaches this module and must reach no third-party package.
        from eth_hash.auto import keccak

        if not isinstance(address, bytes) or len(address) != _ADDRESS_SIZE:
            raise IdMalformed("address", "not 20 bytes")
        return cls(keccak(address)[: cls.SIZE])


class SubjectId(_Id):
    """32 bytes: the hospital's OrgId, then 24 random bytes."""

    __slots__ = ()
    SIZE = 32

    @classmethod
    def new(cls, org: OrgId) -> SubjectId:
        """Draw a random id for a subject of this hospital."""
        return cls(org.raw + secrets.token_bytes(cls.SIZE - OrgId.SIZE))

    @property
    def org(self) -> OrgId:
        """The hospital that enrolled the subject."""
        return OrgId(self.raw[: OrgId.SIZE])


class ConsentId(_Id):
    """32 bytes: keccak-256 of consent key, commitment and last day (D3)."""

    __slots__ = ()
    SIZE = 32


class DatasetId(_Random):
    """16 random bytes."""

    __slots__ = ()
    SIZE = 16


class ReleaseId(_Random):
    """16 random bytes."""

    __slots__ = ()
    SIZE = 16


class JobId(_Random):
    """16 random bytes."""

    __slots__ = ()
    SIZE = 16


class ModelDigest(_Id):
    """32 bytes: SHA-256 of the model's weights file."""

    __slots__ = ()
    SIZE = 32


def handle(subject: SubjectId) -> bytes:
    """Return the 32 bytes under which a subject's leaves stand in the log."""
    return hashlib.sha256(_HANDLE_PREFIX + subject.raw).digest()
