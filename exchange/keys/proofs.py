"""Signatures of patients and hospitals, followed down to a pinned hospital, once per consent.

Invitation, redemption, terms, grant, document, and the columns that the gate reads: what held is
remembered by a digest of everything that was verified, in memory and in the keys process's own
database, beside the pins and under the same trust. A row that was edited has another digest and is
verified anew. Proofs are made when a consent's receipt is signed, so that a ruling finds them ready;
whatever is missing is proved when it is needed. What may change later (withdrawn, objected, recorded)
is no part of a proof: see ``marks`` and ``evidence``.

Reasons: ``enrolment``, ``consent-differs``, ``consent-signature``.
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
from ledger.errors import IdMalformed, LedgerError, SignatureInvalid
from ledger.ids import ConsentId, SubjectId, handle
from ledger.leaf import Kind
from ledger.signing import (
    Domain,
    Grant,
    Invited,
    Redeemed,
    Terms,
    check_terms,
    from_hex,
    to_hex,
    verify,
)

#: In front of what is digested: rules that change get another one, and prove everything anew.
_RULES = b"assent proof/1"
_MOST = 200_000
_SAVED_AT = 256

_table = schema.consents
_SIGNED = (
    _table.c.consent_id,
    _table.c.subject,
    _table.c.decision,
    _table.c.terms,
    _table.c.document,
    _table.c.terms_signature,
    _table.c.grant_signature,
    _table.c.starts,
    _table.c.ends,
    _table.c.purposes,
    _table.c.requesters,
    _table.c.categories,
    _table.c.actions,
    _table.c.data_use,
    _table.c.supersedes,
    _table.c.granted_leaf,
)


class Unproved(Exception):
    """Carries the reason why one consent's signatures do not hold."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def consent_rows(conn: Connection, consents: Iterable[ConsentId]) -> dict[ConsentId, Any]:
    """Return the rows as far as evidence reads them; absent where there is none."""
    wanted = {consent.hex: consent for consent in consents}
    texts = sorted(wanted)
    found: dict[ConsentId, Any] = {}
    for start in range(0, len(texts), BATCH):
        rows = conn.execute(
            sa.select(*_SIGNED, _table.c.recorded_leaf, _table.c.status).where(
                _table.c.consent_id.in_(texts[start : start + BATCH])
            )
        )
        for row in rows:
            found[wanted[row.consent_id]] = row
    return found


class Proofs:
    """Verifies consents, and remembers which; safe to share between threads."""

    def __init__(self, own: KeysDatabase, pins: Pins, domain: Domain) -> None:
        self._own = own
        self._pins = pins
        self._domain = domain
        self._lock = threading.Lock()
        self._identities: dict[SubjectId, bytes] = {}
        self._proved: dict[ConsentId, bytes] = {}
        self._unsaved: dict[ConsentId, bytes] = {}

    def prove(self, conn: Connection, rows: Mapping[ConsentId, Any]) -> dict[ConsentId, str]:
        """Verify what is not proved yet; return a reason for each consent that does not hold."""
        digests = {consent: _digest(row) for consent, row in rows.items()}
        left = {one: row for one, row in rows.items() if self._proved.get(one) != digests[one]}
        if left:
            self._recall(left)
            left = {one: row for one, row in left.items() if self._proved.get(one) != digests[one]}
        if not left:
            return {}
        refused: dict[ConsentId, str] = {}
        subjects = {one: subject_of(row) for one, row in left.items()}
        strangers = self.identify(conn, (one for one in subjects.values() if one is not None))
        leaves = readable(conn, (row.granted_leaf for row in left.values()))
        proved: dict[ConsentId, bytes] = {}
        for consent, row in left.items():
            subject = subjects[consent]
            try:
                if subject is None:
                    raise Unproved("consent-differs")
                if subject in strangers:
                    raise Unproved("enrolment")
                self._verify(consent, subject, row, leaves.get(row.granted_leaf))
                proved[consent] = digests[consent]
            except Unproved as error:
                refused[consent] = error.reason
        self._remember(proved)
        return refused

    def prove_granted(self, conn: Connection, records: Iterable[Record]) -> None:
        """Prove the consents that these leaves begin, ahead of any ruling; refuses nothing."""
        consents = [
            ConsentId(record.leaf.consent_id)
            for record in records
            if record.leaf.kind == Kind.CONSENT_GRANTED
        ]
        if consents:
            self.prove(conn, consent_rows(conn, consents))

    def save(self) -> None:
        """Write what was proved since to the keys database. Losing it costs time, nothing else."""
        with self._lock:
            waiting, self._unsaved = self._unsaved, {}
        rows = [{"consent": one.hex, "digest": digest} for one, digest in waiting.items()]
        if rows:
            self._own.transact(lambda own: insert_once(own, database.proved, rows))

    def identity(self, subject: SubjectId) -> bytes:
        """Return the identity key's address, 20 bytes, of a subject that was identified."""
        return self._identities[subject]

    def identify(self, conn: Connection, subjects: Iterable[SubjectId]) -> set[SubjectId]:
        """Follow invitation and redemption of these subjects; return those that do not hold."""
        missing = sorted({subject for subject in subjects if subject not in self._identities})
        refused: set[SubjectId] = set()
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
            leaves = readable(conn, (row.leaf_idx for row in rows.values()))
            for subject in batch:
                row = rows.get(subject.hex)
                record = None if row is None else leaves.get(row.leaf_idx)
                try:
                    self._identities[subject] = self._identity(subject, row, record)
                except (Unproved, LedgerError, KeysRefused, KeyError, TypeError, ValueError):
                    refused.add(subject)
        return refused

    def _recall(self, consents: Iterable[ConsentId]) -> None:
        """Take what an earlier start proved out of the keys database."""
        table = database.proved
        wanted = {consent.hex: consent for consent in consents}
        texts = sorted(wanted)
        with self._own.reading() as own:
            for start in range(0, len(texts), BATCH):
                rows = own.execute(
                    sa.select(table.c.consent, table.c.digest).where(
                        table.c.consent.in_(texts[start : start + BATCH])
                    )
                )
                found = {wanted[text]: bytes(digest) for text, digest in rows}
                self._remember(found, saved=True)

    def _remember(self, proved: Mapping[ConsentId, bytes], *, saved: bool = False) -> None:
        with self._lock:
            if len(self._proved) + len(proved) > _MOST:
                self._proved.clear()
            self._proved.update(proved)
            if not saved:
                self._unsaved.update(proved)
            waiting = len(self._unsaved)
        if waiting >= _SAVED_AT:
            self.save()

    def _identity(self, subject: SubjectId, row: Any, record: Record | None) -> bytes:
        if row is None or record is None or record.leaf.handle != handle(subject):
            raise Unproved("enrolment")
        body = record.told(Kind.SUBJECT_ENROLLED)
        hospital = self._pins.address(subject.org)
        if hospital is None or body["subject"] != subject.hex:
            raise Unproved("enrolment")
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
            raise Unproved("enrolment")
        return identity

    def _verify(
        self, consent: ConsentId, subject: SubjectId, row: Any, granted: Record | None
    ) -> None:
        try:
            self._verify_signed(consent, subject, row, granted)
        except SignatureInvalid:
            raise Unproved("consent-signature") from None
        except (LedgerError, KeysRefused, KeyError, TypeError, ValueError):
            raise Unproved("consent-differs") from None

    def _verify_signed(
        self, consent: ConsentId, subject: SubjectId, row: Any, granted: Record | None
    ) -> None:
        parsed, terms = as_signed(row)
        if parsed.decision is not Decision.PERMIT or granted is None:
            raise Unproved("consent-differs")
        if terms.subject != subject or terms.consent_id() != consent:
            raise Unproved("consent-differs")
        body = granted.told(Kind.CONSENT_GRANTED)
        if (
            granted.leaf.consent_id != consent.raw
            or granted.leaf.handle != handle(subject)
            or body["terms"] != terms.to_json()
            or granted.leaf.at_ms // 1000 > terms.sign_by
        ):
            raise Unproved("consent-differs")
        identity = self._identities[subject]
        verify(terms, from_hex(row.terms_signature, 64), identity, self._domain)
        verify(
            Grant(terms.commitment(), terms.until_day),
            from_hex(row.grant_signature, 64),
            terms.consent_key,
            self._domain,
        )


def as_signed(row: Any) -> tuple[ParsedDocument, Terms]:
    """Return document and terms, once terms and every column that the gate reads agree with it.

    Raises LedgerError, ValueError or Unproved.
    """
    # Both are hashed again in their canonical spelling, so the stored one does not matter.
    document = json.loads(row.document)
    terms = Terms.from_json(json.loads(row.terms))
    if not isinstance(document, dict):
        raise Unproved("consent-differs")
    parsed = check_terms(terms, document)
    if row.consent_id != terms.consent_id().hex or any(
        getattr(row, name) != value for name, value in document_columns(parsed).items()
    ):
        raise Unproved("consent-differs")
    return parsed, terms


def subject_of(row: Any) -> SubjectId | None:
    """Return whose consent the row says it is; None where it says nothing that could be one."""
    try:
        return SubjectId.parse(row.subject)
    except IdMalformed:
        return None


def readable(conn: Connection, indexes: Iterable[int]) -> dict[int, Record]:
    """Read leaves together; where one is bad or missing it alone is left out."""
    wanted = sorted(set(indexes))
    try:
        return read_records(conn, wanted)
    except KeysRefused:
        # One bad leaf must not hide behind the batch: ask for each alone.
        found: dict[int, Record] = {}
        for index in wanted:
            try:
                found.update(read_records(conn, (index,)))
            except KeysRefused:
                continue
        return found


def _digest(row: Any) -> bytes:
    """Digest everything of the row that is verified."""
    told = json.dumps(list(row[: len(_SIGNED)]))
    return hashlib.sha256(_RULES + told.encode()).digest()
