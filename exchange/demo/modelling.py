"""Computing in the demonstration: inference on ciphertext, and a torch model on covered records.

Each compares the exchange's answer with plain numpy arithmetic on what the hospital itself has.
"""

from __future__ import annotations

import base64
import time
from typing import Any

import numpy as np

from compute.client.encryption import make_keys
from compute.models import ModelFile, load_pinned
from compute.presets import preset_for
from compute.score import decisions, scores
from compute.train import fit_logistic_regression, fit_mlp
from exchange.demo.people import RESEARCH, TREATMENT
from exchange.demo.stage import Differs, Stage, whole
from exchange.demo.world import Hospital
from exchange.documents import MODEL_KIND
from exchange.hospital.asking import await_job, open_result
from exchange.hospital.encrypted import covering_consents, open_reply, submit_encrypted
from exchange.hospital.request import job_document
from ledger.signing import sign_document, to_hex


def encrypted(stage: Stage) -> None:
    """A's model on B's ciphertexts: the server sees weights, never a value (decision D9)."""
    rows, labels = stage.training(seed=7)
    model = fit_logistic_regression(
        rows, labels, features=stage.features, output="at risk", name="risk"
    )
    _register(stage, stage.publisher, "risk", model)
    consents = covering_consents(stage.encrypting.http, TREATMENT, ["tables"])
    known = stage.values()
    slots = [(who, consents[who]) for who in sorted(consents) if whole(known.get(who))]
    values = np.array([known[who] for who, _ in slots])
    holder = make_keys(preset_for(0))
    job, header = submit_encrypted(
        stage.encrypting.http,
        stage.encrypting.identity,
        holder,
        values,
        slots,
        card=model.card,
        purpose=TREATMENT,
        categories=["tables"],
    )
    status = await_job(stage.encrypting.http, job["job"], seconds=120)
    if status["status"] != "done":
        raise Differs(f"the encrypted job is {status['status']}: {status['detail']}")
    opened = open_reply(stage.encrypting.http, holder, header, status, model.card)
    truth, plain_decisions = _clear(model, values)
    agreement = float(np.mean(np.array(opened["decisions"]) == plain_decisions))
    error = float(np.max(np.abs(np.array(opened["scores"]) - truth)))
    stage.report["encrypted_agreement"] = {
        "patients": len(slots),
        "decisions": agreement,
        "max_score_error": round(error, 4),
        "engine": status["kind"],
    }
    if agreement < 1:
        raise Differs("decisions on ciphertext differ from those in the clear")
    stage.say(
        f"  {len(slots)} patients in one ciphertext: {agreement:.0%} of decisions agree, "
        f"largest difference {error:.4f}"
    )


def plain(stage: Stage) -> None:
    """B's torch model on A's covered records; nobody else's row enters."""
    rows, labels = stage.training(seed=8)
    model = fit_mlp(
        rows,
        labels,
        features=stage.features,
        outputs=("low", "high"),
        hidden=8,
        activation="relu",
        seed=3,
    )
    _register(stage, stage.requester, "mlp", model)
    answer, status = _infer(stage, "mlp")
    known = stage.values()
    covered = {
        who
        for who in stage.covered(stage.requester, RESEARCH, stage.table_group)
        if whole(known.get(who))
    }
    got = {item["subject"]: item for item in answer["predictions"]}
    if set(got) != covered:
        raise Differs("the model ran on other patients than the covered ones")
    order = sorted(got)
    _, wanted = _clear(model, np.array([known[who] for who in order]))
    same = float(np.mean([got[who]["decision"] for who in order] == wanted))
    stage.report["plain_model"] = {
        "architecture": model.card.architecture,
        "subjects": len(got),
        "agreement": same,
        "seconds": round((status["updated"] - status["created"]) / 1000, 2),
    }
    if same < 1:
        raise Differs("torch decides otherwise than plain arithmetic")
    stage.say(f"  {len(got)} covered subjects, {same:.0%} of decisions as by plain arithmetic")


def submit(stage: Stage, model: str) -> str:
    """Ask for plain inference on the table's covered records; the job."""
    found = stage.requester.http.get(f"/v1/datasets/{stage.datasets['table']}")
    document = job_document(
        stage.requester.identity,
        job="plain-inference",
        dataset=found["dataset"],
        version=found["version"],
        purpose=RESEARCH,
        categories=found["categories"],
        action="use",
        model=to_hex(stage.models[model].card.digest),
        parameters={"want": "rows"},
    )
    job: str = stage.requester.http.post("/v1/jobs", document)["job"]
    return job


def await_running(stage: Stage, job: str) -> None:
    """Return as soon as a worker has taken the job.

    Raises:
        Differs: none takes it within a minute.
    """
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if stage.requester.http.get(f"/v1/jobs/{job}")["status"] != "queued":
            return
        time.sleep(0.01)
    raise Differs("the job does not start")


def _register(stage: Stage, owner: Hospital, name: str, model: ModelFile) -> None:
    document = {
        "kind": MODEL_KIND,
        "org": owner.org.hex,
        "card": model.card.to_value(),
        "digest": to_hex(model.card.digest),
    }
    signature = sign_document(
        owner.identity.signing, MODEL_KIND, document, owner.identity.pins().domain
    )
    owner.http.post(
        "/v1/models",
        {
            "model": document,
            "weights": base64.b64encode(model.data).decode(),
            "signature": to_hex(signature),
        },
    )
    stage.models[name] = model


def _infer(stage: Stage, model: str) -> tuple[dict[str, Any], dict[str, Any]]:
    job = submit(stage, model)
    status = await_job(stage.requester.http, job, seconds=120)
    if status["status"] != "done":
        raise Differs(f"the job is {status['status']}: {status['detail']}")
    return open_result(stage.requester.http, stage.requester.identity, status), status


def _clear(model: ModelFile, values: np.ndarray[Any, Any]) -> tuple[Any, Any]:
    """Scores and decisions by plain numpy arithmetic, beside whatever the exchange did."""
    loaded = load_pinned(model, model.card.digest)
    hidden = np.asarray(values, dtype=np.float64)
    for index, layer in enumerate(loaded.layers):
        hidden = hidden @ layer.weight.T + layer.bias
        if index < len(loaded.layers) - 1:
            hidden = np.maximum(hidden, 0.0)
    return np.ravel(scores(model.card, hidden)), np.asarray(decisions(model.card, hidden))
