"""Open replies at the hospital.

A decrypted CKKS value carries noise that depends on the secret key; handing it on with full
precision can give the key away (Li-Micciancio, IND-CPA-D; threats P9). `decrypt` therefore rounds
to `guard.DECRYPTED_DIGITS` decimals, and counts against the key's budget.
"""

import numpy as np

from compute import canonical as cj
from compute.context import KeyHolder, read_tensor
from compute.errors import CiphertextRefused
from compute.guard import DECRYPTED_DIGITS
from compute.headers import RequestHeader
from compute.models import Array
from compute.wire import parse_reply


def decrypt(keyholder: KeyHolder, reply_bytes: bytes, header: RequestHeader) -> Array:
    """Open a reply to one's own request: [patients, outputs], rounded to two decimals.

    The values are the model's outputs before any score function (logits, margins), in the
    request's order of slots. `compute.score` makes scores and decisions of them.

    Raises:
        CiphertextRefused: when the reply is malformed or altered, answers another request, model
            or key, or holds values that no valid computation gives.
        BudgetExhausted: when this key has opened as many replies as it may.
    """
    reply = parse_reply(reply_bytes)
    found = reply.header
    if header.context != keyholder.fingerprint or found.context != header.context:
        raise CiphertextRefused("context", "encrypted for another key")
    if found.request != cj.to_hex(header.digest):
        raise CiphertextRefused("request", "the reply answers another request")
    if found.model != header.model:
        raise CiphertextRefused("model", "the reply is of another model")
    if found.parameters != header.parameters or found.count != header.count:
        raise CiphertextRefused("parameters", "the reply is of other parameters or patients")
    keyholder.count_decryption()
    tensor = read_tensor(
        keyholder.context,
        keyholder.preset,
        reply.body,
        width=len(found.outputs),
        batch=found.count,
        reply=True,
    )
    values = np.array(tensor.decrypt().tolist(), dtype=np.float64)
    values = values.reshape(found.count, len(found.outputs))
    # The computing side keeps every result within the headroom; anything else was not computed
    # from this request, or not opened with its key.
    limit = 2.0**keyholder.preset.headroom_bits * 1.01
    if not (np.isfinite(values).all() and np.abs(values).max() <= limit):
        raise CiphertextRefused("range", "values that no valid computation gives")
    return np.round(values * 2.0**found.shift_bits, DECRYPTED_DIGITS) + 0.0
