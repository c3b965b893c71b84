"""Idempotency keys for verbs that are safe to repeat by themselves.

Granting, withdrawing and enrolling the same thing twice gives the same answer, so no answer needs to be
kept: the key is claimed in the transaction that does the work, and a second use of it with another
payload is refused there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from exchange.idempotency import Stored, begin, finish

Claim = Callable[[Connection], None]


def unclaimed(_conn: Connection) -> None:
    """No key: for callers inside the exchange."""


@dataclass(frozen=True)
class Once:
    """One request's claim of its ``Idempotency-Key``. ``digest`` is the SHA-256 of its body."""

    actor: str
    key: str
    route: str
    digest: bytes
    at_ms: int

    def __call__(self, conn: Connection) -> None:
        """Claim the key; the first statement of the work's transaction.

        Raises:
            IdempotencyMismatch: the key belongs to another request.
            IdempotencyInFlight: the first request under it is still running.
        """
        known = begin(
            conn,
            actor=self.actor,
            key=self.key,
            route=self.route,
            request_digest=self.digest,
            at_ms=self.at_ms,
        )
        if known is None:
            finish(conn, actor=self.actor, key=self.key, stored=Stored(204, ""))
