"""Who covers a job, asked again and again: before it runs, while it runs, and as it ends.

A ruling is never kept; the gate is asked each time, so a withdrawal counts from its acknowledgement on
(``compute-promises.md`` J2, J19, J20).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange.documents import JobRequest
from exchange.gate import Gate
from exchange.jobs import access_of, covers
from exchange.store import schema
from exchange.store.database import Store
from ledger.ids import JobId, SubjectId
from ledger.policy import Permit


@dataclass(frozen=True)
class Cover:
    """Puts questions about a job to the gate."""

    store: Store
    gate: Gate

    def permits(self, identity: JobId, job: JobRequest) -> dict[SubjectId, Permit]:
        """Who is covered now, of those whose ruling at submission was a permit."""
        table = schema.job_subjects
        with self.store.reading() as conn:
            admitted = conn.execute(
                sa.select(table.c.subject)
                .where(table.c.job_id == identity.hex, table.c.decision == "permit")
                .order_by(table.c.subject)
            ).scalars()
            subjects = [SubjectId.parse(subject) for subject in admitted]
            rulings = self.gate.rule(conn, access_of(job), subjects)
        return {
            subject: ruling for subject, ruling in rulings.items() if isinstance(ruling, Permit)
        }

    def covered(
        self, job: JobRequest, permits: Mapping[SubjectId, Permit], subjects: Sequence[str]
    ) -> Collection[str]:
        """Which of these (``0x`` hex) are covered now; somebody without a permit here is not."""
        named = set(subjects)
        asked = [subject for subject in permits if subject.hex in named]
        with self.store.reading() as conn:
            rulings = self.gate.rule(conn, access_of(job), asked)
        return [who.hex for who, ruling in rulings.items() if isinstance(ruling, Permit)]

    def lost_slots(self, job: JobRequest, permits: Mapping[SubjectId, Permit]) -> list[int]:
        """The slots whose own consent is not among those that permit."""
        return [
            slot
            for slot, (subject, consent) in enumerate(job.slots or ())
            if not covers(permits.get(subject), consent)
        ]

    def stop(self, job: JobRequest) -> str | None:
        """Patients who share a ciphertext stop it together; others are dropped one by one."""
        if job.slots is None:
            return None
        with self.store.reading() as conn:
            lost = self.lost_now(conn, job)
        return "cover-lost:" + listed(lost) if lost else None

    def lost_now(self, conn: Connection, job: JobRequest) -> list[int]:
        """As :meth:`lost_slots`, asked in the caller's transaction."""
        subjects = list(dict.fromkeys(subject for subject, _ in job.slots or ()))
        rulings = self.gate.rule(conn, access_of(job), subjects)
        return [
            slot
            for slot, (subject, consent) in enumerate(job.slots or ())
            if not covers(rulings[subject], consent)
        ]


def listed(slots: Sequence[int]) -> str:
    """Slots as they stand in a reason."""
    return ",".join(map(str, slots))
