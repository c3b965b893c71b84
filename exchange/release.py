"""Releases: begun once, streamed subject by subject, closed with a leaf (decision D4).

The bytes themselves are in ``streaming``. Nothing is asked of another process inside a transaction.
"""

from __future__ import annotations

import logging

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange import log as merkle_log
from exchange.clock import Clock
from exchange.documents import read_request
from exchange.errors import Conflict, NotFound
from exchange.gate import Access, Gate
from exchange.keys.client import KeysClient
from exchange.store import schema
from exchange.store.database import Store
from exchange.streaming import Outcome, Part, Plan, ReleaseStream
from exchange.vault import Vault
from ledger.commitment import parse_canonical
from ledger.ids import OrgId, ReleaseId, SubjectId, handle
from ledger.leaf import Kind
from ledger.signing import to_hex

log = logging.getLogger(__name__)


class Releases:
    """Begins releases and closes them."""

    def __init__(
        self, *, store: Store, gate: Gate, keys: KeysClient, vault: Vault, clock: Clock
    ) -> None:
        self._store = store
        self._gate = gate
        self._keys = keys
        self._vault = vault
        self._clock = clock

    def open(self, requester: OrgId, release: ReleaseId) -> ReleaseStream:
        """Begin the stream of a decided release; it is streamed once.

        Raises:
            NotFound: no such release of this requester.
            Conflict: it was denied, is being streamed, or is closed.
            KeysRefused: the keys process found something that does not hold.
            KeysUnavailable: the keys process does not answer; the release stays as it was.

        """
        planned = self._plan(requester, release)
        opened = self._keys.open_release(release)

        def begin(conn: Connection) -> None:
            table = schema.releases
            changed = conn.execute(
                sa.update(table)
                .where(table.c.release_id == release.hex, table.c.status == "decided")
                .values(status="streaming")
            )
            if changed.rowcount != 1:
                raise _not_streamable()

        self._store.transact(begin)
        header = {
            "release": release.hex,
            "org": opened.org,
            "dataset": opened.dataset,
            "version": opened.version,
            "requester": opened.requester,
            "manifestDigest": to_hex(opened.manifest_digest),
            "releaseKey": to_hex(opened.release_key),
        }
        return ReleaseStream(
            release,
            planned,
            header,
            close=self.close,
            store=self._store,
            gate=self._gate,
            keys=self._keys,
            vault=self._vault,
            clock=self._clock,
        )

    def close_interrupted(self) -> list[ReleaseId]:
        """Close what a process that died left streaming; to be called when the api starts.

        Every subject whose key had left counts as delivered, since its bytes may have.
        """
        table = schema.releases
        with self._store.reading() as conn:
            left = conn.execute(
                sa.select(table.c.release_id, table.c.requester).where(
                    table.c.status == "streaming"
                )
            ).all()
        closed = []
        for release_text, requester in left:
            release = ReleaseId.parse(release_text)
            opened = set(self._keys.opened(release))
            planned = self._plan(OrgId.parse(requester), release, streaming=True)
            delivered = [part for part in planned.parts if part.subject in opened]
            self.close(release, delivered, [], "interrupted")
            closed.append(release)
        return closed

    def close(
        self,
        release: ReleaseId,
        delivered: list[Part],
        stopped: list[SubjectId],
        outcome: Outcome,
    ) -> int:
        """Write the closing leaf and the final states; return the leaf's index. Once is enough."""
        at_ms = self._clock.now_ms()

        def work(conn: Connection) -> int:
            merkle_log.lock_head(conn)
            table, subjects = schema.releases, schema.release_subjects
            row = conn.execute(
                sa.select(table.c.status, table.c.closing_leaf).where(
                    table.c.release_id == release.hex
                )
            ).one()
            if row.closing_leaf is not None:
                return int(row.closing_leaf)
            body = {
                "release": release.hex,
                "delivered": sorted(
                    [to_hex(handle(part.subject)), part.digest] for part in delivered
                ),
                "stopped": sorted(to_hex(handle(subject)) for subject in stopped),
                "outcome": outcome,
            }
            entry = merkle_log.append(conn, kind=Kind.DATA_RELEASED, body=body, at_ms=at_ms)
            states = [{"one": part.subject.hex, "what": "delivered"} for part in delivered] + [
                {"one": subject.hex, "what": "stopped"} for subject in stopped
            ]
            if states:
                conn.execute(
                    sa.update(subjects)
                    .where(
                        subjects.c.release_id == release.hex,
                        subjects.c.subject == sa.bindparam("one"),
                    )
                    .values(state=sa.bindparam("what")),
                    states,
                )
            conn.execute(
                sa.update(table)
                .where(table.c.release_id == release.hex)
                .values(status="closed", closing_leaf=entry.index)
            )
            return entry.index

        index = self._store.transact(work)
        log.info(
            "release closed",
            extra={
                "release": release.hex,
                "delivered": len(delivered),
                "stopped": len(stopped),
                "outcome": outcome,
                "leaf": index,
            },
        )
        return index

    def _plan(self, requester: OrgId, release: ReleaseId, *, streaming: bool = False) -> Plan:
        releases, versions = schema.releases, schema.dataset_versions
        subjects, parts = schema.release_subjects, schema.parts
        with self._store.reading() as conn:
            row = conn.execute(
                sa.select(releases, versions.c.blob)
                .join(
                    versions,
                    (versions.c.dataset_id == releases.c.dataset_id)
                    & (versions.c.version == releases.c.version),
                )
                .where(releases.c.release_id == release.hex, releases.c.requester == requester.hex)
            ).one_or_none()
            if row is None:
                raise NotFound("no such release")
            if row.status != ("streaming" if streaming else "decided") or row.blob is None:
                raise _not_streamable()
            found = conn.execute(
                sa.select(
                    parts.c.subject, parts.c.offset, parts.c.length, parts.c.digest, parts.c.records
                )
                .join(subjects, subjects.c.subject == parts.c.subject)
                .where(
                    subjects.c.release_id == release.hex,
                    subjects.c.decision == "permit",
                    parts.c.dataset_id == row.dataset_id,
                    parts.c.version == row.version,
                )
                .order_by(parts.c.offset)
            ).all()
        request = read_request(parse_canonical(row.request.encode()))
        access = Access(
            kind="release",
            requester=request.requester,
            purpose=request.purpose,
            categories=frozenset(request.categories),
            action="disclose",
            dataset=request.dataset,
            version=request.version,
            request_digest=request.digest,
        )
        return Plan(
            access,
            row.blob,
            tuple(
                Part(SubjectId.parse(one.subject), one.offset, one.length, one.digest, one.records)
                for one in found
            ),
        )


def _not_streamable() -> Conflict:
    return Conflict(
        "this release is not waiting to be received",
        next_step="a release is streamed once; ask again with a new request",
    )
