"""Inference on ciphertext: the server's side, without any key.

The server sees weights and never values. All biases travel as weights of a column of ones that the
client encrypts last: a bias added in the clear would need the ciphertext's own scale, and added to
a hidden layer it is silently lost by slot-replicating libraries. A hidden layer gets one unit more
that is constantly one, and carries the output's bias through the square.

Three properties are kept by construction, not by hope:

- *No weight is zero after encoding.* A product with zero would be a ciphertext of nothing; the
  library would encrypt afresh, for which this side has no key. Zero becomes one unit of the
  encoding, 2^-s, and its effect is part of the error bound.
- *No result wraps around the modulus.* From the announced bound of the inputs follows a bound of
  the result; where it exceeds the headroom, weights are divided by a power of two that the reply
  names and the client multiplies back.
- *No result is silently imprecise.* The worst error is worked out beforehand; above `TOLERANCE`
  the job is refused.

The reply is not sanitised: whoever holds the key can work out a linear model's weights from it.
Weights sent to this engine are not secret from the hospital that asks.
"""

import importlib.metadata
import math
from dataclasses import dataclass

import numpy as np
import tenseal as ts

from compute import canonical as cj
from compute.context import EvaluatorContext, load_evaluator, read_tensor
from compute.errors import CiphertextRefused, DepthExhausted, NotComputable
from compute.headers import ReplyHeader, RequestHeader
from compute.models import Array, Calibration, Layer, Model
from compute.presets import Preset
from compute.wire import Reply, Request, parse_request

# Half a unit of the second decimal that a decrypted score keeps is 0.005; worst case, not typical.
TOLERANCE = 0.05
# Deviations of a sum of fresh errors that are allowed for: beyond it once in 2^38 slots.
_DEVIATIONS = 7.0


@dataclass(frozen=True)
class Circuit:
    """A model folded for ciphertext.

    Attributes:
        matrices: [out, in+1] each; the last input is the constant one.
        shift_bits: the results are divided by 2^shift_bits.
        error: worst error of a result, in units of the result.
    """

    matrices: tuple[Array, ...]
    shift_bits: int
    error: float


def evaluate(request_bytes: bytes, evaluator_context: bytes, model: Model) -> bytes:
    """Run a model on a request's ciphertext; the reply as wire bytes.

    Run it in a process of its own with bounded memory: the library holds the interpreter's lock
    for the whole call.

    Raises:
        ContextRefused: when the context holds a secret key or is off the allow-list.
        CiphertextRefused: when the request is altered, malformed, for another key, model or
            parameters, or its ciphertexts are not what its header says.
        DepthExhausted, NotComputable: when the model does not fit the parameters.
    """
    context = load_evaluator(evaluator_context)
    request = parse_request(request_bytes)
    check_request(request.header, context, model)
    circuit = fold(model, request.header.calibration, request.header.bound_bits, context.preset)
    body = _run(request, context, circuit)
    header = ReplyHeader(
        request=cj.to_hex(request.header.digest),
        model=request.header.model,
        context=request.header.context,
        parameters=request.header.parameters,
        outputs=model.card.outputs,
        count=request.header.count,
        shift_bits=circuit.shift_bits,
        engine=engine_name(),
        body=cj.to_hex(cj.sha256(body)),
        body_bytes=len(body),
    )
    return Reply(header, body).to_bytes()


def engine_name() -> str:
    """Name and version of what computes here."""
    return f"tenseal {importlib.metadata.version('tenseal')}"


def check_request(header: RequestHeader, context: EvaluatorContext, model: Model) -> None:
    """That a request is for this key, these parameters and this model.

    Raises:
        CiphertextRefused: naming which it is not for.
    """
    if header.context != context.fingerprint:
        raise CiphertextRefused("context", "encrypted for another key")
    if header.parameters != context.preset.name:
        raise CiphertextRefused("parameters", f"not those of {context.preset.name}")
    if header.model != cj.to_hex(model.card.digest):
        raise CiphertextRefused("model", "encrypted for another model")
    if header.columns != model.card.features:
        raise CiphertextRefused("columns", "not the model's features in its order")
    if header.count > context.preset.slots:
        raise CiphertextRefused("batch", f"at most {context.preset.slots} patients")


def fold(model: Model, calibration: Calibration, bound_bits: int, preset: Preset) -> Circuit:
    """Fold conditioning, biases and scaling into matrices, and bound result and error.

    Raises:
        DepthExhausted: when the model has more hidden layers than the parameters.
        NotComputable: for an activation without a form on ciphertext, or when the error bound
            exceeds `TOLERANCE`.
    """
    if model.hidden_layers and model.architecture.activation != "square":
        raise NotComputable("on ciphertext a hidden layer is square; others run in the clear")
    if model.hidden_layers != preset.hidden_layers:
        if model.hidden_layers > preset.hidden_layers:
            raise DepthExhausted(f"{preset.name} has {preset.hidden_layers} hidden layer(s)")
        raise NotComputable(f"a model without hidden layers does not run under {preset.name}")
    unit = 2.0**-preset.scale_bits
    reach = np.full(len(model.card.features) + 1, 2.0**bound_bits)
    reach[-1] = 1.0
    # Deviation of the inputs, and what rounding every weight by up to one unit may do.
    noise = _DEVIATIONS * preset.fresh_error
    first = _condition(model.layers[0], calibration)
    if not model.hidden_layers:
        matrix = first
        largest = np.abs(first) @ reach
        error = noise * np.sqrt((first**2).sum(axis=1))
        rounding = np.full(len(first), unit * reach.sum())
    else:
        constant = np.zeros((1, first.shape[1]))
        constant[0, -1] = 1.0
        first = np.vstack([first, constant])
        matrix = np.hstack([model.layers[1].weight, model.layers[1].bias[:, None]])
        hidden = np.abs(first) @ reach
        slip = noise * np.sqrt((first**2).sum(axis=1)) + unit * reach.sum()
        largest = np.abs(matrix) @ hidden**2
        error = np.abs(matrix) @ (2.0 * hidden * slip + slip**2)
        rounding = np.full(len(matrix), unit * ((hidden + slip) ** 2).sum())
    if not np.isfinite(largest).all():
        raise NotComputable("the model's numbers are too large for these parameters")
    shift = max(0, math.ceil(math.log2(max(float(largest.max()), 1.0)) - preset.headroom_bits))
    worst = float((error + rounding * 2.0**shift).max())
    if not worst <= TOLERANCE:
        raise NotComputable(
            f"results could be off by more than {TOLERANCE}; calibrate the model's inputs"
        )
    last = _encodable(matrix * 2.0**-shift, unit)
    matrices = (last,) if not model.hidden_layers else (_encodable(first, unit), last)
    return Circuit(matrices, shift, worst)


def _condition(layer: Layer, calibration: Calibration) -> Array:
    """A layer on raw inputs → [out, in+1] on (x - centre) / spread and a constant one."""
    weight = layer.weight * np.asarray(calibration.spread)
    bias = layer.bias + layer.weight @ np.asarray(calibration.centre)
    return np.hstack([weight, bias[:, None]])


def _encodable(matrix: Array, unit: float) -> Array:
    """No entry nearer to zero than one unit of the encoding, so that none is encoded as zero."""
    smallest = np.where(matrix < 0, -unit, unit)
    return np.where(np.abs(matrix) < unit, smallest, matrix)


def _run(request: Request, context: EvaluatorContext, circuit: Circuit) -> bytes:
    header = request.header
    tensor = read_tensor(
        context.context,
        context.preset,
        request.body,
        width=len(header.columns) + 1,
        batch=header.count,
        reply=False,
    )
    try:
        for index, matrix in enumerate(circuit.matrices):
            if index:
                tensor.square_()
            tensor = tensor.mm(ts.plain_tensor(matrix.T.tolist()))
        return bytes(tensor.serialize())
    except (RuntimeError, ValueError) as failure:
        # The library's text may hold numbers of the circuit; its class says enough.
        raise NotComputable(f"the engine gave up ({type(failure).__name__})") from None
