"""The map from record number to subject: it stays at the hospital (decision D2).

One SQLite file in the hospital's folder. Losing it loses the link to every patient, so it is part of the
hospital's own backups; nobody else ever sees it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from exchange.errors import NotFound
from ledger.ids import OrgId, SubjectId
from ledger.signing import code_to_text

_SCHEMA = """
CREATE TABLE IF NOT EXISTS subjects (
    record TEXT PRIMARY KEY,
    subject TEXT NOT NULL UNIQUE,
    code TEXT NOT NULL,
    expiry INTEGER NOT NULL,
    invited INTEGER NOT NULL DEFAULT 0
)
"""


@dataclass(frozen=True)
class Enrolled:
    """One line of the map: the hospital's record number, the subject, and the patient's code."""

    record: str
    subject: SubjectId
    code: bytes
    expiry: int
    invited: bool

    @property
    def printed_code(self) -> str:
        """The code as it stands on the letter to the patient: base32 in groups of four."""
        return code_to_text(self.code)


class SubjectMap:
    """The map of one hospital."""

    def __init__(self, path: Path, org: OrgId) -> None:
        self._path = path
        self._org = org
        with closing(self._connect()) as connection:
            connection.execute(_SCHEMA)
            connection.commit()
        path.chmod(0o600)

    def add(self, records: Iterable[str], *, valid_seconds: int) -> list[Enrolled]:
        """Give each new record number a subject and a code; known ones keep theirs.

        Returns one entry per record number, in order, duplicates folded.
        """
        wanted = list(dict.fromkeys(records))
        expiry = int(time.time()) + valid_seconds
        with closing(self._connect()) as connection, connection:
            connection.executemany(
                "INSERT INTO subjects (record, subject, code, expiry) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (record) DO NOTHING",
                [
                    (record, SubjectId.new(self._org).hex, os.urandom(16).hex(), expiry)
                    for record in wanted
                ],
            )
        known = {entry.record: entry for entry in self}
        return [known[record] for record in wanted]

    def mark_invited(self, subjects: Iterable[SubjectId]) -> None:
        """Remember that the exchange has taken these invitations."""
        with closing(self._connect()) as connection, connection:
            connection.executemany(
                "UPDATE subjects SET invited = 1 WHERE subject = ?",
                [(subject.hex,) for subject in subjects],
            )

    def subject_of(self, record: str) -> SubjectId:
        """The subject of a record number.

        Raises:
            NotFound: no subject was made for it.
        """
        with closing(self._connect()) as connection:
            row = connection.execute(
                "SELECT subject FROM subjects WHERE record = ?", (record,)
            ).fetchone()
        if row is None:
            raise NotFound("a record number without a subject: enrol it first")
        return SubjectId.parse(row[0])

    def __iter__(self) -> Iterator[Enrolled]:
        with closing(self._connect()) as connection:
            rows = connection.execute(
                "SELECT record, subject, code, expiry, invited FROM subjects ORDER BY rowid"
            ).fetchall()
        for record, subject, code, expiry, invited in rows:
            yield Enrolled(
                record, SubjectId.parse(subject), bytes.fromhex(code), expiry, bool(invited)
            )

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=30)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection
