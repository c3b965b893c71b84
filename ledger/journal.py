"""The managed node's journal: what was accepted, and which block came of it.

SQLite in WAL mode with ``synchronous=FULL``: when a method returns, its rows are on the disk. The
chain's engine keeps everything in memory, so this file *is* the chain; from it every block is
rebuilt bit for bit.

``txs``: one row for each accepted raw transaction, in order of acceptance; ``block`` and
``position`` are null until it is mined, ``dropped`` is 1 where the engine took it and did not mine
it. ``blocks``: number, timestamp (Unix seconds) and hash. ``meta``: form, chain id, genesis hash.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.errors import NodeError, VersionUnknown

_FORM: Final = "assent.journal/1"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS blocks (
    number INTEGER PRIMARY KEY, timestamp INTEGER NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS txs (
    seq INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, raw BLOB NOT NULL, sender BLOB NOT NULL,
    nonce INTEGER NOT NULL, gas INTEGER NOT NULL, block INTEGER, position INTEGER,
    dropped INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE INDEX IF NOT EXISTS txs_by_block ON txs (block, position);
CREATE INDEX IF NOT EXISTS txs_by_sender ON txs (sender, nonce);
"""


@dataclass(frozen=True, slots=True)
class JournalledTx:
    """A raw transaction as its sender signed it, with the fields that the node reads."""

    hash: bytes
    raw: bytes
    sender: bytes
    nonce: int
    gas: int


@dataclass(frozen=True, slots=True)
class JournalledBlock:
    """A mined block; ``timestamp`` in Unix seconds."""

    number: int
    timestamp: int
    hash: bytes


class Journal:
    """One file, one writer. Safe to call from several threads."""

    def __init__(self, path: Path) -> None:
        """Open or create. Raises VersionUnknown for a journal of another form."""
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)
        form = self.bind("form", _FORM)
        if form != _FORM:
            raise VersionUnknown(f"journal is of form {form}, known is {_FORM}")

    def bind(self, key: str, value: str) -> str:
        """Store ``value`` under ``key`` unless one is there already; return what is there."""
        with self._lock:
            self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, value))
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return str(row[0])

    def add(self, txs: Sequence[JournalledTx]) -> None:
        """Accept transactions, all in one durable write."""
        rows = [(tx.hash, tx.raw, tx.sender, tx.nonce, tx.gas) for tx in txs]
        with self._lock, _Transaction(self._db):
            self._db.executemany(
                "INSERT INTO txs (hash, raw, sender, nonce, gas) VALUES (?, ?, ?, ?, ?)", rows
            )

    def holds(self, tx_hash: bytes) -> bool:
        """Whether the transaction was accepted and not dropped."""
        with self._lock:
            row = self._db.execute(
                "SELECT 1 FROM txs WHERE hash = ? AND dropped = 0", (tx_hash,)
            ).fetchone()
        return row is not None

    def forget_dropped(self, tx_hash: bytes) -> None:
        """Remove a dropped transaction, so that its sender may hand it in again."""
        with self._lock:
            self._db.execute("DELETE FROM txs WHERE hash = ? AND dropped = 1", (tx_hash,))

    def record(
        self, block: JournalledBlock, mined: Sequence[bytes], dropped: Sequence[bytes]
    ) -> None:
        """Note a block: the hashes of its transactions in order, and those left out of it."""
        with self._lock, _Transaction(self._db):
            self._db.execute(
                "INSERT INTO blocks VALUES (?, ?, ?)", (block.number, block.timestamp, block.hash)
            )
            done = self._db.executemany(
                "UPDATE txs SET block = ?, position = ? WHERE hash = ? AND block IS NULL",
                [(block.number, position, tx_hash) for position, tx_hash in enumerate(mined)],
            )
            if done.rowcount != len(mined):
                raise NodeError(f"block {block.number} holds transactions that nobody handed in")
            self._db.executemany(
                "UPDATE txs SET dropped = 1 WHERE hash = ?", [(tx_hash,) for tx_hash in dropped]
            )

    def pending(self) -> list[JournalledTx]:
        """Accepted transactions that no block holds, in order of acceptance."""
        with self._lock:
            rows = self._db.execute(
                "SELECT hash, raw, sender, nonce, gas FROM txs "
                "WHERE block IS NULL AND dropped = 0 ORDER BY seq"
            ).fetchall()
        return [JournalledTx(*row) for row in rows]

    def next_nonce(self, sender: bytes) -> int:
        """The nonce after every accepted transaction of this sender; all of them are here."""
        with self._lock:
            row = self._db.execute(
                "SELECT max(nonce) FROM txs WHERE sender = ? AND dropped = 0", (sender,)
            ).fetchone()
        return 0 if row[0] is None else int(row[0]) + 1

    def last_block(self) -> JournalledBlock | None:
        """The newest recorded block, or None before the first."""
        with self._lock:
            row = self._db.execute(
                "SELECT number, timestamp, hash FROM blocks ORDER BY number DESC LIMIT 1"
            ).fetchone()
        return JournalledBlock(*row) if row else None

    def block(self, number: int) -> JournalledBlock | None:
        """A recorded block by number."""
        with self._lock:
            row = self._db.execute(
                "SELECT number, timestamp, hash FROM blocks WHERE number = ?", (number,)
            ).fetchone()
        return JournalledBlock(*row) if row else None

    def blocks_after(self, number: int) -> Iterator[tuple[JournalledBlock, list[bytes]]]:
        """Recorded blocks above ``number`` in order, each with its raw transactions in order."""
        while True:
            with self._lock:
                row = self._db.execute(
                    "SELECT number, timestamp, hash FROM blocks WHERE number > ? "
                    "ORDER BY number LIMIT 1",
                    (number,),
                ).fetchone()
                if row is None:
                    return
                raws = self._db.execute(
                    "SELECT raw FROM txs WHERE block = ? ORDER BY position", (row[0],)
                ).fetchall()
            number = row[0]
            yield JournalledBlock(*row), [raw for (raw,) in raws]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


class _Transaction:
    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")
