"""One effect per ``Idempotency-Key``, however often a request is repeated.

Source: the IETF draft "The Idempotency-Key HTTP Header Field" (draft-ietf-httpapi-idempotency-key):
400 when the key is missing, 409 while the first request is running, 422 for another payload. The
answer is stored in the transaction that does the work, so a key is never spent without its effect.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from exchange.errors import (
    Conflict,
    IdempotencyInFlight,
    IdempotencyKeyMalformed,
    IdempotencyKeyMissing,
    IdempotencyMismatch,
)
from exchange.store.database import Store
from exchange.store.schema import idempotency
from ledger.commitment import canonical, parse_canonical

HEADER = "Idempotency-Key"
KEPT_MS = 48 * 3600 * 1000
"""How long an answer is kept for a repetition."""

ABANDONED_MS = 120_000
"""After how long a request that never finished may be taken up again: its process has died."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer as it was given: status, headers and body text."""

    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)


def require_key(value: str | None) -> str:
    """Return the key of a request.

    Raises:
        IdempotencyKeyMissing: there is none.
        IdempotencyKeyMalformed: it is not 1 to 255 visible ASCII characters.

    """
    if value is None or not value:
        raise IdempotencyKeyMissing(
            f"this request creates something and needs an {HEADER}",
            next_step=f"send {HEADER} with a fresh random value, and the same one on a repetition",
        )
    if _KEY.fullmatch(value) is None:
        raise IdempotencyKeyMalformed(
            f"{HEADER} must be 1 to 255 visible ASCII characters",
            next_step="send a random UUID",
        )
    return value


def begin(
    conn: Connection, *, actor: str, key: str, route: str, request_digest: bytes, at_ms: int
) -> Stored | None:
    """Claim a key, or return the answer that was given under it.

    ``actor`` is the owner of the key (``Actor.key``), ``route`` the method and path template,
    ``request_digest`` the SHA-256 of what was sent. After None the caller does the work and calls
    :func:`finish`, best in this same transaction.

    Raises:
        IdempotencyMismatch: the key belongs to another route or payload.
        IdempotencyInFlight: the first request is still running.

    """
    digest = "0x" + request_digest.hex()
    row = {
        "actor": actor,
        "key": key,
        "route": route,
        "request_digest": digest,
        "created_ms": at_ms,
    }
    if _insert_if_new(conn, row):
        return None
    mine = (idempotency.c.actor == actor) & (idempotency.c.key == key)
    known = conn.execute(sa.select(idempotency).where(mine).with_for_update()).mappings().one()
    if known["route"] != route or known["request_digest"] != digest:
        raise IdempotencyMismatch(
            "this key was used with another request", next_step="send a new key"
        )
    if known["status"] is not None:
        headers = parse_canonical(known["headers"].encode())
        assert isinstance(headers, dict)
        return Stored(known["status"], known["body"], headers)
    if at_ms - known["created_ms"] < ABANDONED_MS:
        raise IdempotencyInFlight(
            "the first request with this key is still running", next_step="repeat it later"
        )
    conn.execute(sa.update(idempotency).where(mine).values(created_ms=at_ms))
    return None


def finish(
    conn: Connection, *, actor: str, key: str, stored: Stored, claimed_ms: int | None = None
) -> None:
    """Keep the answer for repetitions; in the transaction that does the work.

    ``claimed_ms`` is the ``at_ms`` of :func:`begin` where that was another transaction: who lost
    the claim meanwhile must not finish.

    Raises:
        Conflict: the key is not claimed by this request; the work must be undone.

    """
    mine = (idempotency.c.actor == actor) & (idempotency.c.key == key)
    if claimed_ms is not None:
        mine = mine & (idempotency.c.created_ms == claimed_ms)
    changed = conn.execute(
        sa.update(idempotency)
        .where(mine, idempotency.c.status.is_(None))
        .values(
            status=stored.status,
            headers=canonical(dict(stored.headers)).decode(),
            body=stored.body,
        )
    )
    if changed.rowcount != 1:
        raise Conflict("another request has finished under this key")


def release(conn: Connection, *, actor: str, key: str, claimed_ms: int) -> None:
    """Give a claimed key back after a failure that had no effect, so that it can be repeated."""
    conn.execute(
        sa.delete(idempotency).where(
            idempotency.c.actor == actor,
            idempotency.c.key == key,
            idempotency.c.created_ms == claimed_ms,
            idempotency.c.status.is_(None),
        )
    )


def once(
    store: Store,
    work: Callable[[Connection], Stored],
    *,
    actor: str,
    key: str,
    route: str,
    request_digest: bytes,
    at_ms: int,
) -> Stored:
    """Run ``work`` once per key in one transaction with its answer; replay it afterwards.

    A work that raises leaves no trace of the key. Raises what :func:`begin` and ``work`` raise.
    """

    def transaction(conn: Connection) -> Stored:
        known = begin(
            conn,
            actor=actor,
            key=key,
            route=route,
            request_digest=request_digest,
            at_ms=at_ms,
        )
        if known is not None:
            return known
        stored = work(conn)
        finish(conn, actor=actor, key=key, stored=stored)
        return stored

    return store.transact(transaction)


def forget(conn: Connection, *, now_ms: int) -> int:
    """Delete answers older than :data:`KEPT_MS`. Returns how many."""
    return conn.execute(
        sa.delete(idempotency).where(idempotency.c.created_ms < now_ms - KEPT_MS)
    ).rowcount


def _insert_if_new(conn: Connection, row: Mapping[str, object]) -> bool:
    # Both engines know ON CONFLICT DO NOTHING; a row comes back only where one was inserted.
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    statement = insert(idempotency).values(row).on_conflict_do_nothing()
    return conn.execute(statement.returning(idempotency.c.key)).first() is not None
