"""Releases and jobs as one kind of thing: an access, with the leaves that are its evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from exchange.store import schema
from ledger.bundle import BundleKind
from ledger.commitment import parse_canonical

MOVING = frozenset({"streaming", "queued", "running"})
"""States in which an access has begun and not ended: its last leaf is still to come."""


@dataclass(frozen=True, slots=True)
class AccessRow:
    """One release or job. Ids in hex; ``leaf`` decided it, ``closing`` says what became of it.

    ``owner`` is the hospital whose subjects it is about: the dataset's publisher, or the requester
    of a job on its own subjects.
    """

    kind: BundleKind
    id: str
    what: str
    requester: str
    owner: str | None
    dataset: str | None
    version: int | None
    purpose: str
    action: str
    status: str
    permitted: int
    withheld: int
    leaf: int
    closing: int | None
    at_ms: int

    def to_json(self) -> dict[str, Any]:
        """The access on the wire; ``at`` in Unix milliseconds."""
        return {
            "id": self.id,
            "kind": self.kind,
            "what": self.what,
            "requester": self.requester,
            "publisher": self.owner,
            "dataset": self.dataset,
            "version": self.version,
            "purpose": self.purpose,
            "action": self.action,
            "status": self.status,
            "permitted": self.permitted,
            "withheld": self.withheld,
            "leaf": self.leaf,
            "closingLeaf": self.closing,
            "at": self.at_ms,
        }


def find(conn: Connection, identity: str) -> AccessRow | None:
    """Return the release or job of this id (0x-hex, 16 bytes); None where there is none."""
    for query, row in (
        (_releases().where(schema.releases.c.release_id == identity), _release),
        (_jobs().where(schema.jobs.c.job_id == identity), _job),
    ):
        found = conn.execute(query).mappings().first()
        if found is not None:
            return row(found)
    return None


def newest(conn: Connection, *, before: int | None, limit: int) -> list[AccessRow]:
    """Return decided accesses, the newest first, of leaves below ``before`` where that is given."""
    rows: list[AccessRow] = []
    for query, table, row in (
        (_releases(), schema.releases, _release),
        (_jobs(), schema.jobs, _job),
    ):
        some = query.where(table.c.leaf_idx.is_not(None))
        if before is not None:
            some = some.where(table.c.leaf_idx < before)
        some = some.order_by(table.c.leaf_idx.desc()).limit(limit)
        rows += [row(found) for found in conn.execute(some).mappings()]
    return sorted(rows, key=lambda one: -one.leaf)[:limit]


def subject_leaves(conn: Connection, access: AccessRow) -> list[int]:
    """Return the indexes of the access's rulings, one per subject, in leaf order."""
    table, column = (
        (schema.release_subjects, schema.release_subjects.c.release_id)
        if access.kind == "release"
        else (schema.job_subjects, schema.job_subjects.c.job_id)
    )
    rows = conn.execute(
        sa.select(table.c.leaf_idx).where(column == access.id).order_by(table.c.leaf_idx)
    )
    return [int(index) for index in rows.scalars()]


def is_about(conn: Connection, access: AccessRow, subject: str) -> bool:
    """Whether the access was decided for this subject (hex)."""
    table, column = (
        (schema.release_subjects, schema.release_subjects.c.release_id)
        if access.kind == "release"
        else (schema.job_subjects, schema.job_subjects.c.job_id)
    )
    query = sa.select(table.c.leaf_idx).where(column == access.id, table.c.subject == subject)
    return conn.execute(query.limit(1)).first() is not None


def publication_leaf(conn: Connection, access: AccessRow) -> int | None:
    """Return the leaf that published the dataset version; None where no dataset is used."""
    table = schema.dataset_versions
    return conn.execute(
        sa.select(table.c.leaf_idx).where(
            table.c.dataset_id == access.dataset, table.c.version == access.version
        )
    ).scalar_one_or_none()


def _releases() -> sa.Select[Any]:
    return sa.select(schema.releases, schema.datasets.c.org_id).outerjoin(
        schema.datasets, schema.datasets.c.dataset_id == schema.releases.c.dataset_id
    )


def _jobs() -> sa.Select[Any]:
    return sa.select(schema.jobs, schema.datasets.c.org_id).outerjoin(
        schema.datasets, schema.datasets.c.dataset_id == schema.jobs.c.dataset_id
    )


def _release(row: RowMapping) -> AccessRow:
    return _row(row, {"id": "release_id", "document": "request", "permitted": "permitted"})


def _job(row: RowMapping) -> AccessRow:
    return _row(row, {"id": "job_id", "document": "spec", "permitted": "covered"})


def _row(row: RowMapping, names: dict[str, str]) -> AccessRow:
    is_release = "release_id" in row
    asked = parse_canonical(row[names["document"]].encode())
    assert isinstance(asked, dict)
    dataset = row["dataset_id"]
    return AccessRow(
        kind="release" if is_release else "job",
        id=row[names["id"]],
        what="release" if is_release else row["kind"],
        requester=row["requester"],
        owner=row["requester"] if dataset is None else row["org_id"],
        dataset=dataset,
        version=row["version"],
        purpose=asked["purpose"],
        action=asked["action"],
        status=row["status"],
        permitted=row[names["permitted"]] or 0,
        withheld=row["withheld"] or 0,
        leaf=row["leaf_idx"],
        closing=row["closing_leaf"],
        at_ms=row["created_ms"],
    )
