"""Whether what carries a permit holds: asked by the process with the keys, before a key leaves.

A ruling names the consents that carry it. Each must be proved down to a pinned hospital (``proofs``),
stand as recorded in the log, and never have been seen as withdrawn; and no objection that was once
seen may have vanished from what the gate read (``marks``).

Reasons: those of ``proofs``, ``withdrawn``, ``objection``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from exchange.keys.database import KeysDatabase
from exchange.keys.marks import Marks
from exchange.keys.pins import Pins
from exchange.keys.proofs import Proofs, consent_rows, readable, subject_of
from exchange.keys.records import Record
from ledger.ids import ConsentId, SubjectId, handle
from ledger.leaf import Kind
from ledger.signing import Domain, to_hex

_MOST = 200_000


class Evidence:
    """Judges consents; ``conn`` always reads the exchange's store."""

    def __init__(self, own: KeysDatabase, pins: Pins, domain: Domain) -> None:
        self._proofs = Proofs(own, pins, domain)
        self._marks = Marks(own, self._proofs, domain)
        self._recorded: dict[ConsentId, int] = {}

    def check(
        self, conn: Connection, carried: Mapping[SubjectId, Iterable[ConsentId]]
    ) -> dict[SubjectId, str]:
        """Verify what carries each subject's permit; return a reason for each that fails.

        Batched: a constant number of queries per 500 subjects, and no signature twice while what
        was signed is the same.
        """
        handles = {subject: to_hex(handle(subject)) for subject in carried}
        self._marks.see(conn, handles)
        carriers = {subject: tuple(because) for subject, because in carried.items()}
        rows = consent_rows(conn, {one for because in carriers.values() for one in because})
        failed = self._proofs.prove(conn, rows)
        failed |= self._unrecorded(conn, rows)
        standing = self._marks.standing(conn, handles)
        refused: dict[SubjectId, str] = {}
        for subject, because in carriers.items():
            if not because:
                refused[subject] = "enrolment"
            elif not standing[subject]:
                refused[subject] = "objection"
            else:
                reason = self._failure(subject, because, rows, failed)
                if reason is not None:
                    refused[subject] = reason
        return refused

    def see_records(self, conn: Connection, records: Sequence[Record]) -> None:
        """Take leaves in, before their receipts are signed.

        Withdrawals and objections are durable here when this returns: whatever was acknowledged to
        a patient is known. Grants are proved, so that no ruling waits for it.
        """
        for record in records:
            self._marks.see_record(conn, record)
        self._proofs.prove_granted(conn, records)

    def is_withdrawn(self, consent: ConsentId) -> bool:
        """Whether this consent was ever seen as withdrawn."""
        return self._marks.is_withdrawn(consent)

    def save(self) -> None:
        """Keep what was proved for the next start."""
        self._proofs.save()

    def _failure(
        self,
        subject: SubjectId,
        because: Iterable[ConsentId],
        rows: Mapping[ConsentId, Any],
        failed: Mapping[ConsentId, str],
    ) -> str | None:
        for consent in because:
            row = rows.get(consent)
            if row is None or row.subject != subject.hex:
                return "consent-differs"
            if self._marks.is_withdrawn(consent):
                return "withdrawn"
            if consent in failed:
                return failed[consent]
        return None

    def _unrecorded(self, conn: Connection, rows: Mapping[ConsentId, Any]) -> dict[ConsentId, str]:
        """The consents without a leaf that says that the chain holds them."""
        left = {
            consent: row.recorded_leaf
            for consent, row in rows.items()
            if row.recorded_leaf is None or self._recorded.get(consent) != row.recorded_leaf
        }
        leaves = readable(conn, (index for index in left.values() if index is not None))
        refused: dict[ConsentId, str] = {}
        for consent, index in left.items():
            record, subject = leaves.get(index), subject_of(rows[consent])
            if (
                record is None
                or subject is None
                or record.body is None
                or record.leaf.kind != Kind.CONSENT_RECORDED
                or record.leaf.consent_id != consent.raw
                or record.leaf.handle != handle(subject)
            ):
                refused[consent] = "consent-differs"
            else:
                self._recorded[consent] = index
        if len(self._recorded) > _MOST:
            self._recorded.clear()
        return refused
