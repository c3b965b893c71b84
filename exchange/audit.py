"""Verbs of the auditor: checkpoints, leaves, proofs, accesses, and the evidence for one of them.

The auditor is not asked to believe any of it: a bundle is verified offline with ``ledger`` alone,
against what a node of the auditor's own choice says (walk C of the house).
"""

from __future__ import annotations

import logging
from typing import Any, Final

import sqlalchemy as sa

from exchange import checkpoints
from exchange import log as merkle
from exchange.actor import Actor, Role
from exchange.auditing.accesses import MOVING, AccessRow, find, is_about, newest
from exchange.auditing.assembly import AGAIN, anchored_after, assemble
from exchange.auditing.audit_event import Event, audit_events
from exchange.deployment import Deployment
from exchange.errors import Conflict, NotFound, VersionNotReady
from exchange.paging import Page, page_of
from exchange.store import schema
from exchange.store.database import Store
from ledger.messages import to_hex

_log = logging.getLogger(__name__)

MOST_LEAVES: Final = 1000
MEDIA_TYPE: Final = "application/vnd.assent.bundle+json"


class Audit:
    """What auditors read; parties of an access may have its evidence as well."""

    def __init__(self, store: Store, deployment: Deployment) -> None:
        self._store = store
        self._deployment = deployment

    # The log -------------------------------------------------------------------------------

    def checkpoints(self, cursor: int | None, limit: int) -> Page:
        """Signed heads of the log, newest first; the cursor is a size."""
        with self._store.reading() as conn:
            rows = checkpoints.list_checkpoints(conn, before=cursor, limit=limit + 1)
        return page_of([_checkpoint(row) for row in rows], limit, lambda one: str(one["size"]))

    def latest(self) -> dict[str, Any]:
        """The newest checkpoint that is anchored on the chain.

        Raises:
            VersionNotReady: none is anchored yet.
        """
        with self._store.reading() as conn:
            row = conn.execute(
                sa.select(sa.func.max(schema.checkpoints.c.size)).where(
                    schema.checkpoints.c.status == "anchored"
                )
            ).scalar_one_or_none()
            found = None if row is None else anchored_after(conn, int(row) - 1)
        if found is None:
            raise VersionNotReady("no checkpoint is anchored yet", next_step=AGAIN)
        return _checkpoint(found)

    def leaves(self, actor: Actor, start: int, stop: int) -> dict[str, Any]:
        """Skeletons of the leaves from ``start`` (inclusive) to ``stop``, at most 1,000 of them.

        Whoever reads all of them sees a forked chain. They name nobody, but who knows a subject's
        id could follow that subject, so they are for auditors alone.

        Raises:
            NotEntitled: the actor is no auditor.
        """
        actor.require(Role.AUDITOR)
        table = schema.leaves
        stop = min(stop, start + MOST_LEAVES)
        with self._store.reading() as conn:
            size, _ = merkle.head(conn)
            rows = conn.execute(
                sa.select(table.c.skeleton)
                .where(table.c.idx >= start, table.c.idx < stop)
                .order_by(table.c.idx)
            ).scalars()
            skeletons = [to_hex(bytes(skeleton)) for skeleton in rows]
        return {"from": start, "to": start + len(skeletons), "size": size, "skeletons": skeletons}

    def inclusion(self, index: int, size: int) -> dict[str, Any]:
        """The proof that a leaf is in the tree of ``size`` leaves (RFC 6962 §2.1.1).

        Raises:
            NotFound: the log is shorter, or the leaf is not in that tree.
        """
        with self._store.reading() as conn:
            hashes = merkle.inclusion(conn, index, size)
            leaf = merkle.entry(conn, index).leaf.hash
            root = merkle.root_at(conn, size)
        return {
            "logIndex": index,
            "treeSize": size,
            "leafHash": to_hex(leaf),
            "rootHash": to_hex(root),
            "hashes": [to_hex(node) for node in hashes],
        }

    def consistency(self, first: int, second: int) -> dict[str, Any]:
        """The proof that the tree of ``first`` leaves is a prefix of that of ``second`` (§2.1.2).

        Raises:
            NotFound: the log is shorter, or ``first`` is the larger one.
        """
        with self._store.reading() as conn:
            hashes = merkle.consistency(conn, first, second)
            roots = [merkle.root_at(conn, size) for size in (first, second)]
        return {
            "first": first,
            "second": second,
            "firstRoot": to_hex(roots[0]),
            "secondRoot": to_hex(roots[1]),
            "hashes": [to_hex(node) for node in hashes],
        }

    # Accesses ------------------------------------------------------------------------------

    def accesses(self, actor: Actor, cursor: int | None, limit: int) -> Page:
        """Releases and jobs, newest first; the cursor is a leaf's index. For auditors alone.

        Raises:
            NotEntitled: the actor is no auditor.
        """
        actor.require(Role.AUDITOR)
        with self._store.reading() as conn:
            rows = newest(conn, before=cursor, limit=limit + 1)
            newest_anchored = conn.execute(
                sa.select(sa.func.max(schema.checkpoints.c.size)).where(
                    schema.checkpoints.c.status == "anchored"
                )
            ).scalar_one_or_none()
        covered = newest_anchored or 0
        items = [
            {
                **row.to_json(),
                "bundle": row.status not in MOVING and max(row.leaf, row.closing or 0) < covered,
            }
            for row in rows
        ]
        return page_of(items, limit, lambda item: str(item["leaf"]))

    def bundle(self, actor: Actor, identity: str) -> bytes:
        """Canonical bytes of the evidence (``assent.bundle/1``) for a release or a job.

        For auditors, for the hospital whose subjects it is about, and for the requester of a
        release where nobody was withheld: a bundle says why, and names the subjects behind a job's
        result, which requesters are not told (decision D8).

        Raises:
            NotFound: no such access, or the actor has no part in it.
            VersionNotReady: it has not ended, or no anchored checkpoint covers it yet.
            Conflict: it names whom the requester who asks is not told of; or a body was erased.
        """
        with self._store.reading() as conn:
            access = _entitled(find(conn, identity), actor)
            if access.status in MOVING:
                raise VersionNotReady(
                    f"the {access.kind} is {access.status}: its last leaf is still to come",
                    next_step="repeat once it has ended",
                )
            made = assemble(conn, self._deployment.id, access)
        data = made.to_bytes()
        _log.info(
            "bundle",
            extra={
                "access": access.id,
                "actor": actor.id,
                "subjects": len(made.subjects),
                "checkpoint": made.checkpoint.size,
                "bytes": len(data),
            },
        )
        return data

    def events(
        self, actor: Actor, identity: str, event: Event, cursor: int | None, limit: int
    ) -> Page:
        """FHIR R4 AuditEvents (IHE BALP), one per patient: of the decision, or of the disclosure.

        Auditors and the hospital whose subjects it is about see all of them, the requester who was
        disclosed to them (the decisions only where nobody was withheld, as with a bundle), a
        patient the patient's own. The cursor is a leaf's index.

        Raises:
            NotFound: no such access, or the actor has no part in it.
            Conflict: the requester asks for decisions of which some withheld, or about a job.
            VersionNotReady: nothing has been disclosed (yet).
        """
        own = actor.id if actor.role is Role.SUBJECT else None
        with self._store.reading() as conn:
            access = find(conn, identity)
            if own is not None:
                access = _about(conn, access, own)
            elif event == "decision":
                access = _entitled(access, actor)
            else:
                access = _party(access, actor)
            found = audit_events(
                conn,
                self._deployment.id,
                access,
                event,
                subject=own,
                after=cursor,
                limit=limit + 1,
            )
        shown = [one for _, one in found[:limit]]
        return Page(shown, str(found[limit - 1][0]) if len(found) > limit else None)


def _about(conn: sa.Connection, access: AccessRow | None, subject: str) -> AccessRow:
    if access is None or not is_about(conn, access, subject):
        raise NotFound("no such access")
    return access


def _party(access: AccessRow | None, actor: Actor) -> AccessRow:
    if access is not None:
        if actor.role is Role.AUDITOR:
            return access
        if actor.role is Role.HOSPITAL and actor.id == access.owner:
            return access
        if actor.role is Role.HOSPITAL and actor.id == access.requester:
            if access.kind == "job":
                raise Conflict(
                    "this evidence names the subjects behind a result, which requesters are not told",
                    next_step="ask an auditor, or the publishing hospital, to verify it",
                )
            return access
    raise NotFound("no such access")


def _entitled(access: AccessRow | None, actor: Actor) -> AccessRow:
    """A party that may see every ruling."""
    found = _party(access, actor)
    if actor.role is not Role.AUDITOR and actor.id != found.owner and found.withheld:
        raise Conflict(
            "this evidence says who was withheld and why, which requesters are not told",
            next_step="ask an auditor, or the publishing hospital, to verify it",
        )
    return found


def _checkpoint(row: checkpoints.CheckpointRow) -> dict[str, Any]:
    return {
        "size": row.size,
        "root": to_hex(row.root),
        "at": row.at_ms,
        "signature": to_hex(row.signature),
        "status": row.status,
        "transaction": None if row.tx is None else to_hex(row.tx),
        "block": row.block,
    }
