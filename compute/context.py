"""The two halves of a CKKS context: the key holder's, and the evaluator's.

The hospital makes and keeps the secret key (decisions D7, D9). The evaluator's half is parameters
and a key id: the presets need no evaluation key, so nothing that the server holds was derived from
the secret. What a server is handed is read field by field before the library sees it, and refused
when it holds a secret key, any other key, or parameters off the allow-list (threats U3, P11; J12).

Evaluator context on the wire: b"ASNTCTX1", u16 big-endian length, canonical JSON
{format, key, parameters}, then the library's serialised context without keys.
Key file: b"ASNTKEY1", u16 length, canonical JSON {decryptions, format, key, parameters}, then the
serialised context with the secret key. Mode 0600.
"""

import os
import secrets
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tenseal as ts
from tenseal import sealapi  # noqa: F401 (registers the types that parameters are read as)

from compute import canonical as cj
from compute import evaluator
from compute.errors import BudgetExhausted, CiphertextRefused, ContextRefused, InputMalformed
from compute.presets import Preset, preset
from compute.protobuf import packed, read_fields

KEY_FORMAT = "assent.he-key/1"
# Threats P9: decryptions under one key are counted, and the key is replaced per study.
MAX_DECRYPTIONS = 100
_MAX_KEY_BYTES = 4 * 2**20


@dataclass(frozen=True)
class EvaluatorContext:
    """The public half, checked: what a server needs to compute on this key holder's ciphertexts."""

    preset: Preset
    key_id: str
    fingerprint: str
    context: Any = field(repr=False, compare=False)


@dataclass
class KeyHolder:
    """The secret half. Lives at the hospital, never leaves it.

    Attributes:
        preset: the parameters.
        key_id: random, public, names this key.
        decryptions: replies opened so far.
        path: the file that remembers them, or None for a key that only lives in memory.
    """

    preset: Preset
    key_id: str
    context: Any = field(repr=False)
    decryptions: int = 0
    path: Path | None = None

    @classmethod
    def generate(cls, parameters: Preset) -> "KeyHolder":
        """A fresh key under parameters of the allow-list.

        Raises:
            ContextRefused: for any others.
        """
        chosen = preset(parameters.name)
        if parameters != chosen:
            raise ContextRefused("parameters", "not on the allow-list")
        context = ts.context(
            ts.SCHEME_TYPE.CKKS,
            chosen.degree,
            coeff_mod_bit_sizes=list(chosen.prime_bits),
            encryption_type=ts.ENCRYPTION_TYPE.SYMMETRIC,
            n_threads=1,
        )
        context.global_scale = 2.0**chosen.scale_bits
        context.auto_rescale = False
        context.auto_relin = False
        return cls(chosen, cj.to_hex(secrets.token_bytes(evaluator.KEY_ID_BYTES)), context)

    def evaluator_bytes(self) -> bytes:
        """The public half on the wire."""
        header = cj.canonical(
            {"format": evaluator.FORMAT, "key": self.key_id, "parameters": self.preset.name}
        )
        public = self.context.serialize(
            save_public_key=False,
            save_secret_key=False,
            save_galois_keys=False,
            save_relin_keys=False,
        )
        return evaluator.MAGIC + struct.pack(">H", len(header)) + header + bytes(public)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public half, 0x-hex."""
        return cj.to_hex(cj.sha256(self.evaluator_bytes()))

    def save(self, path: Path) -> None:
        """Write the key file, mode 0600, whole or not at all; the old one stays until then."""
        header = cj.canonical(
            {
                "decryptions": self.decryptions,
                "format": KEY_FORMAT,
                "key": self.key_id,
                "parameters": self.preset.name,
            }
        )
        secret = self.context.serialize(
            save_public_key=False,
            save_secret_key=True,
            save_galois_keys=False,
            save_relin_keys=False,
        )
        data = evaluator.KEY_MAGIC + struct.pack(">H", len(header)) + header + bytes(secret)
        # A name of its own per attempt: two writers never share a half-written file.
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        self.path = path

    @classmethod
    def load(cls, path: Path) -> "KeyHolder":
        """Read a key file.

        Raises:
            ContextRefused: when others may read it, or it is not a key file of this format.
        """
        if path.stat().st_mode & 0o077:
            raise ContextRefused("mode", "the key file may be read by others; chmod 600 it")
        data = path.read_bytes()
        header, body = evaluator.split(data, evaluator.KEY_MAGIC, _MAX_KEY_BYTES)
        try:
            value = cj.fields(
                cj.parse_canonical(header),
                names=("decryptions", "format", "key", "parameters"),
                where="key file",
            )
            if value["format"] != KEY_FORMAT or not isinstance(value["decryptions"], int):
                raise InputMalformed("key file: unknown format")
            cj.from_hex(value["key"], evaluator.KEY_ID_BYTES)
        except InputMalformed as malformed:
            raise ContextRefused("format", str(malformed)) from None
        chosen = preset(value["parameters"])
        context = _read(body)
        _check_parameters(context, chosen)
        if not context.has_secret_key():
            raise ContextRefused("no-secret-key", "the key file holds no secret key")
        return cls(chosen, value["key"], context, value["decryptions"], path)

    def count_decryption(self) -> None:
        """Count one more opened reply, durably where the key has a file, before it is opened.

        Raises:
            BudgetExhausted: when this key has opened as many as it may.
        """
        if self.decryptions >= MAX_DECRYPTIONS:
            raise BudgetExhausted(f"this key opened {MAX_DECRYPTIONS} replies; make a new one")
        self.decryptions += 1
        if self.path is not None:
            self.save(self.path)


def load_evaluator(data: bytes) -> EvaluatorContext:
    """Read the public half.

    Raises:
        ContextRefused: when it is too large, malformed, holds a key, or is off the allow-list.
    """
    told = evaluator.read(data)
    context = _read(told.body)
    if context.has_secret_key():
        raise ContextRefused("secret-key", "a context on this side never holds a secret key")
    _check_parameters(context, told.preset)
    return EvaluatorContext(told.preset, told.key_id, cj.to_hex(cj.sha256(data)), context)


def _read(body: bytes) -> Any:
    try:
        return ts.context_from(body, n_threads=1)
    except (RuntimeError, ValueError, TypeError):
        raise ContextRefused("format", "the library cannot read the context") from None


def _check_parameters(context: Any, chosen: Preset) -> None:
    """What the library understood must be the preset, number for number."""
    parameters = context.seal_context().data.key_context_data().parms()
    found = (
        parameters.scheme().name,
        parameters.poly_modulus_degree(),
        tuple(prime.bit_count() for prime in parameters.coeff_modulus()),
        context.global_scale,
        context.auto_rescale,
        context.auto_relin,
    )
    scale = 2.0**chosen.scale_bits
    if found != ("CKKS", chosen.degree, chosen.prime_bits, scale, False, False):
        raise ContextRefused("parameters", f"not those of {chosen.name}")


def read_tensor(
    context: Any, chosen: Preset, body: bytes, *, width: int, batch: int, reply: bool
) -> Any:
    """A tensor of `width` ciphertexts for `batch` patients, every announced number checked.

    Sizes and counts are read from the bytes (tensors.proto: 1 shape, 2 ciphertexts, 3 scale,
    4 batch size) before the library sees them; the library then checks each residue against its
    prime. Run it in a process with bounded memory all the same (threats U3).

    Raises:
        CiphertextRefused: naming what is wrong.
    """
    polynomials = 2 + (chosen.hidden_layers if reply else 0)
    if not 0 < batch <= chosen.slots:
        raise CiphertextRefused("batch", f"a ciphertext has 1 to {chosen.slots} patients")
    _check_tensor(body, width, batch, most=polynomials * chosen.ciphertext_bytes // 2 + 1024)
    try:
        tensor = ts.ckks_tensor_from(context, body)
    except (RuntimeError, ValueError, TypeError):
        raise CiphertextRefused("parameters", f"no valid ciphertexts of {chosen.name}") from None
    scale = 2.0 ** (chosen.result_scale_bits if reply else chosen.scale_bits)
    first = context.seal_context().data.first_parms_id()
    for ciphertext in tensor.ciphertext():
        if ciphertext.parms_id() != first or ciphertext.size() != polynomials:
            raise CiphertextRefused("parameters", f"not at the level of {chosen.name}")
        if ciphertext.scale != scale:
            raise CiphertextRefused("scale", f"not the scale of {chosen.name}")
    return tensor


def _check_tensor(body: bytes, width: int, batch: int, *, most: int) -> None:
    """Shape, count, sizes and batch as the bytes announce them; `most` bytes a ciphertext."""
    shape: list[int] = []
    sizes: list[int] = []
    batches: list[int] = []
    try:
        for number, value in read_fields(body):
            if number == 1 and isinstance(value, bytes):
                shape += packed(value)
            elif number == 2 and isinstance(value, bytes):
                sizes.append(len(value))
            elif number == 4 and isinstance(value, int):
                batches.append(value)
    except InputMalformed as malformed:
        raise CiphertextRefused("format", str(malformed)) from None
    if len(sizes) != width or shape != [1, width]:
        raise CiphertextRefused("shape", f"expected {width} ciphertexts in a row")
    if max(sizes) > most:
        raise CiphertextRefused("size", f"a ciphertext has at most {most} bytes")
    if batches != [batch]:
        raise CiphertextRefused("batch", "not as many patients as announced")
