"""HTTP of the model registry."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import Field

from exchange.api.auth import HospitalActor, House, KnownActor, OnceActor
from exchange.api.reading import Body, Signature
from exchange.errors import DocumentMalformed
from ledger.ids import ModelDigest
from ledger.signing import from_hex

router = APIRouter(prefix="/v1", tags=["models"])


class ModelBody(Body):
    """A signed model document (``assent.model/1``) and its weights, base64."""

    model: dict[str, Any]
    weights: Annotated[str, Field(repr=False)]
    signature: Signature


@router.post("/models", operation_id="register_model", status_code=201)
def register(
    house: House, actor: HospitalActor, once: OnceActor, body: ModelBody
) -> dict[str, str]:
    """Register weights (safetensors, or JSON of a known architecture); a pickle is refused unread."""
    try:
        weights = base64.b64decode(body.weights, validate=True)
    except (binascii.Error, ValueError):
        raise DocumentMalformed("/weights", "must be base64") from None
    model = house.models.register(
        actor, body.model, weights, from_hex(body.signature, 64), claim=once
    )
    return {"model": model.hex}


@router.get("/models", operation_id="models")
def models(house: House, _actor: KnownActor) -> dict[str, Any]:
    """Every registered model."""
    return {"items": house.models.all()}


@router.get("/models/{model}", operation_id="model")
def model(
    house: House, _actor: KnownActor, model: Annotated[str, Path(pattern=r"^0x[0-9a-f]{64}$")]
) -> dict[str, Any]:
    """One model's card."""
    return house.models.one(ModelDigest.parse(model))
