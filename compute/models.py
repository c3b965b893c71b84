"""Models: a card, weights pinned by digest, and the only loader.

A weights file is safetensors, or JSON `{"layers": [{"weight": [[…]], "bias": […]}]}`. In
safetensors the tensors are `layers.0.weight` [out, in], `layers.0.bias` [out], `layers.1.…`, as
float32 or float64. The architecture is one of `ARCHITECTURES`, known to this house; a file brings
numbers, never code. A pickle, a zip (torch.save), an archive or anything else is refused by its
first bytes and handed to no loader (threats U1).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute import canonical as cj
from compute import weights
from compute.errors import (
    InputMalformed,
    ModelDigestMismatch,
    ModelRefused,
    ModelUnknown,
)

CARD_FORMAT = "assent.model-card/1"
_MAX_TEXT = 200
_DIGEST_BYTES = 32

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Architecture:
    """A family of models this house knows how to run: affine layers with one activation between.

    Attributes:
        name: the word on the card.
        activation: between layers: `none`, `square` or `relu`.
        hidden: whether there are hidden layers.
        score: how a score is made of the outputs: `logistic` or `margin`; several outputs are
            always compared by softmax.
    """

    name: str
    activation: str
    hidden: bool
    score: str


ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType(
    {
        each.name: each
        for each in (
            Architecture("logistic-regression", "none", hidden=False, score="logistic"),
            Architecture("linear-svm", "none", hidden=False, score="margin"),
            Architecture("mlp-square", "square", hidden=True, score="logistic"),
            Architecture("mlp-relu", "relu", hidden=True, score="logistic"),
        )
    }
)


@dataclass(frozen=True)
class Calibration:
    """How inputs are conditioned before encryption: (x - centre) / spread, per feature.

    Weights always take raw values; the computing side unfolds this exactly. It only keeps encrypted
    numbers near one, where CKKS is precise. Public: it says nothing of any one patient.
    """

    centre: tuple[float, ...]
    spread: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what cannot be divided by."""
        numbers = np.asarray((*self.centre, *self.spread), dtype=np.float64)
        if len(self.centre) != len(self.spread) or not np.isfinite(numbers).all():
            raise InputMalformed("calibration: as many finite centres as spreads")
        if any(spread <= 0 for spread in self.spread):
            raise InputMalformed("calibration: a spread is not above zero")

    @classmethod
    def identity(cls, width: int) -> "Calibration":
        """Leave `width` features as they are."""
        return cls((0.0,) * width, (1.0,) * width)

    def to_value(self) -> dict[str, list[str]]:
        """As JSON; numbers in decimal text, since signed documents hold no fractions."""
        return {
            "centre": [repr(float(number)) for number in self.centre],
            "spread": [repr(float(number)) for number in self.spread],
        }

    @classmethod
    def from_value(cls, value: object) -> "Calibration":
        """Read `to_value` back.

        Raises:
            InputMalformed: for anything else.
        """
        parts = cj.fields(value, names=("centre", "spread"), where="calibration")
        return cls(_decimals(parts["centre"]), _decimals(parts["spread"]))


@dataclass(frozen=True)
class ModelCard:
    """What a model says of itself.

    Attributes:
        name, version: for people.
        architecture: a key of `ARCHITECTURES`.
        features: names of the input columns, in order.
        outputs: names of the outputs; one output decides by `threshold`, several by the largest.
        digest: SHA-256 of the weights file's exact bytes, 32 bytes.
        calibration: for encrypted inputs, or None.
        threshold: of a single output before its score function (0 is a probability of one half).
    """

    name: str
    version: str
    architecture: str
    features: tuple[str, ...]
    outputs: tuple[str, ...]
    digest: bytes
    calibration: Calibration | None = None
    threshold: float = 0.0

    def __post_init__(self) -> None:
        """Check what can be checked without the weights."""
        if self.architecture not in ARCHITECTURES:
            raise ModelRefused("architecture", "not one that is known here")
        for names, what in ((self.features, "features"), (self.outputs, "outputs")):
            if not 1 <= len(names) <= weights.MAX_WIDTH or len(set(names)) != len(names):
                raise ModelRefused("card", f"{what}: 1 to {weights.MAX_WIDTH} different names")
        texts = (self.name, self.version, *self.features, *self.outputs)
        if not all(isinstance(text, str) and 0 < len(text) <= _MAX_TEXT for text in texts):
            raise ModelRefused("card", f"a name has 1 to {_MAX_TEXT} characters")
        if len(self.digest) != _DIGEST_BYTES:
            raise ModelRefused("card", "digest has 32 bytes")
        if self.calibration and len(self.calibration.centre) != len(self.features):
            raise ModelRefused("card", "calibration is not as long as the features")
        if not np.isfinite(self.threshold):
            raise ModelRefused("card", "threshold is a finite number")

    def to_value(self) -> dict[str, Any]:
        """The card as a JSON value without fractions."""
        return {
            "format": CARD_FORMAT,
            "architecture": self.architecture,
            "calibration": None if self.calibration is None else self.calibration.to_value(),
            "digest": cj.to_hex(self.digest),
            "features": list(self.features),
            "name": self.name,
            "outputs": list(self.outputs),
            "threshold": repr(float(self.threshold)),
            "version": self.version,
        }

    @classmethod
    def from_value(cls, value: object) -> "ModelCard":
        """Read `to_value` back.

        Raises:
            ModelRefused: for a card that is not complete, not known, or not consistent.
        """
        names = ("format", "architecture", "calibration", "digest", "features", "name", "outputs")
        try:
            parts = cj.fields(value, names=(*names, "threshold", "version"), where="card")
            if parts["format"] != CARD_FORMAT:
                raise InputMalformed("card: unknown format")
            calibration = parts["calibration"]
            return cls(
                name=_text(parts["name"]),
                version=_text(parts["version"]),
                architecture=_text(parts["architecture"]),
                features=tuple(_text(name) for name in _items(parts["features"])),
                outputs=tuple(_text(name) for name in _items(parts["outputs"])),
                digest=cj.from_hex(parts["digest"], _DIGEST_BYTES),
                calibration=None if calibration is None else Calibration.from_value(calibration),
                threshold=_decimals([parts["threshold"]])[0],
            )
        except InputMalformed as malformed:
            raise ModelRefused("card", str(malformed)) from None


@dataclass(frozen=True)
class ModelFile:
    """A weights file as it lies in the registry: exact bytes and their card."""

    data: bytes
    card: ModelCard


@dataclass(frozen=True)
class Layer:
    """One affine layer: `weight` [out, in] and `bias` [out], float64."""

    weight: Array
    bias: Array


@dataclass(frozen=True)
class Model:
    """A loaded model: its card and its layers, all finite, shapes agreeing."""

    card: ModelCard
    layers: tuple[Layer, ...]

    @property
    def architecture(self) -> Architecture:
        """The family."""
        return ARCHITECTURES[self.card.architecture]

    @property
    def hidden_layers(self) -> int:
        """Layers between input and output."""
        return len(self.layers) - 1


def load(data: bytes, card: ModelCard) -> Model:
    """Read a weights file.

    Raises:
        ModelRefused: for a pickle, an archive, an unknown format, sizes, shapes or numbers that
            are not within limits; `reason` says which.
        ModelDigestMismatch: when the bytes are not those the card pins.
    """
    weights.recognise(data)
    if cj.sha256(data) != card.digest:
        raise ModelDigestMismatch("the weights are not those that the card names")
    return Model(card, _layers(weights.read(data), card))


def load_pinned(file: ModelFile | None, digest: bytes | None) -> Model:
    """Load the file that a job names by digest.

    Raises:
        ModelUnknown: when there is none.
        ModelDigestMismatch, ModelRefused: as `load`.
    """
    if file is None or digest is None:
        raise ModelUnknown("no model was handed in for the digest that the job names")
    if file.card.digest != digest:
        raise ModelDigestMismatch("the card is not that of the model that the job names")
    return load(file.data, file.card)


def pack_weights(layers: tuple[Layer, ...]) -> bytes:
    """The layers as a safetensors file, float64."""
    from safetensors.numpy import save

    tensors = {}
    for index, layer in enumerate(layers):
        tensors[f"layers.{index}.weight"] = np.ascontiguousarray(layer.weight)
        tensors[f"layers.{index}.bias"] = np.ascontiguousarray(layer.bias)
    return save(tensors)


def _layers(tensors: dict[str, Array], card: ModelCard) -> tuple[Layer, ...]:
    count = len(tensors) // 2
    expected = {f"layers.{index}.{part}" for index in range(count) for part in ("weight", "bias")}
    if set(tensors) != expected or not 1 <= count <= weights.MAX_LAYERS:
        raise ModelRefused("shape", "expected layers.0.weight, layers.0.bias, layers.1.weight, …")
    if ARCHITECTURES[card.architecture].hidden != (count > 1):
        raise ModelRefused("shape", f"{count} layer(s) are no {card.architecture}")
    layers = []
    width = len(card.features)
    for index in range(count):
        weight, bias = tensors[f"layers.{index}.weight"], tensors[f"layers.{index}.bias"]
        if weight.ndim != 2 or weight.shape[1] != width or bias.shape != (weight.shape[0],):
            raise ModelRefused("shape", f"layers.{index} does not take {width} inputs")
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise ModelRefused("numbers", f"layers.{index} holds a number that is not finite")
        layers.append(Layer(weight, bias))
        width = weight.shape[0]
    if width != len(card.outputs):
        raise ModelRefused("shape", f"{width} output(s), {len(card.outputs)} named")
    if card.architecture in ("logistic-regression", "linear-svm") and width != 1:
        raise ModelRefused("shape", f"a {card.architecture} has one output")
    return tuple(layers)


def _items(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise InputMalformed("expected a list")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InputMalformed("expected a string")
    return value


def _decimals(values: object) -> tuple[float, ...]:
    try:
        return tuple(float(_text(value)) for value in _items(values))
    except ValueError:
        raise InputMalformed("expected numbers as decimal text") from None
