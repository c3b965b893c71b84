"""One received dataset version: open it in a child, judge it, publish or refuse it (decision D6).

Opening is recorded first (``IntakeOpened``); each such leaf serves one child, so an inspection that broke
off begins with another leaf. The verdict and the leaf that publishes are one transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from exchange import log as merkle
from exchange.clock import Clock
from exchange.documents import Manifest, read_manifest
from exchange.errors import (
    JobFailed,
    KeysRefused,
    NotFound,
    SandboxLost,
    Transient,
    VaultError,
)
from exchange.keys.client import KeysClient
from exchange.sealing import intake_info
from exchange.store import schema
from exchange.store.database import Store
from exchange.vault import Vault
from exchange.worker.sandbox import MOST_LOSSES, Feed, Limits, run_child
from exchange.worker.turns import Turns
from ledger.commitment import canonical, parse_canonical
from ledger.ids import DatasetId
from ledger.leaf import Kind

_log = logging.getLogger(__name__)
_OPEN = ("received", "inspecting")


@dataclass(frozen=True)
class Intake:
    """Inspects received versions."""

    store: Store
    vault: Vault
    keys: KeysClient
    clock: Clock
    limits: Limits
    turns: Turns = field(default_factory=Turns)

    def inspect(self, dataset: DatasetId, version: int) -> str:
        """Inspect one version; its status afterwards. Repeating it after the verdict changes nothing.

        Raises:
            NotFound: no such version.
            KeysUnavailable, VaultUnavailable: safe to repeat.
        """
        with self.turns.of(f"{dataset.hex}/{version}"):
            return self._inspect(dataset, version)

    def _inspect(self, dataset: DatasetId, version: int) -> str:
        row = self._row(dataset, version)
        if row["status"] not in _OPEN:
            return str(row["status"])
        manifest = read_manifest(parse_canonical(row["manifest"].encode()))
        try:
            verdict = self._judge(row, manifest)
        except JobFailed as failed:
            # Judged, and badly: what cannot be opened or read cannot be published.
            verdict = _refusal(failed.reason)
        except KeysRefused as refused:
            verdict = _refusal("keys:" + ",".join(refused.reasons))
        except VaultError as error:
            if isinstance(error, Transient):
                raise
            verdict = _refusal("content-missing")
        return self.store.transact(lambda conn: self._close(conn, row, manifest, verdict))

    def _judge(self, row: RowMapping, manifest: Manifest) -> dict[str, Any]:
        """What children say; one that is lost is followed by another, a few times."""
        for _ in range(MOST_LOSSES):
            # A leaf for an inspection that cannot begin would say what did not happen.
            self.keys.status()
            try:
                return self._child(row, manifest)
            except SandboxLost:
                continue
        raise JobFailed("sandbox-lost")

    def _child(self, row: RowMapping, manifest: Manifest) -> dict[str, Any]:
        dataset, version = manifest.dataset, manifest.version
        leaf = self.store.transact(lambda conn: self._open(conn, dataset, version))
        feed = Feed(
            task={
                "task": "inspect",
                "org": manifest.org.hex,
                "dataset": dataset.hex,
                "version": version,
                "format": manifest.format,
                "columns": None if manifest.columns is None else list(manifest.columns),
                "parts": len(manifest.parts),
                "records": {part.subject.hex: part.records for part in manifest.parts},
                "info": intake_info(dataset, version).hex(),
            },
            keys=lambda child: self.keys.open_intake(dataset, version, child, leaf=leaf),
            parts=_parts(self.vault, row["blob"], manifest),
        )
        verdict, _ = run_child(feed, self.limits)
        return verdict

    def _row(self, dataset: DatasetId, version: int) -> RowMapping:
        table = schema.dataset_versions
        with self.store.reading() as conn:
            row = (
                conn.execute(
                    sa.select(table).where(
                        table.c.dataset_id == dataset.hex, table.c.version == version
                    )
                )
                .mappings()
                .first()
            )
        if row is None:
            raise NotFound("no such dataset version")
        return row

    def _open(self, conn: Connection, dataset: DatasetId, version: int) -> int:
        table = schema.dataset_versions
        conn.execute(
            sa.update(table)
            .where(table.c.dataset_id == dataset.hex, table.c.version == version)
            .where(table.c.status.in_(_OPEN))
            .values(status="inspecting")
        )
        entry = merkle.append(
            conn,
            kind=Kind.INTAKE_OPENED,
            body={"dataset": dataset.hex, "version": version},
            at_ms=self.clock.now_ms(),
        )
        return entry.index

    def _close(
        self, conn: Connection, row: RowMapping, manifest: Manifest, verdict: dict[str, Any]
    ) -> str:
        table, parts = schema.dataset_versions, schema.parts
        key = (table.c.dataset_id == manifest.dataset.hex, table.c.version == manifest.version)
        status = conn.execute(sa.select(table.c.status).where(*key)).scalar_one()
        if status not in _OPEN:
            return str(status)
        report = verdict["report"]
        quarantined = set(verdict["quarantined"])
        if report["refused"] is None and len(quarantined) == len(manifest.parts):
            report["refused"] = "nothing-passed"
        if report["refused"] is not None:
            status = "refused"
            entry = merkle.append(
                conn,
                kind=Kind.DATASET_REFUSED,
                body={
                    "dataset": manifest.dataset.hex,
                    "version": manifest.version,
                    "reasons": [report["refused"]],
                },
                at_ms=self.clock.now_ms(),
            )
        else:
            status = "published"
            for subject in sorted(quarantined):
                conn.execute(
                    sa.update(parts)
                    .where(parts.c.dataset_id == manifest.dataset.hex)
                    .where(parts.c.version == manifest.version, parts.c.subject == subject)
                    .values(state="quarantined")
                )
            entry = merkle.append(
                conn,
                kind=Kind.DATASET_PUBLISHED,
                body={
                    "dataset": manifest.dataset.hex,
                    "version": manifest.version,
                    "org": manifest.org.hex,
                    "manifestDigest": row["manifest_digest"],
                    "manifest": manifest.document,
                    "manifestSignature": row["manifest_signature"],
                },
                at_ms=self.clock.now_ms(),
            )
        conn.execute(
            sa.update(table)
            .where(*key)
            .values(status=status, quality=canonical(report).decode(), leaf_idx=entry.index)
        )
        _log.info("intake", extra={"dataset": manifest.dataset.hex, "status": status})
        return status


def _refusal(reason: str) -> dict[str, Any]:
    return {"report": {"refused": reason}, "quarantined": []}


def _parts(vault: Vault, blob: str, manifest: Manifest) -> Iterator[tuple[str, bytes]]:
    for part in manifest.parts:
        yield part.subject.hex, vault.read(blob, offset=part.offset, length=part.length)
