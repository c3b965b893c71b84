"""HTTP of consents: grant, object, withdraw, lift, list; what is held; receipts; the desk."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import Field

from exchange.api import problems
from exchange.api.auth import HospitalActor, House, OnceActor, SubjectActor
from exchange.api.reading import Body, Cursor, Hex32, Limit, Seconds, Signature, leaf_cursor
from exchange.consent_rows import Outcome
from exchange.consents import MAX_BATCH
from exchange.errors import NotFound
from ledger.ids import ConsentId
from ledger.messages import from_hex

router = APIRouter(prefix="/v1", tags=["patient"])

# The members are named as in the signed structs.
# ruff: noqa: N815


class ConsentBody(Body):
    """A signed consent: ``Terms`` by the identity key, ``Grant`` and ``Withdraw`` by the consent key."""

    terms: dict[str, Any]
    termsSignature: Signature
    document: dict[str, Any]
    grantSignature: Signature
    withdrawSignature: Signature | None = None
    untilDay: Annotated[int, Field(ge=0, lt=2**32, strict=True)] | None = None


class BatchBody(Body):
    """Consents of one subject; each is taken or refused by itself."""

    consents: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_BATCH)]


class WithdrawalBody(Body):
    """Nothing for a permit; for an objection the kept withdrawal and the identity key's ``Lift``."""

    signature: Signature | None = None
    lift: Signature | None = None


class DeskBody(Body):
    """``Desk{commitment, officers, at}`` signed by the hospital."""

    consent: Hex32
    officers: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=64)]], Field(min_length=2, max_length=2)
    ]
    at: Seconds
    signature: Signature


@router.post("/consents", operation_id="grant", status_code=202)
def grant(
    house: House, actor: SubjectActor, once: OnceActor, body: ConsentBody, response: Response
) -> dict[str, Any]:
    """Take a permit (202: it counts once the chain has recorded it) or an objection (200: at once)."""
    outcome = house.consents.grant(actor, body.model_dump(), claim=once)
    response.status_code = _status(outcome)
    response.headers["Location"] = f"/v1/consents/{outcome.consent.hex}"
    return outcome.to_json()


@router.post("/consents/batch", operation_id="grant_many")
def grant_many(
    house: House, actor: SubjectActor, once: OnceActor, body: BatchBody
) -> dict[str, Any]:
    """Take up to 200 consents; every item of ``results`` is a consent or a problem."""
    results = house.consents.grant_many(actor, body.consents, claim=once)
    return {
        "results": [
            {**result.to_json(), "httpStatus": _status(result)}
            if isinstance(result, Outcome)
            else problems.describe(result)
            for result in results
        ]
    }


@router.get("/consents", operation_id="consents")
def consents(
    house: House, actor: SubjectActor, cursor: Cursor = None, limit: Limit = 100
) -> dict[str, Any]:
    """The subject's consents and objections."""
    return house.consents.page(actor, leaf_cursor(cursor), limit).to_json()


@router.get("/consents/{consent}", operation_id="consent")
def consent(house: House, actor: SubjectActor, consent: str) -> dict[str, Any]:
    """One consent of the subject."""
    return house.consents.one(actor, ConsentId.parse(consent))


@router.post("/consents/{consent}/withdrawal", operation_id="withdraw")
def withdraw(
    house: House,
    actor: SubjectActor,
    once: OnceActor,
    consent: str,
    response: Response,
    body: WithdrawalBody | None = None,
) -> dict[str, Any]:
    """End a permit (200: at once), or lift an objection (202: once the chain has recorded it)."""
    wanted = ConsentId.parse(consent)
    given = body or WithdrawalBody()
    signature = None if given.signature is None else from_hex(given.signature, 64)
    found = house.consents.one(actor, wanted)
    if found["decision"] == "permit" and given.lift is None:
        return house.consents.withdraw(actor, wanted, signature, claim=once).to_json()
    lift = None if given.lift is None else from_hex(given.lift, 64)
    outcome = house.consents.lift(actor, wanted, withdraw=signature, lift=lift, claim=once)
    response.status_code = 200 if outcome.status == "inactive" else 202
    return outcome.to_json()


@router.post("/desk/withdrawals", operation_id="desk_withdraw", tags=["hospital"])
def desk_withdraw(
    house: House, actor: HospitalActor, once: OnceActor, body: DeskBody
) -> dict[str, Any]:
    """Withdraw a permit for a patient who came to the desk; two officers are named in the log."""
    return house.consents.desk_withdraw(
        actor,
        ConsentId.parse(body.consent),
        officers=body.officers,
        at=body.at,
        signature=from_hex(body.signature, 64),
        claim=once,
    ).to_json()


@router.get("/me", operation_id="me")
def me(house: House, actor: SubjectActor) -> dict[str, Any]:
    """Who the subject is here, and what is held about them."""
    return house.disclosures.me(actor)


@router.get("/me/accesses", operation_id="my_accesses")
def accesses(
    house: House, actor: SubjectActor, cursor: Cursor = None, limit: Limit = 100
) -> dict[str, Any]:
    """Every access that was decided about the subject, and what became of it."""
    return house.disclosures.accesses(actor, leaf_cursor(cursor), limit).to_json()


@router.get("/receipts/{index}", operation_id="receipt")
def receipt(house: House, actor: SubjectActor, index: str) -> dict[str, Any]:
    """The signed receipt of one of the subject's own leaves."""
    wanted = leaf_cursor(index)
    if wanted is None:
        raise NotFound("no such leaf")
    return house.consents.receipt(actor, wanted)


def _status(outcome: Outcome) -> int:
    return 202 if outcome.status == "draft" else 200
