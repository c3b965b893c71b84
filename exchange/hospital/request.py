"""Ask for the records of a dataset version, as a signed document (decision D7)."""

from __future__ import annotations

import secrets
import time
from typing import Any

from exchange.documents import JOB_KIND, REQUEST_KIND
from exchange.hospital.client import ExchangeClient, Problem
from exchange.hospital.identity import Identity
from ledger.signing import sign_document


def ask(
    client: ExchangeClient, identity: Identity, *, dataset: str, version: int | None, purpose: str
) -> dict[str, Any]:
    """Sign and send a release request; the exchange's answer, a denial included.

    Raises:
        Problem: the exchange refused for another reason than a denial.
    """
    found = client.get(f"/v1/datasets/{dataset}")
    request = {
        "kind": REQUEST_KIND,
        "requester": identity.org.hex,
        "dataset": dataset,
        "version": version or found["version"],
        "purpose": purpose,
        "categories": sorted(found["categories"]),
        "action": "disclose",
        "receiveKey": "0x" + identity.receive_public.hex(),
        "nonce": "0x" + secrets.token_hex(16),
        "at": int(time.time()),
    }
    signature = sign_document(identity.signing, REQUEST_KIND, request, identity.pins().domain)
    try:
        answer: dict[str, Any] = client.post(
            "/v1/requests", {"request": request, "signature": "0x" + signature.hex()}
        )
    except Problem as problem:
        if problem.slug != "denied":
            raise
        return dict(problem.document)
    return answer


def job_document(
    identity: Identity,
    *,
    job: str,
    dataset: str | None,
    version: int | None,
    purpose: str,
    categories: list[str],
    action: str,
    model: str | None = None,
    parameters: dict[str, Any] | None = None,
    slots: list[list[str]] | None = None,
) -> dict[str, Any]:
    """A signed job: ``{"spec", "signature"}`` as ``POST /v1/jobs`` takes it.

    ``parameters`` must hold no floats: numbers in filters are decimal strings. ``slots`` are
    ``[subject, consent]`` pairs of an encrypted job.
    """
    spec = {
        "kind": JOB_KIND,
        "job": job,
        "requester": identity.org.hex,
        "dataset": dataset,
        "version": version,
        "purpose": purpose,
        "categories": sorted(categories),
        "action": action,
        "model": model,
        "parameters": parameters or {},
        "slots": slots,
        "receiveKey": "0x" + identity.receive_public.hex(),
        "nonce": "0x" + secrets.token_hex(16),
        "at": int(time.time()),
    }
    signature = sign_document(identity.signing, JOB_KIND, spec, identity.pins().domain)
    return {"spec": spec, "signature": "0x" + signature.hex()}
