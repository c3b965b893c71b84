"""The ring of data keys: one per dataset version and subject, wrapped under the hospital's key.

Shredding is deleting one row, overwritten on disk, and remembering that it must not come back.
Source: decision D4, ``threats.md`` §5.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange.errors import KeysRefused
from exchange.keys import database
from exchange.keys.database import KeysDatabase, insert_once
from exchange.keys.rootkey import Secrets, kek_aad
from exchange.sealing import new_key, unwrap, wrap
from ledger.ids import DatasetId, OrgId, SubjectId

_BATCH = 500


def _aad(dataset: DatasetId, version: int, subject: SubjectId) -> bytes:
    return b"assent data key/1" + dataset.raw + version.to_bytes(4, "big") + subject.raw


class KeyRing:
    """Data keys at rest. Only ``opening`` takes them out."""

    def __init__(self, own: KeysDatabase, secrets: Secrets) -> None:
        self._own = own
        self._secrets = secrets

    def deposit(
        self,
        org: OrgId,
        dataset: DatasetId,
        version: int,
        digest: bytes,
        keys: Mapping[SubjectId, bytes],
    ) -> int:
        """Keep a version's data keys; return how many lie there. The same list again is harmless.

        Raises:
            KeysRefused: ``deposited-before`` where another list was deposited for this version.

        """

        def work(conn: Connection) -> int:
            lists = database.key_lists
            known = conn.execute(
                sa.select(lists.c.digest).where(
                    lists.c.dataset == dataset.hex, lists.c.version == version
                )
            ).scalar_one_or_none()
            if known == digest.hex():
                return len(keys)
            if known is not None:
                raise KeysRefused(("deposited-before",))
            kek = self._kek(conn, org)
            gone = self._shredded(conn, dataset, version)
            rows = [
                {
                    "dataset": dataset.hex,
                    "version": version,
                    "subject": subject.hex,
                    "wrapped": wrap(kek, key, aad=_aad(dataset, version, subject)),
                }
                for subject, key in keys.items()
                if subject.hex not in gone
            ]
            if rows:
                conn.execute(sa.insert(database.wrapped_keys), rows)
            conn.execute(
                sa.insert(lists).values(dataset=dataset.hex, version=version, digest=digest.hex())
            )
            return len(rows)

        return self._own.transact(work)

    def take(
        self, org: OrgId, dataset: DatasetId, version: int, subjects: Iterable[SubjectId]
    ) -> dict[SubjectId, bytes]:
        """Return the data keys that are there; a shredded one is simply missing.

        Raises:
            EnvelopeCorrupt: a row was changed, or moved from another subject or version.

        """
        table = database.wrapped_keys
        wanted = list(subjects)
        found: dict[SubjectId, bytes] = {}
        with self._own.reading() as conn:
            kek = self._known_kek(conn, org)
            if kek is None:
                return found
            for start in range(0, len(wanted), _BATCH):
                batch = {subject.hex: subject for subject in wanted[start : start + _BATCH]}
                rows = conn.execute(
                    sa.select(table.c.subject, table.c.wrapped).where(
                        table.c.dataset == dataset.hex,
                        table.c.version == version,
                        table.c.subject.in_(batch),
                    )
                )
                for text, wrapped in rows:
                    subject = batch[text]
                    aad = _aad(dataset, version, subject)
                    found[subject] = unwrap(kek, bytes(wrapped), aad=aad)
        return found

    def shred(self, dataset: DatasetId, version: int, subject: SubjectId) -> bool:
        """Destroy one data key for good; return whether it was there."""

        def work(conn: Connection) -> bool:
            table = database.wrapped_keys
            row = {"dataset": dataset.hex, "version": version, "subject": subject.hex}
            insert_once(conn, database.shredded, [row])
            gone = conn.execute(
                sa.delete(table).where(
                    table.c.dataset == dataset.hex,
                    table.c.version == version,
                    table.c.subject == subject.hex,
                )
            )
            return bool(gone.rowcount)

        return self._own.transact(work)

    def replay_shredding(self) -> int:
        """Delete again what a restored copy may have brought back; return how many were."""

        def work(conn: Connection) -> int:
            keys, gone = database.wrapped_keys, database.shredded
            found = conn.execute(
                sa.delete(keys).where(
                    sa.exists().where(
                        gone.c.dataset == keys.c.dataset,
                        gone.c.version == keys.c.version,
                        gone.c.subject == keys.c.subject,
                    )
                )
            )
            return int(found.rowcount)

        return self._own.transact(work)

    def _shredded(self, conn: Connection, dataset: DatasetId, version: int) -> set[str]:
        table = database.shredded
        return set(
            conn.execute(
                sa.select(table.c.subject).where(
                    table.c.dataset == dataset.hex, table.c.version == version
                )
            ).scalars()
        )

    def _known_kek(self, conn: Connection, org: OrgId) -> bytes | None:
        wrapped = conn.execute(
            sa.select(database.keks.c.wrapped).where(database.keks.c.org == org.hex)
        ).scalar_one_or_none()
        if wrapped is None:
            return None
        return unwrap(self._secrets.root, bytes(wrapped), aad=kek_aad(org.hex))

    def _kek(self, conn: Connection, org: OrgId) -> bytes:
        known = self._known_kek(conn, org)
        if known is not None:
            return known
        made = new_key()
        wrapped = wrap(self._secrets.root, made, aad=kek_aad(org.hex))
        conn.execute(sa.insert(database.keks).values(org=org.hex, wrapped=wrapped))
        return made
