"""Verbs of the querying hospital: ask for the records of a dataset version, and see what became of it.

Asking is deciding: the gate rules on every subject and records the rulings, a leaf for each subject and
one for the release, in one transaction, before anything can be streamed (``threats.md`` §1.2, step 1).
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange import log
from exchange.actor import Actor, Role
from exchange.catalogue import SMALLEST_COUNT
from exchange.claims import Claim, unclaimed
from exchange.clock import Clock
from exchange.documents import REQUEST_KIND, ReleaseRequest, read_request
from exchange.errors import DocumentMalformed, NotFound
from exchange.gate import Access as GateAccess
from exchange.gate import Admission, Gate
from exchange.store import schema
from exchange.store.database import Store
from ledger.commitment import canonical, parse_canonical
from ledger.ids import DatasetId, ReleaseId, SubjectId
from ledger.leaf import Kind
from ledger.policy import Denial, Permit, Referral
from ledger.signing import Domain, verify_document

#: A request signed longer ago, or further ahead, is refused: it may have been kept and replayed.
REQUEST_WINDOW_SECONDS = 600


@dataclass(frozen=True)
class Answer:
    """What a requester learns: how much may leave, and how much stays, suppressed when small."""

    release: ReleaseId
    decision: str
    permitted: int
    withheld: int | None
    questions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The answer on the wire."""
        return {
            "release": self.release.hex,
            "decision": self.decision,
            "permitted": self.permitted,
            "withheld": self.withheld,
            "questions": list(self.questions),
        }


def suppressed(count: int) -> int | None:
    """A count that may be shown (zero may), or None from 1 to 10."""
    return count if count == 0 or count >= SMALLEST_COUNT else None


class Requests:
    """Requests for records, and the releases they became."""

    def __init__(self, store: Store, gate: Gate, domain: Domain, clock: Clock) -> None:
        self._store = store
        self._gate = gate
        self._domain = domain
        self._clock = clock

    def ask(
        self, actor: Actor, document: Any, signature: bytes, *, claim: Claim = unclaimed
    ) -> Answer:
        """Rule on every subject of a dataset version, record the rulings, and answer.

        The same signed document asked again gets the same answer.

        Raises:
            DocumentMalformed: the request is malformed, stale, or names another requester.
            SignatureInvalid: it is not signed by the requester.
            NotFound: there is no such published dataset version.
        """
        request = read_request(document)
        if request.requester.hex != actor.id:
            raise DocumentMalformed("/requester", "must be the hospital that asks")
        now = self._clock.now_ms()
        if abs(now // 1000 - request.at) > REQUEST_WINDOW_SECONDS:
            raise DocumentMalformed("/at", "is not within ten minutes of now: sign it again")
        with self._store.reading() as conn:
            address = conn.execute(
                sa.select(schema.orgs.c.address).where(schema.orgs.c.org_id == actor.id)
            ).scalar_one_or_none()
        if address is None:
            raise NotFound("no such hospital")
        verify_document(
            REQUEST_KIND, document, signature, bytes.fromhex(str(address)[2:]), self._domain
        )

        def work(conn: Connection) -> Answer:
            claim(conn)
            return self._admit(conn, request, signature, now)

        return self._store.transact(work)

    def _admit(
        self, conn: Connection, request: ReleaseRequest, signature: bytes, now: int
    ) -> Answer:
        log.lock_head(conn)
        releases = schema.releases
        digest = "0x" + request.digest.hex()
        known = conn.execute(
            sa.select(releases.c.release_id).where(releases.c.request_digest == digest)
        ).scalar_one_or_none()
        if known is not None:
            return self._answer(conn, ReleaseId.parse(str(known)))
        version = (
            conn.execute(
                sa.select(schema.dataset_versions, schema.datasets.c.categories)
                .join(
                    schema.datasets,
                    schema.datasets.c.dataset_id == schema.dataset_versions.c.dataset_id,
                )
                .where(
                    schema.dataset_versions.c.dataset_id == request.dataset.hex,
                    schema.dataset_versions.c.version == request.version,
                    schema.dataset_versions.c.status == "published",
                )
            )
            .mappings()
            .first()
        )
        if version is None:
            raise NotFound("no such published dataset version")
        if list(request.categories) != parse_canonical(version["categories"].encode()):
            raise DocumentMalformed("/categories", "must be the dataset's own categories")
        subjects = published_subjects(conn, request.dataset, request.version)
        release = ReleaseId.new()
        access = GateAccess(
            kind="release",
            requester=request.requester,
            purpose=request.purpose,
            categories=frozenset(request.categories),
            action="disclose",
            dataset=request.dataset,
            version=request.version,
            request_digest=request.digest,
        )
        admission = self._gate.admit(conn, access, release, subjects)
        permitted = sum(isinstance(ruling, Permit) for ruling in admission.rulings.values())
        entry = log.append(
            conn,
            kind=Kind.RELEASE_DECIDED,
            body={
                "release": release.hex,
                "request": request.document,
                "requestSignature": "0x" + signature.hex(),
                "requester": request.requester.hex,
                "dataset": request.dataset.hex,
                "version": request.version,
                "manifestDigest": version["manifest_digest"],
                "permitted": permitted,
                "withheld": len(subjects) - permitted,
            },
            at_ms=now,
        )
        conn.execute(
            sa.insert(releases),
            {
                "release_id": release.hex,
                "requester": request.requester.hex,
                "dataset_id": request.dataset.hex,
                "version": request.version,
                "request": canonical(request.document).decode(),
                "request_digest": digest,
                "signature": "0x" + signature.hex(),
                "status": "decided" if permitted else "denied",
                "leaf_idx": entry.index,
                "permitted": permitted,
                "withheld": len(subjects) - permitted,
                "created_ms": now,
            },
        )
        if subjects:
            conn.execute(sa.insert(schema.release_subjects), _subject_rows(release, admission))
        return self._answer(conn, release)

    def _answer(self, conn: Connection, release: ReleaseId) -> Answer:
        row = (
            conn.execute(
                sa.select(schema.releases).where(schema.releases.c.release_id == release.hex)
            )
            .mappings()
            .one()
        )
        questions: set[str] = set()
        referred = conn.execute(
            sa.select(schema.release_subjects.c.reasons).where(
                schema.release_subjects.c.release_id == release.hex,
                schema.release_subjects.c.decision == "refer",
            )
        ).scalars()
        for reasons in referred:
            questions.update(json.loads(reasons))
        without = "referral" if questions else "deny"
        decision = "permit" if row["permitted"] else without
        return Answer(
            release=release,
            decision=decision,
            permitted=row["permitted"],
            withheld=suppressed(row["withheld"]),
            questions=tuple(sorted(questions)) if decision == "referral" else (),
        )

    def mine(self, actor: Actor) -> list[dict[str, Any]]:
        """The requester's own requests, newest first."""
        releases, datasets = schema.releases, schema.datasets
        query = (
            sa.select(releases, datasets.c.title)
            .join(datasets, datasets.c.dataset_id == releases.c.dataset_id)
            .where(releases.c.requester == actor.id)
            .order_by(releases.c.created_ms.desc())
            .limit(200)
        )
        with self._store.reading() as conn:
            return [
                {
                    "release": row["release_id"],
                    "dataset": row["dataset_id"],
                    "title": row["title"],
                    "version": row["version"],
                    "purpose": json.loads(row["request"])["purpose"],
                    "status": row["status"],
                    "permitted": row["permitted"],
                    "withheld": suppressed(row["withheld"]),
                    "created": row["created_ms"],
                }
                for row in conn.execute(query).mappings()
            ]

    def one(self, actor: Actor, release: ReleaseId) -> dict[str, Any]:
        """One of the requester's own requests.

        Raises:
            NotFound: no such release of this requester.
        """
        for item in self.mine(actor):
            if item["release"] == release.hex:
                return item
        raise NotFound("no such release")

    def withheld(self, actor: Actor, release: ReleaseId) -> dict[str, int]:
        """Why records stayed, by count: for the publisher and for auditors (decision D8).

        Raises:
            NotFound: no such release, or the actor is neither its publisher nor an auditor.
        """
        with self._store.reading() as conn:
            publisher = conn.execute(
                sa.select(schema.datasets.c.org_id)
                .join(schema.releases, schema.releases.c.dataset_id == schema.datasets.c.dataset_id)
                .where(schema.releases.c.release_id == release.hex)
            ).scalar_one_or_none()
            if publisher is None or (actor.role is not Role.AUDITOR and publisher != actor.id):
                raise NotFound("no such release")
            rows = conn.execute(
                sa.select(schema.release_subjects.c.reasons).where(
                    schema.release_subjects.c.release_id == release.hex,
                    schema.release_subjects.c.decision != "permit",
                )
            ).scalars()
            counted: Counter[str] = Counter()
            for reasons in rows:
                counted.update(json.loads(reasons)[:1])
        return dict(sorted(counted.items()))


def published_subjects(conn: Connection, dataset: DatasetId, version: int) -> list[SubjectId]:
    """The subjects of a version whose part passed intake, in ascending order."""
    parts = schema.parts
    rows = conn.execute(
        sa.select(parts.c.subject)
        .where(parts.c.dataset_id == dataset.hex, parts.c.version == version)
        .where(parts.c.state == "ok")
        .order_by(parts.c.subject)
    ).scalars()
    return [SubjectId.parse(subject) for subject in rows]


def _subject_rows(release: ReleaseId, admission: Admission) -> list[dict[str, Any]]:
    rows = []
    for subject, ruling in admission.rulings.items():
        reasons: tuple[str, ...] = ()
        because: tuple[str, ...] = ()
        match ruling:
            case Permit():
                decision = "permit"
                because = tuple(consent.hex for consent in ruling.because)
            case Referral():
                decision, reasons = "refer", ruling.questions
            case Denial():
                decision, reasons = "deny", ruling.reasons
        rows.append(
            {
                "release_id": release.hex,
                "subject": subject.hex,
                "decision": decision,
                "reasons": canonical(list(reasons)).decode(),
                "because": canonical(list(because)).decode(),
                "leaf_idx": admission.entries[subject].index,
                "state": "permitted" if decision == "permit" else "withheld",
            }
        )
    return rows
