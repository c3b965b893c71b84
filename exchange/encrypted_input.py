"""An encrypted job's input: the evaluator's context and the signed request, joined.

Only what stands in clear is read here: the context's own fields and the request's header, which must be
signed by the requester and speak of exactly this job's model and slots (decision D9). The ciphertext
itself is parsed in a job's child alone.
"""

from __future__ import annotations

from collections.abc import Callable

from compute import evaluator
from compute.errors import CiphertextRefused, ContextRefused
from compute.wire import MAX_HEAD_BYTES, parse_head
from exchange.documents import JobRequest
from exchange.errors import RequestRefused
from ledger.commitment import sha256
from ledger.errors import SignatureInvalid
from ledger.signing import recover_digest, to_hex

_LENGTH_BYTES = 4


def join(context: bytes, request: bytes) -> bytes:
    """Both, as ``PUT /v1/jobs/{job}/input`` takes them: the context's length comes first."""
    return len(context).to_bytes(_LENGTH_BYTES, "big") + context + request


def split(
    read: Callable[[int, int], bytes], size: int, job: JobRequest, address: bytes
) -> tuple[bytes, int]:
    """The context, and where the request begins, once both are those of this job.

    ``read`` gives so many bytes from an offset of an input of ``size`` bytes; ``address`` is the
    requester's signing address (20 bytes).

    Raises:
        ContextRefused: the context holds a key, or parameters off the allow-list.
        CiphertextRefused: the request's head is malformed, or its body has another length.
        SignatureInvalid: the request is not signed by the requester.
        RequestRefused: it speaks of other slots, another model, key or requester.
    """
    length = int.from_bytes(read(0, min(size, _LENGTH_BYTES)), "big")
    start = _LENGTH_BYTES + length
    if not 0 < length <= evaluator.MAX_BYTES or start > size:
        raise ContextRefused("size", f"not between 1 and {evaluator.MAX_BYTES} bytes")
    context = read(_LENGTH_BYTES, length)
    announced = evaluator.read(context)
    header, signature, body = parse_head(read(start, min(MAX_HEAD_BYTES, size - start)))
    if header.body_bytes != size - start - body:
        raise CiphertextRefused("truncated", "the body is not as long as the header says")
    if recover_digest(header.digest, signature) != address:
        raise SignatureInvalid("the request is not signed by the hospital that asks")
    named = tuple((subject.hex, consent) for subject, consent in job.slots or ())
    if header.slots != named:
        raise _differs("slots", "are not those of the job")
    if header.org != job.requester.hex:
        raise _differs("org", "is not the hospital that asks")
    if header.model != job.model:
        raise _differs("model", "is not the one that the job names")
    if header.parameters != announced.preset.name:
        raise _differs("parameters", "are not those of the context")
    if header.context != to_hex(sha256(context)):
        raise _differs("context", "is not the one that was sent with it")
    return context, start


def _differs(field: str, what: str) -> RequestRefused:
    return RequestRefused(
        f"the encrypted request's {field} {what}",
        pointer=f"/header/{field}",
        next_step="encrypt for this job again",
    )
