"""An access as FHIR R4 AuditEvents, one per patient, by the profiles of IHE BALP (``conventions.md`` §5).

``decision`` is an AuthZ consent decision, ``disclosure`` a privacy disclosure at the source. Each event
is about one patient, as the profiles have it, who stands by the handle: the record names nobody who
is not known already. Where no consent was relied on, the policy stands that silence falls back to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange.auditing.accesses import AccessRow
from exchange.auditing.assembly import entries_at
from exchange.errors import VersionNotReady
from exchange.store import schema
from ledger.ids import SubjectId, handle
from ledger.messages import to_hex

Event = Literal["decision", "disclosure"]

MEDIA_TYPE: Final = "application/fhir+json"
SILENCE: Final = "https://profiles.ihe.net/ITI/PCF/Policy-deny"

_HL7: Final = "http://terminology.hl7.org/CodeSystem/"
_DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_SCT: Final = "http://snomed.info/sct"
_BALP: Final = "https://profiles.ihe.net/ITI/BALP/"
_PERMITTED, _SERIOUS = "0", "8"
_LEFT: Final = {"release": "delivered", "job": "used"}

_Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Case:
    """One patient's ruling: its leaf's index, the handle, the ruling; when the event was."""

    index: int
    handle: bytes
    ruling: Mapping[str, Any]
    at_ms: int


def audit_events(
    conn: Connection,
    deployment: bytes,
    access: AccessRow,
    event: Event,
    *,
    subject: str | None,
    after: int | None,
    limit: int,
) -> list[tuple[int, _Json]]:
    """Return events with the index of each one's ruling, in leaf order, beyond ``after``.

    ``subject`` (hex) is the only one to be told of, where it is given.

    Raises:
        VersionNotReady: a disclosure that has not happened, or not yet.
    """
    table, column = (
        (schema.release_subjects, schema.release_subjects.c.release_id)
        if access.kind == "release"
        else (schema.job_subjects, schema.job_subjects.c.job_id)
    )
    query = sa.select(table.c.leaf_idx, table.c.subject).where(column == access.id)
    if subject is not None:
        query = query.where(table.c.subject == subject)
    if event == "disclosure":
        query = query.where(table.c.state == _LEFT[access.kind])
        if access.closing is None or conn.execute(query.limit(1)).first() is None:
            raise VersionNotReady(
                f"the {access.kind} is {access.status}: nothing has been disclosed",
                next_step="read the event of the decision instead",
            )
    if after is not None:
        query = query.where(table.c.leaf_idx > after)
    rows = conn.execute(query.order_by(table.c.leaf_idx).limit(limit)).all()
    entries = entries_at(conn, [row.leaf_idx for row in rows])
    closed = None if access.closing is None else entries_at(conn, [access.closing])[access.closing]
    found = []
    for row in rows:
        entry = entries[row.leaf_idx]
        own = handle(SubjectId.parse(row.subject))
        ruling = (entry.body or {})["ruling"]
        if event == "decision":
            case = _Case(row.leaf_idx, own, ruling, entry.leaf.at_ms)
            found.append((row.leaf_idx, _decision(deployment, access, case)))
        elif closed is not None:
            case = _Case(row.leaf_idx, own, ruling, closed.leaf.at_ms)
            found.append((row.leaf_idx, _disclosure(deployment, access, case)))
    return found


def searchset(events: Iterable[_Json], *, this: str, following: str | None) -> _Json:
    """Events as a FHIR Bundle; a page of it, without a total."""
    links = [{"relation": "self", "url": this}]
    if following is not None:
        links.append({"relation": "next", "url": following})
    return {
        "resourceType": "Bundle",
        "type": "searchset",
        "link": links,
        "entry": [{"resource": one, "search": {"mode": "match"}} for one in events],
    }


def _decision(deployment: bytes, access: AccessRow, case: _Case) -> _Json:
    allowed = case.ruling["decision"] == "permit"
    reasons = ", ".join(case.ruling["reasons"])
    return {
        **_head(access, case, "decision", "IHE.BasicAudit.AuthZconsent"),
        "type": _coding(_DCM, "110113", "Security Alert"),
        "subtype": [_coding(_BALP + "CodeSystem/AuthZsubType", "AuthZ-Consent")],
        "action": "E",
        "outcome": _PERMITTED if allowed else _SERIOUS,
        "outcomeDesc": "permitted" if allowed else f"withheld: {reasons}",
        "agent": [
            _reached(_concept(_DCM, "110150", "Application"), access.requester),
            {
                **_agent(
                    _concept(_HL7 + "v3-ParticipationType", "IRCP", "information recipient"),
                    _org(access.requester),
                    requestor=True,
                ),
                "purposeOfUse": [_purpose(access)],
            },
            _agent(_concept(_HL7 + "v3-RoleClass", "PROV"), _org(access.requester)),
            _agent(
                _concept(_HL7 + "extra-security-role-type", "authserver"), _exchange(deployment)
            ),
        ],
        "source": _source(deployment, "6", "Security Server"),
        "entity": [_patient(case), *_consents(case), *_data(access)],
    }


def _disclosure(deployment: bytes, access: AccessRow, case: _Case) -> _Json:
    source = _agent(_concept(_DCM, "110153", "Source Role ID"), _exchange(deployment))
    recipient = _reached(
        _concept(_DCM, "110152", "Destination Role ID"), access.requester, requestor=True
    )
    custodian = _concept(_SCT, "159541003", "Record keeping/library clerk")
    authorizer = _concept(_SCT, "429577009", "Patient advocate")
    return {
        **_head(access, case, "disclosure", "IHE.BasicAudit.PrivacyDisclosure.Source"),
        "type": _coding(_DCM, "110106", "Export"),
        "subtype": [_coding(_HL7 + "iso-21089-lifecycle", "disclose")],
        "action": "R",
        "outcome": _PERMITTED,
        "outcomeDesc": "delivered" if access.kind == "release" else "used in a result",
        "purposeOfEvent": [_purpose(access)],
        "agent": [
            {**source, "network": _network(f"urn:assent:deployment:{to_hex(deployment)}")},
            recipient,
            _agent(custodian, _org(access.owner or access.requester)),
            _agent(authorizer, _person(case)),
        ],
        "source": _source(deployment, "4", "Application Server"),
        "entity": [_patient(case), *_consents(case), *_data(access)],
    }


def _head(access: AccessRow, case: _Case, event: Event, profile: str) -> _Json:
    recorded = datetime.fromtimestamp(case.at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return {
        "resourceType": "AuditEvent",
        "id": f"{access.id[2:]}-{event}-{case.index}",
        "meta": {"profile": [f"{_BALP}StructureDefinition/{profile}"]},
        "recorded": recorded,
    }


def _coding(system: str, code: str, display: str | None = None) -> _Json:
    coding = {"system": system, "code": code}
    return coding if display is None else {**coding, "display": display}


def _concept(system: str, code: str, display: str | None = None) -> _Json:
    return {"coding": [_coding(system, code, display)]}


def _identified(system: str, value: str) -> _Json:
    return {"identifier": {"system": system, "value": value}}


def _purpose(access: AccessRow) -> _Json:
    return _concept(_HL7 + "v3-ActReason", access.purpose)


def _org(org: str) -> _Json:
    return _identified("urn:assent:org", org)


def _exchange(deployment: bytes) -> _Json:
    return _identified("urn:assent:deployment", to_hex(deployment))


def _person(case: _Case) -> _Json:
    return _identified("urn:assent:handle", to_hex(case.handle))


def _agent(kind: _Json, who: _Json, *, requestor: bool = False) -> _Json:
    return {"type": kind, "who": who, "requestor": requestor}


def _network(uri: str) -> _Json:
    """Where an agent is reached; 5 is a URI. What leaves is sealed to a key, not sent to a host."""
    return {"address": uri, "type": "5"}


def _reached(kind: _Json, org: str, *, requestor: bool = False) -> _Json:
    return {
        **_agent(kind, _org(org), requestor=requestor),
        "network": _network(f"urn:assent:org:{org}"),
    }


def _source(deployment: bytes, code: str, display: str) -> _Json:
    return {
        "observer": _exchange(deployment),
        "type": [_coding(_HL7 + "security-source-type", code, display)],
    }


def _patient(case: _Case) -> _Json:
    return {
        "what": _person(case),
        "type": _coding(_HL7 + "audit-entity-type", "1", "Person"),
        "role": _coding(_HL7 + "object-role", "1", "Patient"),
    }


def _consents(case: _Case) -> Iterable[_Json]:
    kind = _coding("http://hl7.org/fhir/resource-types", "Consent")
    for consent in case.ruling["because"]:
        yield {"what": _identified("urn:assent:consent", consent), "type": kind}
    if not case.ruling["because"]:
        yield {"what": _identified("urn:ietf:rfc:3986", SILENCE), "type": kind}


def _data(access: AccessRow) -> Iterable[_Json]:
    if access.dataset is None:
        return
    value = f"{access.dataset}/{access.version}"
    yield {
        "what": _identified("urn:assent:dataset-version", value),
        "type": _coding(_HL7 + "audit-entity-type", "2", "System Object"),
        "role": _coding(_HL7 + "object-role", "4", "Domain Resource"),
    }
