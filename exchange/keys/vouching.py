"""What the exchange key signs: receipts for leaves, checkpoints of the log.

A receipt is signed only for a leaf that stands in the store with a right hash. A checkpoint is
signed over a root that this process computed itself from the leaves, on top of the last one that it
signed: never a second root for a size, never a smaller tree. Source: decisions D1, D3; RFC 6962.

Reasons: ``no-such-leaf``, ``leaf-differs``, ``second-root``, ``smaller-tree``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange.errors import KeysRefused
from exchange.keys import database
from exchange.keys.database import KeysDatabase
from exchange.keys.evidence import Evidence
from exchange.keys.records import read_records
from exchange.store import schema
from ledger.leaf import SIZE
from ledger.merkle import CompactRange, leaf_hash
from ledger.signing import Checkpoint, Domain, Key, Receipt, to_hex

_PAGE = 5_000


class Voucher:
    """Signs for one deployment; ``conn`` always reads the exchange's store."""

    def __init__(self, own: KeysDatabase, key: Key, evidence: Evidence, domain: Domain) -> None:
        self._own = own
        self._key = key
        self._evidence = evidence
        self._domain = domain
        self._lock = threading.Lock()
        self._prefix_checked = False

    def sign_receipts(self, conn: Connection, indexes: Sequence[int]) -> list[dict[str, Any]]:
        """Return ``{index, leafHash, signature}`` for each leaf.

        A withdrawal or an objection is remembered, durably, before its receipt is signed: whatever
        was acknowledged to a patient is known here. A grant's signatures are verified on the way.
        """
        records = read_records(conn, indexes)
        self._evidence.see_records(conn, list(records.values()))
        signed = []
        for index in indexes:
            record = records[index]
            receipt = Receipt(index, record.leaf.hash)
            signed.append(
                {
                    "index": index,
                    "leafHash": to_hex(record.leaf.hash),
                    "signature": to_hex(self._key.sign(receipt, self._domain)),
                }
            )
        return signed

    def sign_checkpoint(
        self, conn: Connection, size: int, root: bytes | None = None
    ) -> dict[str, Any]:
        """Return ``{size, root, signature}``; ``root`` is what the caller believes it to be.

        Raises:
            KeysRefused: ``smaller-tree`` where a larger tree was signed and this size was not;
                ``second-root`` where the store's leaves or the caller's root differ from what was
                signed before; ``no-such-leaf`` where the log is not that long.

        """
        with self._lock:
            found = self._root(conn, size)
        if root is not None and root != found:
            raise KeysRefused(("second-root",))
        signature = self._key.sign(Checkpoint(size, found), self._domain)
        return {"size": size, "root": to_hex(found), "signature": to_hex(signature)}

    def _root(self, conn: Connection, size: int) -> bytes:
        heads = database.signed_heads
        with self._own.reading() as own:
            known = own.execute(
                sa.select(heads.c.root).where(heads.c.size == size)
            ).scalar_one_or_none()
            last = own.execute(
                sa.select(heads.c.size, heads.c.root, heads.c.frontier)
                .order_by(heads.c.size.desc())
                .limit(1)
            ).one_or_none()
        if last is not None:
            self._check_prefix(conn, last.size, last.root)
        if known is not None:
            return bytes.fromhex(known[2:])
        if size < 1 or (last is not None and size < last.size):
            raise KeysRefused(("smaller-tree",))
        tree = CompactRange() if last is None else CompactRange.from_bytes(bytes(last.frontier))
        for one in _hashes(conn, tree.size, size):
            tree.append(one)
        if tree.size != size:
            raise KeysRefused(("no-such-leaf",))
        self._compare_with_store(conn, tree)
        root = tree.root()
        row = {"size": size, "root": to_hex(root), "frontier": tree.to_bytes()}
        self._own.transact(lambda own: own.execute(sa.insert(heads).values(row)))
        return root

    def _check_prefix(self, conn: Connection, size: int, root: str) -> None:
        """Compare the store with the last signed tree, once per start: a rolled-back log shows."""
        if self._prefix_checked:
            return
        tree = CompactRange()
        tree.extend(_hashes(conn, 0, size))
        if tree.size != size or to_hex(tree.root()) != root:
            raise KeysRefused(("second-root",))
        self._prefix_checked = True

    @staticmethod
    def _compare_with_store(conn: Connection, tree: CompactRange) -> None:
        head = conn.execute(
            sa.select(schema.tree_head.c.size, schema.tree_head.c.frontier)
        ).one_or_none()
        if head is None or head.size < tree.size:
            raise KeysRefused(("no-such-leaf",))
        if head.size == tree.size:
            theirs = CompactRange.from_bytes(bytes(head.frontier))
            if theirs.root() != tree.root():
                raise KeysRefused(("second-root",))


def _hashes(conn: Connection, start: int, end: int) -> Iterator[bytes]:
    """Yield the leaf hashes of ``start`` to ``end``, computed from the skeletons."""
    table = schema.leaves
    while start < end:
        rows = conn.execute(
            sa.select(table.c.idx, table.c.skeleton)
            .where(table.c.idx >= start, table.c.idx < min(end, start + _PAGE))
            .order_by(table.c.idx)
        ).all()
        for index, skeleton in rows:
            if index != start or len(skeleton) != SIZE:
                raise KeysRefused(("leaf-differs",))
            yield leaf_hash(bytes(skeleton))
            start += 1
        if not rows:
            return
