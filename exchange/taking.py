"""The transaction that stores consents: what depends on other rows, the rows, the leaves, the promises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from exchange import log, outbox
from exchange.consent_rows import (
    Outcome,
    beginning,
    consent_row,
    ending,
    outcome_of,
    row_of,
    set_ended,
)
from exchange.errors import (
    Conflict,
    ConsentKeyUsed,
    DeadlineExpired,
    NotFound,
    SupersedesInvalid,
)
from exchange.granting import Checked
from exchange.store import schema
from ledger.ids import SubjectId
from ledger.messages import to_hex


def take(
    conn: sa.Connection, subject: SubjectId, checked: Mapping[int, Checked], *, at_ms: int
) -> dict[int, Outcome | Exception]:
    """Store checked consents of one subject; a result for each, by its key in ``checked``.

    The caller has locked the head of the log. A consent that is stored already is answered as it
    stands; what is superseded ends in this same transaction.
    """
    known = _known(conn, checked.values())
    keys = {row["consent_key"]: row["consent_id"] for row in known.values()}
    results: dict[int, Outcome | Exception] = {}
    fresh: list[tuple[int, Checked]] = []
    ended: list[Mapping[str, Any]] = []
    for index, item in checked.items():
        key = to_hex(item.given.terms.consent_key)
        before = known.get(item.id.hex)
        if before is not None:
            results[index] = outcome_of(before, before["granted_leaf"])
        elif item.given.terms.sign_by < at_ms // 1000:
            # Auditors hold the leaf's time against signBy, and waiting for the head took time.
            results[index] = DeadlineExpired(
                "the terms came after their signBy", pointer="/terms/signBy"
            )
        elif key in keys:
            results[index] = (
                ConsentKeyUsed(f"the consent key serves consent {keys[key]}")
                if keys[key] != item.id.hex
                else Conflict("the same consent stands twice in this batch")
            )
        else:
            try:
                superseded = _superseded(conn, subject, item, ended)
            except SupersedesInvalid as error:
                results[index] = error
                continue
            if superseded is not None:
                ended.append(superseded)
            keys[key] = item.id.hex
            fresh.append((index, item))
    if fresh:
        _store_fresh(conn, subject, fresh, ended, results, at_ms=at_ms)
    return results


def _store_fresh(
    conn: sa.Connection,
    subject: SubjectId,
    fresh: Sequence[tuple[int, Checked]],
    ended: Sequence[Mapping[str, Any]],
    results: dict[int, Outcome | Exception],
    *,
    at_ms: int,
) -> None:
    drafts = [ending(row, by="superseded", desk=None) for row in ended]
    drafts += [beginning(subject, item) for _, item in fresh]
    entries = log.append_many(conn, drafts, at_ms)
    for row, entry in zip(ended, entries, strict=False):
        set_ended(conn, row["consent_id"], entry.index, "superseded")
    rows = [
        consent_row(item, entry.index)
        for (_, item), entry in zip(fresh, entries[len(ended) :], strict=True)
    ]
    conn.execute(sa.insert(schema.consents), rows)
    for row in rows:
        outbox.promise_grant(conn, row, at_ms)
    # Promises of their own, after the grants: the outbox never puts two messages of one
    # subject into one block (D3).
    for old in ended:
        outbox.promise_withdraw(conn, old, at_ms)
    for (index, _), row in zip(fresh, rows, strict=True):
        results[index] = outcome_of(row, row["granted_leaf"])


def _known(conn: sa.Connection, checked: Iterable[Checked]) -> dict[str, Mapping[str, Any]]:
    table = schema.consents
    items = list(checked)
    rows = conn.execute(
        sa.select(table).where(
            sa.or_(
                table.c.consent_id.in_([item.id.hex for item in items]),
                table.c.consent_key.in_([to_hex(item.given.terms.consent_key) for item in items]),
            )
        )
    ).mappings()
    return {row["consent_id"]: dict(row) for row in rows}


def _superseded(
    conn: sa.Connection,
    subject: SubjectId,
    item: Checked,
    ended: Sequence[Mapping[str, Any]],
) -> Mapping[str, Any] | None:
    wanted = item.parsed.supersedes
    if wanted is None:
        return None
    refusal = SupersedesInvalid(
        "what is superseded is no permit in force of this subject",
        pointer="/document/supersedes",
    )
    try:
        row = row_of(conn, wanted)
    except NotFound:
        raise refusal from None
    alive = row["status"] in ("draft", "active") and row["ended_leaf"] is None
    if row["subject"] != subject.hex or row["decision"] != "permit" or not alive:
        raise refusal
    if any(other["consent_id"] == wanted.hex for other in ended):
        raise refusal
    return row
