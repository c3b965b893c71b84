"""HTTP of enrolment: hospitals invite and list their subjects, patients redeem."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import Field

from exchange.api.auth import HospitalActor, House, OnceActor, claim_of
from exchange.api.reading import Body, Cursor, Hex20, Hex32, Limit, Seconds, Signature
from exchange.enrolment import MAX_INVITATIONS, Invitation
from exchange.errors import KeysError
from exchange.wiring import Exchange
from ledger.ids import SubjectId
from ledger.messages import from_hex

router = APIRouter(prefix="/v1", tags=["enrolment"])


class InvitationBody(Body):
    """``Invited{subject, codeKey, expiry}`` and the hospital's signature over it."""

    subject: Hex32
    codeKey: Hex20  # noqa: N815 - the signed struct's own name
    expiry: Seconds
    signature: Signature


class InvitationsBody(Body):
    """Invitations, all taken or none."""

    invitations: Annotated[list[InvitationBody], Field(min_length=1, max_length=MAX_INVITATIONS)]


class EnrolmentBody(Body):
    """``Redeemed{subject, identityKey}`` and the code key's signature over it."""

    subject: Hex32
    identityKey: Hex20  # noqa: N815 - the signed struct's own name
    redeemed: Signature


@router.post("/invitations", operation_id="invite", status_code=201)
def invite(
    house: House, actor: HospitalActor, once: OnceActor, body: InvitationsBody
) -> dict[str, int]:
    """Invite subjects of this hospital; an open invitation is replaced by a new one."""
    taken = house.enrolment.invite(
        actor,
        [
            Invitation(
                subject=SubjectId.parse(item.subject),
                code_key=from_hex(item.codeKey, 20),
                expiry=item.expiry,
                signature=from_hex(item.signature, 64),
            )
            for item in body.invitations
        ],
        claim=once,
    )
    return {"invited": taken}


@router.get("/invitations/{code_key}", operation_id="invitation")
def invitation(
    house: House, code_key: Annotated[str, Path(pattern=r"^0x[0-9a-f]{40}$")]
) -> dict[str, Any]:
    """The invitation of a code, for who holds the code and so can name its key."""
    return house.enrolment.find(from_hex(code_key, 20))


@router.post("/enrolments", operation_id="enrol", status_code=201)
def enrol(request: Request, house: House, body: EnrolmentBody) -> dict[str, Any]:
    """Redeem a code: it names the identity key that speaks for the subject from now on."""
    enrolled = house.enrolment.redeem(
        SubjectId.parse(body.subject),
        from_hex(body.identityKey, 20),
        from_hex(body.redeemed, 64),
        claim=claim_of(request, house, f"redeemer:{body.subject}"),
    )
    return {
        "subject": enrolled.subject.hex,
        "leaf": enrolled.leaf,
        "receipt": _receipt(house, enrolled.leaf),
    }


@router.get("/subjects", operation_id="subjects")
def subjects(
    house: House, actor: HospitalActor, cursor: Cursor = None, limit: Limit = 100
) -> dict[str, Any]:
    """This hospital's subjects, and whether each has enrolled."""
    return house.enrolment.subjects(actor, cursor, limit).to_json()


def _receipt(house: Exchange, leaf: int) -> dict[str, Any] | None:
    """The leaf's receipt; None while the keys process does not answer."""
    try:
        return house.keys.sign_receipts([leaf])[0].to_json()
    except KeysError:
        return None
