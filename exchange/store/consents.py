"""Rows of consents as the values that rules are decided on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange.store.schema import consents
from ledger.commitment import canonical, parse_canonical
from ledger.consent import Consent, ConsentStatus, Decision, ParsedDocument, Provision
from ledger.datause import DataUse
from ledger.ids import ConsentId, OrgId, SubjectId

CHUNK = 500
"""Subjects per statement."""

_RULED_BY = (
    consents.c.consent_id,
    consents.c.subject,
    consents.c.decision,
    consents.c.purposes,
    consents.c.requesters,
    consents.c.categories,
    consents.c.actions,
    consents.c.data_use,
    consents.c.starts,
    consents.c.ends,
    consents.c.status,
    consents.c.supersedes,
)


def consents_of(conn: Connection, subjects: Iterable[SubjectId]) -> dict[SubjectId, list[Consent]]:
    """Return every consent of these subjects, whatever its state; every subject is a key."""
    found: dict[SubjectId, list[Consent]] = {subject: [] for subject in subjects}
    names = {subject.hex: subject for subject in found}
    listed = list(names)
    for at in range(0, len(listed), CHUNK):
        rows = conn.execute(
            sa.select(*_RULED_BY)
            .where(consents.c.subject.in_(listed[at : at + CHUNK]))
            .order_by(consents.c.granted_leaf)
        )
        for row in rows:
            subject = names[row[1]]
            found[subject].append(_consent(subject, row))
    return found


def document_columns(parsed: ParsedDocument) -> dict[str, Any]:
    """Return the columns of a row that repeat its document, as the gate reads them."""
    provision = parsed.provision
    requesters = provision.requesters
    return {
        "subject": parsed.subject.hex,
        "decision": parsed.decision.value,
        "starts": parsed.starts,
        "ends": parsed.ends,
        "purposes": _list_text(provision.purposes),
        "requesters": _list_text(None if requesters is None else {one.hex for one in requesters}),
        "categories": _list_text(provision.categories),
        "actions": _list_text(provision.actions),
        "data_use": canonical(provision.data_use.to_json()).decode(),
        "supersedes": None if parsed.supersedes is None else parsed.supersedes.hex,
    }


def _list_text(values: Iterable[str] | None) -> str | None:
    return None if values is None else canonical(sorted(values)).decode()


def _consent(subject: SubjectId, row: Any) -> Consent:
    (consent_id, _, decision, purposes, requesters, categories, actions, data_use) = row[:8]
    starts, ends, status, supersedes = row[8:]
    return Consent(
        id=ConsentId.parse(consent_id),
        subject=subject,
        decision=Decision(decision),
        provision=_provision(purposes, requesters, categories, actions, data_use),
        starts=starts,
        ends=ends,
        status=ConsentStatus(status),
        supersedes=None if supersedes is None else ConsentId.parse(supersedes),
    )


# A thousand patients who were shown one notice grant the same few provisions.
@lru_cache(maxsize=4096)
def _provision(
    purposes: str | None,
    requesters: str | None,
    categories: str | None,
    actions: str,
    data_use: str,
) -> Provision:
    orgs = _texts(requesters)
    use = parse_canonical(data_use.encode())
    assert isinstance(use, Mapping)
    return Provision(
        purposes=_texts(purposes),
        requesters=None if orgs is None else frozenset(OrgId.parse(one) for one in orgs),
        categories=_texts(categories),
        actions=_texts(actions) or frozenset(),
        data_use=DataUse(code=use["code"], modifiers=tuple(use["modifiers"])),
    )


def _texts(text: str | None) -> frozenset[str] | None:
    if text is None:
        return None
    values = parse_canonical(text.encode())
    assert isinstance(values, list)
    return frozenset(values)
