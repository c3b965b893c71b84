"""The Merkle log: leaves appended, subjects' chains kept, proofs read.

Every leaf is a fixed skeleton over a salted body (D15, ``ledger.leaf``), hashed as RFC 6962 has it.
Leaves get their index in the transaction that causes them, so leaf order is the order of decisions.
Appending locks the tree head: on SQLite the writer's transaction already does, on PostgreSQL the
row is locked until the transaction ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange import subtrees
from exchange.errors import NotFound, StoreError
from exchange.store.schema import chain_heads, leaves, tree_head, tree_nodes
from exchange.subtrees import CHUNK, Nodes
from ledger.commitment import canonical, new_salt, parse_canonical, sha256
from ledger.ids import ConsentId, SubjectId, handle
from ledger.leaf import ZEROS, Chain, Kind, Leaf, chain_of
from ledger.merkle import CompactRange, node_hash

_HEAD_ROW = 1


@dataclass(frozen=True, slots=True)
class Draft:
    """A leaf to be appended. ``body`` without its salt; ``subject`` for leaves of a chain."""

    kind: Kind
    body: Mapping[str, Any]
    subject: SubjectId | None = None
    consent: ConsentId | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A leaf in its place. ``body`` holds its salt; None once it was erased."""

    index: int
    leaf: Leaf
    body: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Head:
    """Last leaf of one chain of a subject."""

    seq: int
    hash: bytes


def lock_head(conn: Connection) -> int:
    """Lock the tree head until the transaction ends, and return the log's size.

    The first statement of admitting and of withdrawing (D5): whoever comes second sees what the
    first one did.
    """
    return _frontier(conn).size


def append(
    conn: Connection,
    *,
    kind: Kind,
    body: Mapping[str, Any],
    at_ms: int,
    subject: SubjectId | None = None,
    consent: ConsentId | None = None,
) -> Entry:
    """Append one leaf; the salt is added here. See :func:`append_many`."""
    return append_many(conn, [Draft(kind, body, subject, consent)], at_ms)[0]


def append_many(conn: Connection, drafts: Sequence[Draft], at_ms: int) -> list[Entry]:
    """Append leaves in order, one statement per table whatever their number.

    Args:
        conn: a writing connection of ``Store.transact``.
        drafts: the leaves; a chain's leaf needs its subject, others must have none.
        at_ms: Unix milliseconds, UTC.

    Raises:
        ValueError: a draft's subject does not fit its kind, or its body brings a salt.
        MalformedValue: a body is not canonical JSON.

    """
    if not drafts:
        return []
    frontier = _frontier(conn)
    own_handles = {one.subject: handle(one.subject) for one in drafts if one.subject is not None}
    heads = _heads_of(conn, drafts, own_handles)
    moved: dict[tuple[str, Chain], Head] = {}
    entries: list[Entry] = []
    leaf_rows: list[dict[str, Any]] = []
    node_rows: list[dict[str, Any]] = []
    tree = _Growing(frontier)
    for draft in drafts:
        index = tree.size
        body, text = _salted(draft)
        leaf = _leaf(draft, at_ms, sha256(text), own_handles, heads, moved)
        entries.append(Entry(index, leaf, body))
        leaf_rows.append(
            {
                "idx": index,
                "hash": "0x" + leaf.hash.hex(),
                "skeleton": leaf.pack(),
                "body": text.decode(),
                "kind": int(leaf.kind),
                "handle": None if leaf.handle == ZEROS else "0x" + leaf.handle.hex(),
                "seq": leaf.seq,
                "at_ms": leaf.at_ms,
                "consent_id": None if draft.consent is None else draft.consent.hex,
            }
        )
        node_rows.extend(tree.append(leaf.hash))
    conn.execute(sa.insert(leaves), leaf_rows)
    if node_rows:
        conn.execute(sa.insert(tree_nodes), node_rows)
    _move_heads(conn, heads, moved)
    conn.execute(
        sa.update(tree_head)
        .where(tree_head.c.id == _HEAD_ROW)
        .values(size=tree.size, frontier=tree.to_bytes())
    )
    return entries


def head(conn: Connection) -> tuple[int, bytes]:
    """Return the log's size and root (32 bytes)."""
    row = conn.execute(sa.select(tree_head.c.frontier)).scalar_one_or_none()
    if row is None:
        raise StoreError("the log has no head: the store was not migrated")
    frontier = CompactRange.from_bytes(bytes(row))
    return frontier.size, frontier.root()


def root_at(conn: Connection, size: int) -> bytes:
    """Return the root that the log had when it held ``size`` leaves. Raises NotFound."""
    _require_size(conn, size)
    wanted = subtrees.split(0, size)
    nodes = Nodes(conn, wanted)
    frontier = CompactRange.from_bytes(
        size.to_bytes(8, "big") + b"".join(nodes[node] for node in wanted)
    )
    return frontier.root()


def inclusion(conn: Connection, index: int, size: int) -> list[bytes]:
    """Return the audit path of a leaf in the tree of ``size`` leaves (RFC 6962 §2.1.1).

    Raises:
        NotFound: the log is shorter, or the leaf lies outside that tree.

    """
    return inclusions(conn, [index], size)[index]


def inclusions(conn: Connection, indexes: Iterable[int], size: int) -> dict[int, list[bytes]]:
    """Return the audit paths of many leaves, read together. Raises NotFound."""
    wanted = sorted(set(indexes))
    _require_size(conn, size)
    if wanted and not (wanted[0] >= 0 and wanted[-1] < size):
        raise NotFound(f"no such leaf in the tree of {size}")
    ranges = {index: subtrees.path(index, 0, size) for index in wanted}
    nodes = Nodes(conn, [n for path in ranges.values() for r in path for n in subtrees.split(*r)])
    return {index: [nodes.root(*r) for r in path] for index, path in ranges.items()}


def consistency(conn: Connection, first: int, second: int) -> list[bytes]:
    """Return the proof that the tree of ``first`` leaves is a prefix (RFC 6962 §2.1.2).

    Empty where ``first`` is 0 or equals ``second``. Raises NotFound.
    """
    _require_size(conn, second)
    if not 0 <= first <= second:
        raise NotFound(f"no tree of {first} leaves before that of {second}")
    if first in (0, second):
        return []
    ranges = subtrees.subproof(first, 0, second, complete=True)
    nodes = Nodes(conn, [n for r in ranges for n in subtrees.split(*r)])
    return [nodes.root(*r) for r in ranges]


def entry(conn: Connection, index: int) -> Entry:
    """Return one leaf in its place. Raises NotFound."""
    row = conn.execute(
        sa.select(leaves.c.idx, leaves.c.skeleton, leaves.c.body).where(leaves.c.idx == index)
    ).one_or_none()
    if row is None:
        raise NotFound(f"no leaf {index}")
    return _entry(*row)


def entries(conn: Connection, start: int, stop: int) -> list[Entry]:
    """Return the leaves from ``start`` (inclusive) to ``stop`` (exclusive), as far as they go."""
    rows = conn.execute(
        sa.select(leaves.c.idx, leaves.c.skeleton, leaves.c.body)
        .where(leaves.c.idx >= start, leaves.c.idx < stop)
        .order_by(leaves.c.idx)
    )
    return [_entry(*row) for row in rows]


def chain(conn: Connection, handle: bytes, chain: Chain) -> list[Entry]:
    """Return every leaf of one chain of a subject, first to last."""
    first, last = _kinds(chain)
    rows = conn.execute(
        sa.select(leaves.c.idx, leaves.c.skeleton, leaves.c.body)
        .where(leaves.c.handle == "0x" + handle.hex(), leaves.c.kind.between(first, last))
        .order_by(leaves.c.idx)
    )
    return [_entry(*row) for row in rows]


def chains(conn: Connection, handles: Iterable[bytes], chain: Chain) -> dict[bytes, list[Entry]]:
    """Return one chain of many subjects, read together; every handle is a key."""
    first, last = _kinds(chain)
    found: dict[bytes, list[Entry]] = {one: [] for one in handles}
    for some in _chunks(["0x" + one.hex() for one in found]):
        rows = conn.execute(
            sa.select(leaves.c.idx, leaves.c.skeleton, leaves.c.body)
            .where(leaves.c.handle.in_(some), leaves.c.kind.between(first, last))
            .order_by(leaves.c.idx)
        )
        for row in rows:
            one = _entry(*row)
            found[one.leaf.handle].append(one)
    return found


def heads(conn: Connection, handles: Iterable[bytes], chain: Chain) -> dict[bytes, Head]:
    """Return the last leaf of one chain of many subjects; absent where there is none yet."""
    found: dict[bytes, Head] = {}
    for some in _chunks(["0x" + one.hex() for one in handles]):
        rows = conn.execute(
            sa.select(chain_heads.c.handle, chain_heads.c.seq, chain_heads.c.hash).where(
                chain_heads.c.handle.in_(some), chain_heads.c.chain == chain
            )
        )
        for one, seq, digest in rows:
            found[bytes.fromhex(one[2:])] = Head(seq, bytes.fromhex(digest[2:]))
    return found


# Appending ---------------------------------------------------------------------------------


class _Growing:
    """The frontier, giving a row for every subtree that a new leaf completes."""

    def __init__(self, frontier: CompactRange) -> None:
        data = frontier.to_bytes()
        self.size = frontier.size
        self._nodes = [data[at : at + 32] for at in range(8, len(data), 32)]

    def append(self, leaf_hash: bytes) -> list[dict[str, Any]]:
        rows = []
        node, level, size = leaf_hash, 0, self.size
        while size & 1:
            node = node_hash(self._nodes.pop(), node)
            level, size = level + 1, size >> 1
            rows.append({"level": level, "position": size, "hash": node})
        self._nodes.append(node)
        self.size += 1
        return rows

    def to_bytes(self) -> bytes:
        return self.size.to_bytes(8, "big") + b"".join(self._nodes)


def _frontier(conn: Connection) -> CompactRange:
    query = sa.select(tree_head.c.frontier).where(tree_head.c.id == _HEAD_ROW).with_for_update()
    row = conn.execute(query).scalar_one_or_none()
    if row is None:
        raise StoreError("the log has no head: the store was not migrated")
    return CompactRange.from_bytes(bytes(row))


def _salted(draft: Draft) -> tuple[dict[str, Any], bytes]:
    if "salt" in draft.body:
        raise ValueError("the salt of a body is drawn by the log")
    body = {**draft.body, "salt": new_salt()}
    return body, canonical(body)


def _heads_of(
    conn: Connection, drafts: Sequence[Draft], own_handles: Mapping[SubjectId, bytes]
) -> dict[tuple[str, Chain], Head]:
    wanted: dict[Chain, set[bytes]] = {}
    for draft in drafts:
        name = chain_of(draft.kind)
        if (name is None) != (draft.subject is None):
            raise ValueError(f"{draft.kind.name}: a subject belongs to leaves of a chain only")
        if name is not None and draft.subject is not None:
            wanted.setdefault(name, set()).add(own_handles[draft.subject])
    return {
        ("0x" + one.hex(), name): found
        for name, handles in wanted.items()
        for one, found in heads(conn, sorted(handles), name).items()
    }


def _leaf(
    draft: Draft,
    at_ms: int,
    body_hash: bytes,
    own_handles: Mapping[SubjectId, bytes],
    heads: Mapping[tuple[str, Chain], Head],
    moved: dict[tuple[str, Chain], Head],
) -> Leaf:
    consent_id = ZEROS if draft.consent is None else draft.consent.raw
    name = chain_of(draft.kind)
    if name is None or draft.subject is None:
        return Leaf(draft.kind, at_ms, ZEROS, 0, ZEROS, consent_id, body_hash)
    own = own_handles[draft.subject]
    key = ("0x" + own.hex(), name)
    before = moved.get(key) or heads.get(key)
    seq, prev = (0, ZEROS) if before is None else (before.seq + 1, before.hash)
    leaf = Leaf(draft.kind, at_ms, own, seq, prev, consent_id, body_hash)
    moved[key] = Head(seq, leaf.hash)
    return leaf


def _move_heads(
    conn: Connection,
    old: Mapping[tuple[str, Chain], Head],
    moved: Mapping[tuple[str, Chain], Head],
) -> None:
    new_rows, changed = [], []
    for (own, name), found in moved.items():
        digest = "0x" + found.hash.hex()
        if (own, name) in old:
            changed.append({"own": own, "name": name, "s": found.seq, "h": digest})
        else:
            new_rows.append({"handle": own, "chain": name, "seq": found.seq, "hash": digest})
    if new_rows:
        conn.execute(sa.insert(chain_heads), new_rows)
    if changed:
        conn.execute(
            sa.update(chain_heads)
            .where(
                chain_heads.c.handle == sa.bindparam("own"),
                chain_heads.c.chain == sa.bindparam("name"),
            )
            .values(seq=sa.bindparam("s"), hash=sa.bindparam("h")),
            changed,
        )


# Reading -----------------------------------------------------------------------------------


def _entry(index: int, skeleton: bytes, text: str | None) -> Entry:
    body: Any = None if text is None else parse_canonical(text.encode())
    return Entry(index, Leaf.unpack(bytes(skeleton)), body)


def _kinds(chain: Chain) -> tuple[int, int]:
    own = [int(kind) for kind in Kind if chain_of(kind) == chain]
    return min(own), max(own)


def _chunks(values: Iterable[str]) -> Iterable[list[str]]:
    listed = list(values)
    return (listed[at : at + CHUNK] for at in range(0, len(listed), CHUNK))


def _require_size(conn: Connection, size: int) -> None:
    held = conn.execute(sa.select(tree_head.c.size)).scalar_one()
    if not 0 <= size <= held:
        raise NotFound(f"the log holds {held} leaves, not {size}")
