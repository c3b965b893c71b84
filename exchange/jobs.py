"""Verbs of the computing hospital: submit a job, hand in its ciphertext, read its result.

Submitting is deciding: the gate rules on every subject and the rulings are recorded before anything
runs; the worker asks again when it runs (``compute-promises.md`` J1, J2). Nothing is run here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from compute.errors import ComputeError
from compute.job import JobSpec
from exchange import log
from exchange.access import REQUEST_WINDOW_SECONDS, published_subjects, suppressed
from exchange.actor import Actor
from exchange.claims import Claim, unclaimed
from exchange.clock import Clock
from exchange.documents import JOB_KIND, JobRequest, read_job
from exchange.errors import DocumentMalformed, NotFound, VersionNotReady
from exchange.filters import check
from exchange.gate import Access, Admission, Gate
from exchange.store import schema
from exchange.store.database import Store
from exchange.vault import Vault, input_path
from ledger.commitment import canonical, parse_canonical
from ledger.ids import JobId, ModelDigest, OrgId, SubjectId
from ledger.leaf import Kind
from ledger.policy import Denial, Permit, Referral
from ledger.signing import Domain, verify_document

#: The largest ciphertext that is taken (bytes).
MOST_INPUT = 512 << 20
ENDED = ("done", "failed", "refused", "stopped")


class Jobs:
    """Jobs, as their requesters see them."""

    def __init__(
        self, store: Store, gate: Gate, vault: Vault, domain: Domain, clock: Clock
    ) -> None:
        self._store = store
        self._gate = gate
        self._vault = vault
        self._domain = domain
        self._clock = clock

    def submit(
        self, actor: Actor, document: Any, signature: bytes, *, claim: Claim = unclaimed
    ) -> dict[str, Any]:
        """Rule, record, and queue (an encrypted job waits for its ciphertext first).

        The same signed document submitted again is the same job. A job that covers nobody, or an
        encrypted one with a slot that is not covered, is *refused*: that is an answer, with its leaf.

        Raises:
            DocumentMalformed: the job is malformed, stale, or names another requester.
            SignatureInvalid: it is not signed by the requester.
            NotFound: no such published dataset version, or no such model.
        """
        job = read_job(document)
        if job.requester.hex != actor.id:
            raise DocumentMalformed("/requester", "must be the hospital that asks")
        now = self._clock.now_ms()
        if abs(now // 1000 - job.at) > REQUEST_WINDOW_SECONDS:
            raise DocumentMalformed("/at", "is not within ten minutes of now: sign it again")
        _check_parameters(job)
        verify_document(JOB_KIND, document, signature, self._address(actor.id), self._domain)

        def work(conn: Connection) -> dict[str, Any]:
            claim(conn)
            return self._admit(conn, job, signature, now)

        return self._store.transact(work)

    def _admit(
        self, conn: Connection, job: JobRequest, signature: bytes, now: int
    ) -> dict[str, Any]:
        log.lock_head(conn)
        jobs = schema.jobs
        spec = canonical(job.document).decode()
        known = conn.execute(sa.select(jobs).where(jobs.c.spec == spec)).mappings().first()
        if known is not None:
            return told(known)
        subjects, manifest = self._subjects(conn, job)
        if job.model is not None:
            found = conn.execute(
                sa.select(schema.models.c.digest).where(schema.models.c.digest == job.model)
            ).first()
            if found is None:
                raise NotFound("no such model")
        identity = JobId.new()
        admission = self._gate.admit(conn, access_of(job), identity, subjects)
        permitted = set(admission.permitted)
        status, detail = "queued", None
        if job.slots is not None:
            status = "draft"
            lost = [
                slot
                for slot, (subject, consent) in enumerate(job.slots)
                if not covers(admission.rulings[subject], consent)
            ]
            if lost:
                status, detail = "refused", "uncovered:" + ",".join(map(str, lost))
        elif not permitted:
            status, detail = "refused", "nobody-covered"
        entry = log.append(
            conn,
            kind=Kind.JOB_DECIDED,
            body={
                "job": identity.hex,
                "spec": job.document,
                "signature": "0x" + signature.hex(),
                "covered": len(permitted),
                "withheld": len(subjects) - len(permitted),
                "manifestDigest": manifest,
            },
            at_ms=now,
        )
        row = {
            "job_id": identity.hex,
            "kind": job.job,
            "requester": job.requester.hex,
            "dataset_id": None if job.dataset is None else job.dataset.hex,
            "version": job.version,
            "model": job.model,
            "spec": spec,
            "signature": "0x" + signature.hex(),
            "status": status,
            "progress": 0,
            "detail": detail,
            "covered": len(permitted),
            "withheld": len(subjects) - len(permitted),
            "leaf_idx": entry.index,
            "created_ms": now,
            "updated_ms": now,
        }
        conn.execute(sa.insert(jobs), row)
        if subjects:
            conn.execute(sa.insert(schema.job_subjects), _subject_rows(identity, job, admission))
        return told({column.name: row.get(column.name) for column in jobs.c})

    def _subjects(self, conn: Connection, job: JobRequest) -> tuple[list[SubjectId], str | None]:
        if job.slots is not None:
            if any(subject.org != job.requester for subject, _ in job.slots):
                raise DocumentMalformed("/slots", "must be the requester's own subjects")
            return list(dict.fromkeys(subject for subject, _ in job.slots)), None
        if job.dataset is None or job.version is None:
            raise DocumentMalformed("/dataset", "is missing")
        row = (
            conn.execute(
                sa.select(schema.dataset_versions.c.manifest_digest, schema.datasets.c.categories)
                .join(
                    schema.datasets,
                    schema.datasets.c.dataset_id == schema.dataset_versions.c.dataset_id,
                )
                .where(
                    schema.dataset_versions.c.dataset_id == job.dataset.hex,
                    schema.dataset_versions.c.version == job.version,
                    schema.dataset_versions.c.status == "published",
                )
            )
            .mappings()
            .first()
        )
        if row is None:
            raise NotFound("no such published dataset version")
        if list(job.categories) != parse_canonical(row["categories"].encode()):
            raise DocumentMalformed("/categories", "must be the dataset's own categories")
        return published_subjects(conn, job.dataset, job.version), row["manifest_digest"]

    def receive(self, actor: Actor, job: JobId, body: Iterable[bytes]) -> None:
        """Take an encrypted job's ciphertext and queue it. Repeating it changes nothing.

        Raises:
            NotFound: no such job of this hospital.
            VersionNotReady: the job takes no ciphertext, or not any more.
            BodyTooLarge: more than 512 MiB.
            ContextRefused, CiphertextRefused, SignatureInvalid, RequestRefused: as
                :func:`exchange.encrypted_input.split`; nothing is kept.
        """
        row = self._own(actor, job)
        if row["kind"] != "encrypted-inference":
            raise VersionNotReady("this job takes no ciphertext")
        if row["status"] == "refused":
            raise VersionNotReady("this job was refused: submit another without those slots")
        if row["status"] != "draft":
            return
        path = input_path(job)
        size = self._vault.put(path, body, limit=MOST_INPUT).size
        try:
            self._check_input(path, size, row)
        except Exception:
            # Whatever is wrong with it, it is not this job's: the next attempt finds the place free.
            self._vault.delete(path)
            raise
        now = self._clock.now_ms()
        jobs = schema.jobs
        self._store.transact(
            lambda conn: conn.execute(
                sa.update(jobs)
                .where(jobs.c.job_id == job.hex, jobs.c.status == "draft")
                .values(status="queued", input=path, updated_ms=now)
            )
        )

    def _check_input(self, path: str, size: int, row: RowMapping) -> None:
        # Deferred: reading a header wakes numpy, which nothing else in the api needs.
        from exchange.encrypted_input import split

        split(
            lambda offset, length: self._vault.read(path, offset=offset, length=length),
            size,
            read_job(parse_canonical(row["spec"].encode())),
            self._address(row["requester"]),
        )

    def _address(self, org: str) -> bytes:
        with self._store.reading() as conn:
            address = conn.execute(
                sa.select(schema.orgs.c.address).where(schema.orgs.c.org_id == org)
            ).scalar_one_or_none()
        if address is None:
            raise NotFound("no such hospital")
        return bytes.fromhex(str(address)[2:])

    def status(self, actor: Actor, job: JobId) -> dict[str, Any]:
        """One of the requester's own jobs.

        Raises:
            NotFound: no such job of this hospital.
        """
        return told(self._own(actor, job))

    def coverage(self, actor: Actor, purpose: str, categories: list[str]) -> dict[str, str]:
        """For each own subject who is covered now: the consent that a slot would name.

        A hospital needs it to encrypt for nobody else; asking discloses nothing that it does not hold.
        """
        subjects_table = schema.subjects
        with self._store.reading() as conn:
            known = conn.execute(
                sa.select(subjects_table.c.subject).where(subjects_table.c.org_id == actor.id)
            ).scalars()
            subjects = [SubjectId.parse(subject) for subject in known]
            access = Access(
                kind="encrypted-inference",
                requester=OrgId.parse(actor.id),
                purpose=purpose,
                categories=frozenset(categories),
                action="use",
                dataset=None,
                version=None,
                request_digest=bytes(32),
            )
            rulings = self._gate.rule(conn, access, subjects)
        return {
            who.hex: ruling.because[0].hex
            for who, ruling in rulings.items()
            if isinstance(ruling, Permit)
        }

    def mine(self, actor: Actor) -> list[dict[str, Any]]:
        """The requester's own jobs, newest first."""
        jobs = schema.jobs
        query = (
            sa.select(jobs)
            .where(jobs.c.requester == actor.id)
            .order_by(jobs.c.created_ms.desc())
            .limit(200)
        )
        with self._store.reading() as conn:
            return [told(row) for row in conn.execute(query).mappings()]

    def result(self, actor: Actor, job: JobId) -> bytes:
        """The sealed result (an encrypted reply is a ciphertext under the requester's own key).

        Raises:
            NotFound: no such job of this hospital.
            VersionNotReady: it has no result (yet).
        """
        row = self._own(actor, job)
        if row["status"] != "done" or row["result"] is None:
            raise VersionNotReady(f"the job is {row['status']} and has no result")
        return self._vault.read(row["result"])

    def _own(self, actor: Actor, job: JobId) -> RowMapping:
        jobs = schema.jobs
        with self._store.reading() as conn:
            row = (
                conn.execute(
                    sa.select(jobs).where(jobs.c.job_id == job.hex, jobs.c.requester == actor.id)
                )
                .mappings()
                .first()
            )
        if row is None:
            raise NotFound("no such job")
        return row


def access_of(job: JobRequest) -> Access:
    """What the gate is asked for a job, at submission and again whenever it runs."""
    return Access(
        kind=job.job,  # type: ignore[arg-type]  # read_job admits exactly these kinds
        requester=job.requester,
        purpose=job.purpose,
        categories=frozenset(job.categories),
        action=job.action,
        dataset=job.dataset,
        version=job.version,
        request_digest=job.digest,
    )


def covers(ruling: Any, consent: str) -> bool:
    """Whether a ruling permits because of this consent (``0x`` hex), among others."""
    return isinstance(ruling, Permit) and consent in {one.hex for one in ruling.because}


def told(row: Any) -> dict[str, Any]:
    """A job as its requester sees it; the number of withheld people is suppressed when small."""
    return {
        "job": row["job_id"],
        "kind": row["kind"],
        "dataset": row["dataset_id"],
        "version": row["version"],
        "model": row["model"],
        "status": row["status"],
        "progress": row["progress"],
        "detail": row["detail"],
        "covered": row["covered"],
        "withheld": suppressed(row["withheld"] or 0),
        "used": row["used"],
        "dropped": row["dropped"],
        "resultDigest": row["result_digest"],
        "created": row["created_ms"],
        "updated": row["updated_ms"],
    }


def _check_parameters(job: JobRequest) -> None:
    if job.job == "query":
        wrong = check(job.parameters)
        if wrong is not None:
            pointer, _, what = wrong.partition(" ")
            raise DocumentMalformed(pointer, what)
        wanted = "disclose" if job.parameters["want"] == "rows" else "use"
        if job.action != wanted:
            raise DocumentMalformed("/action", f"must be {wanted}: rows are disclosed, counts used")
        return
    if job.action != "use":
        raise DocumentMalformed("/action", "must be use: a job computes, and hands no record over")
    try:
        JobSpec(
            kind=job.job,
            model_digest=None if job.model is None else ModelDigest.parse(job.model).raw,
            parameters=job.parameters,
        )
    except ComputeError as error:
        raise DocumentMalformed("/parameters", str(error)) from None


def _subject_rows(identity: JobId, job: JobRequest, admission: Admission) -> list[dict[str, Any]]:
    places: dict[SubjectId, tuple[int, str]] = {}
    for slot, (subject, consent) in enumerate(job.slots or ()):
        places.setdefault(subject, (slot, consent))
    rows = []
    for subject, ruling in admission.rulings.items():
        reasons: tuple[str, ...] = ()
        match ruling:
            case Permit():
                decision = "permit"
            case Referral():
                decision, reasons = "refer", ruling.questions
            case Denial():
                decision, reasons = "deny", ruling.reasons
        place = places.get(subject)
        rows.append(
            {
                "job_id": identity.hex,
                "subject": subject.hex,
                "slot": None if place is None else place[0],
                "consent_id": None if place is None else place[1],
                "decision": decision,
                "reasons": json.dumps(list(reasons), separators=(",", ":")),
                "leaf_idx": admission.entries[subject].index,
                "state": "permitted" if decision == "permit" else "withheld",
            }
        )
    return rows
