"""Encrypted inference from the hospital's side (decision D9): its own key, its own patients.

The request's slots name for each patient the consent that covers the inference. Where a patient's consent
ends before the reply leaves, the reply is withheld, and the rest is encrypted again without that patient.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from compute.client.decryption import decrypt
from compute.client.encryption import encrypt, make_keys
from compute.context import KeyHolder
from compute.headers import RequestHeader
from compute.models import ModelCard
from compute.presets import preset_for
from compute.score import decisions, scores
from exchange.encrypted_input import join
from exchange.errors import Malformed
from exchange.hospital.asking import ENDED, await_job
from exchange.hospital.client import ExchangeClient
from exchange.hospital.identity import Identity
from exchange.hospital.request import job_document
from exchange.hospital.sources import read
from exchange.hospital.subjects import SubjectMap
from ledger.ids import SubjectId
from ledger.signing import to_hex

_HIDDEN = {"logistic-regression": 0, "linear-svm": 0, "mlp-square": 1}


def submit_encrypted(
    client: ExchangeClient,
    identity: Identity,
    holder: KeyHolder,
    rows: npt.NDArray[np.float64],
    slots: list[tuple[str, str]],
    *,
    card: ModelCard,
    purpose: str,
    categories: list[str],
) -> tuple[dict[str, Any], RequestHeader]:
    """Encrypt rows [patients, features], submit the job, hand the ciphertext in.

    ``slots`` are ``(subject, consent)`` of each row. Returns the job and the request's header.

    Raises:
        InputMalformed: rows and slots do not fit the model.
        Problem: the exchange refused.
    """
    request = encrypt(
        holder,
        rows,
        slots,
        org=identity.org.hex,
        columns=card.features,
        model_digest=to_hex(card.digest),
        calibration=card.calibration,
    )
    document = job_document(
        identity,
        job="encrypted-inference",
        dataset=None,
        version=None,
        purpose=purpose,
        categories=categories,
        action="use",
        model=to_hex(card.digest),
        slots=[list(slot) for slot in slots],
    )
    job = client.post("/v1/jobs", document)
    if job["status"] in ENDED:
        return job, request.header
    signature = identity.signing.sign_digest(request.header.digest)
    body = join(holder.evaluator_bytes(), request.signed(signature).to_bytes())
    client.put(f"/v1/jobs/{job['job']}/input", body)
    return job, request.header


def open_reply(
    client: ExchangeClient,
    holder: KeyHolder,
    header: RequestHeader,
    status: dict[str, Any],
    card: ModelCard,
) -> dict[str, Any]:
    """Decrypt the reply of a job that is done: rounded scores and decisions by subject.

    Raises:
        CiphertextRefused: the reply answers another request, or was altered.
    """
    reply = client.get_bytes(f"/v1/jobs/{status['job']}/result")
    outputs = decrypt(holder, reply, header)
    return {
        "subjects": list(header.subjects),
        "outputs": outputs.tolist(),
        "scores": [round(float(one), 3) for one in np.ravel(scores(card, outputs))],
        "decisions": [int(one) for one in decisions(card, outputs)],
    }


def covering_consents(
    client: ExchangeClient, purpose: str, categories: list[str]
) -> dict[str, str]:
    """For each own subject the consent by which an inference is covered now, by subject."""
    answer = client.get("/v1/hospital/coverage", purpose=purpose, categories=",".join(categories))
    return {item["subject"]: item["consent"] for item in answer["items"]}


def encrypt_and_submit(
    home: Path, rows: Path, *, model: str, purpose: str, out: Path
) -> dict[str, Any]:
    """``assent hospital encrypt``: rows of a CSV whose patients' consent covers the inference.

    Raises:
        Malformed: a feature is missing, or nobody in the file is covered.
        Problem: the exchange refused.
    """
    identity = Identity.load(home)
    client = ExchangeClient.of(identity)
    try:
        card = ModelCard.from_value(client.get(f"/v1/models/{model}")["card"])
        if card.architecture not in _HIDDEN:
            raise Malformed(
                f"{card.architecture} cannot be run on ciphertext",
                next_step="choose logistic-regression, linear-svm or mlp-square",
            )
        found = read(rows, "table")
        missing = [name for name in card.features if name not in found.columns]
        if missing:
            raise Malformed(f"{rows}: {len(missing)} of the model's columns are missing")
        subjects = SubjectMap(home / "subjects.sqlite", identity.org)
        covered = covering_consents(client, purpose, ["tables"])
        slots: list[tuple[str, str]] = []
        values: list[list[float]] = []
        for source in found.sources:
            subject: SubjectId = subjects.subject_of(source.record)
            if subject.hex in covered:
                slots.append((subject.hex, covered[subject.hex]))
                values.append([float(source.content[name]) for name in card.features])
        if not slots:
            raise Malformed(
                "no patient in the file has consented to this",
                next_step="see who consented on the hospital's page",
            )
        holder = make_keys(preset_for(_HIDDEN[card.architecture]))
        job, header = submit_encrypted(
            client,
            identity,
            holder,
            np.array(values, dtype=np.float64),
            slots,
            card=card,
            purpose=purpose,
            categories=["tables"],
        )
    finally:
        client.close()
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    holder.save(out / f"{job['job']}.key")
    (out / f"{job['job']}.header.json").write_bytes(header.to_json())
    (out / f"{job['job']}.card.json").write_text(json.dumps(card.to_value()))
    return job


def fetch_and_decrypt(home: Path, job: str, *, out: Path, seconds: float = 120.0) -> dict[str, Any]:
    """``assent hospital decrypt``: wait for the reply and open it.

    Raises:
        Malformed: key or header of this job are not in ``out``.
        JobFailed: the job takes too long.
    """
    identity = Identity.load(home)
    key, header = out / f"{job}.key", out / f"{job}.header.json"
    if not key.exists() or not header.exists():
        raise Malformed(f"{out} does not hold the key of {job}", next_step="name it with --out")
    client = ExchangeClient.of(identity)
    try:
        status = await_job(client, job, seconds=seconds)
        if status["status"] != "done":
            return status
        card = ModelCard.from_value(json.loads((out / f"{job}.card.json").read_text()))
        return open_reply(
            client,
            KeyHolder.load(key),
            RequestHeader.from_json(header.read_bytes()),
            status,
            card,
        )
    finally:
        client.close()
