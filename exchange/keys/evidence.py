"""What patients and hospitals signed, verified once more by the process that holds the keys.

A ruling names the consents that carry it. Before a key leaves because of them, this module follows
each one down to a pinned hospital: invitation, redemption, terms, grant, document, and the columns
that the gate read. It also keeps high-water marks: a consent once seen as withdrawn is refused for
ever, and an objection once seen stands until its lifting is seen, whatever the store says later.

Reasons: ``enrolment``, ``consent-differs``, ``consent-signature``, ``withdrawn``, ``objection``.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange.errors import KeysRefused
from exchange.keys import database
from exchange.keys.database import KeysDatabase, insert_once
from exchange.keys.pins import Pins
from exchange.keys.records import BATCH, Record, read_records
from exchange.store import schema
from exchange.store.consents import document_columns
from ledger.consent import Decision, ParsedDocument
from ledger.errors import LedgerError, SignatureInvalid
from ledger.ids import ConsentId, SubjectId, handle
from ledger.leaf import Kind
from ledger.signing import (
    Domain,
    Grant,
    Invited,
    Lift,
    Redeemed,
    Terms,
    check_terms,
    from_hex,
    to_hex,
    verify,
)

_MARKS = (Kind.OBJECTION_RECORDED, Kind.CONSENT_WITHDRAWN, Kind.OBJECTION_LIFTED)
_CACHE = 1_000_000


class _Unproved(Exception):
    """Carries the reason why one subject's evidence does not hold."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Evidence:
    """Verifies consents; remembers what it verified, by content, and what it saw end."""

    def __init__(self, own: KeysDatabase, pins: Pins, domain: Domain) -> None:
        self._own = own
        self._pins = pins
        self._domain = domain
        self._lock = threading.Lock()
        self._identities: dict[SubjectId, bytes] = {}
        self._verified: dict[ConsentId, bytes] = {}
        self._withdrawn: set[str] = set()
        self._objections: dict[str, dict[str, bool]] = {}
        with own.reading() as conn:
            self._withdrawn.update(
                conn.execute(sa.select(database.withdrawals_seen.c.consent)).scalars()
            )
            for consent, owner, lifted in conn.execute(sa.select(database.objections_seen)):
                self._objections.setdefault(owner, {})[consent] = lifted

    def check(
        self, conn: Connection, carried: Mapping[SubjectId, Iterable[ConsentId]]
    ) -> dict[SubjectId, str]:
        """Verify what carries each subject's permit; return a reason for each that fails.

        ``conn`` reads the exchange's store. Batched: a constant number of queries per 500 subjects,
        and no signature twice while what was signed is the same.
        """
        handles = {subject: to_hex(handle(subject)) for subject in carried}
        self.see(conn, handles)
        refused: dict[SubjectId, str] = {}
        carriers = {subject: tuple(because) for subject, because in carried.items()}
        self._load_identities(conn, carriers, refused)
        rows = self._consent_rows(conn, carriers)
        standing = self._standing_objections(conn, handles)
        leaves = self._records(conn, rows)
        for subject, because in carriers.items():
            if subject in refused:
                continue
            if not because:
                refused[subject] = "enrolment"
                continue
            if not standing[subject]:
                refused[subject] = "objection"
                continue
            try:
                for consent in because:
                    self._check_consent(subject, consent, rows.get(consent), leaves)
            except _Unproved as error:
                refused[subject] = error.reason
        return refused

    def see(self, conn: Connection, handles: Mapping[SubjectId, str]) -> None:
        """Take every withdrawal, objection and lifting of these subjects' chains into memory."""
        subjects = {text: subject for subject, text in handles.items()}
        table = schema.leaves
        texts = sorted(subjects)
        for start in range(0, len(texts), BATCH):
            rows = conn.execute(
                sa.select(table.c.idx, table.c.kind, table.c.handle, table.c.consent_id).where(
                    table.c.handle.in_(texts[start : start + BATCH]), table.c.kind.in_(_MARKS)
                )
            ).all()
            self._note(conn, rows, subjects)

    def see_record(self, conn: Connection, record: Record) -> None:
        """Take one leaf into memory, before its receipt is signed."""
        if record.leaf.kind not in _MARKS:
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
            refused: dict[SubjectId, str] = {}
            self._load_identities(conn, {subject: ()}, refused)
            if refused:
                return False
            row = self._consent_rows(conn, {subject: (ConsentId.parse(consent),)})
            terms = Terms.from_json(json.loads(row[ConsentId.parse(consent)].terms))
            if terms.consent_id().hex != consent:
                return False
            signature = from_hex(body["lift"], 64)
            verify(Lift(terms.commitment()), signature, self._identities[subject], self._domain)
        except (LedgerError, KeysRefused, KeyError, ValueError):
            return False
        return True

    def _load_identities(
        self,
        conn: Connection,
        carriers: Mapping[SubjectId, tuple[ConsentId, ...]],
        refused: dict[SubjectId, str],
    ) -> None:
        missing = sorted(subject for subject in carriers if subject not in self._identities)
        table = schema.subjects
        for start in range(0, len(missing), BATCH):
            batch = missing[start : start + BATCH]
            rows = {
                row.subject: row
                for row in conn.execute(
                    sa.select(table.c.subject, table.c.identity_key, table.c.leaf_idx).where(
                        table.c.subject.in_([subject.hex for subject in batch])
                    )
                )
            }
            try:
                leaves = read_records(conn, [row.leaf_idx for row in rows.values()])
            except KeysRefused:
                # One bad leaf must not hide behind the batch: ask for each alone.
                leaves = self._one_by_one(conn, [row.leaf_idx for row in rows.values()])
            for subject in batch:
                row = rows.get(subject.hex)
                record = None if row is None else leaves.get(row.leaf_idx)
                try:
                    self._identities[subject] = self._identity(subject, row, record)
                except (_Unproved, LedgerError, KeysRefused, KeyError, TypeError):
                    refused[subject] = "enrolment"

    @staticmethod
    def _one_by_one(conn: Connection, indexes: Iterable[int]) -> dict[int, Record]:
        found: dict[int, Record] = {}
        for index in indexes:
            try:
                found.update(read_records(conn, (index,)))
            except KeysRefused:
                continue
        return found

    def _identity(self, subject: SubjectId, row: Any, record: Record | None) -> bytes:
        """Follow invitation and redemption; return the identity key's address."""
        if row is None or record is None or record.leaf.handle != handle(subject):
            raise _Unproved("enrolment")
        body = record.told(Kind.SUBJECT_ENROLLED)
        hospital = self._pins.address(subject.org)
        if hospital is None or body["subject"] != subject.hex:
            raise _Unproved("enrolment")
        invited, redeemed = body["invited"], body["redeemed"]
        code_key = from_hex(invited["codeKey"], 20)
        identity = from_hex(redeemed["identityKey"], 20)
        expiry = int(invited["expiry"])
        verify(
            Invited(subject, code_key, expiry),
            from_hex(invited["signature"], 64),
            hospital,
            self._domain,
        )
        verify(
            Redeemed(subject, identity), from_hex(redeemed["signature"], 64), code_key, self._domain
        )
        if to_hex(identity) != row.identity_key or record.leaf.at_ms // 1000 > expiry:
            raise _Unproved("enrolment")
        return identity

    @staticmethod
    def _consent_rows(
        conn: Connection, carriers: Mapping[SubjectId, tuple[ConsentId, ...]]
    ) -> dict[ConsentId, Any]:
        wanted = sorted({consent.hex for because in carriers.values() for consent in because})
        table = schema.consents
        found: dict[ConsentId, Any] = {}
        for start in range(0, len(wanted), BATCH):
            rows = conn.execute(
                sa.select(table).where(table.c.consent_id.in_(wanted[start : start + BATCH]))
            )
            for row in rows:
                found[ConsentId.parse(row.consent_id)] = row
        return found

    def _standing_objections(
        self, conn: Connection, handles: Mapping[SubjectId, str]
    ) -> dict[SubjectId, bool]:
        """Whether each subject's objections still stand in the store as the gate reads them."""
        expected = {
            subject: {
                consent for consent, lifted in self._objections.get(owner, {}).items() if not lifted
            }
            for subject, owner in handles.items()
        }
        wanted = sorted({consent for those in expected.values() for consent in those})
        table = schema.consents
        standing: set[str] = set()
        for start in range(0, len(wanted), BATCH):
            rows = conn.execute(
                sa.select(table).where(table.c.consent_id.in_(wanted[start : start + BATCH]))
            )
            for row in rows:
                if row.status not in ("draft", "active"):
                    continue
                try:
                    parsed = _as_signed(row)
                except (_Unproved, LedgerError, ValueError):
                    continue
                if parsed.decision is Decision.DENY:
                    standing.add(row.consent_id)
        return {subject: those <= standing for subject, those in expected.items()}

    def _records(
        self,
        conn: Connection,
        rows: Mapping[ConsentId, Any],
    ) -> dict[int, Record]:
        """The leaves of consents that were not verified yet."""
        indexes: set[int] = set()
        for consent, row in rows.items():
            if self._verified.get(consent) != _fingerprint(row):
                indexes.update(
                    index for index in (row.granted_leaf, row.recorded_leaf) if index is not None
                )
        try:
            return read_records(conn, indexes)
        except KeysRefused:
            return self._one_by_one(conn, sorted(indexes))

    def _check_consent(
        self,
        subject: SubjectId,
        consent: ConsentId,
        row: Any,
        leaves: Mapping[int, Record],
    ) -> None:
        if row is None or row.subject != subject.hex:
            raise _Unproved("consent-differs")
        if self.is_withdrawn(consent):
            raise _Unproved("withdrawn")
        fingerprint = _fingerprint(row)
        if self._verified.get(consent) == fingerprint:
            return
        granted = leaves.get(row.granted_leaf)
        recorded = None if row.recorded_leaf is None else leaves.get(row.recorded_leaf)
        try:
            self._verify_consent(subject, consent, row, granted, recorded)
        except SignatureInvalid:
            raise _Unproved("consent-signature") from None
        except (LedgerError, KeysRefused, KeyError, TypeError, ValueError):
            raise _Unproved("consent-differs") from None
        if len(self._verified) >= _CACHE:
            self._verified.clear()
        self._verified[consent] = fingerprint

    def _verify_consent(
        self,
        subject: SubjectId,
        consent: ConsentId,
        row: Any,
        granted: Record | None,
        recorded: Record | None,
    ) -> None:
        parsed = _as_signed(row)
        if parsed.decision is not Decision.PERMIT or granted is None or recorded is None:
            raise _Unproved("consent-differs")
        terms = Terms.from_json(json.loads(row.terms))
        if terms.subject != subject or terms.consent_id() != consent:
            raise _Unproved("consent-differs")
        body = granted.told(Kind.CONSENT_GRANTED)
        recorded.told(Kind.CONSENT_RECORDED)
        mine = handle(subject)
        if (
            granted.leaf.consent_id != consent.raw
            or recorded.leaf.consent_id != consent.raw
            or granted.leaf.handle != mine
            or recorded.leaf.handle != mine
            or body["terms"] != terms.to_json()
            or granted.leaf.at_ms // 1000 > terms.sign_by
        ):
            raise _Unproved("consent-differs")
        identity = self._identities[subject]
        verify(terms, from_hex(row.terms_signature, 64), identity, self._domain)
        verify(
            Grant(terms.commitment(), terms.until_day),
            from_hex(row.grant_signature, 64),
            terms.consent_key,
            self._domain,
        )


def _as_signed(row: Any) -> ParsedDocument:
    """Return the row's document, once terms and every column that the gate reads agree with it.

    Raises LedgerError or _Unproved.
    """
    # Both are hashed again in their canonical spelling, so the stored one does not matter.
    document = json.loads(row.document)
    terms = Terms.from_json(json.loads(row.terms))
    if not isinstance(document, dict):
        raise _Unproved("consent-differs")
    parsed = check_terms(terms, document)
    if row.consent_id != terms.consent_id().hex or any(
        getattr(row, name) != value for name, value in document_columns(parsed).items()
    ):
        raise _Unproved("consent-differs")
    return parsed


def _fingerprint(row: Any) -> bytes:
    """Digest everything of the row that was verified, so that an edited row is verified anew."""
    joined = "\x1f".join(
        str(value)
        for value in (
            row.consent_id,
            row.subject,
            row.decision,
            row.terms,
            row.document,
            row.terms_signature,
            row.grant_signature,
            row.starts,
            row.ends,
            row.purposes,
            row.requesters,
            row.categories,
            row.actions,
            row.data_use,
            row.supersedes,
            row.granted_leaf,
            row.recorded_leaf,
        )
    )
    return hashlib.sha256(joined.encode()).digest()
