"""Encrypt rows at the hospital, several patients to a ciphertext.

One ciphertext per column, one slot per patient, and a last column of ones (see
`compute.encrypted`). The values are conditioned by the model card's calibration first. The server
learns the number of patients, the columns, the subjects and consents of the slots, which the gate
must rule on, and a power of two that bounds all conditioned values; 16 unless some value lies
further out than 16 spreads.
"""

import math
from collections.abc import Collection, Sequence

import numpy as np
import tenseal as ts

from compute import canonical as cj
from compute.context import KeyHolder
from compute.errors import CiphertextRefused, InputMalformed
from compute.headers import MAX_BOUND_BITS, MAX_COLUMNS, RequestHeader, Slot, fresh_nonce
from compute.models import Array, Calibration
from compute.presets import Preset, preset
from compute.wire import Request

_LEAST_BOUND_BITS = 4


def make_keys(parameters: Preset | str) -> KeyHolder:
    """A fresh secret key under a preset of the allow-list, or its name; save it with `.save(path)`.

    Raises:
        ContextRefused: for parameters off the allow-list.
    """
    return KeyHolder.generate(preset(parameters) if isinstance(parameters, str) else parameters)


def encrypt(
    keyholder: KeyHolder,
    rows: Array,
    slots: Sequence[Slot],
    *,
    org: str,
    columns: Sequence[str],
    model_digest: str,
    dataset: str | None = None,
    tenant: str | None = None,
    calibration: Calibration | None = None,
) -> Request:
    """Encrypt rows for one model.

    Args:
        keyholder: the hospital's own key.
        rows: [patients, features] raw values, finite; at most `keyholder.preset.slots` patients.
        slots: (subject, consent id) of each row, 0x-hex of 32 bytes.
        org: the hospital.
        columns: names of the features in the model's order.
        model_digest: 0x-hex of the model.
        dataset: "<id>/<version>" where the rows are published, else None.
        tenant: whose exchange; the hospital itself by default.
        calibration: the model card's; raw values are encrypted without.

    Raises:
        InputMalformed: for shapes, names, missing cells or values too far out, by position.
    """
    values = np.asarray(rows, dtype=np.float64)
    columns = tuple(columns)
    conditioning = calibration or Calibration.identity(len(columns))
    _check(keyholder, values, slots, columns, conditioning)
    conditioned = (values - np.asarray(conditioning.centre)) / np.asarray(conditioning.spread)
    bound_bits = _bound_bits(conditioned, columns)
    body = _encrypt(keyholder, conditioned)
    header = RequestHeader(
        org=org,
        tenant=org if tenant is None else tenant,
        dataset=dataset,
        columns=columns,
        slots=tuple((subject, consent) for subject, consent in slots),
        context=keyholder.fingerprint,
        parameters=keyholder.preset.name,
        model=model_digest,
        calibration=conditioning,
        bound_bits=bound_bits,
        body=cj.to_hex(cj.sha256(body)),
        body_bytes=len(body),
        nonce=fresh_nonce(),
    )
    # What the server would refuse is refused here, before it travels.
    try:
        checked = RequestHeader.from_json(header.to_json())
    except CiphertextRefused as refused:
        raise InputMalformed(str(refused)) from None
    return Request(checked, body)


def drop_slots(
    keyholder: KeyHolder, rows: Array, header: RequestHeader, subjects: Collection[str]
) -> Request:
    """Encrypt the same rows again without some subjects, when their consent has ended (D9).

    Args:
        keyholder: the key of the first request, or a fresh one of the same preset.
        rows: [patients, features] as they were given to the first `encrypt`.
        header: of the first request.
        subjects: 0x-hex of those to leave out.

    Raises:
        InputMalformed: when rows and slots do not match, or nobody is left.
    """
    if len(rows) != header.count:
        raise InputMalformed(f"expected the {header.count} rows of the first request")
    kept = [index for index, slot in enumerate(header.slots) if slot[0] not in set(subjects)]
    if not kept:
        raise InputMalformed("nobody is left to encrypt for")
    return encrypt(
        keyholder,
        np.asarray(rows, dtype=np.float64)[kept],
        [header.slots[index] for index in kept],
        org=header.org,
        columns=header.columns,
        model_digest=header.model,
        dataset=header.dataset,
        tenant=header.tenant,
        calibration=header.calibration,
    )


def _check(
    keyholder: KeyHolder,
    values: Array,
    slots: Sequence[Slot],
    columns: tuple[str, ...],
    calibration: Calibration,
) -> None:
    if not 0 < len(columns) <= MAX_COLUMNS:
        raise InputMalformed(f"1 to {MAX_COLUMNS} columns")
    if values.ndim != 2 or values.shape[1] != len(columns):
        raise InputMalformed(f"rows is a table of {len(columns)} columns")
    if not 0 < len(values) <= keyholder.preset.slots:
        raise InputMalformed(f"a request holds 1 to {keyholder.preset.slots} patients")
    if len(slots) != len(values):
        raise InputMalformed(f"{len(values)} rows, {len(slots)} slots")
    if len(calibration.centre) != len(columns):
        raise InputMalformed("the calibration is not as long as the columns")
    missing = np.argwhere(~np.isfinite(values))
    if len(missing):
        row, column = missing[0]
        raise InputMalformed(
            f"{len(missing)} cell(s) missing or not finite; first at row {row}, column {column}"
        )


def _bound_bits(conditioned: Array, columns: tuple[str, ...]) -> int:
    largest = np.abs(conditioned)
    row, column = np.unravel_index(int(largest.argmax()), largest.shape)
    bits = max(_LEAST_BOUND_BITS, math.ceil(math.log2(max(float(largest[row, column]), 1.0))))
    if bits > MAX_BOUND_BITS:
        raise InputMalformed(
            f"row {row}, column {columns[int(column)]!r}: beyond 2^{MAX_BOUND_BITS} spreads"
        )
    return bits


def _encrypt(keyholder: KeyHolder, conditioned: Array) -> bytes:
    full = np.hstack([conditioned, np.ones((len(conditioned), 1))])
    plain = ts.plain_tensor(full.ravel().tolist(), shape=list(full.shape))
    tensor = ts.ckks_tensor(keyholder.context, plain, batch=True).reshape([1, full.shape[1]])
    return bytes(tensor.serialize())
