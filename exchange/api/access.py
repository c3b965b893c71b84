"""HTTP of asking: signed requests for the records of a dataset version."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse
from starlette.responses import Response

from exchange.api import problems
from exchange.api.auth import HospitalActor, House, KnownActor, OnceActor
from exchange.api.reading import Body, Signature
from ledger.ids import ReleaseId
from ledger.signing import from_hex

router = APIRouter(prefix="/v1", tags=["access"])

Release = Annotated[str, Path(pattern=r"^0x[0-9a-f]{32}$")]


class RequestBody(Body):
    """A signed request (``assent.request/1``)."""

    request: dict[str, Any]
    signature: Signature


@router.post(
    "/requests",
    operation_id="ask",
    status_code=201,
    responses={202: {"description": "A person must answer first"}, 403: {"description": "Denied"}},
)
def ask(house: House, actor: HospitalActor, once: OnceActor, body: RequestBody) -> Response:
    """Ask for records: who may leave is decided and recorded now, whatever the answer."""
    answer = house.requests.ask(actor, body.request, from_hex(body.signature, 64), claim=once)
    match answer.decision:
        case "permit":
            return JSONResponse(
                answer.to_json(),
                status_code=201,
                headers={"Location": f"/v1/releases/{answer.release.hex}/content"},
            )
        case "referral":
            return JSONResponse(answer.to_json(), status_code=202)
        case _:
            return problems.denied(answer.to_json())


@router.get("/requests", operation_id="own_requests")
def mine(house: House, actor: HospitalActor) -> dict[str, Any]:
    """The hospital's own requests, newest first."""
    return {"items": house.requests.mine(actor)}


@router.get("/requests/{release}", operation_id="own_request")
def one(house: House, actor: HospitalActor, release: Release) -> dict[str, Any]:
    """One of the hospital's own requests."""
    return house.requests.one(actor, ReleaseId.parse(release))


@router.get("/requests/{release}/withheld", operation_id="withheld")
def withheld(house: House, actor: KnownActor, release: Release) -> dict[str, Any]:
    """Why records stayed, by count: for the publisher and for auditors."""
    return {"reasons": house.requests.withheld(actor, ReleaseId.parse(release))}
