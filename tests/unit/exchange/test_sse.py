"""The stream of changes: live, resumable, only one's own."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from exchange.patient.client import Patient
from ledger.ids import ConsentId
from tests.served import Served


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(Path(tmp_path_factory.mktemp("served"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def url(served) -> Iterator[str]:
    with served.listening() as address:
        yield address


def enrolled(served, url):
    patient = Patient(url, secrets.token_bytes(32))
    patient.enrol(served.invite(1)[0])
    return patient


def take(patient, count, last=None):
    found = []
    stream = patient.events(last)
    for event in stream:
        found.append(event)
        if len(found) == count:
            break
    stream.close()
    return found


def test_changes_arrive_while_they_happen_and_nobody_elses(served, url):
    with enrolled(served, url) as patient, enrolled(served, url) as other:
        with Patient(url, patient.seed, patient.subject) as watcher:
            first = patient.grant()
            found: list = []
            thread = threading.Thread(
                target=lambda: found.extend(take(watcher, 3, last=first["leaf"] - 1))
            )
            thread.start()
            other.grant()
            consent = ConsentId.parse(first["consent"])
            served.record(consent)
            ended = patient.withdraw(consent)
            thread.join(timeout=20)
        assert [event["event"] for event in found] == ["consent"] * 3
        assert [event["data"]["kind"] for event in found] == [
            "consent_granted",
            "consent_recorded",
            "consent_withdrawn",
        ]
        assert found[-1]["id"] == ended["leaf"]
        assert found[-1]["data"]["status"] == "inactive"
        assert {event["data"]["consent"] for event in found} == {consent.hex}


def test_a_stream_resumes_after_the_last_event(served, url):
    with enrolled(served, url) as patient:
        leaves = [patient.grant()["leaf"] for _ in range(3)]
        assert [event["id"] for event in take(patient, 2, last=leaves[0])] == leaves[1:]


def test_a_wrong_last_event_id_and_a_missing_token_are_refused(served, url):
    with enrolled(served, url) as patient:
        headers = patient._headers()
        odd = httpx2.get(f"{url}/v1/me/events", headers=headers | {"Last-Event-ID": "../x"})
        assert odd.status_code == 400
    assert httpx2.get(f"{url}/v1/me/events").status_code == 401


def test_slots_come_back_when_a_client_leaves(served, url):
    with enrolled(served, url) as patient:
        leaf = patient.grant()["leaf"]
        take(patient, 1, last=leaf - 1)
    gone = threading.Event()
    for _ in range(50):
        if served.app.state.streams._open == 0:
            break
        gone.wait(0.1)
    assert served.app.state.streams._open == 0
