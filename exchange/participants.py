"""Verbs of the participants: members admit a newcomer, and the chain makes it one (decision D3).

Nobody owns the list. A newcomer is admitted by the signatures of min(2, n) members over its address:
the door checks them, the keys process checks and pins it by itself, and the contract checks them
again. Only when the chain has recorded the admission may the newcomer log in.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from exchange import log, outbox
from exchange.claims import Claim, unclaimed
from exchange.clock import Clock
from exchange.documents import check_card
from exchange.errors import RequestRefused
from exchange.store import schema
from exchange.store.database import Store
from ledger.commitment import canonical
from ledger.errors import SignatureInvalid
from ledger.leaf import Kind
from ledger.messages import Admit, Domain, from_hex, to_hex
from ledger.signing import recover

_log = logging.getLogger(__name__)

#: As many as the contract asks for, once there are so many members.
_SIGNERS = 2
JOINING, MEMBER = "joining", "member"


class PinsHospitals(Protocol):
    """The keys process, as far as this room needs it."""

    def pin(self, card: dict[str, Any], signatures: Sequence[bytes]) -> str:
        """Pin a newcomer by its signed card and members' signatures; its id."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A newcomer. ``status`` is ``joining`` until the chain has recorded the admission."""

    org: str
    status: str

    def to_json(self) -> dict[str, str]:
        """The newcomer on the wire."""
        return {"org": self.org, "status": self.status}


class Participants:
    """Admissions of hospitals."""

    def __init__(self, store: Store, keys: PinsHospitals, domain: Domain, clock: Clock) -> None:
        self._store = store
        self._keys = keys
        self._domain = domain
        self._clock = clock

    def admit(
        self, signed_card: Any, signatures: Sequence[bytes], *, claim: Claim = unclaimed
    ) -> Admitted:
        """Take members' admission of the hospital of this card. Repeating it changes nothing.

        Raises:
            DocumentMalformed, SignatureInvalid: the card is not right or not by its own key.
            RequestRefused: too few members have signed, or somebody else has.
            KeysRefused, KeysUnavailable: the keys process did not pin it; nothing is stored.
        """
        card = check_card(signed_card)
        known = self._known(card["org"])
        if known is not None:
            return known
        ordered = self._require_members_signed(card["address"], signatures)
        self._keys.pin(signed_card, ordered)

        def work(conn: sa.Connection) -> Admitted:
            log.lock_head(conn)
            claim(conn)
            table = schema.orgs
            status = conn.execute(
                sa.select(table.c.status).where(table.c.org_id == card["org"])
            ).scalar_one_or_none()
            if status is not None:
                return Admitted(card["org"], status)
            conn.execute(
                sa.insert(table),
                {
                    "org_id": card["org"],
                    "name": card["name"],
                    "address": card["address"],
                    "card": canonical(signed_card).decode(),
                    "status": JOINING,
                },
            )
            now = self._clock.now_ms()
            texts = [to_hex(one) for one in ordered]
            log.append(
                conn,
                kind=Kind.PARTICIPANT_PINNED,
                body={"org": card["org"], "card": signed_card, "admittedBy": texts},
                at_ms=now,
            )
            payload = {"participant": card["address"], "signatures": texts}
            outbox.promise_participant(conn, "admit", payload, now)
            return Admitted(card["org"], JOINING)

        found = self._store.transact(work)
        _log.info("admitted", extra={"org": found.org, "status": found.status})
        return found

    def _known(self, org: str) -> Admitted | None:
        table = schema.orgs
        with self._store.reading() as conn:
            status = conn.execute(
                sa.select(table.c.status).where(table.c.org_id == org)
            ).scalar_one_or_none()
        return None if status is None else Admitted(org, status)

    def _require_members_signed(self, address: str, signatures: Sequence[bytes]) -> list[bytes]:
        """Return the signatures in the order of their signers, as the contract wants them."""
        table = schema.orgs
        with self._store.reading() as conn:
            members = set(
                conn.execute(sa.select(table.c.address).where(table.c.status == MEMBER)).scalars()
            )
        message = Admit(from_hex(address, 20))
        by_signer: dict[str, bytes] = {}
        for index, signature in enumerate(signatures):
            try:
                signer = to_hex(recover(message, signature, self._domain))
            except SignatureInvalid:
                signer = ""
            if signer not in members:
                raise RequestRefused(
                    "an admission is not signed by a member for this deployment",
                    pointer=f"/signatures/{index}",
                    next_step="let members sign it with `assent hospital admit`",
                )
            by_signer[signer] = signature
        needed = min(_SIGNERS, len(members))
        if not members or len(by_signer) < needed:
            raise RequestRefused(
                f"an admission needs {needed} members' signatures and has {len(by_signer)}",
                pointer="/signatures",
                next_step="hand the file to another member for `assent hospital admit`",
            )
        return [by_signer[signer] for signer in sorted(by_signer)]
