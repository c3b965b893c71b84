"""Verbs of the patient: grant, object, withdraw, lift, list; and the desk's withdrawal (walk A).

What is answered is durable: the row, the leaf and the promise to the chain stand in one transaction
(D1). A permit waits for the chain's record; a withdrawal and an objection count at once; lifting an
objection waits for the record, since it widens (D2, D10).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

import sqlalchemy as sa

from exchange import log, outbox
from exchange.actor import Actor
from exchange.claims import Claim, unclaimed
from exchange.clock import Clock
from exchange.consent_rows import (
    Outcome,
    ending,
    outcome_of,
    row_of,
    set_ended,
    terms_of,
)
from exchange.errors import (
    Conflict,
    ExchangeError,
    Expired,
    KeysError,
    LiftMissing,
    NotFound,
    RequestRefused,
    SignatureRefused,
)
from exchange.granting import Checked, check, check_withdraw, read_submission
from exchange.keys.client import SignedReceipt
from exchange.paging import Page, page_of
from exchange.store import schema
from exchange.store.database import Store
from exchange.taking import take
from ledger.commitment import parse_canonical
from ledger.errors import LedgerError, SignatureInvalid
from ledger.ids import ConsentId, OrgId, SubjectId, handle
from ledger.leaf import Kind
from ledger.messages import Desk, Domain, Lift, from_hex, to_hex
from ledger.signing import verify

_log = logging.getLogger(__name__)

MAX_BATCH: Final = 200
#: A desk's withdrawal is handed in while both officers are there.
_DESK_SECONDS: Final = 3600


class SignsReceipts(Protocol):
    """The keys process, as far as this room needs it."""

    def sign_receipts(self, indexes: Sequence[int]) -> list[SignedReceipt]:
        """Receipts for leaves that are durable, in the order asked; 1 to 1,000."""


class Consents:
    """Consents of subjects who have enrolled."""

    def __init__(
        self,
        store: Store,
        keys: SignsReceipts,
        domain: Domain,
        notices: frozenset[bytes],
        clock: Clock,
    ) -> None:
        self._store = store
        self._keys = keys
        self._domain = domain
        self._notices = notices
        self._clock = clock

    def grant(
        self, actor: Actor, submission: Mapping[str, Any], *, claim: Claim = unclaimed
    ) -> Outcome:
        """Take one permit or objection. The same consent again gets the same answer.

        Raises:
            GrammarUnknown, ConsentMalformed, ConsentRefused: a rule of D2 is broken.
            ConsentKeyUsed: the consent key serves another consent.
        """
        result = self.grant_many(actor, [submission], claim=claim)[0]
        if isinstance(result, Exception):
            raise result
        return result

    def grant_many(
        self,
        actor: Actor,
        submissions: Sequence[Mapping[str, Any]],
        *,
        claim: Claim = unclaimed,
    ) -> list[Outcome | Exception]:
        """Take up to 200 consents of one subject in one transaction; each has its own result.

        What is wrong with one changes nothing for the others.
        """
        subject, identity_key = self._subject(actor)
        now = self._clock.now_ms() // 1000
        results: list[Outcome | Exception] = []
        checked: dict[int, Checked] = {}
        for index, value in enumerate(submissions):
            try:
                checked[index] = check(
                    read_submission(value),
                    subject=subject,
                    identity_key=identity_key,
                    domain=self._domain,
                    notices=self._notices,
                    now=now,
                )
                results.append(NotFound())
            except (ExchangeError, LedgerError) as error:
                results.append(error)
        if checked:
            stored = self._store.transact(lambda conn: self._take(conn, subject, checked, claim))
            for index, result in stored.items():
                results[index] = result
        return self._receipted(results)

    def withdraw(
        self,
        actor: Actor,
        consent: ConsentId,
        signature: bytes | None = None,
        *,
        claim: Claim = unclaimed,
    ) -> Outcome:
        """End a permit, at once and for good. Repeating it changes nothing.

        The exchange holds the signed withdrawal; one handed in is checked as well.

        Raises:
            NotFound: no such consent of this subject.
            LiftMissing: it is an objection, which only :meth:`lift` ends.
        """
        row = self._own(actor.id, consent)
        if row["decision"] != "permit":
            raise LiftMissing("an objection ends only by its lifting", pointer="/lift")
        if signature is not None:
            check_withdraw(terms_of(row), signature, self._domain, "/signature")
        return self._receipted_one(self._end(consent, by="patient", desk=None, claim=claim))

    def lift(
        self,
        actor: Actor,
        consent: ConsentId,
        *,
        withdraw: bytes | None,
        lift: bytes | None,
        claim: Claim = unclaimed,
    ) -> Outcome:
        """Lift an objection: it ends once the chain has recorded its withdrawal, not before.

        Raises:
            NotFound: no such consent of this subject.
            LiftMissing: the identity key's ``Lift`` is missing, or this is no objection.
            SignatureRefused, ConsentKeyMismatch, WithdrawMissing: a signature is not right.
            Conflict: the objection itself is not yet on the chain.
        """
        row = self._own(actor.id, consent)
        if row["decision"] != "deny":
            raise RequestRefused("only an objection is lifted", pointer="/lift")
        if lift is None:
            raise LiftMissing("the identity key's Lift is missing", pointer="/lift")
        _, identity_key = self._subject(actor)
        terms = terms_of(row)
        try:
            verify(Lift(terms.commitment()), lift, identity_key, self._domain)
        except SignatureInvalid:
            raise SignatureRefused(
                "the lifting is not signed by the subject's identity key for this deployment",
                pointer="/lift",
            ) from None
        signature = check_withdraw(terms, withdraw, self._domain, "/signature")

        def work(conn: sa.Connection) -> Outcome:
            log.lock_head(conn)
            claim(conn)
            found = row_of(conn, consent)
            if found["ended_leaf"] is not None:
                return outcome_of(found, found["ended_leaf"])
            if found["recorded_leaf"] is None:
                # The record that ends the lifting must be the one of the withdrawal.
                raise Conflict(
                    f"objection {consent} is not yet on the chain",
                    next_step="repeat it in a few seconds; the objection stands meanwhile",
                )
            entry = log.append(
                conn,
                kind=Kind.OBJECTION_LIFTED,
                body={"commitment": found["commitment"], "lift": to_hex(lift)},
                at_ms=self._clock.now_ms(),
                subject=SubjectId.parse(found["subject"]),
                consent=consent,
            )
            conn.execute(
                sa.update(schema.consents)
                .where(schema.consents.c.consent_id == consent.hex)
                .values(ended_leaf=entry.index, ended_by="patient")
            )
            outbox.promise_withdraw(conn, found, self._clock.now_ms(), signature=signature)
            return outcome_of(row_of(conn, consent), entry.index)

        return self._receipted_one(self._store.transact(work))

    def desk_withdraw(
        self,
        actor: Actor,
        consent: ConsentId,
        *,
        officers: Sequence[str],
        at: int,
        signature: bytes,
        claim: Claim = unclaimed,
    ) -> Outcome:
        """End a permit for a patient who came to the hospital's desk: two officers, named in a leaf.

        Raises:
            NotFound: no such permit of a subject of this hospital.
            RequestRefused: not two different officers.
            Expired: ``at`` (epoch seconds) is not within the last hour.
            SignatureRefused: not signed by this hospital.
        """
        table = schema.consents
        with self._store.reading() as conn:
            found = conn.execute(
                sa.select(table.c.subject, table.c.commitment).where(
                    table.c.consent_id == consent.hex, table.c.decision == "permit"
                )
            ).first()
            address = conn.execute(
                sa.select(schema.orgs.c.address).where(schema.orgs.c.org_id == actor.id)
            ).scalar_one_or_none()
        if found is None or address is None:
            raise NotFound("no such consent")
        if SubjectId.parse(found.subject).org != OrgId.parse(actor.id):
            raise NotFound("no such consent")
        named = [name.strip() for name in officers]
        if len(named) != 2 or named[0] == named[1] or not all(named):
            raise RequestRefused("two different officers are needed", pointer="/officers")
        if any("," in name for name in named):
            raise RequestRefused("an officer's sign holds no comma", pointer="/officers")
        now = self._clock.now_ms() // 1000
        if not now - _DESK_SECONDS <= at <= now + 60:
            raise Expired(
                "the desk's withdrawal is not of the last hour",
                next_step="sign it again at the desk",
            )
        message = Desk(from_hex(found.commitment, 32), ",".join(named), at)
        try:
            verify(message, signature, from_hex(address, 20), self._domain)
        except SignatureInvalid:
            raise SignatureRefused(
                "the desk's withdrawal is not signed by this hospital", pointer="/signature"
            ) from None
        desk = {
            "org": actor.id,
            "officers": ",".join(named),
            "at": at,
            "signature": to_hex(signature),
        }
        return self._receipted_one(self._end(consent, by="desk", desk=desk, claim=claim))

    def one(self, actor: Actor, consent: ConsentId) -> dict[str, Any]:
        """One consent of the subject. Raises NotFound."""
        return self._shown(self._own(actor.id, consent))

    def page(self, actor: Actor, cursor: int | None, limit: int) -> Page:
        """The subject's consents and objections, in the order in which they were given."""
        table = schema.consents
        query = (
            sa.select(table)
            .where(table.c.subject == actor.id)
            .order_by(table.c.granted_leaf)
            .limit(limit + 1)
        )
        if cursor is not None:
            query = query.where(table.c.granted_leaf > cursor)
        with self._store.reading() as conn:
            rows = conn.execute(query).mappings().all()
        return page_of([self._shown(row) for row in rows], limit, lambda item: str(item["leaf"]))

    def receipt(self, actor: Actor, index: int) -> dict[str, Any]:
        """The signed receipt of one leaf of the subject's own chains.

        Raises:
            NotFound: no such leaf of this subject.
            KeysUnavailable: the keys process does not answer.
        """
        own = to_hex(handle(SubjectId.parse(actor.id)))
        with self._store.reading() as conn:
            known = conn.execute(
                sa.select(schema.leaves.c.idx).where(
                    schema.leaves.c.idx == index, schema.leaves.c.handle == own
                )
            ).first()
        if known is None:
            raise NotFound("no such leaf of this subject")
        return self._keys.sign_receipts([index])[0].to_json()

    def _take(
        self,
        conn: sa.Connection,
        subject: SubjectId,
        checked: Mapping[int, Checked],
        claim: Claim,
    ) -> dict[int, Outcome | Exception]:
        log.lock_head(conn)
        claim(conn)
        return take(conn, subject, checked, at_ms=self._clock.now_ms())

    def _end(
        self, consent: ConsentId, *, by: str, desk: dict[str, Any] | None, claim: Claim
    ) -> Outcome:
        def work(conn: sa.Connection) -> Outcome:
            log.lock_head(conn)
            claim(conn)
            row = row_of(conn, consent)
            if row["ended_leaf"] is not None:
                return outcome_of(row, row["ended_leaf"])
            draft = ending(row, by=by, desk=desk)
            entry = log.append_many(conn, [draft], self._clock.now_ms())[0]
            set_ended(conn, consent.hex, entry.index, by)
            outbox.promise_withdraw(conn, row, self._clock.now_ms())
            return outcome_of(row_of(conn, consent), entry.index)

        return self._store.transact(work)

    # Reading -------------------------------------------------------------------------------

    def _subject(self, actor: Actor) -> tuple[SubjectId, bytes]:
        with self._store.reading() as conn:
            key = conn.execute(
                sa.select(schema.subjects.c.identity_key).where(
                    schema.subjects.c.subject == actor.id
                )
            ).scalar_one_or_none()
        if key is None:
            raise NotFound("no such subject")
        return SubjectId.parse(actor.id), from_hex(key, 20)

    def _own(self, subject: str, consent: ConsentId) -> Mapping[str, Any]:
        with self._store.reading() as conn:
            row = row_of(conn, consent)
        if row["subject"] != subject:
            raise NotFound("no such consent")
        return row

    def _receipted_one(self, outcome: Outcome) -> Outcome:
        (found,) = self._receipted([outcome])
        assert isinstance(found, Outcome)
        return found

    def _receipted(self, results: Sequence[Outcome | Exception]) -> list[Outcome | Exception]:
        """Ask for receipts once what they speak of is durable; without keys they come later."""
        leaves = sorted({item.leaf for item in results if isinstance(item, Outcome)})
        if not leaves:
            return list(results)
        try:
            signed = {one.index: one.to_json() for one in self._keys.sign_receipts(leaves)}
        except KeysError as error:
            _log.warning(
                "receipts are not signed yet", exc_info=error, extra={"count": len(leaves)}
            )
            signed = {}
        return [
            replace(item, receipt=signed.get(item.leaf)) if isinstance(item, Outcome) else item
            for item in results
        ]

    def _shown(self, row: Mapping[str, Any] | sa.RowMapping) -> dict[str, Any]:
        now = self._clock.now_ms() // 1000
        return {
            "consent": row["consent_id"],
            "decision": row["decision"],
            "status": row["status"],
            "expired": row["ends"] is not None and row["ends"] <= now,
            "lifting": row["decision"] == "deny"
            and row["status"] != "inactive"
            and row["ended_leaf"] is not None,
            "recorded": row["recorded_leaf"] is not None,
            "final": bool(row["final"]),
            "document": parse_canonical(row["document"].encode()),
            "leaf": row["granted_leaf"],
            "recordedLeaf": row["recorded_leaf"],
            "block": row["recorded_block"],
            "endedLeaf": row["ended_leaf"],
            "endedBy": row["ended_by"],
        }
