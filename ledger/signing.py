"""Sign EIP-712 messages and recover who signed them, and derive the patients' keys.

Signatures are the 64 bytes of ERC-2098 with a low s: one message, one key, one valid form. The
messages themselves stand in :mod:`ledger.messages` and :mod:`ledger.terms` and can be imported
from here as well.

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

from coincurve import PrivateKey, PublicKey

from ledger.commitment import digest_of, keccak256
from ledger.errors import MalformedValue, SignatureInvalid
from ledger.ids import OrgId
from ledger.messages import (
    Admit,
    Checkpoint,
    Desk,
    Document,
    Domain,
    Grant,
    Invited,
    Lift,
    Login,
    Message,
    Receipt,
    Redeemed,
    Replace,
    Retire,
    Rotate,
    Withdraw,
    from_hex,
    to_hex,
)
from ledger.terms import Terms, check_terms

__all__ = [
    "ORDER",
    "Admit",
    "Checkpoint",
    "Desk",
    "Document",
    "Domain",
    "Grant",
    "Invited",
    "Key",
    "Lift",
    "Login",
    "Message",
    "Receipt",
    "Redeemed",
    "Replace",
    "Retire",
    "Rotate",
    "Terms",
    "Withdraw",
    "check_terms",
    "code_from_text",
    "code_key",
    "code_to_text",
    "from_hex",
    "identity_key",
    "new_code",
    "recover",
    "recover_digest",
    "sign_document",
    "to_hex",
    "verify",
    "verify_document",
]

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""Order of secp256k1 (SEC 2)."""
SECRET_SIZE = 32
SIGNATURE_SIZE = 64
MIN_CODE_SIZE = 16
_HALF = ORDER // 2
_PARITY = 1 << 255


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
        if len(secret) != SECRET_SIZE or not 0 < int.from_bytes(secret, "big") < ORDER:
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
    if len(signature) != SIGNATURE_SIZE:
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
    if len(code) < MIN_CODE_SIZE:
        raise MalformedValue("a code has at least 128 bits")
    return _derive(code, b"assent code/1")


def identity_key(seed: bytes, org: OrgId) -> Key:
    """Return the patient's key at one hospital (HKDF-SHA256, info "assent identity/1" + org).

    ``seed`` is 32 bytes. Different hospitals see unlinkable keys. Raises MalformedValue.
    """
    if len(seed) != SECRET_SIZE:
        raise MalformedValue("a seed is 32 bytes")
    return _derive(seed, b"assent identity/1" + org.raw)


def new_code() -> bytes:
    """Draw an invitation's code: 16 random bytes."""
    return secrets.token_bytes(MIN_CODE_SIZE)


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
    if len(code) < MIN_CODE_SIZE or code_to_text(code).replace("-", "") != plain:
        raise MalformedValue("not a code")
    return code
