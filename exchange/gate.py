"""The one place in the exchange that asks for a decision: ``rule`` reads, ``admit`` also records.

Consents are read from the store and what was followed of the chain, never over RPC (D8). A permit
counts once the chain has recorded it, a withdrawal and an objection at once; that is in the rows'
``status``. When the node has not answered for longer than ``stale_seconds`` nothing new is
permitted. Admitting writes one leaf per subject before anything leaves, in the same transaction as
the reading: a withdrawal is either seen, or comes after the leaf (``threats.md`` §1.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange import log
from exchange.clock import Clock, decided_at
from exchange.store.consents import consents_of
from exchange.store.schema import chain_cursor, dataset_versions
from ledger.ids import DatasetId, JobId, OrgId, ReleaseId, SubjectId, handle
from ledger.leaf import ZEROS, Kind
from ledger.policy import AccessRequest, Denial, Permit, Ruling, as_body, decide

AccessKind = Literal["release", "query", "inference", "statistics", "encrypted-inference"]

_PUBLISHED = "published"


@dataclass(frozen=True, slots=True)
class Access:
    """What is asked of a whole list of subjects.

    ``request_digest`` is the SHA-256 of the signed request or job document. ``dataset`` and
    ``version`` are None where no dataset of the exchange is used.
    """

    kind: AccessKind
    requester: OrgId
    purpose: str
    categories: frozenset[str]
    action: str
    dataset: DatasetId | None
    version: int | None
    request_digest: bytes

    def request_for(self, subject: SubjectId) -> AccessRequest:
        """Return the question about one subject."""
        return AccessRequest(
            subject=subject,
            requester=self.requester,
            purpose=self.purpose,
            categories=self.categories,
            action=self.action,
            dataset=self.dataset,
        )


@dataclass(frozen=True, slots=True)
class Admission:
    """What was ruled and recorded, by subject. ``at_ms`` is the leaves' time."""

    at_ms: int
    rulings: dict[SubjectId, Ruling]
    entries: dict[SubjectId, log.Entry]

    @property
    def permitted(self) -> list[SubjectId]:
        """The subjects whose data may be used, in the order asked."""
        return [one for one, ruling in self.rulings.items() if isinstance(ruling, Permit)]


class Gate:
    """Asks ``ledger.policy.decide`` about every subject. ``stale_seconds`` is a setting."""

    def __init__(self, stale_seconds: float, clock: Clock) -> None:
        self._stale_ms = int(stale_seconds * 1000)
        self._clock = clock

    def rule(
        self, conn: Connection, access: Access, subjects: Sequence[SubjectId]
    ) -> dict[SubjectId, Ruling]:
        """Decide for every subject now; writes nothing, so any snapshot will do."""
        return self._rule(conn, access, subjects, self._clock.now_ms())

    def admit(
        self,
        conn: Connection,
        access: Access,
        access_id: ReleaseId | JobId,
        subjects: Sequence[SubjectId],
    ) -> Admission:
        """Decide for every subject and record each ruling, whatever it is, as a leaf.

        Nothing may leave before this transaction has committed.
        """
        log.lock_head(conn)
        # Taken after the lock: no leaf of a later time can then stand before these.
        at_ms = self._clock.now_ms()
        rulings = self._rule(conn, access, subjects, at_ms)
        handles = {subject: handle(subject) for subject in rulings}
        heads = log.heads(conn, handles.values(), "consent")
        request = {
            "requester": access.requester.hex,
            "purpose": access.purpose,
            "categories": sorted(access.categories),
            "action": access.action,
            "dataset": None if access.dataset is None else access.dataset.hex,
            "version": access.version,
        }
        drafts = []
        for subject, ruling in rulings.items():
            seen = heads.get(handles[subject])
            drafts.append(
                log.Draft(
                    Kind.ACCESS_DECIDED,
                    {
                        "access": access_id.hex,
                        "kind": access.kind,
                        "request": request,
                        "requestDigest": "0x" + access.request_digest.hex(),
                        "ruling": as_body(ruling),
                        # A subject who never enrolled has no chain: zeros, as for a first leaf.
                        "consentHead": "0x" + (ZEROS if seen is None else seen.hash).hex(),
                        "consentSeq": 0 if seen is None else seen.seq,
                    },
                    subject,
                )
            )
        entries = log.append_many(conn, drafts, at_ms)
        return Admission(at_ms, rulings, dict(zip(rulings, entries, strict=True)))

    def covered(
        self, conn: Connection, access: Access, subjects: Sequence[SubjectId]
    ) -> set[SubjectId]:
        """Return the subjects that a ruling made now would permit."""
        rulings = self.rule(conn, access, subjects)
        return {one for one, ruling in rulings.items() if isinstance(ruling, Permit)}

    def is_stale(self, conn: Connection) -> bool:
        """Whether the node's last answer is too old, or there never was one."""
        return self._is_stale(conn, self._clock.now_ms())

    def _is_stale(self, conn: Connection, now_ms: int) -> bool:
        answered = conn.execute(sa.select(chain_cursor.c.answered_ms)).scalar_one_or_none()
        # An answer from the future is a clock gone wrong, and doubt means no.
        return answered is None or not -self._stale_ms <= now_ms - answered <= self._stale_ms

    def _rule(
        self, conn: Connection, access: Access, subjects: Sequence[SubjectId], at_ms: int
    ) -> dict[SubjectId, Ruling]:
        unique = list(dict.fromkeys(subjects))
        reasons = self._circumstances(conn, access, at_ms)
        if reasons:
            return dict.fromkeys(unique, Denial(reasons))
        at = decided_at(at_ms)
        return {
            subject: decide(access.request_for(subject), consents, at=at)
            for subject, consents in consents_of(conn, unique).items()
        }

    def _circumstances(self, conn: Connection, access: Access, at_ms: int) -> tuple[str, ...]:
        """Return the reasons that hold for everybody: the chain, and the dataset's own state."""
        found = ["chain-stale"] if self._is_stale(conn, at_ms) else []
        if access.dataset is not None:
            status = conn.execute(
                sa.select(dataset_versions.c.status).where(
                    dataset_versions.c.dataset_id == access.dataset.hex,
                    dataset_versions.c.version == access.version,
                )
            ).scalar_one_or_none()
            if status != _PUBLISHED:
                found.append("dataset-retired")
        return tuple(found)
