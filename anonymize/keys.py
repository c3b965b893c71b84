"""The hospital's de-identification key and what is derived from it.

One secret of 32 bytes per hospital. HKDF-SHA256 (RFC 5869) gives one sub-key per use, so that a
pseudonym never tells anything about a date offset. A subject's values are bound to the subject:
the same clinician has different pseudonyms in two patients' records, and cannot link them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import uuid
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from anonymize.errors import KeyUnusable

KEY_BYTES = 32
MAX_SHIFT_DAYS = 365
_PSEUDONYM_CHARS = 10  # base32: 50 bits, short enough to read, collisions negligible per patient


class DeidentificationKey:
    """32 secret bytes. Never printed, compared in constant time, never serialised but by `save`."""

    __slots__ = ("_dates", "_pseudonyms", "_secret")

    def __init__(self, secret: bytes) -> None:
        """Take exactly 32 bytes.

        Raises:
            KeyUnusable: another length, or all bytes equal.
        """
        if len(secret) != KEY_BYTES or len(set(secret)) == 1:
            raise KeyUnusable(f"a de-identification key is {KEY_BYTES} random bytes")
        self._secret = secret
        self._pseudonyms = self._derive(b"assent deid pseudonym/1")
        self._dates = self._derive(b"assent deid date/1")

    def __repr__(self) -> str:
        """Confess nothing."""
        return "DeidentificationKey(**********)"

    def __eq__(self, other: object) -> bool:
        """Compare in constant time."""
        if not isinstance(other, DeidentificationKey):
            return NotImplemented
        return hmac.compare_digest(self._secret, other._secret)

    __hash__ = None  # type: ignore[assignment]  # a secret is not a dictionary key

    @classmethod
    def generate(cls) -> DeidentificationKey:
        """Make a new random key."""
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def load(cls, path: Path) -> DeidentificationKey:
        """Read a key file: 64 hexadecimal digits, or 32 raw bytes.

        Raises:
            KeyUnusable: the file is missing, unreadable or holds something else.
        """
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise KeyUnusable(f"cannot read the key file: {error.strerror}") from None
        if len(raw) == KEY_BYTES:
            return cls(raw)
        try:
            return cls(bytes.fromhex(raw.decode("ascii").strip().removeprefix("0x")))
        except (UnicodeDecodeError, ValueError):
            raise KeyUnusable("a key file holds 64 hexadecimal digits or 32 bytes") from None

    def save(self, path: Path) -> None:
        """Write the key as hexadecimal to a new file that only its owner may read.

        Raises:
            KeyUnusable: the file exists (a key is never overwritten) or cannot be written.
        """
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise KeyUnusable(f"cannot write the key file: {error.strerror}") from None
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(binascii.hexlify(self._secret).decode("ascii") + "\n")

    def pseudonym(self, kind: str, subject: str, value: str) -> str:
        """Return 10 base32 characters for a value of one subject (HMAC-SHA256, RFC 2104)."""
        digest = self._mac(self._pseudonyms, kind, subject, value)
        return base64.b32encode(digest).decode("ascii").lower()[:_PSEUDONYM_CHARS]

    def resource_id(self, subject: str, value: str) -> str:
        """Return a UUID of version 8 (RFC 9562 §5.8) for a technical id of one subject."""
        digest = bytearray(self._mac(self._pseudonyms, "RESOURCE", subject, value)[:16])
        digest[6] = (digest[6] & 0x0F) | 0x80
        digest[8] = (digest[8] & 0x3F) | 0x80
        return str(uuid.UUID(bytes=bytes(digest)))

    def shift_days(self, subject: str) -> int:
        """Return by how many days this subject's dates move: -1 to -365, never into the future."""
        number = int.from_bytes(self._mac(self._dates, "DATE", subject, "")[:8], "big")
        return -(1 + number % MAX_SHIFT_DAYS)

    def _derive(self, info: bytes) -> bytes:
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(self._secret)

    @staticmethod
    def _mac(key: bytes, *parts: str) -> bytes:
        # Each part carries its length, so that no two lists of parts give the same message.
        message = b"".join(
            len(data).to_bytes(4, "big") + data
            for data in (part.encode("utf-8", "surrogatepass") for part in parts)
        )
        return hmac.new(key, message, hashlib.sha256).digest()
