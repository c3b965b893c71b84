"""An access as a FHIR R4 AuditEvent, by the profiles of IHE BALP (``conventions.md`` §5).

``decision`` is an AuthZ consent decision, ``disclosure`` a privacy disclosure at the source. Patients
stand by their handles, so that the record names nobody who is not known already.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange.auditing.accesses import AccessRow, subject_leaves
from exchange.auditing.assembly import entries_at
from exchange.errors import VersionNotReady
from exchange.store import schema
from ledger.ids import SubjectId, handle
from ledger.messages import to_hex

Event = Literal["decision", "disclosure"]

MEDIA_TYPE: Final = "application/fhir+json"

_HL7: Final = "http://terminology.hl7.org/CodeSystem/"
_DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_SCT: Final = "http://snomed.info/sct"
_BALP: Final = "https://profiles.ihe.net/ITI/BALP/"
_PERMITTED, _SERIOUS = "0", "8"

_Json = dict[str, Any]


def audit_event(conn: Connection, deployment: bytes, access: AccessRow, event: Event) -> _Json:
    """Return the resource. Raises VersionNotReady for a disclosure that has not happened."""
    if event == "decision":
        return _decision(conn, deployment, access)
    return _disclosure(conn, deployment, access)


def _decision(conn: Connection, deployment: bytes, access: AccessRow) -> _Json:
    rulings = subject_leaves(conn, access)
    entries = entries_at(conn, [access.leaf, *rulings])
    consents: set[str] = set()
    patients = []
    for index in rulings:
        ruling = (entries[index].body or {})["ruling"]
        consents.update(ruling["because"])
        patients.append((entries[index].leaf.handle, str(ruling["decision"])))
    allowed = access.permitted > 0
    return {
        **_head(access, "decision", "IHE.BasicAudit.AuthZconsent", entries[access.leaf].leaf.at_ms),
        "type": _coding(_DCM, "110113", "Security Alert"),
        "subtype": [_coding(_BALP + "CodeSystem/AuthZsubType", "AuthZ-Consent")],
        "action": "E",
        "outcome": _PERMITTED if allowed else _SERIOUS,
        "outcomeDesc": f"permitted {access.permitted}, withheld {access.withheld}",
        "agent": [
            _agent(_concept(_DCM, "110150", "Application"), access.requester),
            {
                **_agent(
                    _concept(_HL7 + "v3-ParticipationType", "IRCP", "information recipient"),
                    access.requester,
                    requestor=True,
                ),
                "purposeOfUse": [_purpose(access)],
            },
            _agent(_concept(_HL7 + "v3-RoleClass", "PROV"), access.requester),
            _authorizer(_concept(_HL7 + "extra-security-role-type", "authserver"), deployment),
        ],
        "source": _source(deployment, "6", "Security Server"),
        "entity": [
            *(_patient(one, decision) for one, decision in patients),
            *(
                {
                    "what": {"identifier": {"system": "urn:assent:consent", "value": consent}},
                    "type": _coding("http://hl7.org/fhir/resource-types", "Consent"),
                }
                for consent in sorted(consents)
            ),
            *_data(access),
        ],
    }


def _disclosure(conn: Connection, deployment: bytes, access: AccessRow) -> _Json:
    handles = _left(conn, access)
    if access.closing is None or not handles:
        raise VersionNotReady(
            f"the {access.kind} is {access.status}: nothing has been disclosed",
            next_step="read the event of the decision instead",
        )
    closed = entries_at(conn, [access.closing])[access.closing]
    custodian = access.owner or access.requester
    return {
        **_head(access, "disclosure", "IHE.BasicAudit.PrivacyDisclosure.Source", closed.leaf.at_ms),
        "type": _coding(_DCM, "110106", "Export"),
        "subtype": [_coding(_HL7 + "iso-21089-lifecycle", "disclose")],
        "action": "R",
        "outcome": _PERMITTED,
        "outcomeDesc": f"{len(handles)} of {access.permitted} permitted",
        "purposeOfEvent": [_purpose(access)],
        "agent": [
            _authorizer(_concept(_DCM, "110153", "Source Role ID"), deployment),
            _agent(
                _concept(_DCM, "110152", "Destination Role ID"), access.requester, requestor=True
            ),
            _agent(_concept(_SCT, "159541003", "Record keeping/library clerk"), custodian),
            _authorizer(_concept(_SCT, "429577009", "Patient consent"), deployment),
        ],
        "source": _source(deployment, "4", "Application Server"),
        "entity": [*(_patient(one, None) for one in handles), *_data(access)],
    }


def _left(conn: Connection, access: AccessRow) -> list[bytes]:
    """Handles of the subjects whose records, or whose share in a result, have left."""
    table, column, state = (
        (schema.release_subjects, schema.release_subjects.c.release_id, "delivered")
        if access.kind == "release"
        else (schema.job_subjects, schema.job_subjects.c.job_id, "used")
    )
    rows = conn.execute(
        sa.select(table.c.subject)
        .where(column == access.id, table.c.state == state)
        .order_by(table.c.leaf_idx)
    ).scalars()
    return [handle(SubjectId.parse(subject)) for subject in rows]


def _head(access: AccessRow, event: Event, profile: str, at_ms: int) -> _Json:
    recorded = datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return {
        "resourceType": "AuditEvent",
        "id": f"{access.id[2:]}-{event}",
        "meta": {"profile": [f"{_BALP}StructureDefinition/{profile}"]},
        "recorded": recorded,
    }


def _coding(system: str, code: str, display: str | None = None) -> _Json:
    coding = {"system": system, "code": code}
    return coding if display is None else {**coding, "display": display}


def _concept(system: str, code: str, display: str | None = None) -> _Json:
    return {"coding": [_coding(system, code, display)]}


def _purpose(access: AccessRow) -> _Json:
    return _concept(_HL7 + "v3-ActReason", access.purpose)


def _agent(kind: _Json, org: str, *, requestor: bool = False) -> _Json:
    who = {"identifier": {"system": "urn:assent:org", "value": org}}
    return {"type": kind, "who": who, "requestor": requestor}


def _exchange(deployment: bytes) -> _Json:
    return {"identifier": {"system": "urn:assent:deployment", "value": to_hex(deployment)}}


def _authorizer(kind: _Json, deployment: bytes) -> _Json:
    return {"type": kind, "who": _exchange(deployment), "requestor": False}


def _source(deployment: bytes, code: str, display: str) -> _Json:
    return {
        "observer": _exchange(deployment),
        "type": [_coding(_HL7 + "security-source-type", code, display)],
    }


def _patient(own: bytes, decision: str | None) -> _Json:
    entity: _Json = {
        "what": {"identifier": {"system": "urn:assent:handle", "value": to_hex(own)}},
        "type": _coding(_HL7 + "audit-entity-type", "1", "Person"),
        "role": _coding(_HL7 + "object-role", "1", "Patient"),
    }
    if decision is not None:
        entity["detail"] = [{"type": "decision", "valueString": decision}]
    return entity


def _data(access: AccessRow) -> Iterable[_Json]:
    if access.dataset is None:
        return
    value = f"{access.dataset}/{access.version}"
    yield {
        "what": {"identifier": {"system": "urn:assent:dataset-version", "value": value}},
        "type": _coding(_HL7 + "audit-entity-type", "2", "System Object"),
        "role": _coding(_HL7 + "object-role", "4", "Domain Resource"),
    }
