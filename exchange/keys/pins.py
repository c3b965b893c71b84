"""Whom the keys process believes: the deployment and its hospitals' addresses, pinned once.

The founders' self-signed cards come from ``deployment.json`` at the first start that finds it. From
then on the file is only compared: another deployment, exchange key or founder's key is refused, so
that an operator who edits it gains nothing. A newcomer is pinned when min(2, n) pinned hospitals
signed its admission, as the participants contract demands (decision D3).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange.deployment import Deployment, read_deployment
from exchange.documents import check_card
from exchange.errors import DocumentMalformed, KeysRefused
from exchange.keys import database
from exchange.keys.database import KeysDatabase
from ledger.commitment import canonical
from ledger.errors import LedgerError
from ledger.ids import OrgId
from ledger.signing import Admit, Domain, from_hex, recover, to_hex


def find_deployment(path: Path) -> Deployment | None:
    """Read the deployment file; None where there is none yet.

    Raises:
        KeysRefused: ``deployment-malformed``.

    """
    try:
        return read_deployment(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (LedgerError, DocumentMalformed, ValueError):
        raise KeysRefused(("deployment-malformed",)) from None


class Pins:
    """The pinned addresses, in memory and in the keys database."""

    def __init__(self, own: KeysDatabase) -> None:
        self._own = own
        self._addresses: dict[OrgId, bytes] = {}
        self._receive_keys: dict[OrgId, bytes] = {}

    def pin_founders(self, deployment: Deployment, own_address: bytes) -> None:
        """Pin everything at the first start; afterwards refuse any difference.

        Raises:
            KeysRefused: ``deployment-changed``, ``exchange-changed``, ``pin-changed``,
                ``card-invalid``.

        """
        if deployment.exchange != own_address:
            raise KeysRefused(("exchange-changed",))
        cards = [_checked(signed) for signed in deployment.founders]
        if not cards:
            raise KeysRefused(("card-invalid",))
        rows = [_row(card) for card in cards]
        text = to_hex(deployment.domain.deployment_id)

        def work(conn: Connection) -> None:
            facts, pins = database.facts, database.pins
            known = conn.execute(
                sa.select(facts.c.value).where(facts.c.name == "deployment")
            ).scalar_one_or_none()
            if known is None:
                conn.execute(sa.insert(facts).values(name="deployment", value=text))
                conn.execute(sa.insert(pins), rows)
                return
            if known != text:
                raise KeysRefused(("deployment-changed",))
            stored = {row.org: row for row in conn.execute(sa.select(pins))}
            for row in rows:
                before = stored.get(row["org"])
                if before is None or before.address != row["address"] or before.card != row["card"]:
                    raise KeysRefused(("pin-changed",))

        self._own.transact(work)
        self._load()

    def admit(self, signed: Any, signatures: Sequence[str], domain: Domain) -> OrgId:
        """Pin a newcomer; the same one again is harmless.

        Raises:
            KeysRefused: ``card-invalid``, ``admission-unsigned``, ``pin-changed``.

        """
        card = _checked(signed)
        row = _row(card)
        org = OrgId.parse(card["org"])
        known = self._addresses.get(org)
        if known is not None:
            if to_hex(known) != row["address"]:
                raise KeysRefused(("pin-changed",))
            return org
        message = Admit(from_hex(row["address"], 20))
        members = set(self._addresses.values())
        try:
            signers = {recover(message, from_hex(text, 64), domain) for text in signatures}
        except LedgerError:
            raise KeysRefused(("admission-unsigned",)) from None
        if len(signers & members) < min(2, len(members)):
            raise KeysRefused(("admission-unsigned",))
        self._own.transact(lambda conn: conn.execute(sa.insert(database.pins).values(row)))
        self._load()
        return org

    def address(self, org: OrgId) -> bytes | None:
        """The pinned signing address, 20 bytes, or None for a stranger."""
        return self._addresses.get(org)

    def receive_key(self, org: OrgId) -> bytes | None:
        """The key on the pinned card that releases are sealed to (X25519, 32 bytes), or None."""
        return self._receive_keys.get(org)

    def count(self) -> int:
        """How many hospitals are pinned."""
        return len(self._addresses)

    def _load(self) -> None:
        with self._own.reading() as conn:
            rows = conn.execute(sa.select(database.pins)).all()
        self._addresses = {OrgId.parse(row.org): from_hex(row.address, 20) for row in rows}
        self._receive_keys = {
            OrgId.parse(row.org): from_hex(json.loads(row.card)["receiveKey"], 32) for row in rows
        }


def _checked(signed: Any) -> dict[str, Any]:
    try:
        return check_card(signed)
    except (DocumentMalformed, LedgerError):
        raise KeysRefused(("card-invalid",)) from None


def _row(card: dict[str, Any]) -> dict[str, Any]:
    return {
        "org": card["org"],
        "address": card["address"],
        "card": canonical(card).decode(),
    }
