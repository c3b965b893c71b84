"""Data keys lent to the worker's children: for one intake, for one job; and the deposit of keys.

The keys travel sealed to a key that the child made, so that nobody between can read them. Reasons
beside those of ``checks`` and ``evidence``: ``key-list``, ``not-open``, ``no-record``,
``not-permitted``, ``shredded``, ``malformed``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange import sealing
from exchange.documents import JOB_KIND, read_job
from exchange.errors import DocumentMalformed, KeysRefused, SealError
from exchange.gate import Access
from exchange.keys import database
from exchange.keys.checks import Checks, claim_document
from exchange.keys.database import KeysDatabase
from exchange.keys.records import BATCH, read_record, read_records
from exchange.keys.ring import KeyRing
from exchange.keys.rootkey import Secrets
from exchange.store import schema
from exchange.store.database import Store
from ledger.commitment import sha256
from ledger.ids import DatasetId, JobId, SubjectId
from ledger.leaf import Kind
from ledger.signing import to_hex


class Lending:
    """Takes publishers' keys in, and lends them to children."""

    def __init__(
        self, *, store: Store, own: KeysDatabase, secrets: Secrets, ring: KeyRing, checks: Checks
    ) -> None:
        self._store = store
        self._own = own
        self._secrets = secrets
        self._ring = ring
        self._checks = checks

    def deposit(self, dataset: DatasetId, version: int, sealed: bytes) -> int:
        """Keep the data keys that a publisher sealed to this process; return how many.

        They must be the list that its signed manifest names, one key per part.
        """
        with self._store.reading() as conn:
            manifest = self._checks.manifest(conn, dataset, version)
        if sha256(sealed) != manifest.keys_digest:
            raise KeysRefused(("key-list",))
        try:
            keys = sealing.open_key_list(
                self._secrets.hpke_private, sealed, dataset=dataset, version=version
            )
        except SealError:
            raise KeysRefused(("key-list",)) from None
        if set(keys) != {part.subject for part in manifest.parts}:
            raise KeysRefused(("key-list",))
        return self._ring.deposit(manifest.org, dataset, version, manifest.keys_digest, keys)

    def open_intake(
        self, dataset: DatasetId, version: int, child_key: bytes, *, leaf: int | None = None
    ) -> bytes:
        """Return every data key of an unpublished version, sealed to the inspecting child.

        Each INTAKE_OPENED leaf serves one child; an inspection that was interrupted needs another
        leaf. ``leaf`` names it; without it the first unused one is taken.
        """
        with self._store.reading() as conn:
            manifest = self._checks.manifest(conn, dataset, version)
            row = self._checks.version_row(conn, dataset, version)
            if row.status not in ("received", "inspecting"):
                raise KeysRefused(("not-open",))
            openings = self._intake_leaves(conn, dataset, version)
        wanted = openings if leaf is None else [index for index in openings if index == leaf]
        if not wanted:
            raise KeysRefused(("no-record",))
        self._own.transact(lambda own: _claim_intake(own, wanted, to_hex(child_key)))
        keys = self._ring.take(
            manifest.org, dataset, version, [part.subject for part in manifest.parts]
        )
        packed = sealing.pack_keys(dataset, version, keys)
        try:
            return sealing.seal_to(child_key, packed, info=sealing.intake_info(dataset, version))
        except SealError:
            raise KeysRefused(("malformed",)) from None

    def open_job(
        self, job: JobId, subjects: Sequence[SubjectId], child_key: bytes
    ) -> tuple[bytes, dict[SubjectId, tuple[str, ...]]]:
        """Return the data keys of those subjects whose consent covers the job *now*, and the refused.

        The keys are sealed to the job's child. May be asked again: a job that was interrupted
        starts with a new child, and with a new ruling.
        """
        table = schema.jobs
        with self._store.reading() as conn:
            row = conn.execute(sa.select(table).where(table.c.job_id == job.hex)).one_or_none()
            if row is None or row.status in ("done", "failed", "cancelled", "finished"):
                raise KeysRefused(("not-open",))
            body = read_record(conn, row.leaf_idx).told(Kind.JOB_DECIDED)
            if body.get("job") != job.hex:
                raise KeysRefused(("no-record",))
            access = self._job_access(body.get("spec"), body.get("signature"))
            if access.dataset is None or access.version is None:
                raise KeysRefused(("no-record",))
            manifest = self._checks.manifest(conn, access.dataset, access.version)
            self._checks.require_published(conn, manifest)
            inside = {part.subject for part in manifest.parts}
            permitted = self._checks.permitted_by_leaf(
                conn, schema.job_subjects, schema.job_subjects.c.job_id, job.hex
            )
            asked = [one for one in subjects if one in permitted and one in inside]
            permits, refused = self._checks.rule(conn, access, asked)
        self._own.transact(lambda own: claim_document(own, job.hex, to_hex(access.request_digest)))
        keys = self._ring.take(manifest.org, access.dataset, access.version, permits)
        for subject in subjects:
            if subject not in permits:
                refused.setdefault(subject, ("not-permitted",))
            elif subject not in keys:
                refused[subject] = ("shredded",)
        packed = sealing.pack_keys(access.dataset, access.version, keys)
        try:
            sealed = sealing.seal_to(child_key, packed, info=sealing.job_info(job))
        except SealError:
            raise KeysRefused(("malformed",)) from None
        return sealed, refused

    def _job_access(self, spec: Any, signature: Any) -> Access:
        try:
            job = read_job(spec)
        except DocumentMalformed:
            raise KeysRefused(("request-signature",)) from None
        self._checks.require_signed(job.requester, JOB_KIND, job.document, signature)
        return Access(
            kind="query",  # a word for the leaf alone, and nothing is recorded here
            requester=job.requester,
            purpose=job.purpose,
            categories=frozenset(job.categories),
            action=job.action,
            dataset=job.dataset,
            version=job.version,
            request_digest=job.digest,
        )

    @staticmethod
    def _intake_leaves(conn: Connection, dataset: DatasetId, version: int) -> list[int]:
        table = schema.leaves
        rows = conn.execute(
            sa.select(table.c.idx)
            .where(
                table.c.handle.is_(None),
                table.c.kind == Kind.INTAKE_OPENED,
                table.c.body.contains(dataset.hex, autoescape=True),
            )
            .order_by(table.c.idx)
        ).scalars()
        records = read_records(conn, list(rows)[-BATCH:])
        return [
            index
            for index, record in sorted(records.items())
            if record.leaf.kind == Kind.INTAKE_OPENED
            and record.body is not None
            and record.body.get("dataset") == dataset.hex
            and record.body.get("version") == version
        ]


def _claim_intake(own: Connection, leaves: Sequence[int], child_key: str) -> None:
    """Bind one intake leaf to one child; the same child may ask again."""
    table = database.intakes
    rows = own.execute(sa.select(table.c.leaf, table.c.child_key).where(table.c.leaf.in_(leaves)))
    used = {leaf: child for leaf, child in rows}  # noqa: C416 - rows are not pairs to mypy
    if child_key in used.values():
        return
    free = [leaf for leaf in leaves if leaf not in used]
    if not free:
        raise KeysRefused(("no-record",))
    own.execute(sa.insert(table).values(leaf=free[0], child_key=child_key))
