"""Weights files: recognised by their first bytes, read as numbers and as nothing else.

A pickle, a zip (torch.save), an archive or anything else that could bring code is refused and handed
to no loader (threats U1).
"""

import struct

import numpy as np
from numpy.typing import NDArray

from compute import canonical as cj
from compute.errors import ComputeError, InputMalformed, ModelRefused

MAX_MODEL_BYTES = 64 * 2**20
MAX_HEADER_BYTES = 2**20
MAX_LAYERS = 8
MAX_WIDTH = 4096

_Array = NDArray[np.float64]


def read(data: bytes) -> dict[str, _Array]:
    """The tensors of a file by name, float64.

    Raises:
        ModelRefused: as `recognise`, and for sizes, shapes or numbers beyond the limits.
    """
    return _read_safetensors(data) if recognise(data) == "safetensors" else _read_json(data)


def recognise(data: bytes) -> str:
    """`safetensors` or `json`, by the first bytes alone.

    Raises:
        ModelRefused: for everything else; a pickle or an archive is named as such.
    """
    if len(data) > MAX_MODEL_BYTES:
        raise ModelRefused("size", f"a model has at most {MAX_MODEL_BYTES} bytes")
    # A safetensors header may begin like a pickle (0x80 0x02): its length comes first, in eight
    # bytes whose upper half is zero, and no pickle has a brace there.
    if len(data) > 8 and data[4:8] == b"\0\0\0\0" and data[8:9] == b"{":
        (length,) = struct.unpack_from("<Q", data)
        if length > MAX_HEADER_BYTES or 8 + length > len(data):
            raise ModelRefused("header", "the safetensors header is longer than allowed")
        return "safetensors"
    if data[:1] == b"{":
        return "json"
    for magic, reason in _REFUSED:
        if data.startswith(magic):
            raise ModelRefused(reason, "never loaded; store weights as safetensors or JSON")
    if data[:1] in (b"(", b"c", b"]", b"}") and data.rstrip().endswith(b"."):
        raise ModelRefused("pickle", "never loaded; store weights as safetensors or JSON")
    raise ModelRefused("format", "neither safetensors nor JSON")


_REFUSED: tuple[tuple[bytes, str], ...] = (
    (b"\x80", "pickle"),
    (b"PK", "zip"),
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x89HDF", "hdf5"),
    (b"\x93NUMPY", "npy"),
    (b"\x7fELF", "executable"),
)


def _read_safetensors(data: bytes) -> dict[str, _Array]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    # The header is ours to check before the library makes arrays of it.
    (length,) = struct.unpack_from("<Q", data)
    try:
        header = cj.parse_json(data[8 : 8 + length])
    except ComputeError:
        raise ModelRefused("header", "the safetensors header is not strict JSON") from None
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    if len(entries) > 2 * MAX_LAYERS:
        raise ModelRefused("shape", f"a model has at most {MAX_LAYERS} layers")
    for entry in entries.values():
        if not isinstance(entry, dict) or entry.get("dtype") not in ("F32", "F64"):
            raise ModelRefused("dtype", "weights are float32 or float64")
        shape = entry.get("shape")
        if not isinstance(shape, list) or not all(
            isinstance(size, int) and 0 < size <= MAX_WIDTH for size in shape
        ):
            raise ModelRefused("shape", f"a dimension has 1 to {MAX_WIDTH} entries")
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError):
        raise ModelRefused("safetensors", "the file is damaged") from None
    return {name: np.asarray(tensor, dtype=np.float64) for name, tensor in tensors.items()}


def _read_json(data: bytes) -> dict[str, _Array]:
    try:
        value = cj.fields(cj.parse_json(data), names=("layers",), where="weights")
        if not isinstance(value["layers"], list) or len(value["layers"]) > MAX_LAYERS:
            limit = f"weights: a list of at most {MAX_LAYERS} layers"
            raise InputMalformed(limit)
        tensors: dict[str, _Array] = {}
        for index, layer in enumerate(value["layers"]):
            parts = cj.fields(layer, names=("weight", "bias"), where=f"layers[{index}]")
            tensors[f"layers.{index}.weight"] = _matrix(parts["weight"])
            tensors[f"layers.{index}.bias"] = _vector(parts["bias"])
    except InputMalformed as malformed:
        raise ModelRefused("json", str(malformed)) from None
    return tensors


def _matrix(value: object) -> _Array:
    rows = [_vector(row) for row in _items(value)]
    if not rows or len(rows) > MAX_WIDTH or len({len(row) for row in rows}) != 1:
        raise InputMalformed("weights: a rectangle of numbers")
    return np.stack(rows)


def _vector(value: object) -> _Array:
    items = _items(value)
    if not 0 < len(items) <= MAX_WIDTH or not all(
        isinstance(item, int | float) and not isinstance(item, bool) for item in items
    ):
        raise InputMalformed(f"weights: 1 to {MAX_WIDTH} numbers in a row")
    try:
        return np.asarray(items, dtype=np.float64)
    except OverflowError:
        raise InputMalformed("weights: a number is beyond float64") from None


def _items(value: object) -> list[object]:
    if not isinstance(value, list):
        raise InputMalformed("expected a list")
    return value
