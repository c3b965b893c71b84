"""Reading leaves without believing the store: every hash is computed again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange.errors import KeysRefused
from exchange.store import schema
from ledger.commitment import sha256
from ledger.errors import LedgerError
from ledger.leaf import Kind, Leaf
from ledger.signing import to_hex

BATCH = 500
"""Values of one IN list."""


@dataclass(frozen=True, slots=True)
class Record:
    """A leaf that stands in the store with a right hash; ``body`` is None once erased."""

    index: int
    leaf: Leaf
    body: dict[str, Any] | None

    def told(self, kind: Kind) -> dict[str, Any]:
        """Return the body of a leaf of this kind. Raises KeysRefused: ``no-record``."""
        if self.leaf.kind != kind or self.body is None:
            raise KeysRefused(("no-record",))
        return self.body


def read_records(conn: Connection, indexes: Iterable[int]) -> dict[int, Record]:
    """Return the leaves at these indexes, in one query per :data:`BATCH`.

    Raises:
        KeysRefused: ``no-such-leaf`` where one is missing, ``leaf-differs`` where skeleton, hash
            and body do not belong together.

    """
    wanted = sorted(set(indexes))
    table = schema.leaves
    found: dict[int, Record] = {}
    for start in range(0, len(wanted), BATCH):
        rows = conn.execute(
            sa.select(table.c.idx, table.c.hash, table.c.skeleton, table.c.body).where(
                table.c.idx.in_(wanted[start : start + BATCH])
            )
        )
        for index, leaf_hash, skeleton, body in rows:
            found[index] = _checked(index, leaf_hash, bytes(skeleton), body)
    if len(found) != len(wanted):
        raise KeysRefused(("no-such-leaf",))
    return found


def read_record(conn: Connection, index: int | None) -> Record:
    """Return one leaf. Raises as :func:`read_records`; ``no-record`` for None."""
    if index is None:
        raise KeysRefused(("no-record",))
    return read_records(conn, (index,))[index]


def _checked(index: int, leaf_hash: str, skeleton: bytes, text: str | None) -> Record:
    try:
        leaf = Leaf.unpack(skeleton)
        # The hash is over the canonical text itself, so equal bytes need no second spelling.
        if to_hex(leaf.hash) != leaf_hash or (
            text is not None and sha256(text.encode()) != leaf.body_hash
        ):
            raise KeysRefused(("leaf-differs",))
        body = None if text is None else json.loads(text)
    except (LedgerError, ValueError):
        raise KeysRefused(("leaf-differs",)) from None
    if body is not None and not isinstance(body, dict):
        raise KeysRefused(("leaf-differs",))
    return Record(index, leaf, body)
