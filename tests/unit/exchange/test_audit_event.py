"""FHIR AuditEvents for auditors, hospitals and patients, held to the exact codes of IHE BALP."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from fastapi.testclient import TestClient

from exchange.actor import Actor, Role
from exchange.api.auth import anybody
from exchange.app import create_app
from exchange.errors import Conflict, NotFound, VersionNotReady
from exchange.wiring import build
from exchange.worker.execution import Runner
from exchange.worker.sandbox import Limits
from ledger.ids import handle
from tests.audited import AUDITOR, Audited
from tests.ledgers import Chain

HL7 = "http://terminology.hl7.org/CodeSystem/"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
SCT = "http://snomed.info/sct"
BALP = "https://profiles.ihe.net/ITI/BALP/"
STRANGER = Actor(Role.HOSPITAL, "0x" + "11" * 8)


@pytest.fixture(scope="module")
def chain(tmp_path_factory, anvil_path):
    running = Chain(tmp_path_factory.mktemp("node"), anvil_path)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory, chain):
    """One release of two permitted and two withheld, streamed; one denied; one to nobody's harm."""
    deployed = Audited(tmp_path_factory.mktemp("shared") / "a", chain)
    patients = deployed.enrol(4)
    for patient in patients[:3]:
        deployed.grant(patient)
    deployed.withdraw(patients[2])
    deployed.publish_for(patients)
    deployed.patients = patients
    deployed.release = deployed.ask()
    deployed.stream(deployed.release)
    deployed.denied = deployed.ask(purpose="TREAT")
    yield deployed
    deployed.close()


def hospital(one):
    return Actor(Role.HOSPITAL, one.org.hex)


def events(house, actor, access=None, event="decision", cursor=None, limit=100):
    return house.audit.events(actor, (access or house.release).hex, event, cursor, limit)


def about(found, patient):
    """The one event of a patient, found by the handle alone."""
    own = "0x" + handle(patient.subject).hex()
    (mine,) = [one for one in found if own in json.dumps(one)]
    return mine


def systems(concept):
    return [(one["system"], one["code"]) for one in concept["coding"]]


def require_audit_event(event):
    """R4's required members, its types of what is there, and BALP's slices of both profiles."""
    assert event["resourceType"] == "AuditEvent"
    assert set(event["type"]) >= {"system", "code"}
    assert event["action"] in "CRUDE"
    assert event["outcome"] in ("0", "4", "8", "12")
    assert datetime.fromisoformat(event["recorded"]).tzinfo is not None
    assert len(event["id"]) <= 64
    assert set(event["id"]) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")
    assert all(isinstance(agent["requestor"], bool) for agent in event["agent"])
    assert sum(agent["requestor"] for agent in event["agent"]) == 1
    assert event["source"]["observer"]["identifier"]["value"]
    for entity in event["entity"]:
        assert entity["what"]["identifier"]["value"]
    patients = [one for one in event["entity"] if one["type"]["code"] == "1"]
    assert len(patients) == 1
    assert patients[0]["type"]["system"] == HL7 + "audit-entity-type"
    assert (patients[0]["role"]["system"], patients[0]["role"]["code"]) == (
        HL7 + "object-role",
        "1",
    )
    consents = [one for one in event["entity"] if one["type"]["code"] == "Consent"]
    assert consents
    assert all(one["type"]["system"] == "http://hl7.org/fhir/resource-types" for one in consents)
    (data,) = [one for one in event["entity"] if one["type"]["code"] == "2"]
    assert (data["role"]["system"], data["role"]["code"]) == (HL7 + "object-role", "4")


def require_balp(event, *, profile, kind, subtype, action, agents, source):
    require_audit_event(event)
    assert event["meta"]["profile"] == [f"{BALP}StructureDefinition/{profile}"]
    assert (event["type"]["system"], event["type"]["code"]) == kind
    assert [(one["system"], one["code"]) for one in event["subtype"]] == [subtype]
    assert event["action"] == action
    assert [pair for one in event["agent"] for pair in systems(one["type"])] == agents
    assert [(one["system"], one["code"]) for one in event["source"]["type"]] == [
        (HL7 + "security-source-type", source)
    ]


def require_decision(event):
    require_balp(
        event,
        profile="IHE.BasicAudit.AuthZconsent",
        kind=(DCM, "110113"),
        subtype=(BALP + "CodeSystem/AuthZsubType", "AuthZ-Consent"),
        action="E",
        agents=[
            (DCM, "110150"),
            (HL7 + "v3-ParticipationType", "IRCP"),
            (HL7 + "v3-RoleClass", "PROV"),
            (HL7 + "extra-security-role-type", "authserver"),
        ],
        source="6",
    )
    client, user, _, authorizer = event["agent"]
    assert client["network"]["type"] == "5"
    assert user["requestor"]
    assert systems(user["purposeOfUse"][0])[0][0] == HL7 + "v3-ActReason"
    assert authorizer["who"] == event["source"]["observer"]


def require_disclosure(event):
    require_balp(
        event,
        profile="IHE.BasicAudit.PrivacyDisclosure.Source",
        kind=(DCM, "110106"),
        subtype=(HL7 + "iso-21089-lifecycle", "disclose"),
        action="R",
        agents=[(DCM, "110153"), (DCM, "110152"), (SCT, "159541003"), (SCT, "429577009")],
        source="4",
    )
    source, recipient, _, _ = event["agent"]
    assert source["who"] == event["source"]["observer"]
    assert source["network"]["address"]
    assert recipient["network"]["address"].endswith(recipient["who"]["identifier"]["value"])
    assert event["outcome"] == "0"


def test_each_decision_is_rendered_as_balp_has_it(shared):
    found = events(shared, AUDITOR).items
    assert len({one["id"] for one in found}) == len(found) == 4
    for event in found:
        require_decision(event)
    granted, _, withdrawn, silent = (about(found, one) for one in shared.patients)
    assert (granted["outcome"], granted["outcomeDesc"]) == ("0", "permitted")
    assert systems(granted["agent"][1]["purposeOfUse"][0]) == [(HL7 + "v3-ActReason", "HRESCH")]
    assert granted["entity"][1]["what"]["identifier"] == {
        "system": "urn:assent:consent",
        "value": shared.patients[0].consent.hex,
    }
    assert (withdrawn["outcome"], withdrawn["outcomeDesc"]) == ("8", "withheld: withdrawn")
    assert (silent["outcome"], silent["outcomeDesc"]) == ("8", "withheld: no-consent")
    assert silent["entity"][1]["what"]["identifier"] == {
        "system": "urn:ietf:rfc:3986",
        "value": "https://profiles.ihe.net/ITI/PCF/Policy-deny",
    }
    assert not any(one.subject.hex in json.dumps(found) for one in shared.patients)


def test_each_disclosure_says_who_left_and_where_to(shared):
    found = events(shared, AUDITOR, event="disclosure").items
    assert len(found) == 2
    for event in found:
        require_disclosure(event)
        assert event["agent"][1]["who"]["identifier"]["value"] == shared.requester.org.hex
        assert event["agent"][2]["who"]["identifier"]["value"] == shared.publisher.org.hex
        assert event["outcomeDesc"] == "delivered"
    first = about(found, shared.patients[0])
    assert first["agent"][3]["who"] == first["entity"][0]["what"]
    assert first["recorded"] > about(events(shared, AUDITOR).items, shared.patients[0])["recorded"]


def test_nothing_was_disclosed_where_everybody_was_withheld(shared):
    found = events(shared, AUDITOR, shared.denied).items
    assert {one["outcome"] for one in found} == {"8"}
    for actor in (AUDITOR, hospital(shared.publisher), hospital(shared.requester)):
        with pytest.raises(VersionNotReady, match="nothing has been disclosed"):
            events(shared, actor, shared.denied, "disclosure")


def test_a_patient_sees_the_own_event_and_no_other(shared):
    granted, _, withdrawn, _ = shared.patients
    (mine,) = events(shared, granted.actor).items
    assert mine == about(events(shared, AUDITOR).items, granted)
    (left,) = events(shared, granted.actor, event="disclosure").items
    require_disclosure(left)
    (refused,) = events(shared, withdrawn.actor).items
    assert refused["outcomeDesc"] == "withheld: withdrawn"
    with pytest.raises(VersionNotReady, match="nothing has been disclosed"):
        events(shared, withdrawn.actor, event="disclosure")
    (elsewhere,) = shared.enrol(1)
    for event in ("decision", "disclosure"):
        with pytest.raises(NotFound, match="no such access"):
            events(shared, elsewhere.actor, event=event)


def test_the_publisher_sees_all_and_the_requester_what_it_received(shared):
    whole = events(shared, AUDITOR).items
    assert events(shared, hospital(shared.publisher)).items == whole
    received = events(shared, hospital(shared.requester), event="disclosure").items
    assert len(received) == 2
    with pytest.raises(Conflict, match="not told"):
        events(shared, hospital(shared.requester))
    for event in ("decision", "disclosure"):
        with pytest.raises(NotFound, match="no such access"):
            events(shared, STRANGER, event=event)


def test_the_requester_of_a_count_is_not_told_whom_it_counts(shared):
    job = shared.job()
    limits = Limits(120.0, 2 << 30)
    runner = Runner(shared.store, shared.vault, shared.client, shared.gate, shared.clock, limits)
    assert runner.run(job) == "done"
    for event in ("decision", "disclosure"):
        with pytest.raises(Conflict, match="behind a result"):
            events(shared, hospital(shared.requester), job, event)
    used = events(shared, hospital(shared.publisher), job, "disclosure").items
    assert [one["outcomeDesc"] for one in used] == ["used in a result"] * 2
    for event in used:
        require_disclosure(event)
    shared.anchor()
    with pytest.raises(Conflict, match="behind a result"):
        shared.audit.bundle(hospital(shared.requester), job.hex)


def test_events_come_in_pages(shared):
    found, cursor = [], None
    for _ in range(3):
        page = events(shared, AUDITOR, cursor=cursor, limit=2)
        found += page.items
        if page.next is None:
            break
        cursor = int(page.next)
    assert found == events(shared, AUDITOR).items


def test_over_http_they_are_a_fhir_bundle(shared):
    exchange = build(shared.settings)
    app = create_app(exchange, pages=None)
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
    path = f"/v1/accesses/{shared.release.hex}/audit-events"
    try:
        assert client.get(path).status_code == 401
        app.dependency_overrides[anybody] = lambda: shared.patients[0].actor
        answer = client.get(path)
        assert answer.headers["content-type"] == "application/fhir+json"
        bundle = answer.json()
        assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "searchset")
        assert "total" not in bundle
        assert [one["search"] for one in bundle["entry"]] == [{"mode": "match"}]
        require_decision(bundle["entry"][0]["resource"])
        app.dependency_overrides[anybody] = lambda: AUDITOR
        found, url = [], path + "?limit=3"
        while url is not None:
            bundle = client.get(url).json()
            links = {one["relation"]: one["url"] for one in bundle["link"]}
            found += [one["resource"] for one in bundle["entry"]]
            url = links.get("next")
        assert found == events(shared, AUDITOR).items
        assert client.get(path + "?event=other").status_code in (400, 422)
        app.dependency_overrides[anybody] = lambda: STRANGER
        assert client.get(path).status_code == 404
    finally:
        exchange.close()
