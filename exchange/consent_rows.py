"""Rows and leaves of consents: how a checked consent is stored, begun and ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from exchange.errors import NotFound
from exchange.granting import Checked
from exchange.log import Draft
from exchange.store import schema
from exchange.store.consents import document_columns
from ledger.commitment import canonical, parse_canonical
from ledger.ids import ConsentId, SubjectId
from ledger.leaf import Kind
from ledger.messages import to_hex
from ledger.terms import Terms


@dataclass(frozen=True)
class Outcome:
    """What became of one consent, and the leaf that says so. ``receipt`` None: ask for it later."""

    consent: ConsentId
    decision: str
    status: str
    leaf: int
    recorded: bool
    receipt: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The outcome on the wire."""
        return {
            "consent": self.consent.hex,
            "decision": self.decision,
            "status": self.status,
            "leaf": self.leaf,
            "recorded": self.recorded,
            "receipt": self.receipt,
        }


def row_of(conn: sa.Connection, consent: ConsentId) -> Mapping[str, Any]:
    """The row of a consent. Raises NotFound."""
    row = (
        conn.execute(sa.select(schema.consents).where(schema.consents.c.consent_id == consent.hex))
        .mappings()
        .first()
    )
    if row is None:
        raise NotFound("no such consent")
    return dict(row)


def terms_of(row: Mapping[str, Any]) -> Terms:
    """The signed terms of a row."""
    return Terms.from_json(parse_canonical(row["terms"].encode()))


def outcome_of(row: Mapping[str, Any], leaf: int) -> Outcome:
    """What a row says, by the leaf that is spoken of."""
    return Outcome(
        consent=ConsentId.parse(row["consent_id"]),
        decision=row["decision"],
        status=row["status"],
        leaf=leaf,
        recorded=row.get("recorded_leaf") is not None,
    )


def beginning(subject: SubjectId, item: Checked) -> Draft:
    """The leaf that a consent begins with."""
    given = item.given
    return Draft(
        kind=Kind.CONSENT_GRANTED if item.is_permit else Kind.OBJECTION_RECORDED,
        body={
            "terms": given.terms.to_json(),
            "termsSignature": to_hex(given.terms_signature),
            "document": given.document,
            "grant": {"untilDay": item.until_day, "signature": to_hex(given.grant_signature)},
        },
        subject=subject,
        consent=item.id,
    )


def ending(row: Mapping[str, Any], *, by: str, desk: dict[str, Any] | None) -> Draft:
    """The leaf that ends a permit; ``by`` is patient, desk or superseded."""
    return Draft(
        kind=Kind.CONSENT_WITHDRAWN,
        body={
            "commitment": row["commitment"],
            "untilDay": row["until_day"],
            "signature": row["withdraw_signature"],
            "by": by,
            "desk": desk,
        },
        subject=SubjectId.parse(row["subject"]),
        consent=ConsentId.parse(row["consent_id"]),
    )


def set_ended(conn: sa.Connection, consent: str, leaf: int, by: str) -> None:
    """Make a row inactive, ended by that leaf."""
    conn.execute(
        sa.update(schema.consents)
        .where(schema.consents.c.consent_id == consent)
        .values(status="inactive", ended_leaf=leaf, ended_by=by)
    )


def consent_row(item: Checked, leaf: int) -> dict[str, Any]:
    """The row of a consent that begins with that leaf."""
    parsed, given = item.parsed, item.given
    withdraw = given.withdraw_signature
    return {
        "consent_id": item.id.hex,
        **document_columns(parsed),
        "terms": canonical(given.terms.to_json()).decode(),
        "document": canonical(given.document).decode(),
        "terms_signature": to_hex(given.terms_signature),
        "consent_key": to_hex(given.terms.consent_key),
        "commitment": to_hex(item.commitment),
        "until_day": item.until_day,
        "grant_signature": to_hex(given.grant_signature),
        "withdraw_signature": None if withdraw is None else to_hex(withdraw),
        # An objection counts at once; a permit waits for the chain's record (D10).
        "status": "draft" if item.is_permit else "active",
        "granted_leaf": leaf,
    }
