"""Admit another hospital: sign its address, hand the file on, and the last one hands it in (D3)."""

from __future__ import annotations

from typing import Any

from exchange.documents import check_card
from exchange.errors import Conflict, Malformed
from exchange.hospital.client import ExchangeClient
from exchange.hospital.identity import Identity
from ledger.messages import Admit, from_hex, to_hex


def endorse(identity: Identity, value: Any, *, fingerprint: str | None = None) -> dict[str, Any]:
    """Add this hospital's signature to a newcomer's card, or to an admission others have signed.

    Returns ``{"card": signed card, "signatures": ["0x<64>", ...]}``. ``fingerprint`` is the
    newcomer's address, told out of band.

    Raises:
        Malformed: the file is neither.
        Conflict: the newcomer's key is not the one told.
        DocumentMalformed, SignatureInvalid: the card is not right or not by its own key.
    """
    if not isinstance(value, dict):
        raise Malformed("the file holds neither a card nor an admission")
    signed = value["card"] if set(value) == {"card", "signatures"} else value
    card = check_card(signed)
    if fingerprint is not None and fingerprint.lower() != card["address"]:
        raise Conflict("the newcomer's key differs from the fingerprint given: do not admit it")
    mine = identity.signing.sign(Admit(from_hex(card["address"], 20)), identity.pins().domain)
    others = value["signatures"] if signed is not value else []
    if not isinstance(others, list):
        raise Malformed("the signatures of an admission are not a list")
    signatures = [text for text in others if text != to_hex(mine)]
    return {"card": signed, "signatures": [*signatures, to_hex(mine)]}


def hand_in(client: ExchangeClient, admission: dict[str, Any]) -> dict[str, Any]:
    """Hand an admission to the exchange: ``{"org", "status"}``.

    Raises:
        Problem: the exchange refused, for instance since too few have signed.
    """
    found: dict[str, Any] = client.post("/v1/participants", admission)
    return found
