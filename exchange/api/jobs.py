"""HTTP of jobs and queries: submit, hand in, watch, fetch."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.responses import Response

from exchange.api.auth import HospitalActor, House, OnceActor
from exchange.api.reading import Body, Signature
from exchange.api.uploads import handed_over
from exchange.errors import DocumentMalformed
from exchange.jobs import ENDED
from ledger.ids import JobId
from ledger.signing import from_hex

router = APIRouter(prefix="/v1", tags=["jobs"])

Job = Annotated[str, Path(pattern=r"^0x[0-9a-f]{32}$")]
_LOOK_SECONDS = 0.2


class JobBody(Body):
    """A signed job (``assent.job/1``)."""

    spec: dict[str, Any]
    signature: Signature


@router.post("/jobs", operation_id="submit_job", status_code=202)
def submit(house: House, actor: HospitalActor, once: OnceActor, body: JobBody) -> Response:
    """Submit a job: who is covered is decided and recorded now, and asked again when it runs."""
    job = house.jobs.submit(actor, body.spec, from_hex(body.signature, 64), claim=once)
    return JSONResponse(job, status_code=202, headers={"Location": f"/v1/jobs/{job['job']}"})


@router.post("/queries", operation_id="query", status_code=202)
def query(house: House, actor: HospitalActor, once: OnceActor, body: JobBody) -> Response:
    """Submit a query: a job of that kind (rows sealed to the requester, or suppressed counts)."""
    if body.spec.get("job") != "query":
        raise DocumentMalformed("/spec/job", "must be query")
    return submit(house, actor, once, body)


@router.get("/jobs", operation_id="own_jobs")
def mine(house: House, actor: HospitalActor) -> dict[str, Any]:
    """The hospital's own jobs, newest first."""
    return {"items": house.jobs.mine(actor)}


@router.get("/hospital/coverage", operation_id="coverage")
def coverage(
    house: House,
    actor: HospitalActor,
    purpose: Annotated[str, Query(max_length=20)],
    categories: Annotated[str, Query(max_length=100)],
) -> dict[str, Any]:
    """The hospital's own subjects whose consent covers a computation by itself, and which consent."""
    found = house.jobs.coverage(actor, purpose, categories.split(","))
    return {"items": [{"subject": who, "consent": consent} for who, consent in found.items()]}


@router.get("/jobs/{job}", operation_id="job_status")
def status(house: House, actor: HospitalActor, job: Job) -> dict[str, Any]:
    """One of the hospital's own jobs."""
    return house.jobs.status(actor, JobId.parse(job))


@router.put("/jobs/{job}/input", operation_id="put_input", status_code=204)
async def put_input(request: Request, house: House, actor: HospitalActor, job: Job) -> None:
    """Stream an encrypted job's context and ciphertext; then it is queued."""
    identity = JobId.parse(job)
    await handed_over(request, lambda pieces: house.jobs.receive(actor, identity, pieces))


@router.get("/jobs/{job}/result", operation_id="job_result", response_class=Response)
def result(house: House, actor: HospitalActor, job: Job) -> Response:
    """The result: sealed to the requester, or a ciphertext under its own key."""
    return Response(
        house.jobs.result(actor, JobId.parse(job)), media_type="application/octet-stream"
    )


@router.get("/jobs/{job}/events", operation_id="job_events", response_class=StreamingResponse)
async def events(
    request: Request, house: House, actor: HospitalActor, job: Job
) -> StreamingResponse:
    """Progress as server-sent events, until the job has ended."""
    identity = JobId.parse(job)
    first = await anyio.to_thread.run_sync(lambda: house.jobs.status(actor, identity))

    async def stream() -> AsyncIterator[str]:
        told = first
        yield _event(told)
        while told["status"] not in ENDED and not await request.is_disconnected():
            await asyncio.sleep(_LOOK_SECONDS)
            now = await anyio.to_thread.run_sync(lambda: house.jobs.status(actor, identity))
            if now != told:
                told = now
                yield _event(told)

    return StreamingResponse(stream(), media_type="text/event-stream")


def _event(job: dict[str, Any]) -> str:
    return f"event: job\ndata: {json.dumps(job, separators=(',', ':'))}\n\n"
