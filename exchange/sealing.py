"""Sealed parts and wrapped keys: the one place that encrypts records (decision D4).

**A part** holds the records of one subject in one dataset version, under a random key of its own::

    "ASP1"                                             magic and format version
    commit   32 bytes   HMAC-SHA256(key, "assent commit/1" + canonical JSON of the part's context)
    frames   u32 length, AES-256-GCM(nonce = u32 part, u64 frame; AAD = context + frame + last)

Every frame but the last holds exactly :data:`FRAME_BYTES` of plaintext. The context is
``{v, tenant, dataset, version, subject, part}``, so that a frame opens nowhere else; ``last`` makes
a cut at a frame's edge visible; ``commit`` ties the bytes to one key, which GCM alone does not.
A key seals one part once, so counted nonces never repeat under it.

**A wrap** is ``nonce (12) + AES-256-GCM`` of a 32-byte key under another key, bound by its AAD.
**An envelope to a key holder** is HPKE (RFC 9180, base mode; X25519, HKDF-SHA256, AES-256-GCM):
encapsulated key (32 bytes), then ciphertext, bound by ``info``.

Source: decision D4, ``threats.md`` §5.3, NIST SP 800-38D.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from exchange.errors import EnvelopeCorrupt, EnvelopeVersionUnknown, SealError
from ledger.commitment import canonical, parse_canonical
from ledger.errors import LedgerError
from ledger.ids import DatasetId, JobId, OrgId, ReleaseId, SubjectId
from ledger.policy import Permit

KEY_BYTES = 32
FRAME_BYTES = 1 << 20
"""Plaintext bytes of every frame but the last, which holds 0 to this many."""

MAGIC = b"ASP1"
_COMMIT = b"assent commit/1"
_COMMIT_BYTES = 32
_HEAD_BYTES = len(MAGIC) + _COMMIT_BYTES
_TAG_BYTES = 16
_NONCE_BYTES = 12
_LENGTH = struct.Struct(">I")
_COUNTER = struct.Struct(">IQ")
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def new_key() -> bytes:
    """Draw a random key, 32 bytes."""
    return secrets.token_bytes(KEY_BYTES)


@dataclass(frozen=True, slots=True)
class PartContext:
    """What a part belongs to; every frame is bound to all of it.

    ``org`` is the publishing hospital (the tenant), ``part`` counts the parts of one subject in one
    dataset version from 0.
    """

    org: OrgId
    dataset: DatasetId
    version: int
    subject: SubjectId
    part: int = 0

    def _fields(self) -> dict[str, object]:
        return {
            "v": 1,
            "tenant": self.org.hex,
            "dataset": self.dataset.hex,
            "version": self.version,
            "subject": self.subject.hex,
            "part": self.part,
        }

    def commitment(self, key: bytes) -> bytes:
        """Return 32 bytes that only this key and this context give."""
        return hmac.digest(key, _COMMIT + canonical(self._fields()), "sha256")

    def aad(self, frame: int, *, last: bool) -> bytes:
        """Return what a frame is authenticated with beside its plaintext."""
        return canonical(self._fields() | {"frame": frame, "last": last})


def seal_part(key: bytes, context: PartContext, plaintext: bytes) -> bytes:
    """Return the whole sealed part. Raises SealError for a key that is not 32 bytes."""
    return b"".join(seal_stream(key, context, (plaintext,)))


def seal_stream(key: bytes, context: PartContext, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield a sealed part piece by piece, holding one frame in memory.

    Raises:
        SealError: the key is not 32 bytes.

    """
    cipher = _cipher(key)
    yield MAGIC + context.commitment(key)
    frame = 0
    waiting = bytearray()
    for chunk in chunks:
        waiting += chunk
        # A full frame leaves only once a byte follows it: the last one has to say that it is last.
        while len(waiting) > FRAME_BYTES:
            yield _sealed_frame(cipher, context, frame, bytes(waiting[:FRAME_BYTES]), last=False)
            del waiting[:FRAME_BYTES]
            frame += 1
    yield _sealed_frame(cipher, context, frame, bytes(waiting), last=True)


def open_part(key: bytes, context: PartContext, blob: bytes) -> bytes:
    """Return the plaintext of a whole sealed part. Raises as :func:`open_stream`."""
    return b"".join(open_stream(key, context, (blob,)))


def open_stream(key: bytes, context: PartContext, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the plaintext of each frame once it is authenticated.

    A consumer must not believe that it has everything before the iterator ends without an error:
    only then was the last frame seen.

    Raises:
        EnvelopeVersionUnknown: another format version.
        EnvelopeCorrupt: cut, changed, extended, or bound to another key, subject or version.
        SealError: the key is not 32 bytes.

    """
    cipher = _cipher(key)
    source = _Pieces(chunks)
    head = source.take(_HEAD_BYTES)
    if head[:3] != MAGIC[:3]:
        raise EnvelopeCorrupt(f"not a sealed part (subject {context.subject})")
    if head[:4] != MAGIC:
        raise EnvelopeVersionUnknown(f"sealed part of an unknown version ({context.subject})")
    if not hmac.compare_digest(head[4:], context.commitment(key)):
        raise EnvelopeCorrupt(f"the part is not under this key and context ({context.subject})")
    frame = 0
    last = False
    while not last:
        (length,) = _LENGTH.unpack(source.take(_LENGTH.size))
        if not _TAG_BYTES <= length <= FRAME_BYTES + _TAG_BYTES:
            raise EnvelopeCorrupt(f"frame {frame} has an impossible length ({context.subject})")
        sealed = source.take(length)
        last = source.exhausted()
        if not last and length != FRAME_BYTES + _TAG_BYTES:
            raise EnvelopeCorrupt(f"bytes follow the last frame ({context.subject})")
        try:
            nonce = _COUNTER.pack(context.part, frame)
            plaintext = cipher.decrypt(nonce, sealed, context.aad(frame, last=last))
        except InvalidTag:
            raise EnvelopeCorrupt(
                f"frame {frame} does not authenticate ({context.subject})"
            ) from None
        yield plaintext
        frame += 1


def _sealed_frame(
    cipher: AESGCM, context: PartContext, frame: int, plaintext: bytes, *, last: bool
) -> bytes:
    nonce = _COUNTER.pack(context.part, frame)
    sealed = cipher.encrypt(nonce, plaintext, context.aad(frame, last=last))
    return _LENGTH.pack(len(sealed)) + sealed


def _cipher(key: bytes) -> AESGCM:
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise SealError(f"a key has {KEY_BYTES} bytes")
    return AESGCM(key)


class _Pieces:
    """Takes exact amounts out of pieces of any size."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._waiting = bytearray()

    def take(self, count: int) -> bytes:
        """Return exactly ``count`` bytes. Raises EnvelopeCorrupt where they end before."""
        while len(self._waiting) < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                raise EnvelopeCorrupt("a sealed part ends too early")
            self._waiting += chunk
        taken = bytes(self._waiting[:count])
        del self._waiting[:count]
        return taken

    def exhausted(self) -> bool:
        """Whether no byte follows; reads on until that is known."""
        while not self._waiting:
            chunk = next(self._chunks, None)
            if chunk is None:
                return True
            self._waiting += chunk
        return False


def wrap(wrapping: bytes, key: bytes, *, aad: bytes) -> bytes:
    """Return ``nonce + ciphertext`` of ``key`` under ``wrapping``. Raises SealError.

    The nonce is random: at most 2**32 wraps under one key (SP 800-38D §8.3).
    """
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + _cipher(wrapping).encrypt(nonce, key, aad)


def unwrap(wrapping: bytes, wrapped: bytes, *, aad: bytes) -> bytes:
    """Return the wrapped key.

    Raises:
        EnvelopeCorrupt: changed, under another key, or bound to something else.

    """
    cipher = _cipher(wrapping)
    try:
        return cipher.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], aad)
    except (InvalidTag, ValueError):
        raise EnvelopeCorrupt("a wrapped key does not authenticate") from None


def release_aad(release: ReleaseId, subject: SubjectId) -> bytes:
    """Return what a data key is bound to when it travels in a release stream."""
    return b"assent release key/1" + release.raw + subject.raw


def rewrap(
    permit: Permit,
    key: bytes,
    *,
    release_key: bytes,
    release: ReleaseId,
    subject: SubjectId,
    at_seconds: int,
) -> bytes:
    """Wrap a subject's data key for one release. Without a permit there is no call.

    Raises:
        SealError: the permit is none, or ended before ``at_seconds``.

    """
    if not isinstance(permit, Permit):
        raise SealError(f"no permit for {subject}")
    if permit.expires is not None and permit.expires <= at_seconds:
        raise SealError(f"the permit for {subject} has ended")
    return wrap(release_key, key, aad=release_aad(release, subject))


def unwrap_released(
    release_key: bytes, wrapped: bytes, *, release: ReleaseId, subject: SubjectId
) -> bytes:
    """Return the data key that :func:`rewrap` wrapped. Raises EnvelopeCorrupt."""
    return unwrap(release_key, wrapped, aad=release_aad(release, subject))


def keys_info(dataset: DatasetId, version: int) -> bytes:
    """HPKE ``info`` of the key list that a publisher sends to the keys process."""
    return b"assent keys/1" + dataset.raw + _LENGTH.pack(version)


def intake_info(dataset: DatasetId, version: int) -> bytes:
    """HPKE ``info`` of the keys that one intake inspection gets."""
    return b"assent intake/1" + dataset.raw + _LENGTH.pack(version)


def release_info(release: ReleaseId) -> bytes:
    """HPKE ``info`` of a release key on its way to the requester."""
    return b"assent release/1" + release.raw


def job_info(job: JobId) -> bytes:
    """HPKE ``info`` of the keys that one job's child gets."""
    return b"assent job/1" + job.raw


def result_info(job: JobId) -> bytes:
    """HPKE ``info`` of a job's result on its way to the requester."""
    return b"assent result/1" + job.raw


def new_receive_key() -> tuple[bytes, bytes]:
    """Make an X25519 key pair; return (private, public), 32 raw bytes each."""
    private = x25519.X25519PrivateKey.generate()
    return private.private_bytes_raw(), private.public_key().public_bytes_raw()


def public_of(private: bytes) -> bytes:
    """Return the 32 raw public bytes of a raw X25519 private key. Raises SealError."""
    return _private(private).public_key().public_bytes_raw()


def seal_to(public: bytes, plaintext: bytes, *, info: bytes) -> bytes:
    """Return an HPKE envelope to a raw X25519 public key, 48 bytes longer than the plaintext.

    Raises:
        SealError: the public key is not one.

    """
    try:
        return _SUITE.encrypt(plaintext, x25519.X25519PublicKey.from_public_bytes(public), info)
    except ValueError:
        raise SealError("not an X25519 public key") from None


def open_sealed(private: bytes, sealed: bytes, *, info: bytes) -> bytes:
    """Return the plaintext of an HPKE envelope.

    Raises:
        EnvelopeCorrupt: changed, cut, to another key, or with another ``info``.

    """
    key = _private(private)
    try:
        return _SUITE.decrypt(sealed, key, info)
    except (InvalidTag, ValueError):
        raise EnvelopeCorrupt("an envelope does not open with this key") from None


def _private(raw: bytes) -> x25519.X25519PrivateKey:
    try:
        return x25519.X25519PrivateKey.from_private_bytes(raw)
    except ValueError:
        raise SealError("not an X25519 private key") from None


def pack_keys(dataset: DatasetId, version: int, keys: Mapping[SubjectId, bytes]) -> bytes:
    """Return the canonical JSON ``{dataset, version, keys: {subject: key}}`` of data keys."""
    return canonical(
        {
            "dataset": dataset.hex,
            "version": version,
            "keys": {subject.hex: "0x" + key.hex() for subject, key in keys.items()},
        }
    )


def unpack_keys(packed: bytes, *, dataset: DatasetId, version: int) -> dict[SubjectId, bytes]:
    """Read what :func:`pack_keys` made, for exactly this dataset version.

    Raises:
        EnvelopeCorrupt: not such a list, of another dataset version, or a key of a wrong length.

    """
    try:
        document = parse_canonical(packed)
        if (
            not isinstance(document, dict)
            or set(document) != {"dataset", "version", "keys"}
            or document["dataset"] != dataset.hex
            or document["version"] != version
        ):
            raise EnvelopeCorrupt("a key list is of another dataset version")
        found: dict[SubjectId, bytes] = {}
        for subject, text in document["keys"].items():
            key = bytes.fromhex(text.removeprefix("0x"))
            if len(key) != KEY_BYTES:
                raise EnvelopeCorrupt("a key list holds a key of a wrong length")
            found[SubjectId.parse(subject)] = key
    except (LedgerError, ValueError, AttributeError):
        raise EnvelopeCorrupt("a key list does not have the required form") from None
    return found


def seal_key_list(
    public: bytes, *, dataset: DatasetId, version: int, keys: Mapping[SubjectId, bytes]
) -> bytes:
    """Return a publisher's data keys sealed to the keys process. Raises SealError."""
    packed = pack_keys(dataset, version, keys)
    return seal_to(public, packed, info=keys_info(dataset, version))


def open_key_list(
    private: bytes, sealed: bytes, *, dataset: DatasetId, version: int
) -> dict[SubjectId, bytes]:
    """Return the data keys of a sealed key list. Raises EnvelopeCorrupt."""
    packed = open_sealed(private, sealed, info=keys_info(dataset, version))
    return unpack_keys(packed, dataset=dataset, version=version)


def digest(blob: bytes) -> bytes:
    """SHA-256, 32 bytes: the digest of a sealed part that a manifest names."""
    return hashlib.sha256(blob).digest()
