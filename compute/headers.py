"""The headers of encrypted inference: what a request and a reply say of their ciphertexts.

Canonical JSON without fractions. A header commits to the body by SHA-256 and to every slot's (subject,
consent), since several patients share a ciphertext (decision D9); to the parameters, the key, the model
and the conditioning of inputs (threats D4, P10). The hospital signs its `digest`.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compute import canonical as cj
from compute.errors import CiphertextRefused, ComputeError, InputMalformed
from compute.models import Calibration

REQUEST_FORMAT = "assent.he-request/1"
REPLY_FORMAT = "assent.he-reply/1"
MAX_BODY_BYTES = 512 * 2**20
MAX_COLUMNS = 1024
# Inputs are announced to lie within ±2^b: the computing side must leave room for the result.
MAX_BOUND_BITS = 14
_DIGEST_TAG = b"assent he header/1"
_NONCE_BYTES = 16
_ID_BYTES = 32
_MAX_TEXT = 200

Slot = tuple[str, str]


@dataclass(frozen=True)
class RequestHeader:
    """What a request says of its ciphertext. All hex is `0x…`.

    Attributes:
        org: of the hospital that encrypted and alone can decrypt.
        tenant: whose exchange this is for, or the hospital again.
        dataset: "<dataset id>/<version>" or None for rows of its own.
        columns: features, in the model's order.
        slots: (subject, consent id) of each slot, in order.
        context: fingerprint of the evaluator's context, which names the key.
        parameters: name of the preset.
        model: digest of the model this was encrypted for.
        calibration: conditioning that was applied.
        bound_bits: conditioned inputs lie within ±2^bound_bits.
        body: SHA-256 of the body; body_bytes its length.
        nonce: 16 random bytes.
    """

    org: str
    tenant: str
    dataset: str | None
    columns: tuple[str, ...]
    slots: tuple[Slot, ...]
    context: str
    parameters: str
    model: str
    calibration: Calibration
    bound_bits: int
    body: str
    body_bytes: int
    nonce: str

    @property
    def count(self) -> int:
        """Patients in the ciphertext."""
        return len(self.slots)

    @property
    def digest(self) -> bytes:
        """What the hospital signs, 32 bytes."""
        return _tagged(self.to_json())

    @property
    def subjects(self) -> tuple[str, ...]:
        """Subject of each slot."""
        return tuple(subject for subject, _ in self.slots)

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return cj.canonical(
            {
                "format": REQUEST_FORMAT,
                "body": self.body,
                "bodyBytes": self.body_bytes,
                "boundBits": self.bound_bits,
                "calibration": self.calibration.to_value(),
                "columns": list(self.columns),
                "context": self.context,
                "count": self.count,
                "dataset": self.dataset,
                "model": self.model,
                "nonce": self.nonce,
                "org": self.org,
                "parameters": self.parameters,
                "slots": [list(slot) for slot in self.slots],
                "slotsCommitment": cj.to_hex(slots_commitment(self.slots)),
                "tenant": self.tenant,
            }
        )

    @classmethod
    def from_json(cls, data: bytes) -> "RequestHeader":
        """Read and check a header.

        Raises:
            CiphertextRefused: when it is malformed or does not agree with itself.
        """
        value = _header(data, REQUEST_FORMAT, _REQUEST_NAMES)
        try:
            slots = _slots(value["slots"])
            if value["count"] != len(slots) or value["slotsCommitment"] != cj.to_hex(
                slots_commitment(slots)
            ):
                raise CiphertextRefused("slots", "the list is not the one that was committed to")
            columns = _columns(value["columns"])
            calibration = Calibration.from_value(value["calibration"])
            if len(calibration.centre) != len(columns):
                unequal = "calibration is not as long as the columns"
                raise InputMalformed(unequal)
            return cls(
                org=_text(value["org"]),
                tenant=_text(value["tenant"]),
                dataset=None if value["dataset"] is None else _text(value["dataset"]),
                columns=columns,
                slots=slots,
                context=_hex(value["context"]),
                parameters=_text(value["parameters"]),
                model=_hex(value["model"]),
                calibration=calibration,
                bound_bits=_whole(value["boundBits"], MAX_BOUND_BITS),
                body=_hex(value["body"]),
                body_bytes=_whole(value["bodyBytes"], MAX_BODY_BYTES),
                nonce=_hex(value["nonce"], _NONCE_BYTES),
            )
        except InputMalformed as malformed:
            raise CiphertextRefused("header", str(malformed)) from None


@dataclass(frozen=True)
class ReplyHeader:
    """What a reply says of its ciphertext.

    Attributes:
        request: digest of the request's header, and through it of everything in it.
        model, context, parameters: as in the request.
        outputs: names of the model's outputs.
        count: patients.
        shift_bits: results were divided by 2^shift_bits on ciphertext to fit the modulus.
        engine: what computed it.
        body, body_bytes: as in a request.
    """

    request: str
    model: str
    context: str
    parameters: str
    outputs: tuple[str, ...]
    count: int
    shift_bits: int
    engine: str
    body: str
    body_bytes: int

    @property
    def digest(self) -> bytes:
        """What may be signed, 32 bytes."""
        return _tagged(self.to_json())

    def to_json(self) -> bytes:
        """Canonical JSON."""
        return cj.canonical(
            {
                "format": REPLY_FORMAT,
                "body": self.body,
                "bodyBytes": self.body_bytes,
                "context": self.context,
                "count": self.count,
                "engine": self.engine,
                "model": self.model,
                "outputs": list(self.outputs),
                "parameters": self.parameters,
                "request": self.request,
                "shiftBits": self.shift_bits,
            }
        )

    @classmethod
    def from_json(cls, data: bytes) -> "ReplyHeader":
        """Read and check a header.

        Raises:
            CiphertextRefused: when it is malformed.
        """
        value = _header(data, REPLY_FORMAT, _REPLY_NAMES)
        try:
            return cls(
                request=_hex(value["request"]),
                model=_hex(value["model"]),
                context=_hex(value["context"]),
                parameters=_text(value["parameters"]),
                outputs=_columns(value["outputs"]),
                count=_whole(value["count"], MAX_BODY_BYTES),
                shift_bits=_whole(value["shiftBits"], 64),
                engine=_text(value["engine"]),
                body=_hex(value["body"]),
                body_bytes=_whole(value["bodyBytes"], MAX_BODY_BYTES),
            )
        except InputMalformed as malformed:
            raise CiphertextRefused("header", str(malformed)) from None


_SHARED_NAMES = ("format", "body", "bodyBytes", "context", "count", "model", "parameters")
_REPLY_NAMES = (*_SHARED_NAMES, "engine", "outputs", "request", "shiftBits")
_REQUEST_NAMES = (
    *_SHARED_NAMES,
    *("boundBits", "calibration", "columns", "dataset", "nonce", "org", "slots"),
    *("slotsCommitment", "tenant"),
)


def slots_commitment(slots: Sequence[Slot]) -> bytes:
    """SHA-256 of the canonical list of [subject, consent], 32 bytes."""
    return cj.sha256(cj.canonical([list(slot) for slot in slots]))


def fresh_nonce() -> str:
    """16 random bytes as hex."""
    return cj.to_hex(secrets.token_bytes(_NONCE_BYTES))


def _tagged(header: bytes) -> bytes:
    return cj.sha256(_DIGEST_TAG + header)


def _header(data: bytes, form: str, names: tuple[str, ...]) -> dict[str, Any]:
    try:
        value = cj.fields(cj.parse_canonical(data), names=names, where="header")
    except ComputeError as malformed:
        raise CiphertextRefused("header", str(malformed)) from None
    if value["format"] != form:
        raise CiphertextRefused("version", "the header's format is not known here")
    return value


def _slots(value: object) -> tuple[Slot, ...]:
    if not isinstance(value, list) or not value:
        raise InputMalformed("slots is a list of at least one [subject, consent]")
    slots = []
    for slot in value:
        if not isinstance(slot, list) or len(slot) != 2:
            raise InputMalformed("a slot is [subject, consent]")
        slots.append((_hex(slot[0]), _hex(slot[1])))
    return tuple(slots)


def _columns(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_COLUMNS:
        raise InputMalformed(f"1 to {MAX_COLUMNS} names")
    names = tuple(_text(name) for name in value)
    if len(set(names)) != len(names):
        raise InputMalformed("a name appears twice")
    return names


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        raise InputMalformed(f"a name has 1 to {_MAX_TEXT} characters")
    return value


def _hex(value: object, length: int = _ID_BYTES) -> str:
    cj.from_hex(value, length)
    return str(value)


def _whole(value: object, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise InputMalformed(f"a whole number from 0 to {most}")
    return value
