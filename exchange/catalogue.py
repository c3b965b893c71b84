"""Verbs of the publishing hospital, and what everybody may find (walk B of the house).

Parts arrive sealed: the api never sees a record. A dataset has versions; a version goes draft →
received (all bytes are there) → inspecting → published or refused; the worker does the last two.
Counts in the catalogue are rounded, so that one more patient is not seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from exchange.actor import Actor
from exchange.claims import Claim, Once, unclaimed
from exchange.clock import Clock
from exchange.documents import CATEGORIES, FORMATS, MANIFEST_KIND, Manifest, read_manifest
from exchange.errors import Conflict, DocumentMalformed, NotFound
from exchange.quality import read_columns
from exchange.store import schema
from exchange.store.database import Store
from exchange.vault import Vault, content_path
from ledger.commitment import canonical, parse_canonical, sha256
from ledger.ids import DatasetId, OrgId
from ledger.signing import Domain, verify_document

#: CMS cell size policy: no count from 1 to 10 is shown, nor derivable.
SMALLEST_COUNT = 11
_PAGE = 100


def rounded(count: int) -> str | None:
    """A count as a decade (``"20-29"``), or None below the smallest count that may be shown."""
    if count < SMALLEST_COUNT:
        return None
    low = count // 10 * 10
    return f"{low}-{low + 9}"


@dataclass(frozen=True)
class Page:
    """One page of results and where the next one begins (None: this was the last)."""

    items: list[dict[str, Any]]
    next: str | None


class Catalogue:
    """Datasets and their versions."""

    def __init__(self, store: Store, vault: Vault, domain: Domain, clock: Clock) -> None:
        self._store = store
        self._vault = vault
        self._domain = domain
        self._clock = clock

    def create(
        self,
        actor: Actor,
        once: Once,
        *,
        title: str,
        description: str,
        form: str,
        categories: list[str],
    ) -> DatasetId:
        """Announce a dataset; nothing of it can be found before a version is published.

        Its id comes from the request's idempotency key, so that a repeated request finds its own.

        Raises:
            DocumentMalformed: an empty title, an unknown form or category.
        """
        if not title.strip() or len(title) > 200:
            raise DocumentMalformed("/title", "must have 1 to 200 characters")
        if len(description) > 4000:
            raise DocumentMalformed("/description", "must have at most 4,000 characters")
        if form not in FORMATS:
            raise DocumentMalformed("/kind", "must be one of " + ", ".join(FORMATS))
        if not categories or any(word not in CATEGORIES for word in categories):
            raise DocumentMalformed("/categories", "must list some of " + ", ".join(CATEGORIES))
        dataset = DatasetId(sha256(f"{once.actor}\0{once.key}".encode())[:16])
        row = {
            "dataset_id": dataset.hex,
            "org_id": actor.id,
            "title": title.strip(),
            "description": description.strip(),
            "kind": form,
            "categories": canonical(sorted(set(categories))).decode(),
            "created_ms": self._clock.now_ms(),
        }

        def work(conn: Connection) -> None:
            once(conn)
            known = conn.execute(
                sa.select(schema.datasets.c.org_id).where(
                    schema.datasets.c.dataset_id == dataset.hex
                )
            ).first()
            if known is None:
                conn.execute(sa.insert(schema.datasets), row)

        self._store.transact(work)
        return dataset

    def draft(
        self,
        actor: Actor,
        dataset: DatasetId,
        document: Any,
        signature: bytes,
        report: Any,
        *,
        claim: Claim = unclaimed,
    ) -> int:
        """Take a signed manifest as the next version, a draft until its bytes have arrived.

        ``report`` is the hospital's own report of its de-identification and quality, counts only; the
        manifest commits to it. Repeating the same manifest answers with the same version.

        Raises:
            NotFound: no such dataset, or it is another hospital's.
            DocumentMalformed: the manifest is malformed or speaks of another dataset.
            SignatureInvalid: not signed by this hospital.
            Conflict: the manifest's version is not the next one.
        """
        manifest = read_manifest(document)
        read_columns(manifest.columns or ())
        if manifest.org.hex != actor.id:
            raise DocumentMalformed("/org", "must be the hospital that publishes")
        if manifest.dataset != dataset:
            raise DocumentMalformed("/dataset", "must be the dataset of this address")
        if sha256(canonical(report)) != manifest.report_digest:
            raise DocumentMalformed("/reportDigest", "must be the SHA-256 of the report")
        with self._store.reading() as conn:
            row = self._own(conn, actor, dataset)
            address = self._address(conn, manifest.org)
        verify_document(MANIFEST_KIND, document, signature, address, self._domain)
        if manifest.format != row["kind"]:
            raise DocumentMalformed("/format", "must be the dataset's own kind")
        if list(manifest.categories) != parse_canonical(row["categories"].encode()):
            raise DocumentMalformed("/categories", "must be the dataset's own categories")

        def work(conn: Connection) -> int:
            claim(conn)
            versions = schema.dataset_versions
            known = conn.execute(
                sa.select(versions.c.version, versions.c.manifest_digest)
                .where(versions.c.dataset_id == dataset.hex)
                .order_by(versions.c.version)
            ).all()
            for version, known_digest in known:
                if known_digest == "0x" + manifest.digest.hex():
                    return int(version)
            if manifest.version != len(known) + 1:
                raise Conflict(f"the next version of this dataset is {len(known) + 1}")
            conn.execute(sa.insert(versions), _version_row(manifest, signature, report))
            conn.execute(sa.insert(schema.parts), _part_rows(manifest))
            return manifest.version

        return self._store.transact(work)

    def receive(
        self, actor: Actor, dataset: DatasetId, version: int, body: Iterable[bytes]
    ) -> None:
        """Store a draft's sealed bytes; the version is *received* once all of them are right.

        Repeating it after success changes nothing.

        Raises:
            NotFound: no such version of this hospital.
            ContentMismatch, BodyTooLarge: length or SHA-256 differ from the manifest's; nothing is kept.
        """
        with self._store.reading() as conn:
            self._own(conn, actor, dataset)
            row = self._version(conn, dataset, version)
        if row["status"] != "draft":
            return
        manifest = read_manifest(parse_canonical(row["manifest"].encode()))
        path = content_path(dataset, version)
        self._vault.put(path, body, size=manifest.size, sha256=manifest.sha256)

        def work(conn: Connection) -> None:
            versions = schema.dataset_versions
            conn.execute(
                sa.update(versions)
                .where(versions.c.dataset_id == dataset.hex, versions.c.version == version)
                .where(versions.c.status == "draft")
                .values(status="received", blob=path)
            )

        self._store.transact(work)

    def expects_keys(self, actor: Actor, dataset: DatasetId, version: int) -> bytes:
        """The digest (32 bytes) of the sealed key list that the draft's manifest names.

        Raises:
            NotFound: no such version of this hospital.
        """
        with self._store.reading() as conn:
            self._own(conn, actor, dataset)
            row = self._version(conn, dataset, version)
        return read_manifest(parse_canonical(row["manifest"].encode())).keys_digest

    def search(
        self, *, text: str = "", form: str | None = None, category: str | None = None,
        cursor: str | None = None,
    ) -> Page:  # fmt: skip
        """Published datasets, newest last, counts rounded."""
        datasets, versions = schema.datasets, schema.dataset_versions
        query = (
            sa.select(datasets, versions.c.version, versions.c.subjects, versions.c.records,
                      versions.c.manifest)
            .join(versions, versions.c.dataset_id == datasets.c.dataset_id)
            .where(versions.c.status == "published")
            .order_by(datasets.c.dataset_id, versions.c.version)
        )  # fmt: skip
        if form is not None:
            query = query.where(datasets.c.kind == form)
        if cursor is not None:
            query = query.where(datasets.c.dataset_id > cursor)
        needle = text.casefold()
        newest: dict[str, dict[str, Any]] = {}
        with self._store.reading() as conn:
            names = {row.org_id: row.name for row in conn.execute(sa.select(schema.orgs))}
            for row in conn.execute(query).mappings():
                item = _found(row, names)
                if category is not None and category not in item["categories"]:
                    continue
                if needle and needle not in f"{item['title']} {item['description']}".casefold():
                    continue
                newest[item["dataset"]] = item
        items = list(newest.values())
        more = items[_PAGE - 1]["dataset"] if len(items) > _PAGE else None
        return Page(items[:_PAGE], more)

    def describe(self, dataset: DatasetId) -> dict[str, Any]:
        """One published dataset.

        Raises:
            NotFound: there is none of this id, or none of it is published.
        """
        for item in self._all(dataset):
            return item
        raise NotFound("no such dataset")

    def own(self, actor: Actor) -> list[dict[str, Any]]:
        """Every version of the hospital's own datasets, whatever its status, with its report."""
        datasets, versions = schema.datasets, schema.dataset_versions
        query = (
            sa.select(datasets, versions)
            .join(versions, versions.c.dataset_id == datasets.c.dataset_id)
            .where(datasets.c.org_id == actor.id)
            .order_by(datasets.c.created_ms, versions.c.version)
        )
        with self._store.reading() as conn:
            return [_status(row) for row in conn.execute(query).mappings()]

    def status(self, actor: Actor, dataset: DatasetId, version: int) -> dict[str, Any]:
        """One version as its own hospital sees it: status, report and quality.

        Raises:
            NotFound: no such version of this hospital.
        """
        with self._store.reading() as conn:
            row = self._own(conn, actor, dataset)
            found = self._version(conn, dataset, version)
        return _status({**dict(row), **dict(found)})

    def _all(self, dataset: DatasetId) -> Iterator[dict[str, Any]]:
        datasets, versions = schema.datasets, schema.dataset_versions
        query = (
            sa.select(datasets, versions.c.version, versions.c.subjects, versions.c.records,
                      versions.c.manifest)
            .join(versions, versions.c.dataset_id == datasets.c.dataset_id)
            .where(versions.c.status == "published", datasets.c.dataset_id == dataset.hex)
            .order_by(versions.c.version.desc())
        )  # fmt: skip
        with self._store.reading() as conn:
            names = {row.org_id: row.name for row in conn.execute(sa.select(schema.orgs))}
            for row in conn.execute(query).mappings():
                yield _found(row, names)

    def _own(self, conn: Connection, actor: Actor, dataset: DatasetId) -> RowMapping:
        row = (
            conn.execute(
                sa.select(schema.datasets).where(
                    schema.datasets.c.dataset_id == dataset.hex,
                    schema.datasets.c.org_id == actor.id,
                )
            )
            .mappings()
            .first()
        )
        if row is None:
            raise NotFound("no such dataset")
        return row

    def _version(self, conn: Connection, dataset: DatasetId, version: int) -> RowMapping:
        versions = schema.dataset_versions
        row = (
            conn.execute(
                sa.select(versions).where(
                    versions.c.dataset_id == dataset.hex, versions.c.version == version
                )
            )
            .mappings()
            .first()
        )
        if row is None:
            raise NotFound("no such dataset version")
        return row

    def _address(self, conn: Connection, org: OrgId) -> bytes:
        address = conn.execute(
            sa.select(schema.orgs.c.address).where(schema.orgs.c.org_id == org.hex)
        ).scalar_one_or_none()
        if address is None:
            raise NotFound("no such hospital")
        return bytes.fromhex(str(address)[2:])


def _version_row(manifest: Manifest, signature: bytes, report: Any) -> dict[str, Any]:
    return {
        "dataset_id": manifest.dataset.hex,
        "version": manifest.version,
        "status": "draft",
        "manifest": canonical(manifest.document).decode(),
        "manifest_signature": "0x" + signature.hex(),
        "manifest_digest": "0x" + manifest.digest.hex(),
        "report": canonical(report).decode(),
        "size": manifest.size,
        "subjects": len(manifest.parts),
        "records": manifest.records,
    }


def _part_rows(manifest: Manifest) -> list[dict[str, Any]]:
    return [
        {
            "dataset_id": manifest.dataset.hex,
            "version": manifest.version,
            "subject": part.subject.hex,
            "offset": part.offset,
            "length": part.length,
            "digest": "0x" + part.digest.hex(),
            "records": part.records,
            "state": "ok",
        }
        for part in manifest.parts
    ]


def _found(row: RowMapping, names: dict[str, str]) -> dict[str, Any]:
    manifest = json.loads(row["manifest"])
    return {
        "dataset": row["dataset_id"],
        "version": row["version"],
        "org": row["org_id"],
        "publisher": names.get(row["org_id"], ""),
        "title": row["title"],
        "description": row["description"],
        "kind": row["kind"],
        "categories": parse_canonical(row["categories"].encode()),
        "columns": manifest["columns"],
        "subjects": rounded(row["subjects"]),
        "records": rounded(row["records"]),
    }


def _status(row: Any) -> dict[str, Any]:
    return {
        "dataset": row["dataset_id"],
        "version": row["version"],
        "title": row["title"],
        "kind": row["kind"],
        "categories": parse_canonical(row["categories"].encode()),
        "status": row["status"],
        "subjects": row["subjects"],
        "records": row["records"],
        "report": None if row["report"] is None else parse_canonical(row["report"].encode()),
        "quality": None if row["quality"] is None else parse_canonical(row["quality"].encode()),
    }
