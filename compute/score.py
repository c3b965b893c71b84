"""From a model's outputs to scores and decisions; the same for clear and decrypted outputs."""

import numpy as np
from numpy.typing import NDArray

from compute.errors import InputMalformed
from compute.models import ARCHITECTURES, Array, ModelCard


def scores(card: ModelCard, outputs: Array) -> Array:
    """One score per row, [n].

    A single output gives the probability by the logistic function, or the margin itself for a
    support vector machine; several outputs give the softmax of the decision.

    Raises:
        InputMalformed: when the outputs are not [n, outputs of the card].
    """
    _check(card, outputs)
    if outputs.shape[1] > 1:
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        chances = np.exp(shifted)
        return np.asarray(chances.max(axis=1) / chances.sum(axis=1))
    single = outputs[:, 0]
    if ARCHITECTURES[card.architecture].score == "margin":
        return single
    return np.asarray(0.5 * (1.0 + np.tanh(single / 2.0)))


def decisions(card: ModelCard, outputs: Array) -> NDArray[np.int64]:
    """One decision per row, [n]: 0 or 1 by the threshold, or the index of the largest output.

    Raises:
        InputMalformed: as `scores`.
    """
    _check(card, outputs)
    if outputs.shape[1] > 1:
        return np.asarray(outputs.argmax(axis=1), dtype=np.int64)
    return np.asarray(outputs[:, 0] > card.threshold, dtype=np.int64)


def label(card: ModelCard, decision: int) -> str:
    """A decision in the card's words: an output's name, or `not <name>` below the threshold."""
    if len(card.outputs) > 1:
        return card.outputs[decision]
    return card.outputs[0] if decision else f"not {card.outputs[0]}"


def _check(card: ModelCard, outputs: Array) -> None:
    if outputs.ndim != 2 or outputs.shape[1] != len(card.outputs):
        raise InputMalformed(f"outputs: a table of {len(card.outputs)} columns")
