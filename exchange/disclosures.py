"""What a patient sees: what is held about them, and every access that was decided, with its outcome.

The list is the subject's chain of access leaves, so that nothing can be left out of it unseen (D15);
what became of each access stands in the rows of releases and jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from exchange.actor import Actor
from exchange.errors import NotFound
from exchange.paging import Page, page_of
from exchange.store import schema
from exchange.store.database import Store
from ledger.commitment import parse_canonical
from ledger.ids import SubjectId, handle
from ledger.leaf import Kind, chain_of
from ledger.messages import to_hex

_CONSENT_KINDS = [int(kind) for kind in Kind if chain_of(kind) == "consent"]


class Disclosures:
    """Reads for one subject at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def me(self, actor: Actor) -> dict[str, Any]:
        """The subject, its hospital, and what is held: published parts with their record counts.

        Raises:
            NotFound: the subject has not enrolled.
        """
        datasets, versions, parts = schema.datasets, schema.dataset_versions, schema.parts
        with self._store.reading() as conn:
            org = conn.execute(
                sa.select(schema.subjects.c.org_id, schema.orgs.c.name)
                .join(schema.orgs, schema.orgs.c.org_id == schema.subjects.c.org_id)
                .where(schema.subjects.c.subject == actor.id)
            ).first()
            if org is None:
                raise NotFound("no such subject")
            rows = (
                conn.execute(
                    sa.select(
                        datasets.c.dataset_id,
                        datasets.c.title,
                        datasets.c.kind,
                        datasets.c.categories,
                        parts.c.version,
                        parts.c.records,
                    )
                    .join(datasets, datasets.c.dataset_id == parts.c.dataset_id)
                    .join(
                        versions,
                        sa.and_(
                            versions.c.dataset_id == parts.c.dataset_id,
                            versions.c.version == parts.c.version,
                        ),
                    )
                    .where(parts.c.subject == actor.id, versions.c.status == "published")
                    .order_by(datasets.c.created_ms, parts.c.version)
                )
                .mappings()
                .all()
            )
        return {
            "subject": actor.id,
            "org": org.org_id,
            "name": org.name,
            "held": [
                {
                    "dataset": row["dataset_id"],
                    "title": row["title"],
                    "kind": row["kind"],
                    "categories": parse_canonical(row["categories"].encode()),
                    "version": row["version"],
                    "records": row["records"],
                }
                for row in rows
            ],
        }

    def accesses(self, actor: Actor, cursor: int | None, limit: int) -> Page:
        """Every access decided about the subject, oldest first, and what became of it.

        ``outcome`` is ``withheld``, ``permitted`` (not yet used), ``delivered``, ``stopped``,
        ``used`` or ``dropped``; None where no row of it is left.
        """
        table = schema.leaves
        query = (
            sa.select(table.c.idx, table.c.at_ms, table.c.body)
            .where(
                table.c.handle == _handle(actor),
                table.c.kind == int(Kind.ACCESS_DECIDED),
            )
            .order_by(table.c.idx)
            .limit(limit + 1)
        )
        if cursor is not None:
            query = query.where(table.c.idx > cursor)
        with self._store.reading() as conn:
            rows = conn.execute(query).all()
            bodies = [(row.idx, row.at_ms, _body(row.body)) for row in rows]
            became = self._became(conn, actor, [body for _, _, body in bodies if body])
            orgs = {row.org_id: row.name for row in conn.execute(sa.select(schema.orgs))}
            titles = {
                row.dataset_id: row.title
                for row in conn.execute(
                    sa.select(schema.datasets.c.dataset_id, schema.datasets.c.title)
                )
            }
        items = [
            _access(index, at_ms, body, became=became, orgs=orgs, titles=titles)
            for index, at_ms, body in bodies
        ]
        return page_of(items, limit, lambda item: str(item["leaf"]))

    def size(self) -> int:
        """How many leaves the log holds: where a stream of changes begins."""
        with self._store.reading() as conn:
            return int(conn.execute(sa.select(schema.tree_head.c.size)).scalar_one())

    def changes(self, actor: Actor, after: int, limit: int = 200) -> list[dict[str, Any]]:
        """What happened to the subject after a leaf index, in leaf order.

        Each is ``{"id": leaf index, "event": "consent" | "access" | "job", "data": {...}}``.
        """
        table = schema.leaves
        with self._store.reading() as conn:
            rows = conn.execute(
                sa.select(
                    table.c.idx, table.c.kind, table.c.at_ms, table.c.consent_id, table.c.body
                )
                .where(table.c.handle == _handle(actor), table.c.idx > after)
                .order_by(table.c.idx)
                .limit(limit)
            ).all()
            statuses = self._statuses(conn, [row.consent_id for row in rows if row.consent_id])
            found = [_change(row, statuses) for row in rows]
            # What closed an access stands in leaves of no chain, found through its rows. A full
            # page may end before them; they come with a later one.
            last = rows[-1].idx if len(rows) == limit else None
            found += self._closed(conn, actor, after, last)
        return sorted(found, key=lambda change: change["id"])

    @staticmethod
    def _statuses(conn: sa.Connection, consents: Iterable[str]) -> dict[str, str]:
        table = schema.consents
        return {
            row.consent_id: row.status
            for row in conn.execute(
                sa.select(table.c.consent_id, table.c.status).where(
                    table.c.consent_id.in_(set(consents))
                )
            )
        }

    @staticmethod
    def _closed(
        conn: sa.Connection, actor: Actor, after: int, last: int | None
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for event, rows, own, key in (
            ("access", schema.releases, schema.release_subjects, "release_id"),
            ("job", schema.jobs, schema.job_subjects, "job_id"),
        ):
            query = (
                sa.select(rows.c.closing_leaf, rows.c[key], rows.c.status, own.c.state)
                .join(own, own.c[key] == rows.c[key])
                .where(own.c.subject == actor.id, rows.c.closing_leaf > after)
            )
            if last is not None:
                query = query.where(rows.c.closing_leaf <= last)
            found += [
                {
                    "id": row[0],
                    "event": event,
                    "data": {"leaf": row[0], "access": row[1], "status": row[2], "outcome": row[3]},
                }
                for row in conn.execute(query)
            ]
        return found

    @staticmethod
    def _became(
        conn: sa.Connection, actor: Actor, bodies: Iterable[Mapping[str, Any]]
    ) -> dict[str, tuple[str, int | None]]:
        found: dict[str, tuple[str, int | None]] = {}
        wanted = [body["access"] for body in bodies]
        for rows, own, key in (
            (schema.releases, schema.release_subjects, "release_id"),
            (schema.jobs, schema.job_subjects, "job_id"),
        ):
            for row in conn.execute(
                sa.select(own.c[key], own.c.state, rows.c.closing_leaf)
                .join(rows, rows.c[key] == own.c[key])
                .where(own.c.subject == actor.id, own.c[key].in_(wanted))
            ):
                found[row[0]] = (row[1], row[2])
        return found


def _handle(actor: Actor) -> str:
    return to_hex(handle(SubjectId.parse(actor.id)))


def _body(text: str | None) -> dict[str, Any]:
    value = {} if text is None else parse_canonical(text.encode())
    assert isinstance(value, dict)
    return value


def _access(
    index: int,
    at_ms: int,
    body: Mapping[str, Any],
    *,
    became: Mapping[str, tuple[str, int | None]],
    orgs: Mapping[str, str],
    titles: Mapping[str, str],
) -> dict[str, Any]:
    if not body:
        return {"leaf": index, "at": at_ms, "erased": True}
    asked, ruling = body["request"], body["ruling"]
    outcome, closing = became.get(body["access"], (None, None))
    return {
        "leaf": index,
        "at": at_ms,
        "erased": False,
        "access": body["access"],
        "kind": body["kind"],
        "requester": asked["requester"],
        "name": orgs.get(asked["requester"]),
        "purpose": asked["purpose"],
        "categories": asked["categories"],
        "action": asked["action"],
        "dataset": asked["dataset"],
        "title": titles.get(asked["dataset"] or ""),
        "version": asked["version"],
        "decision": ruling["decision"],
        "because": ruling["because"],
        "reasons": ruling["reasons"],
        "outcome": outcome,
        "closingLeaf": closing,
    }


def _change(row: Any, statuses: Mapping[str, str]) -> dict[str, Any]:
    data: dict[str, Any] = {"leaf": row.idx, "at": row.at_ms, "kind": Kind(row.kind).name.lower()}
    if row.kind in _CONSENT_KINDS:
        if row.consent_id is not None:
            data["consent"] = row.consent_id
            data["status"] = statuses.get(row.consent_id)
        return {"id": row.idx, "event": "consent", "data": data}
    body = _body(row.body)
    if body:
        data["access"] = body["access"]
        data["decision"] = body["ruling"]["decision"]
        data["requester"] = body["request"]["requester"]
    return {"id": row.idx, "event": "access", "data": data}
