"""What encrypted inference will cost, before anything is encrypted."""

import math
from dataclasses import dataclass

from compute.errors import InputMalformed, NotComputable
from compute.guard import DECRYPTED_DIGITS
from compute.models import ARCHITECTURES, ModelCard
from compute.presets import Preset, preset_for

# Measured on serialised ciphertexts of both presets: bytes over the residues' own bits.
_PACKING = 1.15
# Measured on one core: encode, encrypt and serialise one value of one slot, microseconds.
_CLIENT_MICROS = 1.0
_HIDDEN_GUESS = 32


@dataclass(frozen=True)
class Plan:
    """An estimate; sizes within a tenth, times within a factor of three.

    Attributes:
        preset: the parameters to make keys for.
        depth: multiplications one behind the other.
        requests: ciphertext batches, each of at most `preset.slots` patients.
        request_bytes, reply_bytes: of all of them.
        client_seconds, server_seconds: of one core, for all of them.
        decimals: that a decrypted result keeps.
    """

    preset: Preset
    depth: int
    requests: int
    request_bytes: int
    reply_bytes: int
    client_seconds: float
    server_seconds: float
    decimals: int


def explain_parameters(
    model_card: ModelCard, patients: int, *, hidden: int = _HIDDEN_GUESS
) -> Plan:
    """Size, time, precision and depth for a model and a number of patients.

    Args:
        model_card: the model.
        patients: how many.
        hidden: units of a hidden layer, which the card does not tell.

    Raises:
        InputMalformed: for no patients.
        NotComputable: for a model that has no form on ciphertext.
    """
    if patients < 1:
        raise InputMalformed("at least one patient")
    family = ARCHITECTURES[model_card.architecture]
    if family.activation == "relu":
        raise NotComputable("on ciphertext a hidden layer is square; others run in the clear")
    preset = preset_for(int(family.hidden))
    columns, outputs = len(model_card.features) + 1, len(model_card.outputs)
    products = columns * outputs
    if family.hidden:
        products = columns * (hidden + 1) + (hidden + 1) * outputs
    requests = math.ceil(patients / preset.slots)
    polynomial = preset.degree * preset.data_bits / 8 * _PACKING
    return Plan(
        preset=preset,
        depth=1 + 2 * preset.hidden_layers,
        requests=requests,
        request_bytes=math.ceil(requests * columns * 2 * polynomial),
        reply_bytes=math.ceil(requests * outputs * (2 + preset.hidden_layers) * polynomial),
        client_seconds=requests * columns * preset.slots * _CLIENT_MICROS / 1e6,
        server_seconds=requests * products * preset.slots * preset.micros_per_product / 1e6,
        decimals=DECRYPTED_DIGITS,
    )
