"""HTTP of auditing: heads of the log and proofs for everybody logged in, accesses for auditors."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse
from starlette.responses import Response

from exchange.api.auth import AuditorActor, House, KnownActor, anybody
from exchange.api.reading import Cursor, Limit, leaf_cursor
from exchange.audit import MEDIA_TYPE
from exchange.auditing.audit_event import MEDIA_TYPE as FHIR
from exchange.auditing.audit_event import Event, searchset

router = APIRouter(prefix="/v1", tags=["audit"])

_LOGGED_IN: Final = [Depends(anybody)]
_LARGEST: Final = 2**53 - 1
Size = Annotated[int, Query(ge=0, le=_LARGEST)]
Access = Annotated[str, Path(pattern=r"^0x[0-9a-f]{32}$")]


@router.get("/checkpoints", operation_id="checkpoints", dependencies=_LOGGED_IN)
def checkpoints(house: House, cursor: Cursor = None, limit: Limit = 50) -> dict[str, Any]:
    """Signed heads of the log, newest first."""
    return house.audit.checkpoints(leaf_cursor(cursor), limit).to_json()


@router.get("/checkpoints/latest", operation_id="latest_checkpoint", dependencies=_LOGGED_IN)
def latest(house: House) -> dict[str, Any]:
    """The newest checkpoint that is anchored on the chain."""
    return house.audit.latest()


@router.get("/leaves", operation_id="leaves")
def leaves(
    house: House,
    actor: AuditorActor,
    start: Annotated[int, Query(alias="from", ge=0, le=_LARGEST)],
    stop: Annotated[int, Query(alias="to", ge=0, le=_LARGEST)],
) -> dict[str, Any]:
    """Skeletons of the leaves from ``from`` (inclusive) to ``to``, at most 1,000 at once."""
    return house.audit.leaves(actor, start, stop)


@router.get("/proofs/inclusion", operation_id="inclusion_proof", dependencies=_LOGGED_IN)
def inclusion(house: House, index: Size, size: Size) -> dict[str, Any]:
    """The proof that the leaf ``index`` is in the tree of ``size`` leaves (RFC 6962)."""
    return house.audit.inclusion(index, size)


@router.get("/proofs/consistency", operation_id="consistency_proof", dependencies=_LOGGED_IN)
def consistency(house: House, first: Size, second: Size) -> dict[str, Any]:
    """The proof that the tree of ``first`` leaves is a prefix of that of ``second`` (RFC 6962)."""
    return house.audit.consistency(first, second)


@router.get("/accesses", operation_id="accesses")
def accesses(
    house: House, actor: AuditorActor, cursor: Cursor = None, limit: Limit = 50
) -> dict[str, Any]:
    """Every release and job that was decided on, newest first."""
    return house.audit.accesses(actor, leaf_cursor(cursor), limit).to_json()


@router.get(
    "/accesses/{access}/audit-events",
    operation_id="audit_events",
    response_class=JSONResponse,
    responses={200: {"content": {FHIR: {}}, "description": "A FHIR R4 Bundle of AuditEvents"}},
)
def audit_events(
    house: House,
    actor: KnownActor,
    access: Access,
    event: Event = "decision",
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Response:
    """An access as FHIR AuditEvents (IHE BALP), one per patient: decisions, or disclosures."""
    page = house.audit.events(actor, access, event, leaf_cursor(cursor), limit)
    here = f"/v1/accesses/{access}/audit-events?event={event}&limit={limit}"
    found = searchset(
        page.items,
        this=here if cursor is None else f"{here}&cursor={cursor}",
        following=None if page.next is None else f"{here}&cursor={page.next}",
    )
    return JSONResponse(found, media_type=FHIR)


@router.get(
    "/bundles/{access}",
    operation_id="bundle",
    response_class=Response,
    responses={
        200: {"content": {MEDIA_TYPE: {}}, "description": "Canonical bytes of assent.bundle/1"},
        409: {"description": "Not anchored yet: repeat in a few seconds"},
    },
)
def bundle(house: House, actor: KnownActor, access: Access) -> Response:
    """The evidence for a release or a job, to be verified offline with ``python -m ledger``."""
    data = house.audit.bundle(actor, access)
    name = f'attachment; filename="bundle-{access}.json"'
    return Response(data, media_type=MEDIA_TYPE, headers={"Content-Disposition": name})
