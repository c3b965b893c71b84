"""Signed heads of the log, kept until the chain holds them. ``keys`` signs, the worker anchors."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange.errors import NotFound, StoreError
from exchange.log import root_at
from exchange.store.schema import checkpoints


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """A signed head of the log. ``status`` is ``pending``, ``sent`` or ``anchored``."""

    size: int
    root: bytes
    at_ms: int
    signature: bytes
    status: str
    tx: bytes | None
    block: int | None


def add_checkpoint(
    conn: Connection, *, size: int, root: bytes, signature: bytes, at_ms: int
) -> CheckpointRow:
    """Keep a signed head, to be anchored.

    Raises:
        StoreError: the root is not the one the log has at that size; a second root is never kept.
        AlreadyExists: that size has its checkpoint.

    """
    if root_at(conn, size) != root:
        raise StoreError(f"not the root of the log at size {size}")
    conn.execute(
        sa.insert(checkpoints).values(
            size=size,
            root="0x" + root.hex(),
            at_ms=at_ms,
            signature="0x" + signature.hex(),
            status="pending",
        )
    )
    return CheckpointRow(size, root, at_ms, signature, "pending", None, None)


def mark_checkpoint(
    conn: Connection, size: int, status: str, *, tx: bytes | None = None, block: int | None = None
) -> None:
    """Note how far the chain is with a checkpoint. Raises NotFound."""
    changed = conn.execute(
        sa.update(checkpoints)
        .where(checkpoints.c.size == size)
        .values(status=status, tx=None if tx is None else "0x" + tx.hex(), block=block)
    )
    if changed.rowcount != 1:
        raise NotFound(f"no checkpoint of size {size}")


def list_checkpoints(
    conn: Connection, *, before: int | None = None, limit: int = 100
) -> list[CheckpointRow]:
    """Return checkpoints, newest first, smaller than ``before`` where that is given."""
    query = sa.select(checkpoints).order_by(checkpoints.c.size.desc()).limit(limit)
    if before is not None:
        query = query.where(checkpoints.c.size < before)
    return [
        CheckpointRow(
            size=row.size,
            root=bytes.fromhex(row.root[2:]),
            at_ms=row.at_ms,
            signature=bytes.fromhex(row.signature[2:]),
            status=row.status,
            tx=None if row.tx is None else bytes.fromhex(row.tx[2:]),
            block=row.block,
        )
        for row in conn.execute(query)
    ]
