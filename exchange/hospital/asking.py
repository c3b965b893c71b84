"""Queries and jobs from the hospital's side: sign, submit, wait, open the sealed answer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exchange.errors import JobFailed, Malformed
from exchange.hospital.client import ExchangeClient
from exchange.hospital.identity import Identity
from exchange.hospital.request import job_document
from exchange.sealing import open_sealed, result_info
from ledger.ids import JobId

ENDED = ("done", "failed", "refused", "stopped")
_FILTER = re.compile(r"\s*(?P<field>.+?)\s*(?P<op><=|>=|!=|=|<|>|\bcontains\b)\s*(?P<value>.*?)\s*")
_LOOK_SECONDS = 0.1


def read_filter(text: str) -> dict[str, str]:
    """``field op value`` as a filter.

    Raises:
        Malformed: it has another form.
    """
    found = _FILTER.fullmatch(text)
    if found is None:
        raise Malformed(
            "a filter reads field op value",
            next_step="write for example --where 'age >= 60' or --where 'code.text contains asthma'",
        )
    return {name: found[name] for name in ("field", "op", "value")}


def run_query(
    home: Path,
    dataset: str,
    *,
    purpose: str,
    where: list[str],
    columns: list[str],
    seconds: float = 120.0,
) -> dict[str, Any]:
    """Count, or fetch rows when columns are named.

    Raises:
        Malformed: a filter cannot be read.
        Problem: the exchange refused.
        JobFailed: the query ended without an answer, for a stable reason.
    """
    identity = Identity.load(home)
    client = ExchangeClient.of(identity)
    try:
        found = client.get(f"/v1/datasets/{dataset}")
        want = "rows" if columns else "count"
        parameters: dict[str, Any] = {
            "filters": [read_filter(text) for text in where],
            "want": want,
        }
        if columns:
            parameters["columns"] = columns
        document = job_document(
            identity,
            job="query",
            dataset=dataset,
            version=found["version"],
            purpose=purpose,
            categories=found["categories"],
            action="disclose" if columns else "use",
            parameters=parameters,
        )
        job = client.post("/v1/queries", document)
        return open_result(client, identity, await_job(client, job["job"], seconds=seconds))
    finally:
        client.close()


def await_job(
    client: ExchangeClient,
    job: str,
    *,
    seconds: float,
    watch: Callable[[dict[str, Any]], None] = lambda _status: None,
) -> dict[str, Any]:
    """A job's status once it has ended; ``watch`` sees every status on the way.

    Raises:
        JobFailed: it takes longer than ``seconds``.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        status: dict[str, Any] = client.get(f"/v1/jobs/{job}")
        watch(status)
        if status["status"] in ENDED:
            return status
        time.sleep(_LOOK_SECONDS)
    raise JobFailed("time", next_step=f"the job goes on: ask for /v1/jobs/{job} later")


def open_result(
    client: ExchangeClient, identity: Identity, status: dict[str, Any]
) -> dict[str, Any]:
    """The JSON answer of a job that is done.

    Raises:
        JobFailed: it ended otherwise.
        EnvelopeCorrupt: the result is not sealed to this hospital.
    """
    if status["status"] != "done":
        raise JobFailed(
            str(status["detail"] or status["status"]),
            next_step="see the status: who is covered is decided by the patients",
        )
    job = JobId.parse(status["job"])
    sealed = client.get_bytes(f"/v1/jobs/{job.hex}/result")
    answer: dict[str, Any] = json.loads(
        open_sealed(identity.receive, sealed, info=result_info(job))
    )
    return answer
