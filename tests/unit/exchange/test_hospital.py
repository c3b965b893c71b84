"""A hospital's own half against a real exchange: pins, subjects, publishing a file, opening what it asked for."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from exchange.errors import Conflict, Malformed, NotFound
from exchange.hospital.asking import run_query
from exchange.hospital.client import ExchangeClient, Problem
from exchange.hospital.enrol import enrol, read_records, write_letters
from exchange.hospital.identity import Identity
from exchange.hospital.publish import describe_columns
from exchange.hospital.publishing import guess_schema, publish_file
from exchange.hospital.receiving import receive_release
from exchange.hospital.request import ask
from exchange.hospital.sources import read
from exchange.hospital.subjects import SubjectMap
from exchange.store import schema
from exchange.worker.intake import Intake
from exchange.worker.running import Runner
from exchange.worker.sandbox import Limits
from ledger.errors import SignatureInvalid
from ledger.ids import ConsentId, DatasetId, JobId, OrgId, SubjectId
from ledger.messages import from_hex, to_hex
from ledger.signing import Key
from tests.served import Served

LIMITS = Limits(120, 2 << 30)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with Served(tmp_path_factory.mktemp("served")) as opened:
        yield opened


@pytest.fixture(scope="module")
def url(served):
    with served.listening() as address:
        yield address


def settle(served, hospital, home, url):
    """The folder of a hospital that founded this exchange and has joined it."""
    home.mkdir(mode=0o700)
    secrets = {
        "name": hospital.name,
        "signing": hospital.key.to_bytes().hex(),
        "receive": hospital.receive.hex(),
        "deidentification": os.urandom(32).hex(),
        "auth": hospital.jwk,
    }
    (home / "identity.json").write_text(json.dumps(secrets))
    (home / "card.json").write_text(json.dumps(hospital.card()))
    identity = Identity.load(home)
    identity.pin(url, served.http.get("/v1/deployment").json())
    return identity


@pytest.fixture(scope="module")
def north(served, url, tmp_path_factory):
    return settle(served, served.north, tmp_path_factory.mktemp("n") / "home", url)


@pytest.fixture(scope="module")
def south(served, url, tmp_path_factory):
    return settle(served, served.south, tmp_path_factory.mktemp("s") / "home", url)


@pytest.fixture
def working(served):
    """A worker in a thread: inspections and jobs as they come, and a chain that answers."""
    stopping = threading.Event()
    house = served.exchange
    intake = Intake(house.store, house.vault, house.keys, house.clock, LIMITS)
    runner = Runner(house.store, house.vault, house.keys, house.gate, house.clock, LIMITS)
    versions, jobs = schema.dataset_versions, schema.jobs

    def loop():
        while not stopping.wait(0.2):
            with house.store.reading() as conn:
                received = conn.execute(
                    sa.select(versions.c.dataset_id, versions.c.version).where(
                        versions.c.status == "received"
                    )
                ).all()
                queued = list(
                    conn.execute(
                        sa.select(jobs.c.job_id).where(jobs.c.status == "queued")
                    ).scalars()
                )
            for dataset, version in received:
                intake.inspect(DatasetId.parse(dataset), version)
            for job in queued:
                runner.run(JobId.parse(job))

    thread = threading.Thread(target=loop)
    thread.start()
    answer_chain(served)
    yield
    stopping.set()
    thread.join()


def answer_chain(served):
    table = schema.chain_cursor
    row = {"number": 1, "hash": "0x" + "00" * 32, "history": "[]", "answered_ms": 2**50}

    def work(conn):
        conn.execute(sa.delete(table))
        row["answered_ms"] = served.exchange.clock.now_ms()
        conn.execute(sa.insert(table), {"id": 1, **row})

    served.exchange.store.transact(work)


def test_keys_are_made_once_and_are_the_owners_alone(tmp_path):
    home = tmp_path / "home"
    identity = Identity.make(home, " General Hospital ")
    assert Identity.load(home).org == identity.org
    assert identity.name == "General Hospital"
    assert (home.stat().st_mode & 0o777, (home / "identity.json").stat().st_mode & 0o777) == (
        0o700, 0o600,
    )  # fmt: skip
    with pytest.raises(Conflict, match="already"):
        Identity.make(home, "Another")
    for name in ("", " ", "x" * 121):
        with pytest.raises(Malformed):
            Identity.make(tmp_path / "other", name)
    with pytest.raises(Malformed, match="assent hospital init"):
        Identity.load(tmp_path / "other")
    for secret in ("signing", "receive", "deidentification"):
        value = json.loads((home / "identity.json").read_text())[secret]
        assert value not in (home / "card.json").read_text()
    assert repr(identity) == f"Identity(home={home!r}, name='General Hospital')"
    with pytest.raises(Malformed):
        identity.pins()


def test_an_exchange_is_pinned_once_and_another_is_refused(served, north, url):
    told = served.http.get("/v1/deployment").json()
    assert north.pin(url, told, fingerprint=told["exchange"]).url == url
    with pytest.raises(Conflict, match="do not join"):
        north.pin(url, told, fingerprint="0x" + "11" * 20)
    other = Key.new()
    with pytest.raises(SignatureInvalid):
        north.pin(url, told | {"exchange": to_hex(other.address)})
    with pytest.raises(SignatureInvalid):
        north.pin(url, told | {"deployment": "0x" + "11" * 32})
    forged = dict(told["keysKey"]) | {"publicKey": "0x" + "11" * 32}
    with pytest.raises(SignatureInvalid):
        north.pin(url, told | {"keysKey": forged})
    assert north.pins().exchange == from_hex(told["exchange"], 20)


def test_subjects_stay_the_same_and_tell_nothing_of_the_record(tmp_path):
    org = OrgId.of_address(Key.new().address)
    subjects = SubjectMap(tmp_path / "subjects.sqlite", org)
    first = subjects.add(["r1", "r2", "r1"], valid_seconds=60)
    assert [one.record for one in first] == ["r1", "r2"]
    again = SubjectMap(tmp_path / "subjects.sqlite", org).add(["r2", "r3"], valid_seconds=60)
    assert again[0] == first[1]
    assert {one.subject.org for one in [*first, *again]} == {org}
    assert subjects.subject_of("r1") == first[0].subject
    assert (tmp_path / "subjects.sqlite").stat().st_mode & 0o077 == 0
    with pytest.raises(NotFound) as unknown:
        subjects.subject_of("r9-secret")
    assert "r9" not in str(unknown.value)
    subjects.mark_invited([first[0].subject])
    assert [one.invited for one in subjects] == [True, False, False]


def test_letters_are_the_owners_alone(served, north, tmp_path):
    subjects = SubjectMap(tmp_path / "subjects.sqlite", north.org)
    client = ExchangeClient.of(north)
    entries = enrol(client, north, subjects, ['a,"b"', "c"])
    client.close()
    path = tmp_path / "letters.csv"
    assert write_letters(entries, path) == 2
    assert path.stat().st_mode & 0o077 == 0
    assert read_records(path, "record") == ['a,"b"', "c"]
    assert read_records(path, "subject") == [one.subject.hex for one in entries]
    known = {row["subject"] for row in served.rows(schema.invitations)}
    assert {one.subject.hex for one in entries} <= known


def test_a_problem_of_the_exchange_is_an_error_with_its_next_step(north):
    client = ExchangeClient.of(north)
    try:
        with pytest.raises(Problem) as refused:
            client.get(f"/v1/jobs/0x{'11' * 16}")
        assert (refused.value.status, refused.value.slug) == (404, "not-found")
        assert refused.value.next_step
        with pytest.raises(Problem) as refused:
            client.post("/v1/datasets", {"title": ""})
        assert refused.value.status in {400, 422}
    finally:
        client.close()


def test_columns_are_described_and_identifiers_recognised(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("mrn,age,city,visit_date,phone,notes\n1,70,x,2020-01-01,5,a\n2,,y,,,\n")
    found = read(path, "table")
    described = {one["name"]: one["type"] for one in describe_columns(found.columns, found.sources)}
    assert described["age"] == "number"
    assert described["city"] == described["visit_date"] == "text"
    roles = {name: role.value for name, role in guess_schema(found.columns).columns.items()}
    assert len({roles["age"], roles["city"], roles["visit_date"], roles["phone"]}) == 4


def test_a_table_with_ragged_rows_is_published_found_asked_for_and_opened(
    served, north, south, working, tmp_path
):
    subjects = SubjectMap(north.home / "subjects.sqlite", north.org)
    client = ExchangeClient.of(north)
    entries = enrol(client, north, subjects, [f"r{number}" for number in range(4)])
    client.close()
    consenting = []
    for entry in entries[:2]:
        patient = served.stranger()
        patient.enrol(entry.printed_code)
        served.record(ConsentId.parse(patient.grant()["consent"]))
        consenting.append(entry.subject.hex)
    path = tmp_path / "heart.csv"
    path.write_text("record,age,pressure\nr0,70,120\nr1,71\nr1,72,130\nr2,73,140\nr3,74,150,9\n")
    told = publish_file(north.home, path, form="table", title="Heart", progress=lambda *_: None)
    assert told["status"] == "published", told
    assert (told["subjects"], told["records"]) == (3, 3)
    assert [one["reason"] for one in told["setAside"]] == ["ragged-row", "ragged-row"]
    assert [one["position"] for one in told["setAside"]] == ["heart.csv:3", "heart.csv:6"]
    # Nothing half-made stays at the hospital.
    assert not list(north.home.glob("*.sealed"))
    answer_chain(served)
    counted = run_query(south.home, told["dataset"], purpose="HRESCH", where=["age >= 60"],
                        columns=[])  # fmt: skip
    assert counted["subjects"] is None
    client = ExchangeClient.of(south)
    try:
        asked = ask(client, south, dataset=told["dataset"], version=None, purpose="HRESCH")
    finally:
        client.close()
    received = receive_release(south.home, asked["release"], tmp_path / "out")
    assert received["records"] == asked["permitted"] == len(consenting)
    lines = [json.loads(line) for line in Path(received["file"]).read_text().splitlines()]
    assert {one["subject"] for one in lines} == set(consenting)
    assert sorted(one["content"]["age"] for one in lines) == ["70", "72"]
    assert SubjectId.parse(lines[0]["subject"]).org == north.org
