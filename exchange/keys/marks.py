"""High-water marks: what the keys process once saw end or stand, whatever the store says later.

A consent once seen as withdrawn is refused for ever. An objection once seen stands until its lifting,
signed by the patient's own key, is seen as well. Both are durable before anything relies on them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange.errors import KeysRefused
from exchange.keys import database
from exchange.keys.database import KeysDatabase, insert_once
from exchange.keys.proofs import Proofs, Unproved, as_signed, consent_rows
from exchange.keys.records import BATCH, Record, read_records
from exchange.store import schema
from ledger.consent import Decision
from ledger.errors import LedgerError
from ledger.ids import ConsentId, SubjectId
from ledger.leaf import Kind
from ledger.signing import Domain, Lift, from_hex, to_hex, verify

_KINDS = (Kind.OBJECTION_RECORDED, Kind.CONSENT_WITHDRAWN, Kind.OBJECTION_LIFTED)


class Marks:
    """Withdrawals and objections, in memory and in the keys database."""

    def __init__(self, own: KeysDatabase, proofs: Proofs, domain: Domain) -> None:
        self._own = own
        self._proofs = proofs
        self._domain = domain
        self._lock = threading.Lock()
        self._withdrawn: set[str] = set()
        self._objections: dict[str, dict[str, bool]] = {}
        with own.reading() as conn:
            self._withdrawn.update(
                conn.execute(sa.select(database.withdrawals_seen.c.consent)).scalars()
            )
            for consent, owner, lifted in conn.execute(sa.select(database.objections_seen)):
                self._objections.setdefault(owner, {})[consent] = lifted

    def see(self, conn: Connection, handles: Mapping[SubjectId, str]) -> None:
        """Take every withdrawal, objection and lifting of these subjects' chains into memory."""
        subjects = {text: subject for subject, text in handles.items()}
        table = schema.leaves
        texts = sorted(subjects)
        for start in range(0, len(texts), BATCH):
            rows = conn.execute(
                sa.select(table.c.idx, table.c.kind, table.c.handle, table.c.consent_id).where(
                    table.c.handle.in_(texts[start : start + BATCH]), table.c.kind.in_(_KINDS)
                )
            ).all()
            self._note(conn, rows, subjects)

    def see_record(self, conn: Connection, record: Record) -> None:
        """Take one leaf into memory, before its receipt is signed."""
        if record.leaf.kind not in _KINDS:
            return
        owner = to_hex(record.leaf.handle)
        subject = conn.execute(
            sa.select(schema.subjects.c.subject).where(schema.subjects.c.handle == owner)
        ).scalar_one_or_none()
        subjects = {} if subject is None else {owner: SubjectId.parse(subject)}
        leaf = record.leaf
        self._note(conn, [(record.index, leaf.kind, owner, to_hex(leaf.consent_id))], subjects)

    def is_withdrawn(self, consent: ConsentId) -> bool:
        """Whether this consent was ever seen as withdrawn."""
        return consent.hex in self._withdrawn

    def standing(self, conn: Connection, handles: Mapping[SubjectId, str]) -> dict[SubjectId, bool]:
        """Whether each subject's objections still stand in the store as the gate reads them."""
        expected = {
            subject: {
                consent for consent, lifted in self._objections.get(owner, {}).items() if not lifted
            }
            for subject, owner in handles.items()
        }
        wanted = [ConsentId.parse(consent) for those in expected.values() for consent in those]
        found: set[str] = set()
        for row in consent_rows(conn, wanted).values():
            if row.status not in ("draft", "active"):
                continue
            try:
                parsed, _ = as_signed(row)
            except (Unproved, LedgerError, ValueError):
                continue
            if parsed.decision is Decision.DENY:
                found.add(row.consent_id)
        return {subject: those <= found for subject, those in expected.items()}

    def _note(
        self, conn: Connection, rows: Iterable[Any], subjects: Mapping[str, SubjectId]
    ) -> None:
        withdrawn: list[str] = []
        objections: list[tuple[str, str]] = []
        lifted: list[str] = []
        for index, kind, owner, consent in rows:
            known = self._objections.get(owner, {})
            if kind == Kind.CONSENT_WITHDRAWN and consent not in self._withdrawn:
                withdrawn.append(consent)
            elif kind == Kind.OBJECTION_RECORDED and consent not in known:
                objections.append((owner, consent))
            elif (
                kind == Kind.OBJECTION_LIFTED
                and not known.get(consent, False)
                and self._lifted(conn, index, subjects.get(owner), consent)
            ):
                lifted.append(consent)
                objections.append((owner, consent))
        if not (withdrawn or objections):
            return

        def work(own: Connection) -> None:
            insert_once(
                own, database.withdrawals_seen, [{"consent": consent} for consent in withdrawn]
            )
            insert_once(
                own,
                database.objections_seen,
                [
                    {"consent": consent, "handle": owner, "lifted": False}
                    for owner, consent in objections
                ],
            )
            if lifted:
                table = database.objections_seen
                own.execute(sa.update(table).where(table.c.consent.in_(lifted)).values(lifted=True))

        self._own.transact(work)
        with self._lock:
            self._withdrawn.update(withdrawn)
            for owner, consent in objections:
                self._objections.setdefault(owner, {}).setdefault(consent, False)
                if consent in lifted:
                    self._objections[owner][consent] = True

    def _lifted(
        self, conn: Connection, index: int, subject: SubjectId | None, consent: str
    ) -> bool:
        """Whether the patient's own key signed the lifting; an unsigned leaf lifts nothing."""
        if subject is None:
            return False
        try:
            body = read_records(conn, (index,))[index].told(Kind.OBJECTION_LIFTED)
            if self._proofs.identify(conn, (subject,)):
                return False
            wanted = ConsentId.parse(consent)
            _, terms = as_signed(consent_rows(conn, (wanted,))[wanted])
            signature = from_hex(body["lift"], 64)
            identity = self._proofs.identity(subject)
            verify(Lift(terms.commitment()), signature, identity, self._domain)
        except (Unproved, LedgerError, KeysRefused, KeyError, ValueError):
            return False
        return True
