"""What must hold after any kill: each check returns what it found broken, as lines of ids.

They read the store as a stranger would, recompute everything from the leaves' own bytes, and compare
it with what clients were told. ``selftest`` damages copies and shows that each check notices.
"""

from __future__ import annotations

from collections import defaultdict

import sqlalchemy as sa

from exchange import log
from exchange.store import schema
from ledger.commitment import parse_canonical, salted_body_hash
from ledger.errors import LedgerError
from ledger.ids import SubjectId, handle
from ledger.interface import ChainStatus
from ledger.leaf import ZEROS, Kind, Leaf, chain_of
from ledger.merkle import CompactRange
from ledger.messages import Checkpoint, from_hex
from ledger.signing import verify

_VERB_KINDS = {
    "grant": Kind.CONSENT_GRANTED,
    "object": Kind.OBJECTION_RECORDED,
    "withdraw": Kind.CONSENT_WITHDRAWN,
    "lift": Kind.OBJECTION_LIFTED,
}


def log_breaks(conn, deployment):
    """Every leaf's hash, body, place in its chain; the root, the heads, every checkpoint."""
    found, tree, roots = [], CompactRange(), {}
    heads: dict[tuple[bytes, str], tuple[int, bytes]] = {}
    checkpoints = conn.execute(
        sa.select(schema.checkpoints).order_by(schema.checkpoints.c.size)
    ).all()
    sizes = {row.size for row in checkpoints}
    for place, row in enumerate(
        conn.execute(sa.select(schema.leaves).order_by(schema.leaves.c.idx))
    ):
        if row.idx != place:
            found.append(f"log: leaf {place} is missing")
            break
        leaf = Leaf.unpack(bytes(row.skeleton))
        if "0x" + leaf.hash.hex() != row.hash:
            found.append(f"log: leaf {place} has another hash")
        if row.body is not None:
            body = parse_canonical(row.body.encode())
            if salted_body_hash(body) != leaf.body_hash:
                found.append(f"log: leaf {place} has another body")
        chain = chain_of(leaf.kind)
        if chain is not None:
            seq, before = heads.get((leaf.handle, chain), (-1, ZEROS))
            if leaf.seq != seq + 1 or leaf.prev != before:
                found.append(f"log: leaf {place} does not follow its predecessor")
            heads[leaf.handle, chain] = (leaf.seq, leaf.hash)
        tree.append(leaf.hash)
        if tree.size in sizes:
            roots[tree.size] = tree.root()
    size, root = log.head(conn)
    if (size, root) != (tree.size, tree.root() if tree.size else root):
        found.append(f"log: the head says {size} leaves, there are {tree.size}, or another root")
    stored = {
        (from_hex(row.handle, 32), row.chain): (row.seq, from_hex(row.hash, 32))
        for row in conn.execute(sa.select(schema.chain_heads))
    }
    if stored != heads:
        found.append("log: the chains' heads are not their last leaves")
    for row in checkpoints:
        if row.size not in roots or "0x" + roots[row.size].hex() != row.root:
            found.append(f"log: checkpoint {row.size} has another root than the log had")
            continue
        try:
            verify(
                Checkpoint(row.size, roots[row.size]),
                from_hex(row.signature, 64),
                deployment.exchange,
                deployment.domain,
            )
        except LedgerError:
            found.append(f"log: checkpoint {row.size} is not signed by the exchange")
    return found


def lost(conn, acks):
    """Acknowledged verbs without their row, their leaf, or their effect."""
    found = []
    consents = {row.consent_id: row for row in conn.execute(sa.select(schema.consents))}
    leaves = {
        (row.consent_id, row.kind): row
        for row in conn.execute(
            sa.select(
                schema.leaves.c.idx,
                schema.leaves.c.hash,
                schema.leaves.c.kind,
                schema.leaves.c.consent_id,
            ).where(schema.leaves.c.consent_id.is_not(None))
        )
    }
    promises = {
        (row.consent_id, row.verb)
        for row in conn.execute(sa.select(schema.outbox.c.consent_id, schema.outbox.c.verb))
    }
    for ack in acks:
        row = consents.get(ack.consent)
        leaf = leaves.get((ack.consent, int(_VERB_KINDS[ack.verb])))
        if row is None or leaf is None:
            found.append(f"lost: {ack.verb} of {ack.consent} was acknowledged and is not there")
            continue
        if ack.index is not None and (leaf.idx, leaf.hash) != (ack.index, ack.leaf):
            found.append(f"lost: the receipt of {ack.verb} {ack.consent} is of another leaf")
        promise = "withdraw" if ack.verb in ("withdraw", "lift") else "grant"
        if (ack.consent, promise) not in promises:
            found.append(f"lost: {ack.verb} of {ack.consent} is not promised to the chain")
        if ack.verb == "withdraw" and row.status != "inactive":
            found.append(f"lost: {ack.consent} was withdrawn and is {row.status}")
        if ack.verb in ("withdraw", "lift") and row.ended_leaf != leaf.idx:
            found.append(f"lost: {ack.consent} has ended by another leaf")
    return found


def unrecorded(conn, deliveries):
    """Bytes that were opened without a decision recorded before them, or without one for a subject."""
    decided, ruled = {}, {}
    query = sa.select(schema.leaves.c.skeleton, schema.leaves.c.body).where(
        schema.leaves.c.kind.in_([int(Kind.RELEASE_DECIDED), int(Kind.ACCESS_DECIDED)])
    )
    for row in conn.execute(query):
        leaf = Leaf.unpack(bytes(row.skeleton))
        body = parse_canonical(row.body.encode())
        if leaf.kind == Kind.RELEASE_DECIDED:
            decided[body["release"]] = (leaf.at_ms, body["requester"])
        elif body["ruling"]["decision"] == "permit":
            ruled[body["access"], leaf.handle] = leaf.at_ms
    found = []
    for one in deliveries:
        at, requester = decided.get(one.release, (None, None))
        if at is None or at > one.first_ms or requester != one.requester:
            found.append(f"unrecorded: {one.release} came without its decision before it")
        for subject in one.subjects:
            ruling = ruled.get((one.release, handle(SubjectId.parse(subject))))
            if ruling is None or ruling > one.first_ms:
                found.append(f"unrecorded: {one.release} held {subject} without a ruling")
    return found


def unwanted(book):
    """Bytes and answers about subjects whose every consent was withdrawn before they were asked for."""
    ended = {(a.consent): a.at_ms for a in book.acks if a.verb == "withdraw"}
    objected = {a.consent: (a.subject, a.at_ms) for a in book.acks if a.verb == "object"}
    grants = defaultdict(list)
    for (verb, consent), (subject, began) in book.begun.items():
        if verb == "grant":
            grants[subject].append((consent, began))
    found = []
    taken = [(one.release, one.asked_ms, one.first_ms, one.subjects) for one in book.deliveries]
    taken += [(one.job, one.asked_ms, None, one.subjects) for one in book.jobs]
    for what, asked, first, subjects in taken:
        for subject in subjects:
            possible = any(
                (first is None or began <= first) and ended.get(consent, asked + 1) >= asked
                for consent, began in grants[subject]
            )
            barred = any(
                who == subject and at < asked and ("lift", consent) not in book.begun
                for consent, (who, at) in objected.items()
            )
            if not possible or barred:
                found.append(f"unwanted: {what} holds {subject}, who had said no before")
    return found


def unfinished(conn, book):
    """Releases and jobs that were begun and never closed, once everything runs again."""
    found = []
    rows = conn.execute(
        sa.select(schema.releases.c.release_id).where(schema.releases.c.status == "streaming")
    ).scalars()
    found.extend(f"unfinished: release {release} is open" for release in rows)
    delivered = {one.release for one in book.deliveries if one.whole}
    closed = set(
        conn.execute(
            sa.select(schema.releases.c.release_id).where(
                schema.releases.c.closing_leaf.is_not(None)
            )
        ).scalars()
    )
    found.extend(
        f"unfinished: {one} came whole and has no closing leaf" for one in delivered - closed
    )
    found.extend(
        f"unfinished: job {one.job} is {one.status}"
        for one in book.jobs
        if one.status not in ("done", "refused", "stopped")
    )
    return found


def off_chain(conn, acks, status_of):
    """Acknowledged verbs that the chain, asked itself, does not hold; and rows that do not say so."""
    ended = {ack.consent for ack in acks if ack.verb in ("withdraw", "lift")}
    found = []
    for consent in sorted({ack.consent for ack in acks}):
        status, _ = status_of(from_hex(consent, 32))
        wanted = ChainStatus.WITHDRAWN if consent in ended else ChainStatus.ACTIVE
        if status != wanted:
            found.append(f"off chain: {consent} is {status.name} there")
    waiting = conn.execute(
        sa.select(schema.outbox.c.id, schema.outbox.c.verb).where(
            schema.outbox.c.status != "recorded", schema.outbox.c.verb != "anchor"
        )
    ).all()
    found.extend(f"off chain: promise {row.id} ({row.verb}) is not kept" for row in waiting)
    granted = {ack.consent for ack in acks if ack.verb in ("grant", "object")} - ended
    rows = conn.execute(sa.select(schema.consents.c.consent_id, schema.consents.c.recorded_leaf))
    recorded = {row.consent_id for row in rows if row.recorded_leaf is not None}
    found.extend(f"off chain: {one} is not noted as recorded" for one in sorted(granted - recorded))
    return found


def at_once(conn, book, deployment):
    """The checks that must hold at every moment."""
    return log_breaks(conn, deployment) + lost(conn, book.acks) + unrecorded(conn, book.deliveries)
