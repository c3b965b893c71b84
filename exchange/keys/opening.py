"""Letting keys out for a release, subject by subject; intakes and jobs are in ``lending``.

Each opening follows the same order, and stops at the first thing that does not hold: a durable leaf
that records it; the requester's signature over the document in that leaf, against the pin; the
publisher's signature over the manifest; for each subject a leaf with a permit, the gate's ruling
*now*, and the evidence that carries it. Source: decisions D4 to D6, ``threats.md`` §1.2.

Reasons beside those of ``evidence``: ``no-record``, ``no-such-leaf``, ``leaf-differs``,
``requester-unknown``, ``request-signature``, ``receive-key``, ``request-stale``, ``request-replayed``,
``publisher-unknown``, ``manifest-signature``, ``manifest-differs``, ``not-published``, ``not-open``,
``closed``, ``not-permitted``, ``not-in-dataset``, ``shredded``, ``digest-differs``, ``key-list``,
``malformed``, and the gate's own.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange import sealing
from exchange.clock import Clock
from exchange.documents import REQUEST_KIND, TRAILER_KIND, Manifest, Part, read_request
from exchange.errors import DocumentMalformed, KeysRefused, SealError
from exchange.gate import Access
from exchange.keys import database
from exchange.keys.checks import Checks, claim_document
from exchange.keys.database import KeysDatabase, insert_once
from exchange.keys.evidence import Evidence
from exchange.keys.records import read_record
from exchange.keys.ring import KeyRing
from exchange.keys.rootkey import Secrets
from exchange.store import schema
from exchange.store.database import Store
from ledger.ids import ConsentId, ReleaseId, SubjectId, handle
from ledger.leaf import Kind
from ledger.signing import Domain, sign_document, to_hex

MOST_PARTS = 32
"""Subjects of one ``open_parts``: few, so that little time passes between ruling and streaming."""

REQUEST_WINDOW_SECONDS = 600
"""A request was signed at most this long before or after its leaf (as the door demands)."""

_SESSIONS = 1_000


@dataclass
class _Release:
    """One release while it is being streamed; its key lives here and nowhere else."""

    id: ReleaseId
    key: bytes
    access: Access
    manifest: Manifest
    parts: dict[SubjectId, Part]
    permitted: Mapping[SubjectId, tuple[ConsentId, ...]]
    request_digest: bytes


class Openings:
    """The only way by which a data key leaves for a requester."""

    def __init__(
        self,
        *,
        store: Store,
        own: KeysDatabase,
        secrets: Secrets,
        ring: KeyRing,
        checks: Checks,
        evidence: Evidence,
        clock: Clock,
        domain: Domain,
    ) -> None:
        self._store = store
        self._own = own
        self._secrets = secrets
        self._ring = ring
        self._checks = checks
        self._evidence = evidence
        self._clock = clock
        self._domain = domain
        self._lock = threading.Lock()
        self._releases: OrderedDict[ReleaseId, _Release] = OrderedDict()

    def open_release(self, release: ReleaseId) -> dict[str, Any]:
        """Verify a release as a whole; return its fresh key, sealed to the requester.

        The answer is ``{releaseKey, org, dataset, version, requester, manifestDigest}``.
        """
        with self._store.reading() as conn:
            session, receive_key = self._verified_release(conn, release)
            # What is not proved yet is proved here, all at once, so that no part waits for it later.
            self._evidence.check(conn, session.permitted)
        self._own.transact(
            lambda own: claim_document(own, release.hex, to_hex(session.request_digest))
        )
        try:
            sealed = sealing.seal_to(receive_key, session.key, info=sealing.release_info(release))
        except SealError:
            raise KeysRefused(("malformed",)) from None
        with self._lock:
            self._releases[release] = session
            while len(self._releases) > _SESSIONS:
                self._releases.popitem(last=False)
        return {
            "releaseKey": to_hex(sealed),
            "org": session.manifest.org.hex,
            "dataset": session.manifest.dataset.hex,
            "version": session.manifest.version,
            "requester": session.access.requester.hex,
            "manifestDigest": to_hex(session.manifest.digest),
        }

    def open_parts(self, release: ReleaseId, subjects: Sequence[SubjectId]) -> dict[str, Any]:
        """Rule on a few subjects now; wrap the keys of those who still permit.

        The answer is ``{size, parts: [{subject, wrapped, expires} or {subject, refused}]}``;
        ``size`` is the log's size as the ruling saw it: while it is the same, nothing has changed.
        """
        with self._lock:
            session = self._releases.get(release)
        if session is None:
            raise KeysRefused(("not-open",))
        if not 0 < len(subjects) <= MOST_PARTS or len(set(subjects)) != len(subjects):
            raise KeysRefused(("malformed",))
        asked = [subject for subject in subjects if subject in session.permitted]
        with self._store.reading() as conn:
            size = conn.execute(sa.select(schema.tree_head.c.size)).scalar_one()
            permits, refused = self._checks.rule(conn, session.access, asked)
        found = self._ring.take(
            session.manifest.org, session.manifest.dataset, session.manifest.version, permits
        )
        rows = [{"access": release.hex, "subject": subject.hex} for subject in found]
        self._own.transact(lambda own: insert_once(own, database.opened_parts, rows))
        now = self._clock.now_ms() // 1000
        parts: list[dict[str, Any]] = []
        for subject in subjects:
            permit, key = permits.get(subject), found.get(subject)
            if permit is None:
                reasons = refused.get(subject, ("not-permitted",))
                parts.append({"subject": subject.hex, "refused": list(reasons)})
                continue
            if key is None:
                parts.append({"subject": subject.hex, "refused": ["shredded"]})
                continue
            wrapped = sealing.rewrap(
                permit,
                key,
                release_key=session.key,
                release=release,
                subject=subject,
                at_seconds=now,
            )
            parts.append(
                {"subject": subject.hex, "wrapped": to_hex(wrapped), "expires": permit.expires}
            )
        return {"size": size, "parts": parts}

    def opened_subjects(self, release: ReleaseId) -> list[SubjectId]:
        """Return the subjects whose key left for this release, in ascending order."""
        table = database.opened_parts
        with self._own.reading() as own:
            rows = own.execute(
                sa.select(table.c.subject)
                .where(table.c.access == release.hex)
                .order_by(table.c.subject)
            ).scalars()
            return [SubjectId.parse(text) for text in rows]

    def sign_trailer(self, release: ReleaseId) -> dict[str, Any]:
        """Sign what became of a release, as its closing leaf has it; nothing opens afterwards.

        Returns ``{trailer, signature}``. The same trailer may be asked for again.
        """
        opened = set(self.opened_subjects(release))
        with self._lock:
            session = self._releases.get(release)
        with self._store.reading() as conn:
            row = self._release_row(conn, release)
            if session is None:
                # It was opened before the last start: everything is verified once more.
                session, _ = self._verified_release(conn, release, closing=True)
            closing = read_record(conn, row.closing_leaf)
        body = closing.told(Kind.DATA_RELEASED)
        if body.get("release") != release.hex:
            raise KeysRefused(("no-record",))
        by_handle = {to_hex(handle(subject)): subject for subject in session.permitted}
        try:
            delivered = sorted((by_handle[owner].hex, part) for owner, part in body["delivered"])
            stopped = sorted(by_handle[owner].hex for owner in body["stopped"])
        except (KeyError, TypeError, ValueError):
            raise KeysRefused(("not-permitted",)) from None
        for text, part_digest in delivered:
            subject = SubjectId.parse(text)
            if subject not in opened:
                raise KeysRefused(("not-permitted",))
            if to_hex(session.parts[subject].digest) != part_digest:
                raise KeysRefused(("digest-differs",))
        trailer = {
            "kind": TRAILER_KIND,
            "release": release.hex,
            "requester": session.access.requester.hex,
            "dataset": session.manifest.dataset.hex,
            "version": session.manifest.version,
            "manifestDigest": to_hex(session.manifest.digest),
            "delivered": [list(pair) for pair in delivered],
            "stopped": stopped,
            "leaf": closing.index,
        }
        table = database.opened
        self._own.transact(
            lambda own: own.execute(
                sa.update(table).where(table.c.access == release.hex).values(closed=True)
            )
        )
        with self._lock:
            self._releases.pop(release, None)
        signature = sign_document(self._secrets.exchange_key, TRAILER_KIND, trailer, self._domain)
        return {"trailer": trailer, "signature": to_hex(signature)}

    def _verified_release(
        self, conn: Connection, release: ReleaseId, *, closing: bool = False
    ) -> tuple[_Release, bytes]:
        row = self._release_row(conn, release)
        if not closing and row.status not in ("decided", "streaming"):
            raise KeysRefused(("closed",))
        record = read_record(conn, row.leaf_idx)
        body = record.told(Kind.RELEASE_DECIDED)
        if body.get("release") != release.hex:
            raise KeysRefused(("no-record",))
        try:
            request = read_request(body.get("request"))
        except DocumentMalformed:
            raise KeysRefused(("request-signature",)) from None
        self._checks.require_signed(
            request.requester, REQUEST_KIND, request.document, body.get("requestSignature")
        )
        self._checks.require_own_key(request.requester, request.receive_key)
        if abs(record.leaf.at_ms // 1000 - request.at) > REQUEST_WINDOW_SECONDS:
            raise KeysRefused(("request-stale",))
        manifest = self._checks.manifest(conn, request.dataset, request.version)
        if to_hex(manifest.digest) != body.get("manifestDigest"):
            raise KeysRefused(("manifest-differs",))
        self._checks.require_published(conn, manifest, retired_too=closing)
        if not set(request.categories) >= set(manifest.categories):
            raise KeysRefused(("manifest-differs",))
        parts = {part.subject: part for part in manifest.parts}
        permitted = self._checks.permitted_by_leaf(
            conn, schema.release_subjects, schema.release_subjects.c.release_id, release.hex
        )
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
        session = _Release(
            id=release,
            key=sealing.new_key(),
            access=access,
            manifest=manifest,
            parts=parts,
            permitted={one: because for one, because in permitted.items() if one in parts},
            request_digest=request.digest,
        )
        return session, request.receive_key

    @staticmethod
    def _release_row(conn: Connection, release: ReleaseId) -> Any:
        row = conn.execute(
            sa.select(schema.releases).where(schema.releases.c.release_id == release.hex)
        ).one_or_none()
        if row is None:
            raise KeysRefused(("not-open",))
        return row
