"""The evaluator's context as bytes: what can be read of it without the library that computes on it.

So a door can refuse a secret key, or parameters off the allow-list, before anything is kept; the
job's child looks again and lets the library look too (threats U3, P11; J12).
"""

import struct
from dataclasses import dataclass, field

from compute import canonical as cj
from compute.errors import ContextRefused, InputMalformed
from compute.presets import Preset, preset
from compute.protobuf import unique_fields

MAGIC = b"ASNTCTX1"
KEY_MAGIC = b"ASNTKEY1"
FORMAT = "assent.he-context/1"
KEY_ID_BYTES = 16
MAX_BYTES = 4096
_AUTO_MOD_SWITCH = 4  # TenSEAL's flag bits: 1 relinearise, 2 rescale, 4 mod-switch
_SYMMETRIC = 1


@dataclass(frozen=True)
class Announced:
    """What an evaluator's context says of itself, and the library's own bytes."""

    preset: Preset
    key_id: str
    body: bytes = field(repr=False)


def read(data: bytes) -> Announced:
    """Read the envelope and the serialised context's own fields.

    Raises:
        ContextRefused: when it is too large, malformed, holds a key, or is off the allow-list.
    """
    header, body = split(data, MAGIC, MAX_BYTES)
    try:
        value = cj.fields(
            cj.parse_canonical(header), names=("format", "key", "parameters"), where="context"
        )
        if value["format"] != FORMAT or not isinstance(value["parameters"], str):
            raise InputMalformed("context: unknown format")
        cj.from_hex(value["key"], KEY_ID_BYTES)
    except InputMalformed as malformed:
        raise ContextRefused("format", str(malformed)) from None
    chosen = preset(value["parameters"])
    _check_fields(body, chosen)
    return Announced(chosen, value["key"], body)


def split(data: bytes, magic: bytes, most: int) -> tuple[bytes, bytes]:
    """The header and the body of a file that begins with `magic`.

    Raises:
        ContextRefused: for another file, a key file where none belongs, or too many bytes.
    """
    # A secret is looked for before sizes are, so that the refusal names what matters most.
    if data.startswith(KEY_MAGIC) and magic != KEY_MAGIC:
        raise ContextRefused("secret-key", "this is a key file; it belongs to the hospital alone")
    if not data.startswith(magic) or len(data) < len(magic) + 2:
        raise ContextRefused("format", "not a file of this format")
    (length,) = struct.unpack_from(">H", data, len(magic))
    start = len(magic) + 2
    body = data[start + length :]
    if magic == MAGIC and _holds_secret(body):
        raise ContextRefused("secret-key", "a context on this side never holds a secret key")
    if len(data) > most or not body:
        raise ContextRefused("size", f"not between its header and {most} bytes")
    return data[start : start + length], body


def _check_fields(body: bytes, chosen: Preset) -> None:
    """The serialised context's own fields (tensealcontext.proto), before the library sees it.

    1 encryption parameters, 2 public part {1 public key, 2 flags, 3 scale, 4 and 5 evaluation
    keys}, 3 private part {1 secret key}, 4 encryption type.
    """
    try:
        outer = unique_fields(body)
        part = outer.pop(2, b"")
        public = unique_fields(part) if isinstance(part, bytes) else {}
    except InputMalformed as malformed:
        raise ContextRefused("format", str(malformed)) from None
    if 3 in outer:
        raise ContextRefused("secret-key", "a context on this side has no private part")
    if set(public) - {2, 3}:
        raise ContextRefused("keys", "a context on this side needs no evaluation keys")
    scale = struct.pack("<d", 2.0**chosen.scale_bits)
    if public != {2: _AUTO_MOD_SWITCH, 3: scale} or set(outer) != {1, 4} or outer[4] != _SYMMETRIC:
        raise ContextRefused("parameters", f"not those of {chosen.name}")


def _holds_secret(body: bytes) -> bool:
    """Whether the private part is there and holds a key, as far as the bytes can be read."""
    try:
        private = unique_fields(body).get(3)
        return isinstance(private, bytes) and 1 in unique_fields(private)
    except InputMalformed:
        return False
