"""Small seeded fits for tabular models, in numpy: deterministic, exact where there is an optimum.

Inputs are standardised for the fit and the constants folded back into the weights, so that a model
takes raw values. The same constants become the card's calibration. They are means and deviations
of the training data: a model, like its card, is an output and passes the release of its owner.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from compute import canonical as cj
from compute.errors import InputMalformed
from compute.models import Array, Calibration, Layer, ModelCard, ModelFile, pack_weights

_NEWTON_STEPS = 50
_EPOCHS = 600


def fit_logistic_regression(
    rows: Array,
    labels: Array,
    *,
    features: Sequence[str],
    output: str = "positive",
    name: str = "logistic-regression",
    version: str = "1",
    penalty: float = 1.0,
) -> ModelFile:
    """Ridge-penalised maximum likelihood by Newton's method (IRLS), to convergence.

    Args:
        rows: [n, features] raw values, finite.
        labels: [n] of 0 and 1.
        features: names of the columns.
        output: name of the outcome.
        name: on the card.
        version: on the card.
        penalty: of the squared standardised weights, halved; the bias is free.

    Raises:
        InputMalformed: for shapes or labels that do not fit.
    """
    inputs, calibration = _standardise(rows, labels)

    def gradient(theta: Array) -> tuple[Array, Array]:
        chance = 1.0 / (1.0 + np.exp(-np.clip(inputs @ theta, -500, 500)))
        return inputs.T @ (chance - labels), np.clip(chance * (1 - chance), 1e-9, None)

    theta = _newton(inputs, gradient, penalty)
    card = _card((name, version), "logistic-regression", features, (output,), calibration)
    return _finish(card, (_unfold(theta, calibration),))


def fit_linear_svm(
    rows: Array,
    labels: Array,
    *,
    features: Sequence[str],
    output: str = "positive",
    name: str = "linear-svm",
    version: str = "1",
    penalty: float = 1.0,
) -> ModelFile:
    """Linear support vector machine with squared hinge loss, by Newton's method on its pieces.

    Arguments and errors as `fit_logistic_regression`.
    """
    inputs, calibration = _standardise(rows, labels)
    sides = 2.0 * labels - 1.0

    def gradient(theta: Array) -> tuple[Array, Array]:
        short = 1.0 - sides * (inputs @ theta)
        inside = (short > 0).astype(np.float64)
        return -2.0 * inputs.T @ (sides * short * inside), 2.0 * inside

    theta = _newton(inputs, gradient, penalty)
    card = _card((name, version), "linear-svm", features, (output,), calibration)
    return _finish(card, (_unfold(theta, calibration),))


def fit_mlp(
    rows: Array,
    labels: Array,
    *,
    features: Sequence[str],
    outputs: Sequence[str],
    hidden: int = 16,
    activation: str = "square",
    name: str = "mlp",
    version: str = "1",
    seed: int = 0,
) -> ModelFile:
    """One hidden layer, softmax over the outputs, full-batch Adam with weight decay.

    Args:
        rows: [n, features] raw values, finite.
        labels: [n] of 0 … outputs-1.
        features: names of the columns.
        outputs: names of the classes, two or more.
        hidden: units.
        activation: `square` (also runs on ciphertext) or `relu`.
        name: on the card.
        version: on the card.
        seed: of the start weights; equal seeds give equal bytes on one machine.

    Raises:
        InputMalformed: for shapes or labels that do not fit.
    """
    if activation not in ("square", "relu"):
        raise InputMalformed("activation is square or relu")
    inputs, calibration = _standardise(rows, labels, classes=len(outputs))
    chance = np.random.default_rng(seed)
    width = inputs.shape[1]
    parts = [
        chance.normal(scale=0.3 / width**0.5, size=(hidden, width)),
        chance.normal(scale=0.3 / hidden**0.5, size=(len(outputs), hidden + 1)),
    ]
    wanted = np.eye(len(outputs))[labels.astype(int)]
    first = [np.zeros_like(part) for part in parts]
    second = [np.zeros_like(part) for part in parts]
    for step in range(1, _EPOCHS + 1):
        gradients = _backward(inputs, wanted, parts, activation)
        for index, slope in enumerate(gradients):
            first[index] = 0.9 * first[index] + 0.1 * slope
            second[index] = 0.999 * second[index] + 0.001 * slope**2
            scaled = np.sqrt(second[index] / (1 - 0.999**step)) + 1e-8
            parts[index] = parts[index] - 0.02 * first[index] / (1 - 0.9**step) / scaled
    hidden_layer = _unfold(parts[0], calibration)
    output_layer = Layer(parts[1][:, :-1].copy(), parts[1][:, -1].copy())
    card = _card((name, version), f"mlp-{activation}", features, tuple(outputs), calibration)
    return _finish(card, (hidden_layer, output_layer))


def _backward(
    inputs: Array, wanted: Array, parts: Sequence[Array], activation: str
) -> tuple[Array, Array]:
    """Gradients of the mean cross entropy and of a small weight decay."""
    before = inputs @ parts[0].T
    after = before**2 if activation == "square" else np.maximum(before, 0.0)
    full = np.hstack([after, np.ones((len(after), 1))])
    logits = full @ parts[1].T
    logits -= logits.max(axis=1, keepdims=True)
    chances = np.exp(logits)
    chances /= chances.sum(axis=1, keepdims=True)
    error = (chances - wanted) / len(inputs)
    slope = 2.0 * before if activation == "square" else (before > 0).astype(np.float64)
    back = (error @ parts[1][:, :-1]) * slope
    return back.T @ inputs + 1e-3 * parts[0], error.T @ full + 1e-3 * parts[1]


def _standardise(rows: Array, labels: Array, classes: int = 2) -> tuple[Array, Calibration]:
    """Standardised rows with a column of ones at the end, and the constants."""
    if rows.ndim != 2 or labels.shape != (len(rows),) or len(rows) < 2:
        raise InputMalformed("training: a table of rows and one label for each")
    if not np.isfinite(rows).all():
        raise InputMalformed("training: a cell is missing or not finite")
    if set(np.unique(labels)) - set(range(classes)):
        raise InputMalformed(f"training: labels are 0 to {classes - 1}")
    centre, spread = rows.mean(axis=0), rows.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    inputs = np.hstack([(rows - centre) / spread, np.ones((len(rows), 1))])
    return inputs, Calibration(tuple(centre.tolist()), tuple(spread.tolist()))


def _newton(
    inputs: Array, gradient: Callable[[Array], tuple[Array, Array]], penalty: float
) -> Array:
    ridge = np.full(inputs.shape[1], penalty)
    ridge[-1] = 1e-9
    theta = np.zeros(inputs.shape[1])
    for _ in range(_NEWTON_STEPS):
        slope, curvature = gradient(theta)
        hessian = (inputs * curvature[:, None]).T @ inputs + np.diag(ridge)
        step = np.linalg.solve(hessian, slope + ridge * theta)
        theta = theta - step
        if np.abs(step).max() < 1e-10:
            break
    return theta[None, :]


def _unfold(theta: Array, calibration: Calibration) -> Layer:
    """Weights on standardised inputs → weights on raw inputs."""
    weight = theta[:, :-1] / np.asarray(calibration.spread)
    return Layer(weight, theta[:, -1] - weight @ np.asarray(calibration.centre))


def _card(
    names: tuple[str, str],
    architecture: str,
    features: Sequence[str],
    outputs: tuple[str, ...],
    calibration: Calibration,
) -> ModelCard:
    return ModelCard(*names, architecture, tuple(features), outputs, bytes(32), calibration)


def _finish(card: ModelCard, layers: tuple[Layer, ...]) -> ModelFile:
    data = pack_weights(layers)
    return ModelFile(data, replace(card, digest=cj.sha256(data)))
