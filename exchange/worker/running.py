"""Running one job: the child it needs, the cover it keeps asking for, and its one ending.

A job row in the store is the truth. Cover is asked again in every run and once more in the transaction
that lets the result go, so a job that is run again revives no permission (J2, J20).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from compute.errors import ComputeError
from exchange import encrypted_input
from exchange import log as merkle
from exchange.clock import Clock
from exchange.documents import JobRequest, read_job
from exchange.errors import (
    JobCancelled,
    JobFailed,
    KeysRefused,
    RequestRefused,
    SandboxLost,
    Transient,
    VaultError,
)
from exchange.gate import Gate
from exchange.jobs import ENDED, access_of
from exchange.keys.client import KeysClient
from exchange.sealing import job_info
from exchange.store import schema
from exchange.store.database import Store
from exchange.vault import Vault, model_path, result_path
from exchange.worker.covering import Cover, listed
from exchange.worker.sandbox import MOST_LOSSES, Feed, Limits, run_child
from exchange.worker.turns import Turns
from ledger.commitment import parse_canonical
from ledger.errors import SignatureInvalid
from ledger.ids import DatasetId, JobId, ModelDigest, SubjectId, handle
from ledger.leaf import Kind
from ledger.policy import Permit

_log = logging.getLogger(__name__)
_ROUNDS = 20
#: How long a child may compute on the rulings it was started with (seconds); it asks again meanwhile.
_LEASE_SECONDS = 900


@dataclass(frozen=True)
class Runner:
    """Runs one job to its end, whatever that is; everything durable is in the store."""

    store: Store
    vault: Vault
    keys: KeysClient
    gate: Gate
    clock: Clock
    limits: Limits
    turns: Turns = field(default_factory=Turns)

    @property
    def cover(self) -> Cover:
        """Questions about who is covered."""
        return Cover(self.store, self.gate)

    def run(self, identity: JobId) -> str:
        """Run a job; its status afterwards. Repeating it after its end changes nothing.

        Raises:
            KeysUnavailable, VaultUnavailable: safe to repeat.
        """
        # A resumed attempt and a new one may meet: each would write the other's result away.
        with self.turns.of(identity.hex):
            return self._run(identity)

    def _run(self, identity: JobId) -> str:
        row = self._row(identity)
        if row["status"] in ENDED or row["status"] == "draft":
            return str(row["status"])
        job = read_job(parse_canonical(row["spec"].encode()))
        self._mark(identity, status="running")
        losses = 0
        for _ in range(_ROUNDS):
            permits = self.cover.permits(identity, job)
            lost = self.cover.lost_slots(job, permits)
            if lost:
                return self._end(identity, "stopped", "cover-lost:" + listed(lost))
            if not permits:
                return self._end(identity, "refused", "nobody-covered")
            try:
                head, blob = self._child(identity, job, row, permits)
                used = _used(head, permits)
            except JobCancelled as cancelled:
                return self._end(identity, "stopped", str(cancelled))
            except JobFailed as failed:
                word, _, rest = failed.reason.partition(":")
                status = "stopped" if word == "cover-lost" else "failed"
                return self._end(identity, status, failed.reason if rest else word)
            except KeysRefused as refused:
                return self._end(identity, "refused", "keys:" + ",".join(refused.reasons))
            except SandboxLost:
                losses += 1
                if losses == MOST_LOSSES:
                    return self._end(identity, "failed", "sandbox-lost")
                continue
            except VaultError as error:
                if isinstance(error, Transient):
                    raise
                return self._end(identity, "failed", "input-missing")
            closed = self._close(identity, job, used, blob)
            if closed is not None:
                return closed
            # Somebody in the result withdrew while it was being sealed: it is gone; without them.
        return self._end(identity, "failed", "unsettled")

    def _child(
        self, identity: JobId, job: JobRequest, row: RowMapping, permits: dict[SubjectId, Permit]
    ) -> tuple[dict[str, Any], bytes]:
        task: dict[str, Any] = {
            "task": "query" if job.job == "query" else "compute",
            "job": identity.hex,
            "kind": job.job,
            "parameters": job.parameters,
            "receiveKey": "0x" + job.receive_key.hex(),
            "info": job_info(identity).hex(),
        }
        blobs: dict[str, bytes] = {}
        if job.job != "query":
            task |= self._model(job, blobs) | {
                "model": job.model,
                "policy": next(iter(permits.values())).policy_version,
                "leaseUntil": self.clock.now_ms() // 1000 + _LEASE_SECONDS,
                "permits": {
                    subject.hex: [[one.hex for one in permit.because], permit.expires]
                    for subject, permit in permits.items()
                },
            }
        if job.slots is not None:
            blobs |= _ciphertext(self.vault.read(str(row["input"])), job, self._address(job))
        else:
            task |= self._dataset(job, len(permits))
        feed = Feed(
            task=task,
            keys=lambda child: self._keys(identity, job, list(permits), child),
            parts=() if job.slots is not None else self._parts(job, permits),
            blobs=blobs,
            covered=lambda subjects: self.cover.covered(job, permits, subjects),
            stop=lambda: self.cover.stop(job),
            progress=lambda done, total: self._progress(identity, done, total),
        )
        return run_child(feed, self.limits)

    def _keys(
        self, identity: JobId, job: JobRequest, subjects: list[SubjectId], child: bytes
    ) -> bytes:
        if job.slots is not None:
            return b""
        sealed, _refused = self.keys.open_job(identity, subjects, child)
        return sealed

    def _model(self, job: JobRequest, blobs: dict[str, bytes]) -> dict[str, Any]:
        if job.model is None:
            return {}
        with self.store.reading() as conn:
            card = conn.execute(
                sa.select(schema.models.c.card).where(schema.models.c.digest == job.model)
            ).scalar_one()
        blobs["weights"] = self.vault.read(model_path(ModelDigest.parse(job.model)))
        return {"card": parse_canonical(card.encode())}

    def _address(self, job: JobRequest) -> bytes:
        with self.store.reading() as conn:
            address = conn.execute(
                sa.select(schema.orgs.c.address).where(schema.orgs.c.org_id == job.requester.hex)
            ).scalar_one()
        return bytes.fromhex(str(address)[2:])

    def _dataset(self, job: JobRequest, parts: int) -> dict[str, Any]:
        dataset, version = _named(job)
        with self.store.reading() as conn:
            org = conn.execute(
                sa.select(schema.datasets.c.org_id).where(
                    schema.datasets.c.dataset_id == dataset.hex
                )
            ).scalar_one()
        return {"org": org, "dataset": dataset.hex, "version": version, "parts": parts}

    def _parts(
        self, job: JobRequest, permits: dict[SubjectId, Permit]
    ) -> Iterator[tuple[str, bytes]]:
        dataset, version = _named(job)
        parts, versions = schema.parts, schema.dataset_versions
        with self.store.reading() as conn:
            blob = conn.execute(
                sa.select(versions.c.blob).where(
                    versions.c.dataset_id == dataset.hex, versions.c.version == version
                )
            ).scalar_one()
            rows = conn.execute(
                sa.select(parts.c.subject, parts.c.offset, parts.c.length)
                .where(parts.c.dataset_id == dataset.hex, parts.c.version == version)
                .where(parts.c.state == "ok")
                .order_by(parts.c.subject)
            ).all()
        wanted = {subject.hex for subject in permits}
        for row in rows:
            if row.subject in wanted:
                yield row.subject, self.vault.read(blob, offset=row.offset, length=row.length)

    def _close(
        self, identity: JobId, job: JobRequest, used: Sequence[SubjectId], blob: bytes
    ) -> str | None:
        """Let the result go if everybody in it is still covered; None if somebody is not."""
        if not used:
            return self._end(identity, "refused", "nobody-covered")
        path = result_path(identity)
        self.vault.delete(path)
        self.vault.put_bytes(path, blob)
        digest = "0x" + sha256(blob).hexdigest()

        def work(conn: Connection) -> str | None:
            merkle.lock_head(conn)
            row = self._locked(conn, identity)
            if row["status"] in ENDED:
                return str(row["status"])
            rulings = self.gate.rule(conn, access_of(job), used)
            if not all(isinstance(ruling, Permit) for ruling in rulings.values()):
                return None
            # Another consent of the same patient does not stand in for the one that a slot names.
            if self.cover.lost_now(conn, job):
                return None
            dropped = (row["covered"] or 0) - len(used)
            self._finish(conn, identity, "done", None, used=used, dropped=dropped,
                         result=path, digest=digest)  # fmt: skip
            table = schema.job_subjects
            kept = {subject.hex for subject in used}
            admitted = conn.execute(
                sa.select(table.c.subject).where(
                    table.c.job_id == identity.hex, table.c.decision == "permit"
                )
            ).scalars()
            for subject in list(admitted):
                conn.execute(
                    sa.update(table)
                    .where(table.c.job_id == identity.hex, table.c.subject == subject)
                    .values(state="used" if subject in kept else "dropped")
                )
            return "done"

        status = self.store.transact(work)
        if status != "done":
            self.vault.delete(path)
        return status

    def _end(self, identity: JobId, status: str, detail: str) -> str:
        """End a job without a result."""

        def work(conn: Connection) -> str:
            merkle.lock_head(conn)
            row = self._locked(conn, identity)
            if row["status"] in ENDED:
                return str(row["status"])
            self._finish(conn, identity, status, detail, used=[], dropped=row["covered"] or 0,
                         result=None, digest=None)  # fmt: skip
            table = schema.job_subjects
            conn.execute(
                sa.update(table)
                .where(table.c.job_id == identity.hex, table.c.decision == "permit")
                .values(state="stopped")
            )
            return status

        return self.store.transact(work)

    def _finish(
        self, conn: Connection, identity: JobId, status: str, detail: str | None, *,
        used: Sequence[SubjectId], dropped: int, result: str | None, digest: str | None,
    ) -> None:  # fmt: skip
        now = self.clock.now_ms()
        entry = merkle.append(
            conn,
            kind=Kind.JOB_FINISHED,
            body={
                "job": identity.hex,
                "outcome": status,
                "resultDigest": digest,
                # By handle, so that an auditor sees that nobody was used who was not permitted.
                "used": sorted("0x" + handle(subject).hex() for subject in used),
                "dropped": dropped,
                "detail": detail,
            },
            at_ms=now,
        )
        conn.execute(
            sa.update(schema.jobs)
            .where(schema.jobs.c.job_id == identity.hex)
            .values(
                status=status, detail=detail, used=len(used), dropped=dropped, result=result,
                result_digest=digest, closing_leaf=entry.index, progress=100, updated_ms=now,
            )
        )  # fmt: skip
        _log.info("job", extra={"job": identity.hex, "status": status})

    def _row(self, identity: JobId) -> RowMapping:
        with self.store.reading() as conn:
            return self._locked(conn, identity)

    @staticmethod
    def _locked(conn: Connection, identity: JobId) -> RowMapping:
        return (
            conn.execute(sa.select(schema.jobs).where(schema.jobs.c.job_id == identity.hex))
            .mappings()
            .one()
        )

    def _mark(self, identity: JobId, **values: Any) -> None:
        now = self.clock.now_ms()
        self.store.transact(
            lambda conn: conn.execute(
                sa.update(schema.jobs)
                .where(schema.jobs.c.job_id == identity.hex)
                .where(schema.jobs.c.status.not_in(ENDED))
                .values(**values, updated_ms=now)
            )
        )

    def _progress(self, identity: JobId, done: int, total: int) -> None:
        # 100 is for what has ended.
        self._mark(identity, progress=min(99, 100 * done // max(total, 1)))


def _used(head: Mapping[str, Any], permits: Mapping[SubjectId, Permit]) -> list[SubjectId]:
    """Whom the child says it used: of those that it was given, nobody else."""
    listed = head.get("used")
    given = {subject.hex for subject in permits}
    if not isinstance(listed, list) or any(one not in given for one in map(str, listed)):
        raise JobFailed("used-differs")
    named = set(listed)
    return [subject for subject in permits if subject.hex in named]


def _named(job: JobRequest) -> tuple[DatasetId, int]:
    if job.dataset is None or job.version is None:
        raise JobFailed("no-dataset")
    return job.dataset, job.version


def _ciphertext(data: bytes, job: JobRequest, address: bytes) -> dict[str, bytes]:
    """The evaluator's context and the request; the door looked at both, and the vault is not the door."""
    try:
        context, start = encrypted_input.split(
            lambda offset, length: data[offset : offset + length], len(data), job, address
        )
    except (ComputeError, SignatureInvalid, RequestRefused):
        raise JobFailed("input-refused") from None
    return {"context": context, "request": data[start:]}
