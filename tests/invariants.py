"""One function that knows every invariant: what must hold of a whole exchange, whatever happened in it.

What is public is read over HTTP as an auditor and as each patient; what only an operator sees is read
from the store, the chain and the folders. Each breach is a line of ids and counts.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from exchange.demo.people import Crowd, Wish
from exchange.demo.world import World
from exchange.hospital.client import ExchangeClient, Problem
from exchange.store import schema
from exchange.store.database import Store
from ledger.chain import fetch_trust
from ledger.commitment import parse_canonical
from ledger.errors import LedgerError, VerificationError
from ledger.ids import handle
from ledger.leaf import ZEROS, Kind, Leaf, chain_of
from ledger.merkle import CompactRange, verify_consistency
from ledger.messages import Checkpoint, from_hex
from ledger.signing import verify
from ledger.trust import Trust, parse
from ledger.verify import verify_bundle

_PATIENCE_SECONDS = 60.0
_ENDING = (int(Kind.CONSENT_WITHDRAWN), int(Kind.OBJECTION_LIFTED))


def check_house(world: World, crowd: Crowd, wishes: Sequence[Wish]) -> list[str]:
    """Every breach of every invariant; nothing where all of them hold.

    1. The log is complete: its leaves give the roots of all checkpoints, each signed, each subject's
       chains unbroken. 2. Heads only grow, by proof. 3. The chain anchored the same roots, and holds
       of every consent what the store says. 4. Every promise to the chain was kept, once.
       5. The state of consents follows from the log. 6. Every access that was decided verifies
       offline. 7. Nothing left without a decision recorded before it. 8. Each patient sees exactly
       the decisions about them. 9. Nothing is half-written or left over.
    """
    store = Store.open(world.stack.settings.database_url)
    auditor = world.auditor_client()
    try:
        _settle(store)
        trust = _trust(world)
        leaves = list(_leaves(auditor))
        return [
            *_log(leaves, auditor, trust),
            *_growth(auditor),
            *_anchored(leaves, trust),
            *_states(store, trust),
            *_promises(store),
            *_bundles(auditor, trust),
            *_recorded_first(store),
            *_histories(leaves, crowd, wishes),
            *_leftovers(store, world.stack.settings.data_dir),
        ]
    finally:
        auditor.close()
        store.close()


def _settle(store: Store) -> None:
    """Wait until the chain has caught up with what was promised, as it must within a minute."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < end:
        with store.reading() as conn:
            waiting = conn.execute(
                sa.select(sa.func.count())
                .select_from(schema.outbox)
                .where(schema.outbox.c.status != "recorded")
            ).scalar_one()
            size = conn.execute(sa.select(schema.tree_head.c.size)).scalar_one()
            anchored = conn.execute(
                sa.select(sa.func.max(schema.checkpoints.c.size)).where(
                    schema.checkpoints.c.status == "anchored"
                )
            ).scalar_one()
        if waiting == 0 and anchored == size:
            return
        time.sleep(0.1)


def _trust(world: World) -> Trust:
    deployment = world.stack.deployment
    assert deployment is not None
    addresses = {name: from_hex(value, 20) for name, value in deployment.addresses.items()}
    return parse(fetch_trust(world.stack.settings.rpc_url, addresses))


def _leaves(auditor: ExchangeClient) -> Iterator[Leaf]:
    start = 0
    while True:
        page = auditor.get("/v1/leaves", **{"from": start, "to": start + 1000})
        for skeleton in page["skeletons"]:
            yield Leaf.unpack(bytes.fromhex(skeleton.removeprefix("0x")))
        start = page["to"]
        if start >= page["size"]:
            return


def _listed(auditor: ExchangeClient, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: dict[str, Any] = {}
    while True:
        page = auditor.get(path, **cursor)
        found += page["items"]
        if page.get("next") is None:
            return found
        cursor = {"cursor": page["next"]}


def _log(leaves: Sequence[Leaf], auditor: ExchangeClient, trust: Trust) -> Iterator[str]:
    checkpoints = {item["size"]: item for item in _listed(auditor, "/v1/checkpoints")}
    tree = CompactRange()
    roots: dict[int, bytes] = {}
    heads: dict[tuple[bytes, str], tuple[int, bytes]] = {}
    for index, leaf in enumerate(leaves):
        chain = chain_of(leaf.kind)
        if chain is not None:
            seq, before = heads.get((leaf.handle, chain), (-1, ZEROS))
            if (leaf.seq, leaf.prev) != (seq + 1, before):
                yield f"leaf {index} does not follow its predecessor"
            heads[leaf.handle, chain] = (leaf.seq, leaf.hash)
        tree.append(leaf.hash)
        roots[tree.size] = tree.root()
    if not checkpoints:
        yield "there is no checkpoint"
    for size, item in checkpoints.items():
        if size not in roots:
            continue
        if "0x" + roots[size].hex() != item["root"]:
            yield f"checkpoint {size} has another root than its leaves"
        try:
            verify(
                Checkpoint(size, roots[size]),
                from_hex(item["signature"], 64),
                trust.exchange,
                trust.domain,
            )
        except LedgerError:
            yield f"checkpoint {size} is not signed by the exchange"


def _growth(auditor: ExchangeClient) -> Iterator[str]:
    items = sorted(_listed(auditor, "/v1/checkpoints"), key=lambda item: int(item["size"]))
    for one, two in itertools.pairwise(items):
        proof = auditor.get("/v1/proofs/consistency", first=one["size"], second=two["size"])
        try:
            verify_consistency(
                one["size"],
                two["size"],
                from_hex(one["root"], 32),
                from_hex(two["root"], 32),
                [from_hex(node, 32) for node in proof["hashes"]],
            )
        except LedgerError:
            yield f"checkpoint {two['size']} does not extend checkpoint {one['size']}"


def _anchored(leaves: Sequence[Leaf], trust: Trust) -> Iterator[str]:
    tree = CompactRange()
    roots = {}
    for leaf in leaves:
        tree.append(leaf.hash)
        roots[tree.size] = tree.root()
    if not trust.checkpoints:
        yield "the chain has no checkpoint"
    for size, root in trust.checkpoints.items():
        if roots.get(size, root) != root:
            yield f"the chain anchored another root for {size}"


def _states(store: Store, trust: Trust) -> Iterator[str]:
    with store.reading() as conn:
        rows = conn.execute(sa.select(schema.consents)).mappings().all()
        leaves = {
            (row.consent_id, row.kind)
            for row in conn.execute(
                sa.select(schema.leaves.c.consent_id, schema.leaves.c.kind).where(
                    schema.leaves.c.consent_id.is_not(None)
                )
            )
        }
    granted = {one.hex for one in trust.granted}
    withdrawn = {one.hex for one in trust.withdrawn}
    for row in rows:
        consent = row["consent_id"]
        ended = any((consent, kind) in leaves for kind in _ENDING)
        recorded = (consent, int(Kind.CONSENT_RECORDED)) in leaves
        expected = "inactive" if ended else "active" if recorded else "draft"
        if row["status"] != expected:
            yield f"{consent} is {row['status']}, the log says {expected}"
        if consent not in granted:
            yield f"{consent} is not on the chain"
        if (consent in withdrawn) != ended:
            yield f"{consent} ended: the log says {ended}, the chain otherwise"
    extra = granted - {row["consent_id"] for row in rows}
    if extra:
        yield f"{len(extra)} consents are on the chain and not in the store"


def _promises(store: Store) -> Iterator[str]:
    with store.reading() as conn:
        rows = conn.execute(sa.select(schema.outbox)).mappings().all()
    seen = set()
    for row in rows:
        if row["status"] != "recorded":
            yield f"promise {row['id']} ({row['verb']}) is not kept"
        key = (row["verb"], row["consent_id"])
        if row["consent_id"] is not None and key in seen:
            yield f"promise {row['id']} ({row['verb']}) was made twice"
        seen.add(key)


def _bundles(auditor: ExchangeClient, trust: Trust) -> Iterator[str]:
    for access in _listed(auditor, "/v1/accesses"):
        try:
            verify_bundle(auditor.get_bytes(f"/v1/bundles/{access['id']}"), trust)
        except VerificationError as error:
            yield f"the bundle of {access['id']} fails: {error}"
        except Problem as problem:
            yield f"the bundle of {access['id']} cannot be had: {problem.slug}"


def _recorded_first(store: Store) -> Iterator[str]:
    decided: dict[str, int] = {}
    ruled: dict[tuple[str, str], int] = {}
    with store.reading() as conn:
        rows = conn.execute(
            sa.select(schema.leaves.c.idx, schema.leaves.c.kind, schema.leaves.c.handle,
                      schema.leaves.c.body).order_by(schema.leaves.c.idx)
        ).all()  # fmt: skip
        releases = conn.execute(sa.select(schema.releases)).mappings().all()
        delivered = conn.execute(
            sa.select(schema.release_subjects, schema.subjects.c.handle)
            .join(schema.subjects, schema.subjects.c.subject == schema.release_subjects.c.subject)
            .where(schema.release_subjects.c.state.in_(("delivered", "stopped")))
        ).mappings().all()  # fmt: skip
    for row in rows:
        if row.kind == Kind.RELEASE_DECIDED:
            decided[parse_canonical(row.body.encode())["release"]] = row.idx
        elif row.kind == Kind.ACCESS_DECIDED:
            body = parse_canonical(row.body.encode())
            if body["ruling"]["decision"] == "permit":
                ruled[body["access"], row.handle] = row.idx
    for release in releases:
        identity, closing = release["release_id"], release["closing_leaf"]
        if identity not in decided:
            yield f"{identity} has no decision in the log"
        elif closing is not None and closing < decided[identity]:
            yield f"{identity} was closed before it was decided"
        if release["status"] == "streaming":
            yield f"{identity} was begun and never closed"
    for row in delivered:
        if (row["release_id"], row["handle"]) not in ruled:
            yield f"{row['release_id']} delivered a subject without a ruling that permits"


def _histories(leaves: Sequence[Leaf], crowd: Crowd, wishes: Sequence[Wish]) -> Iterator[str]:
    about: dict[bytes, set[int]] = {}
    for index, leaf in enumerate(leaves):
        if leaf.kind == Kind.ACCESS_DECIDED:
            about.setdefault(leaf.handle, set()).add(index)
    known = set()
    for wish in wishes:
        patient = crowd.client(wish)
        seen = {item["leaf"] for item in patient.history()}
        own = handle(wish.subject)
        known.add(own)
        if not seen >= about.get(own, set()):
            yield f"a patient is not shown {len(about[own] - seen)} decisions"
        if {index for index in seen if index < len(leaves)} - about.get(own, set()):
            yield "a patient is shown decisions that are not in the log"
    if set(about) - known:
        yield f"{len(set(about) - known)} decisions are about nobody who enrolled"


def _leftovers(store: Store, folder: Path) -> Iterator[str]:
    with store.reading() as conn:
        promised = set(conn.execute(sa.select(schema.dataset_versions.c.blob)).scalars())
        for column in (schema.jobs.c.input, schema.jobs.c.result, schema.models.c.path):
            promised |= set(conn.execute(sa.select(column)).scalars())
        open_jobs = conn.execute(
            sa.select(sa.func.count())
            .select_from(schema.jobs)
            .where(schema.jobs.c.status.in_(("queued", "running")))
        ).scalar_one()
    vault = folder / "vault"
    kept = {
        str(path.relative_to(vault))
        for path in vault.rglob("*")
        if path.is_file() and path.name != ".lock"
    }
    for path in sorted(kept - promised):
        yield f"the vault holds {path}, which nothing refers to"
    for path in sorted(promised - kept - {None}):
        yield f"{path} is referred to and not in the vault"
    if open_jobs:
        yield f"{open_jobs} jobs never ended"
