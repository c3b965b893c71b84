"""What every opening checks again before a key leaves, whatever the store says.

A durable leaf, the publisher's signature over the manifest, each subject's own leaf with a permit,
and the gate's ruling *now*, narrowed by the evidence that carries it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange.documents import MANIFEST_KIND, Manifest, read_manifest
from exchange.errors import DocumentMalformed, KeysRefused
from exchange.gate import Access, Gate
from exchange.keys import database
from exchange.keys.evidence import Evidence
from exchange.keys.pins import Pins
from exchange.keys.records import read_record, read_records
from exchange.store import schema
from ledger.commitment import parse_canonical, sha256
from ledger.consent import Decision
from ledger.errors import IdMalformed, LedgerError
from ledger.ids import ConsentId, DatasetId, OrgId, SubjectId, handle
from ledger.leaf import Kind
from ledger.policy import Denial, Permit, Referral
from ledger.signing import Domain, from_hex, to_hex, verify_document

_MANIFESTS = 32


class Checks:
    """Shared by releases, intakes and jobs. Every method raises KeysRefused with its reasons."""

    def __init__(self, *, pins: Pins, evidence: Evidence, gate: Gate, domain: Domain) -> None:
        self._pins = pins
        self._evidence = evidence
        self._gate = gate
        self._domain = domain
        self._lock = threading.Lock()
        self._manifests: OrderedDict[bytes, Manifest] = OrderedDict()

    def require_signed(self, org: OrgId, kind: str, document: Any, signature: Any) -> None:
        """Demand the pinned hospital's own signature over a document.

        Reasons: ``requester-unknown``, ``request-signature``.
        """
        address = self._pins.address(org)
        if address is None:
            raise KeysRefused(("requester-unknown",))
        try:
            verify_document(kind, document, from_hex(signature, 64), address, self._domain)
        except LedgerError:
            raise KeysRefused(("request-signature",)) from None

    def require_own_key(self, org: OrgId, receive_key: bytes) -> None:
        """Demand the receive key of the pinned card: who stole a signing key alone reads nothing.

        Reason: ``receive-key``.
        """
        if receive_key != self._pins.receive_key(org):
            raise KeysRefused(("receive-key",))

    def rule(
        self, conn: Connection, access: Access, subjects: Sequence[SubjectId]
    ) -> tuple[dict[SubjectId, Permit], dict[SubjectId, tuple[str, ...]]]:
        """The gate's ruling now, narrowed by the evidence."""
        permits: dict[SubjectId, Permit] = {}
        refused: dict[SubjectId, tuple[str, ...]] = {}
        if not subjects:
            return permits, refused
        for subject, ruling in self._gate.rule(conn, access, subjects).items():
            match ruling:
                case Permit():
                    permits[subject] = ruling
                case Denial():
                    refused[subject] = ruling.reasons
                case Referral():
                    refused[subject] = ("referral",)
        because = {subject: permit.because for subject, permit in permits.items()}
        for subject, reason in self._evidence.check(conn, because).items():
            refused[subject] = (reason,)
            del permits[subject]
        return permits, refused

    @staticmethod
    def permitted_by_leaf(
        conn: Connection, table: sa.Table, column: sa.ColumnElement[str], access: str
    ) -> dict[SubjectId, tuple[ConsentId, ...]]:
        """The subjects whose own leaf says permit for this access, and because of which consents.

        Whatever the row says beside it is not believed.
        """
        rows = conn.execute(
            sa.select(table.c.subject, table.c.leaf_idx).where(
                column == access, table.c.decision == Decision.PERMIT.value
            )
        ).all()
        records = read_records(conn, [row.leaf_idx for row in rows])
        found: dict[SubjectId, tuple[ConsentId, ...]] = {}
        for row in rows:
            record = records[row.leaf_idx]
            body = record.told(Kind.ACCESS_DECIDED)
            subject = SubjectId.parse(row.subject)
            ruling = body.get("ruling")
            if (
                record.leaf.handle == handle(subject)
                and body.get("access") == access
                and isinstance(ruling, dict)
                and ruling.get("decision") == "permit"
            ):
                found[subject] = _because(ruling)
        return found

    @staticmethod
    def version_row(conn: Connection, dataset: DatasetId, version: int) -> Any:
        """Return the store's row of a dataset version. Reason: ``not-published``."""
        table = schema.dataset_versions
        row = conn.execute(
            sa.select(table).where(table.c.dataset_id == dataset.hex, table.c.version == version)
        ).one_or_none()
        if row is None:
            raise KeysRefused(("not-published",))
        return row

    def manifest(self, conn: Connection, dataset: DatasetId, version: int) -> Manifest:
        """The version's manifest, signed by its pinned publisher."""
        row = self.version_row(conn, dataset, version)
        text = row.manifest.encode()
        key = sha256(text + row.manifest_signature.encode())
        with self._lock:
            known = self._manifests.get(key)
        if known is None:
            try:
                known = read_manifest(parse_canonical(text))
                address = self._pins.address(known.org)
                if address is None:
                    raise KeysRefused(("publisher-unknown",))
                signature = from_hex(row.manifest_signature, 64)
                verify_document(MANIFEST_KIND, known.document, signature, address, self._domain)
            except (LedgerError, DocumentMalformed):
                raise KeysRefused(("manifest-signature",)) from None
            with self._lock:
                self._manifests[key] = known
                while len(self._manifests) > _MANIFESTS:
                    self._manifests.popitem(last=False)
        if known.dataset != dataset or known.version != version:
            raise KeysRefused(("manifest-differs",))
        return known

    def require_published(
        self, conn: Connection, manifest: Manifest, *, retired_too: bool = False
    ) -> None:
        """Demand the leaf that published exactly this manifest.

        Reasons: ``not-published``, ``no-record``, ``manifest-differs``.
        """
        row = self.version_row(conn, manifest.dataset, manifest.version)
        if row.status != "published" and not (retired_too and row.status == "retired"):
            raise KeysRefused(("not-published",))
        body = read_record(conn, row.leaf_idx).told(Kind.DATASET_PUBLISHED)
        if body.get("manifestDigest") != to_hex(manifest.digest):
            raise KeysRefused(("manifest-differs",))


def _because(ruling: dict[str, Any]) -> tuple[ConsentId, ...]:
    """The consents of a leaf's ruling. Reason: ``no-record``."""
    named = ruling.get("because")
    try:
        return tuple(ConsentId.parse(one) for one in named) if isinstance(named, list) else ()
    except IdMalformed:
        raise KeysRefused(("no-record",)) from None


def claim_document(own: Connection, access: str, document: str) -> None:
    """Bind a signed document to one release or job, for ever."""
    table = database.opened
    row = own.execute(
        sa.select(table).where((table.c.access == access) | (table.c.document == document))
    ).all()
    if not row:
        own.execute(sa.insert(table).values(access=access, document=document, closed=False))
        return
    if len(row) > 1 or row[0].access != access or row[0].document != document:
        raise KeysRefused(("request-replayed",))
    if row[0].closed:
        raise KeysRefused(("closed",))
