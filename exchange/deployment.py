"""The deployment file, written once by ``assent deploy`` and read by every process.

``deployment.json``: ``{version, deployment, chainId, genesisHash, addresses, codeHashes, exchange,
founders: [{card, signature}], auditors: [{id, name, jwk}]}``; ids and hashes in ``0x`` hex.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from exchange import log
from exchange.clock import Clock
from exchange.documents import check_card
from exchange.errors import DocumentMalformed, SettingsError
from exchange.store import schema
from exchange.store.database import Store
from ledger.commitment import canonical
from ledger.errors import LedgerError
from ledger.ids import OrgId
from ledger.leaf import Kind
from ledger.signing import Domain, from_hex

VERSION = "assent.deployment/1"


@dataclass(frozen=True)
class Deployment:
    """What identifies this deployment. ``id`` is 32 bytes, ``exchange`` the log key's 20-byte address."""

    id: bytes
    chain_id: int
    genesis_hash: str
    addresses: dict[str, str]
    code_hashes: dict[str, str]
    exchange: bytes
    founders: tuple[dict[str, Any], ...]
    auditors: tuple[dict[str, Any], ...]

    @property
    def domain(self) -> Domain:
        """The EIP-712 domain of every signature here."""
        return Domain(self.id)


def read_deployment(value: Any) -> Deployment:
    """A deployment from the parsed file.

    Raises:
        DocumentMalformed: a member is missing or of another form.
    """
    if not isinstance(value, dict):
        raise DocumentMalformed("", "must be an object")
    try:
        return Deployment(
            id=from_hex(value["deployment"], 32),
            chain_id=int(value["chainId"]),
            genesis_hash=str(value["genesisHash"]),
            addresses={str(name): str(at) for name, at in value["addresses"].items()},
            code_hashes={str(name): str(code) for name, code in value["codeHashes"].items()},
            exchange=from_hex(value["exchange"], 20),
            founders=tuple(value["founders"]),
            auditors=tuple(value["auditors"]),
        )
    except KeyError as error:
        raise DocumentMalformed(f"/{error.args[0]}", "is missing") from None
    except (LedgerError, TypeError, ValueError, AttributeError) as error:
        raise DocumentMalformed("", f"has another form ({type(error).__name__})") from None


def load_deployment(path: Path) -> Deployment:
    """Read the deployment file.

    Raises:
        SettingsError: it is missing or unreadable.
    """
    try:
        return read_deployment(json.loads(path.read_text(encoding="utf-8")))
    except OSError:
        raise SettingsError(
            "holds no deployment.json",
            variable="ASSENT_DATA_DIR",
            next_step="run `assent deploy` first",
        ) from None
    except (ValueError, DocumentMalformed):
        raise SettingsError(
            "holds a deployment.json that cannot be read",
            variable="ASSENT_DATA_DIR",
            next_step="restore the file that `assent deploy` wrote",
        ) from None


def take_founders(store: Store, deployment: Deployment, clock: Clock) -> int:
    """Enter founding hospitals and auditors into the store, each with a leaf; known ones stay.

    Returns how many hospitals were new.

    Raises:
        DocumentMalformed: a founder's card is malformed.
        SignatureInvalid: a founder's card is not signed by its own address.
    """
    cards = [(check_card(founder), founder) for founder in deployment.founders]

    def work(conn: sa.Connection) -> int:
        known = set(conn.execute(sa.select(schema.orgs.c.org_id)).scalars())
        auditors = set(conn.execute(sa.select(schema.auditors.c.client_id)).scalars())
        added = 0
        for card, signed in cards:
            if card["org"] in known:
                continue
            conn.execute(
                sa.insert(schema.orgs),
                {
                    "org_id": OrgId.parse(card["org"]).hex,
                    "name": card["name"],
                    "address": card["address"],
                    "card": canonical(signed).decode(),
                    "status": "member",
                },
            )
            log.append(
                conn,
                kind=Kind.PARTICIPANT_PINNED,
                body={"org": card["org"], "card": signed},
                at_ms=clock.now_ms(),
            )
            added += 1
        for auditor in deployment.auditors:
            if auditor["id"] not in auditors:
                conn.execute(
                    sa.insert(schema.auditors),
                    {"client_id": auditor["id"], "jwk": canonical(auditor["jwk"]).decode()},
                )
        return added

    return store.transact(work)
