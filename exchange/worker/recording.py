"""What the chain recorded, as leaves and rows: a permit becomes active, a lifted objection ends.

All of one look happens in one transaction with the cursor's move, so nothing is recorded twice and
nothing is passed over (walk A of the house, step 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange import log as merkle
from exchange import outbox
from exchange.clock import Clock
from exchange.store import schema
from exchange.subtrees import CHUNK
from ledger.commitment import canonical, parse_canonical
from ledger.follow import FollowResult
from ledger.ids import ConsentId, SubjectId
from ledger.interface import ChainEvent
from ledger.leaf import Kind


def record(conn: Connection, result: FollowResult, clock: Clock) -> None:
    """Record what one look at the chain found, and move the cursor, in the caller's transaction."""
    merkle.lock_head(conn)
    now_ms = clock.now_ms()
    granted = [event for event in result.events if event.kind == "granted"]
    withdrawn = [event for event in result.events if event.kind == "withdrawn"]
    _record_grants(conn, granted, now_ms)
    _record_withdrawals(conn, withdrawn, now_ms)
    for event in result.events:
        if event.kind == "checkpoint" and event.size is not None:
            outbox.mark_anchored(conn, event.size)
            _record_anchor(conn, event)
        elif event.kind == "participant":
            _record_participant(conn, event)
    cursor = result.cursor
    values = {
        "number": cursor.number,
        "hash": "0x" + cursor.hash.hex(),
        "history": canonical(
            [[head.number, "0x" + head.hash.hex()] for head in cursor.history]
        ).decode(),
        "answered_ms": now_ms,
    }
    table = schema.chain_cursor
    if conn.execute(sa.update(table).where(table.c.id == 1).values(values)).rowcount == 0:
        conn.execute(sa.insert(table), {"id": 1, **values})


def _record_grants(conn: Connection, events: Sequence[ChainEvent], now_ms: int) -> None:
    """A permit becomes active with its record; what was active or ended stays so."""
    rows = _rows(conn, [event.id for event in events])
    new = [event for event in events if _unrecorded(rows.get("0x" + event.id.hex()))]
    entries = merkle.append_many(conn, [_recorded(event, rows) for event in new], now_ms)
    table = schema.consents
    for event, entry in zip(new, entries, strict=True):
        row = rows["0x" + event.id.hex()]
        status = "active" if row["status"] == "draft" else row["status"]
        conn.execute(
            sa.update(table)
            .where(table.c.consent_id == row["consent_id"])
            .values(
                status=status,
                recorded_leaf=entry.index,
                recorded_block=event.block_number,
                final=True,
            )
        )
    outbox.mark_recorded(conn, [ConsentId(event.id) for event in events], verb="grant")


def _record_withdrawals(conn: Connection, events: Sequence[ChainEvent], now_ms: int) -> None:
    """A lifted objection ends with its record, a leaf of its own; a permit had ended before."""
    table = schema.consents
    rows = _rows(conn, [event.id for event in events])
    lifted = [
        event
        for event in events
        if (row := rows.get("0x" + event.id.hex())) is not None
        and row["decision"] == "deny"
        and row["status"] == "active"
        and row["ended_leaf"] is not None
    ]
    merkle.append_many(conn, [_recorded(event, rows) for event in lifted], now_ms)
    for event in lifted:
        conn.execute(
            sa.update(table)
            .where(table.c.consent_id == "0x" + event.id.hex())
            .values(status="inactive")
        )
    outbox.mark_recorded(conn, [ConsentId(event.id) for event in events], verb="withdraw")


def _record_anchor(conn: Connection, event: ChainEvent) -> None:
    table = schema.checkpoints
    conn.execute(
        sa.update(table)
        .where(table.c.size == event.size)
        .values(status="anchored", tx="0x" + event.tx_hash.hex(), block=event.block_number)
    )


def _record_participant(conn: Connection, event: ChainEvent) -> None:
    """A newcomer may log in once the chain says that it was admitted, until its key has left.

    A key that was moved or replaced has left as well: the keys process knows the first one alone.
    """
    if event.participant is None:
        return
    wanted = "0x" + event.participant.hex()
    if event.change != "admitted":
        conn.execute(
            sa.update(schema.orgs).where(schema.orgs.c.address == wanted).values(status="retired")
        )
        return
    make_member(conn, wanted)
    rows = conn.execute(
        sa.select(schema.outbox.c.id, schema.outbox.c.payload).where(
            schema.outbox.c.verb == "admit", schema.outbox.c.status != "recorded"
        )
    ).all()
    kept = []
    for row in rows:
        payload = parse_canonical(row.payload.encode())
        if isinstance(payload, dict) and payload.get("participant") == wanted:
            kept.append(row.id)
    outbox.mark_kept(conn, kept)


def make_member(conn: Connection, address: str) -> None:
    """Let a hospital that was joining take part; any other stays as it is."""
    table = schema.orgs
    joining = sa.and_(table.c.address == address, table.c.status == "joining")
    conn.execute(sa.update(table).where(joining).values(status="member"))


def _rows(conn: Connection, ids: Sequence[bytes]) -> dict[str, Any]:
    table = schema.consents
    found: dict[str, Any] = {}
    texts = ["0x" + one.hex() for one in ids]
    for start in range(0, len(texts), CHUNK):
        chunk = texts[start : start + CHUNK]
        for row in conn.execute(sa.select(table).where(table.c.consent_id.in_(chunk))).mappings():
            found[row["consent_id"]] = row
    return found


def _recorded(event: ChainEvent, rows: dict[str, Any]) -> merkle.Draft:
    """The leaf that says that the chain holds a message about this consent."""
    return merkle.Draft(
        Kind.CONSENT_RECORDED,
        {
            "block": event.block_number,
            "blockHash": "0x" + event.block_hash.hex(),
            "transaction": "0x" + event.tx_hash.hex(),
        },
        SubjectId.parse(rows["0x" + event.id.hex()]["subject"]),
        ConsentId(event.id),
    )


def _unrecorded(row: Any) -> bool:
    return row is not None and row["recorded_leaf"] is None
