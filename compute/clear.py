"""Inference in the clear, with torch: on a GPU where there is one, else on the CPU.

In float64 on both, so that devices, the encrypted engine and a hand calculation agree in every
digit that leaves.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from compute.errors import InputMalformed
from compute.models import Array, Model
from compute.score import decisions, scores


@dataclass(frozen=True)
class Predictions:
    """What a model says of rows.

    Attributes:
        outputs: [n, outputs] before any score function.
        scores: [n].
        decisions: [n] of 0 or 1, or of the largest output.
    """

    outputs: Array
    scores: Array
    decisions: NDArray[np.int64]


def device() -> torch.device:
    """Where models run here."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def engine_name() -> str:
    """Name, version and device of what computes here."""
    return f"torch {torch.__version__} {device().type} float64"


def predict(model: Model, rows: Array) -> Predictions:
    """Run a model over rows [n, features], raw values, finite.

    Raises:
        InputMalformed: for another width, or a cell that is missing.
    """
    rows = np.asarray(rows, dtype=np.float64)
    width = len(model.card.features)
    if rows.ndim != 2 or rows.shape[1] != width:
        raise InputMalformed(f"rows is a table of {width} columns")
    if not np.isfinite(rows).all():
        raise InputMalformed("a cell is missing or not finite")
    where = device()
    with torch.inference_mode():
        values = torch.from_numpy(np.ascontiguousarray(rows)).to(where)
        for index, layer in enumerate(model.layers):
            if index:
                values = _activate(model.architecture.activation, values)
            weight = torch.from_numpy(np.ascontiguousarray(layer.weight)).to(where)
            bias = torch.from_numpy(np.ascontiguousarray(layer.bias)).to(where)
            values = torch.nn.functional.linear(values, weight, bias)
        outputs: Array = values.cpu().numpy()
    return Predictions(outputs, scores(model.card, outputs), decisions(model.card, outputs))


def _activate(name: str, values: torch.Tensor) -> torch.Tensor:
    return values.square() if name == "square" else torch.relu(values)
