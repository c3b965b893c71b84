"""HTTP of the participants: a member hands in a newcomer's admission."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from exchange.api.auth import HospitalActor, House, OnceActor
from exchange.api.reading import Body, Signature
from ledger.messages import from_hex

router = APIRouter(prefix="/v1", tags=["participants"])


class AdmissionBody(Body):
    """A newcomer's self-signed card, and members' signatures over ``Admit{participant}``."""

    card: dict[str, Any]
    signatures: Annotated[list[Signature], Field(min_length=1, max_length=100)]


@router.post("/participants", operation_id="admit", status_code=202)
def admit(
    house: House,
    _member: HospitalActor,
    once: OnceActor,
    body: AdmissionBody,
) -> dict[str, str]:
    """Admit a hospital: it may log in once the chain has recorded it."""
    found = house.participants.admit(
        body.card, [from_hex(text, 64) for text in body.signatures], claim=once
    )
    return found.to_json()
