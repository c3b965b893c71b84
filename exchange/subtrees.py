"""The log's complete subtrees: which of them make up a proof, and reading their roots.

Ranges of leaves are [start, stop); a node is (level, position), a complete subtree of 2^level leaves.
Roots of level 0 are the leaves' own hashes, the others stand in ``tree_nodes``. Source: RFC 6962 §2.1.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange.errors import StoreError
from exchange.store.schema import leaves, tree_nodes
from ledger.merkle import node_hash

CHUNK = 500
"""Values per IN list."""


def _split_point(count: int) -> int:
    return 1 << (count - 1).bit_length() - 1


def path(index: int, start: int, stop: int) -> list[tuple[int, int]]:
    """Return the ranges whose roots make up PATH(index, D[start:stop]), lowest first."""
    found: list[tuple[int, int]] = []
    while stop - start > 1:
        middle = start + _split_point(stop - start)
        if index < middle:
            found.append((middle, stop))
            stop = middle
        else:
            found.append((start, middle))
            start = middle
    return found[::-1]


def subproof(first: int, start: int, stop: int, *, complete: bool) -> list[tuple[int, int]]:
    """Return the ranges of SUBPROOF(first, D[start:stop], complete); ``first`` counts leaves."""
    if first == stop - start:
        return [] if complete else [(start, stop)]
    middle = start + _split_point(stop - start)
    if first <= middle - start:
        return [*subproof(first, start, middle, complete=complete), (middle, stop)]
    return [
        *subproof(first - (middle - start), middle, stop, complete=False),
        (start, middle),
    ]


def split(start: int, stop: int) -> list[tuple[int, int]]:
    """Return the complete subtrees that a range begun at its own alignment consists of."""
    found = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        found.append((level, start >> level))
        start += 1 << level
    return found


class Nodes:
    """Roots of complete subtrees, read in a few statements."""

    def __init__(self, conn: Connection, wanted: Iterable[tuple[int, int]]) -> None:
        self._found: dict[tuple[int, int], bytes] = {}
        by_level: dict[int, set[int]] = {}
        for level, position in wanted:
            by_level.setdefault(level, set()).add(position)
        for level, positions in by_level.items():
            listed = sorted(positions)
            for at in range(0, len(listed), CHUNK):
                self._read(conn, level, listed[at : at + CHUNK])

    def _read(self, conn: Connection, level: int, positions: list[int]) -> None:
        if level == 0:
            query = sa.select(leaves.c.idx, leaves.c.hash).where(leaves.c.idx.in_(positions))
            for position, text in conn.execute(query):
                self._found[0, position] = bytes.fromhex(text[2:])
            return
        kept = sa.select(tree_nodes.c.position, tree_nodes.c.hash).where(
            tree_nodes.c.level == level, tree_nodes.c.position.in_(positions)
        )
        for position, digest in conn.execute(kept):
            self._found[level, position] = bytes(digest)

    def __getitem__(self, node: tuple[int, int]) -> bytes:
        try:
            return self._found[node]
        except KeyError:
            raise StoreError(f"the log lacks the subtree {node[1]} of level {node[0]}") from None

    def root(self, start: int, stop: int) -> bytes:
        """Return MTH(D[start:stop]) from the complete subtrees it consists of."""
        parts = [self[node] for node in split(start, stop)]
        found = parts[-1]
        for part in reversed(parts[:-1]):
            found = node_hash(part, found)
        return found
