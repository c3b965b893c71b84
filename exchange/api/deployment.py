"""What everybody may know of this deployment: ids, addresses, public keys, notices, participants."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter

from exchange.api.auth import House
from exchange.errors import KeysError
from exchange.store import schema
from exchange.wiring import Exchange
from ledger.commitment import parse_canonical
from ledger.messages import to_hex
from ledger.policy import POLICY_VERSION

router = APIRouter(prefix="/v1", tags=["deployment"])


@router.get("/deployment", operation_id="deployment")
def deployment(house: House) -> dict[str, Any]:
    """Who this exchange is, which keys it has, who takes part, and what patients are shown."""
    found = house.deployment
    return {
        "deployment": to_hex(found.id),
        "chainId": found.chain_id,
        "genesisHash": found.genesis_hash,
        # An address of a network's provider may hold the operator's access key.
        "rpcUrl": house.settings.rpc_url if house.settings.ledger.rpc_url is None else None,
        "addresses": found.addresses,
        "codeHashes": found.code_hashes,
        "exchange": to_hex(found.exchange),
        "keysKey": _keys_key(house),
        "notice": house.notices.to_json(),
        "orgs": _orgs(house),
        "policy": POLICY_VERSION,
    }


def _keys_key(house: Exchange) -> dict[str, str] | None:
    """The keys process's own signed key; None while it does not answer."""
    try:
        status = house.keys.status()
    except KeysError:
        return None
    if status.keys_key_signature is None:
        return None
    return {
        "publicKey": to_hex(status.keys_key),
        "signature": to_hex(status.keys_key_signature),
    }


def _orgs(house: Exchange) -> list[dict[str, Any]]:
    with house.store.reading() as conn:
        rows = conn.execute(
            sa.select(schema.orgs)
            .where(schema.orgs.c.status == "member")
            .order_by(schema.orgs.c.org_id)
        ).mappings()
        found = []
        for row in rows:
            stored = parse_canonical(row["card"].encode())
            assert isinstance(stored, dict)
            card = stored.get("card", stored)
            found.append(
                {
                    "org": row["org_id"],
                    "name": row["name"],
                    "address": row["address"],
                    "receiveKey": card["receiveKey"],
                }
            )
        return found
