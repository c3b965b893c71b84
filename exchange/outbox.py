"""Promises to the chain: written with the row that caused them, kept later, safe to repeat.

A promise is a row in the same transaction as the consent, checkpoint or participant it is about
(D1). The worker hands it in, and it counts as kept only when the chain's event for it was seen
(D3): a transaction's status proves nothing. Rows are never deleted, so that a chain which lost its
tail or everything is filled again, participants and checkpoints in their first order.

Two messages of one subject never share a block, since that would link them for everybody:
:func:`rounds` gives at most one per subject and round, and none while another one of that subject is
under way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from exchange.errors import Conflict
from exchange.store.schema import outbox
from ledger.commitment import canonical, parse_canonical
from ledger.ids import ConsentId, SubjectId, handle

Verb = Literal["grant", "withdraw", "anchor", "admit", "rotate", "replace", "retire"]
ParticipantVerb = Literal["admit", "rotate", "replace", "retire"]

CHUNK = 500

_PENDING, _SENT, _RECORDED = "pending", "sent", "recorded"


@dataclass(frozen=True, slots=True)
class Promise:
    """One message for the chain.

    ``payload`` holds what the message needs, in hex: for ``grant`` and ``withdraw`` ``consentKey``,
    ``commitment``, ``untilDay`` and ``signature``; for ``anchor`` ``size``, ``root`` and
    ``signature``; for a participant what the promise was made with.
    """

    id: int
    verb: Verb
    consent: ConsentId | None
    payload: dict[str, Any]
    status: str
    attempts: int


_CHANGES = {"admit": "admitted", "rotate": "rotated", "replace": "replaced", "retire": "retired"}


@dataclass(frozen=True, slots=True)
class Held:
    """What a chain holds, by its own events: ids in hex, sizes, (change, address in hex)."""

    granted: frozenset[str] = frozenset()
    withdrawn: frozenset[str] = frozenset()
    anchored: frozenset[int] = frozenset()
    participants: frozenset[tuple[str, str]] = frozenset()

    def has(self, verb: str, consent: str | None, payload: str) -> bool:
        """Whether a promise of this verb about this consent, or with this payload, is kept."""
        if verb == "grant":
            # A tombstone can never come to life: its grant needs no record any more.
            return consent in self.granted or consent in self.withdrawn
        if verb == "withdraw":
            return consent in self.withdrawn
        if verb == "anchor":
            return _payload(payload)["size"] in self.anchored
        return (_CHANGES[verb], _payload(payload).get("participant")) in self.participants


def promise_grant(conn: Connection, consent: Mapping[str, Any] | RowMapping, at_ms: int) -> int:
    """Promise a grant. ``consent`` is a row of ``consents``, or its values. Returns the row id."""
    return _promise_consent(conn, "grant", consent, consent["grant_signature"], at_ms)


def promise_withdraw(
    conn: Connection,
    consent: Mapping[str, Any] | RowMapping,
    at_ms: int,
    *,
    signature: bytes | None = None,
) -> int:
    """Promise a withdrawal, signed by the held ``withdraw_signature`` or by the one given.

    Promised once per consent; repeating it returns the first row.

    Raises:
        Conflict: no withdrawal signature is held and none is given.

    """
    known = conn.execute(
        sa.select(outbox.c.id).where(
            outbox.c.consent_id == consent["consent_id"], outbox.c.verb == "withdraw"
        )
    ).scalar_one_or_none()
    if known is not None:
        return int(known)
    held = consent["withdraw_signature"] if signature is None else "0x" + signature.hex()
    if held is None:
        raise Conflict(
            f"no withdrawal of {consent['consent_id']} is held",
            next_step="send the signed withdrawal with the request",
        )
    return _promise_consent(conn, "withdraw", consent, held, at_ms)


def promise_anchor(
    conn: Connection, *, size: int, root: bytes, signature: bytes, at_ms: int
) -> int:
    """Promise to anchor a signed head of the log. Returns the row id."""
    payload = {"size": size, "root": "0x" + root.hex(), "signature": "0x" + signature.hex()}
    return _insert(conn, verb="anchor", payload=payload, at_ms=at_ms)


def promise_participant(
    conn: Connection, verb: ParticipantVerb, payload: Mapping[str, Any], at_ms: int
) -> int:
    """Promise a change of the participants. ``payload`` is JSON. Returns the row id."""
    return _insert(conn, verb=verb, payload=payload, at_ms=at_ms)


def rounds(conn: Connection, limit: int) -> list[list[Promise]]:
    """Return the oldest promises that may be handed in now, round by round; each is one block.

    A subject has at most one in a round, in the order of the promises, so a withdrawal never
    overtakes the grant it ends. None of a subject that has another one under way.
    """
    other = outbox.alias("other")
    under_way = sa.exists().where(other.c.handle == outbox.c.handle, other.c.status == _SENT)
    rows = conn.execute(
        sa.select(outbox)
        .where(outbox.c.status == _PENDING, sa.or_(outbox.c.handle.is_(None), ~under_way))
        .order_by(outbox.c.id)
        .limit(limit)
    ).mappings()
    found: list[list[Promise]] = []
    seen: Counter[str] = Counter()
    for row in rows:
        place = 0 if row["handle"] is None else seen[row["handle"]]
        if row["handle"] is not None:
            seen[row["handle"]] += 1
        if place == len(found):
            found.append([])
        found[place].append(_promise(row))
    return found


def waiting(conn: Connection) -> int:
    """Return how many promises the chain has not recorded yet."""
    query = sa.select(sa.func.count()).where(outbox.c.status.in_((_PENDING, _SENT)))
    return int(conn.execute(query.select_from(outbox)).scalar_one())


def mark_sent(conn: Connection, ids: Iterable[int], *, at_ms: int, tx: bytes | None = None) -> None:
    """Note that these pending promises were handed in; recorded ones stay recorded."""
    values = {
        "status": _SENT,
        "attempts": outbox.c.attempts + 1,
        "tx": None if tx is None else "0x" + tx.hex(),
        "sent_ms": at_ms,
    }
    for some in _chunks(list(ids)):
        conn.execute(
            sa.update(outbox)
            .where(outbox.c.id.in_(some), outbox.c.status != _RECORDED)
            .values(values)
        )


def mark_recorded(
    conn: Connection, consents: Iterable[ConsentId], *, verb: Literal["grant", "withdraw"]
) -> int:
    """Note that the chain's event for these consents was seen. Returns how many rows changed.

    A recorded withdrawal also settles the grant: a tombstone can never come to life, so handing
    in the grant after it would wait for an event that never comes.
    """
    verbs = ("grant",) if verb == "grant" else ("grant", "withdraw")
    changed = 0
    for some in _chunks([consent.hex for consent in consents]):
        changed += conn.execute(
            sa.update(outbox)
            .where(
                outbox.c.consent_id.in_(some),
                outbox.c.verb.in_(verbs),
                outbox.c.status != _RECORDED,
            )
            .values(status=_RECORDED)
        ).rowcount
    return changed


def mark_kept(conn: Connection, ids: Iterable[int]) -> None:
    """Note that the chain holds what these rows promised: checkpoints and participants."""
    for some in _chunks(list(ids)):
        conn.execute(sa.update(outbox).where(outbox.c.id.in_(some)).values(status=_RECORDED))


def mark_anchored(conn: Connection, size: int) -> int:
    """Note that a checkpoint of this size or a larger one is on the chain; smaller ones are moot.

    Returns how many rows changed.
    """
    rows = conn.execute(
        sa.select(outbox.c.id, outbox.c.payload).where(
            outbox.c.verb == "anchor", outbox.c.status != _RECORDED
        )
    )
    kept = [row.id for row in rows if _payload(row.payload)["size"] <= size]
    mark_kept(conn, kept)
    return len(kept)


def retry(conn: Connection, *, sent_before_ms: int) -> int:
    """Make promises pending again that were handed in before that time and never recorded.

    Returns how many.
    """
    return conn.execute(
        sa.update(outbox)
        .where(outbox.c.status == _SENT, outbox.c.sent_ms < sent_before_ms)
        .values(status=_PENDING, tx=None)
    ).rowcount


def reset_lost(conn: Connection, held: Held) -> int:
    """Make every promise pending again that the chain does not hold. Returns how many.

    The order stays that of the first promises, which participants and checkpoints need.
    """
    table = outbox.c
    query = sa.select(table.id, table.verb, table.consent_id, table.payload)
    rows = conn.execute(query.where(table.status != _PENDING)).all()
    lost = [row.id for row in rows if not held.has(row.verb, row.consent_id, row.payload)]
    for some in _chunks(lost):
        conn.execute(
            sa.update(outbox)
            .where(outbox.c.id.in_(some))
            .values(status=_PENDING, tx=None, sent_ms=None)
        )
    return len(lost)


def promises_of(conn: Connection, consents: Iterable[ConsentId]) -> list[Promise]:
    """Return every promise about these consents, oldest first."""
    found: list[Promise] = []
    for some in _chunks([consent.hex for consent in consents]):
        query = sa.select(outbox).where(outbox.c.consent_id.in_(some)).order_by(outbox.c.id)
        found.extend(_promise(row) for row in conn.execute(query).mappings())
    return sorted(found, key=lambda promise: promise.id)


def _promise_consent(
    conn: Connection,
    verb: Verb,
    consent: Mapping[str, Any] | RowMapping,
    signature: str,
    at_ms: int,
) -> int:
    return _insert(
        conn,
        verb=verb,
        payload={
            "consentKey": consent["consent_key"],
            "commitment": consent["commitment"],
            "untilDay": consent["until_day"],
            "signature": signature,
        },
        at_ms=at_ms,
        consent_id=consent["consent_id"],
        own_handle="0x" + handle(SubjectId.parse(consent["subject"])).hex(),
    )


def _insert(
    conn: Connection,
    *,
    verb: Verb,
    payload: Mapping[str, Any],
    at_ms: int,
    consent_id: str | None = None,
    own_handle: str | None = None,
) -> int:
    row = conn.execute(
        sa.insert(outbox)
        .values(
            verb=verb,
            consent_id=consent_id,
            handle=own_handle,
            payload=canonical(payload).decode(),
            status=_PENDING,
            created_ms=at_ms,
        )
        .returning(outbox.c.id)
    )
    return int(row.scalar_one())


def _payload(text: str) -> dict[str, Any]:
    value = parse_canonical(text.encode())
    assert isinstance(value, dict)
    return value


def _promise(row: RowMapping) -> Promise:
    consent = row["consent_id"]
    return Promise(
        id=row["id"],
        verb=row["verb"],
        consent=None if consent is None else ConsentId.parse(consent),
        payload=_payload(row["payload"]),
        status=row["status"],
        attempts=row["attempts"],
    )


def _chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (values[at : at + CHUNK] for at in range(0, len(values), CHUNK))
