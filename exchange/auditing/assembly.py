"""One access's evidence, gathered from the log: exactly what ``ledger.verify`` asks for, no more.

Nothing is judged here. What the log holds is handed over as it stands, so that a store that was
tampered with shows at the auditor's, not only at ours. Proofs and chains are read in batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange import log
from exchange.auditing.accesses import AccessRow, publication_leaf, subject_leaves
from exchange.checkpoints import CheckpointRow, list_checkpoints
from exchange.errors import Conflict, StoreError, VersionNotReady
from exchange.store import schema
from exchange.subtrees import CHUNK
from ledger.bundle import (
    AuditBundle,
    LoggedLeaf,
    SignedCheckpoint,
    SubjectEvidence,
    shown,
)
from ledger.commitment import parse_canonical
from ledger.ids import ConsentId
from ledger.leaf import Kind, Leaf
from ledger.messages import from_hex
from ledger.policy import CIRCUMSTANCES

_Proven = Callable[[log.Entry], LoggedLeaf]

AGAIN = "repeat in a few seconds: the log's head is signed and anchored on the chain regularly"


def assemble(conn: Connection, deployment: bytes, access: AccessRow) -> AuditBundle:
    """Return the evidence for an access, under the smallest anchored checkpoint that covers it.

    Raises:
        VersionNotReady: no anchored checkpoint covers every leaf of it yet.
        Conflict: a body that the proof needs was erased.
        StoreError: the store lacks a leaf that its own rows name.
    """
    rulings = subject_leaves(conn, access)
    single = [access.leaf]
    if access.closing is not None:
        single.append(access.closing)
    publication = None if access.dataset is None else publication_leaf(conn, access)
    if publication is not None:
        single.append(publication)
    point = _checkpoint(conn, max([*single, *rulings]))
    found = entries_at(conn, [*single, *rulings])
    chains = _chains(conn, [found[index] for index in rulings])
    pinned = _participants(conn, access, chains.values(), point.size)
    heads = [chain[-1].index for chain in chains.values() if chain]
    wanted = [*single, *rulings, *heads, *(one.index for one in pinned)]
    proofs = log.inclusions(conn, wanted, point.size)

    def proven(entry: log.Entry) -> LoggedLeaf:
        return LoggedLeaf(entry.leaf, entry.index, entry.body, tuple(proofs[entry.index]))

    return AuditBundle(
        deployment=deployment,
        kind=access.kind,
        id=access.id,
        participants=tuple(proven(one) for one in pinned),
        checkpoint=point,
        access=proven(found[access.leaf]),
        closing=None if access.closing is None else proven(found[access.closing]),
        dataset=None if publication is None else proven(found[publication]),
        subjects=tuple(
            _subject(found[index], chains[found[index].leaf.handle], proven) for index in rulings
        ),
    )


def anchored_after(conn: Connection, index: int) -> CheckpointRow | None:
    """Return the smallest anchored checkpoint that covers the leaf, if there is one."""
    table = schema.checkpoints
    size = conn.execute(
        sa.select(sa.func.min(table.c.size)).where(
            table.c.size > index, table.c.status == "anchored"
        )
    ).scalar_one_or_none()
    if size is None:
        return None
    return list_checkpoints(conn, before=int(size) + 1, limit=1)[0]


def _checkpoint(conn: Connection, last: int) -> SignedCheckpoint:
    row = anchored_after(conn, last)
    if row is None:
        raise VersionNotReady("no anchored checkpoint covers this access yet", next_step=AGAIN)
    return SignedCheckpoint(row.size, row.root, row.signature)


def entries_at(conn: Connection, indexes: list[int]) -> dict[int, log.Entry]:
    """Read leaves in their places, all with their bodies. Raises Conflict, StoreError."""
    table = schema.leaves
    found: dict[int, log.Entry] = {}
    for start in range(0, len(indexes), CHUNK):
        rows = conn.execute(
            sa.select(table.c.idx, table.c.skeleton, table.c.body).where(
                table.c.idx.in_(indexes[start : start + CHUNK])
            )
        )
        for index, skeleton, text in rows:
            if text is None:
                raise Conflict(
                    f"the body of leaf {index} was erased, and with it this evidence",
                    next_step="read the leaf's skeleton and its inclusion proof instead",
                )
            body = parse_canonical(text.encode())
            assert isinstance(body, dict)
            found[index] = log.Entry(index, Leaf.unpack(bytes(skeleton)), body)
    missing = set(indexes) - set(found)
    if missing:
        raise StoreError(f"the log lacks leaf {min(missing)}")
    return found


def _chains(conn: Connection, rulings: list[log.Entry]) -> dict[bytes, list[log.Entry]]:
    """Read each subject's consent chain up to the head that its ruling commits to."""
    chains = log.chains(conn, [one.leaf.handle for one in rulings], "consent")
    found = {}
    for ruling in rulings:
        body = ruling.body or {}
        enrolled = any(from_hex(body["consentHead"], 32))
        length = int(body["consentSeq"]) + 1 if enrolled else 0
        found[ruling.leaf.handle] = chains[ruling.leaf.handle][:length]
    return found


def _participants(
    conn: Connection, access: AccessRow, chains: Iterable[list[log.Entry]], size: int
) -> list[log.Entry]:
    """The pinned cards of the hospitals that have a part in this access."""
    orgs = {access.requester, access.owner}
    for chain in chains:
        orgs |= {(one.body or {}).get("org") for one in chain[:1]}
    table = schema.leaves
    rows = conn.execute(
        sa.select(table.c.idx)
        .where(table.c.kind == int(Kind.PARTICIPANT_PINNED), table.c.idx < size)
        .where(table.c.body.is_not(None))
        .order_by(table.c.idx)
    ).scalars()
    pinned = entries_at(conn, [int(index) for index in rows]).values()
    return sorted(
        (one for one in pinned if (one.body or {}).get("org") in orgs), key=lambda one: one.index
    )


def _subject(ruling: log.Entry, chain: list[log.Entry], proven: _Proven) -> SubjectEvidence:
    body = (ruling.body or {})["ruling"]
    leaves = [LoggedLeaf(one.leaf, None, one.body, None) for one in chain[:-1]]
    leaves += [proven(one) for one in chain[-1:]]
    reasons = set(body["reasons"])
    # A denial for a circumstance is not decided again, so it needs no consent's contents.
    by_circumstance = bool(reasons) and reasons <= CIRCUMSTANCES
    return SubjectEvidence(
        ruling.leaf.handle,
        proven(ruling),
        shown(
            leaves,
            permitted=by_circumstance or body["decision"] == "permit",
            because=[ConsentId.parse(one).raw for one in body["because"]],
        ),
    )
