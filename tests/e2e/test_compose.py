"""docker-compose.yml, held to its own words: its services' commands and environments, run natively.

Hospitals and patients walk through what the file alone has set up and started.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from joserfc.jwk import ECKey

from exchange.hospital.asking import run_query
from exchange.hospital.client import ExchangeClient, Problem, fetch_deployment
from exchange.hospital.enrol import enrol
from exchange.hospital.identity import Identity
from exchange.hospital.receiving import receive_release
from exchange.hospital.request import ask
from exchange.hospital.subjects import Enrolled, SubjectMap
from exchange.patient.client import Patient
from exchange.settings import load_settings
from ledger.ids import ConsentId
from tests.composed import (
    DATA,
    READY_SECONDS,
    ROLES,
    ROOT,
    Differs,
    Native,
    breaches,
    load,
    order,
)


def one(conn: psycopg.Connection[Any], query: LiteralString) -> Any:
    row = conn.execute(query).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def server(postgres_server: str) -> Iterator[str]:
    """The address of a real PostgreSQL, for psql; afterwards as it was before."""
    address = postgres_server.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(address, autocommit=True) as conn:
        hba = Path(one(conn, "SHOW hba_file"))
        before = hba.read_text()
        yield address
        hba.write_text(before)
        conn.execute("SELECT pg_reload_conf()")
        for role in ROLES:
            conn.execute(f"DROP DATABASE IF EXISTS {role} WITH (FORCE)")
        for role in ROLES:
            conn.execute(f"DROP ROLE IF EXISTS assent_{role}")


@pytest.fixture
def native(server: str, anvil_path: Path) -> Iterator[Native]:
    # A socket's path holds 107 characters; pytest's folders alone may take them all.
    machine = Path(tempfile.mkdtemp(prefix="m-"))
    made = Native(load(), machine, server)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(machine)


class Hospital:
    """A hospital that founds the deployment, and joins once the services run."""

    def __init__(self, native: Native, home: Path, name: str) -> None:
        self.identity = Identity.make(home, name)
        shutil.copy(home / "card.json", native.folder / "founders" / f"{name}.json")

    @property
    def home(self) -> Path:
        return self.identity.home

    def join(self, url: str, ca: Path) -> None:
        self.identity.pin(url, fetch_deployment(url, ca=ca), ca=ca)
        self.client = ExchangeClient.of(self.identity)

    def invite(self, records: list[str]) -> list[Enrolled]:
        subjects = SubjectMap(self.home / "subjects.sqlite", self.identity.org)
        return enrol(self.client, self.identity, subjects, records)

    def publish(self, table: Path) -> dict[str, Any]:
        """By the command, which brings Presidio into a process of its own."""
        options = ("--form", "table", "--title", "Pressures", "--home", self.home, "--json")
        done = subprocess.run(
            [sys.executable, "-m", "exchange", "hospital", "publish", table, *options],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Differs(f"publishing: {done.stderr[-1500:]}")
        published: dict[str, Any] = json.loads(done.stdout)
        return published

    def ask(self, dataset: str) -> dict[str, Any]:
        return ask(self.client, self.identity, dataset=dataset, version=None, purpose="HRESCH")


class Auditor:
    """An auditor whom the deployment knows, with a node to ask."""

    def __init__(self, native: Native, folder: Path) -> None:
        self.native, self.folder = native, folder
        self.key = {**ECKey.generate_key("P-256").as_dict(private=True), "kid": "1"}
        public = {name: self.key[name] for name in ("kty", "crv", "x", "y", "kid")}
        told = {"id": "auditor", "name": "The auditor", "jwk": public}
        (native.folder / "auditors" / "auditor.json").write_text(json.dumps(told))

    def fetch(self, access: str, url: str, ca: Path) -> Path:
        """The bundle of an access, once a checkpoint on the chain covers it."""
        client = ExchangeClient(url, client_id="auditor", auth=self.key, ca=ca)
        path = self.folder / "bundle.json"
        end = time.monotonic() + READY_SECONDS
        try:
            while True:
                try:
                    path.write_bytes(client.get_bytes(f"/v1/bundles/{access}"))
                except Problem as problem:
                    if problem.slug != "version-not-ready" or time.monotonic() > end:
                        raise
                    time.sleep(0.2)
                else:
                    return path
        finally:
            client.close()

    def verify(self, bundle: Path) -> Any:
        """The verdict of `python -m ledger`, which knows nothing of the exchange."""
        node, trust = self.native.mapped("http://node:8545"), self.folder / "trust.json"
        if not trust.exists():
            deployment = self.native.path(f"{DATA}/deployment.json")
            self.ledger("trust", "--rpc", node, "--deployment", deployment, "--out", trust)
        return json.loads(self.ledger("verify", bundle, "--trust", trust, "--json"))

    def ledger(self, *words: Any) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "ledger", *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.stdout and words[0] == "verify":
            raise Differs(f"the auditor's proof: {done.stderr[-1500:]}")
        return done.stdout


@pytest.mark.slow
def test_the_services_of_the_file_carry_the_scenario(native: Native, tmp_path: Path) -> None:
    first = Hospital(native, tmp_path / "first", "First")
    second = Hospital(native, tmp_path / "second", "Second")
    auditor = Auditor(native, tmp_path)
    native.start()
    native.await_health("api")
    native.await_health("worker")
    url, ca = native.mapped("https://localhost:8420"), native.path(f"{DATA}/tls/cert.pem")
    for hospital in (first, second):
        hospital.join(url, ca)

    # Three are enrolled, two of them grant.
    everybody: list[Patient] = []
    wanted = {"purposes": ["HRESCH"], "requesters": [second.identity.org]}
    for seed, invited in enumerate(first.invite(["a", "b", "c"]), start=1):
        patient = Patient(url, bytes([seed]) * 32, tls=str(ca))
        patient.enrol(invited.printed_code)
        everybody.append(patient)
    granting = everybody[:2]
    for patient in granting:
        patient.grant(**wanted, categories=["tables"])
    subjects = [patient.subject.hex for patient in granting if patient.subject]
    for patient in granting:
        await_recorded(patient)

    table = tmp_path / "table.csv"
    table.write_text("record,systolic\na,131\nb,142\nc,120\n")
    published = first.publish(table)
    assert (published["status"], published["subjects"]) == ("published", 3)

    asked = second.ask(published["dataset"])
    assert (asked["decision"], asked["permitted"]) == ("permit", 2)
    received = receive_release(second.home, asked["release"], tmp_path / "out")
    assert received["subjects"] == sorted(subjects)
    text = Path(received["file"]).read_text()
    assert ("131" in text, "142" in text, "120" in text) == (True, True, False)
    rows = run_query(
        second.home,
        published["dataset"],
        purpose="HRESCH",
        where=["systolic >= 135"],
        columns=["systolic"],
    )
    assert [row[0] for row in rows["rows"]] == [subjects[1]]

    granting[1].withdraw(ConsentId.parse(granting[1].consents()[0]["consent"]))
    assert second.ask(published["dataset"])["permitted"] == 1
    granting[0].withdraw(ConsentId.parse(granting[0].consents()[0]["consent"]))
    assert second.ask(published["dataset"])["decision"] == "deny"
    assert {use["kind"] for use in granting[0].history()} == {"release", "query"}
    for patient in everybody:
        patient.close()
    for hospital in (first, second):
        hospital.client.close()

    bundle = auditor.fetch(asked["release"], url, ca)
    verdict = auditor.verify(bundle)
    assert (verdict["verified"], verdict["permitted"], verdict["withheld"]) == (True, 2, 1)
    bundle.write_bytes(bundle.read_bytes().replace(b'"HRESCH"', b'"HPAYMT"', 1))
    assert not auditor.verify(bundle)["verified"]

    databases_are_apart(native)
    assert native.stop() == {"node": 0, "keys": 0, "api": 0, "worker": 0}


def await_recorded(patient: Patient) -> None:
    end = time.monotonic() + READY_SECONDS
    while patient.consents()[0]["status"] != "active":
        if time.monotonic() > end:
            raise Differs("the worker does not bring a grant to the chain")
        time.sleep(0.1)


def databases_are_apart(native: Native) -> None:
    """One server, three databases, and no role in another's, save that `keys` reads the store."""

    def schemas(role: str) -> set[str]:
        with native.connect(role, role) as conn:
            rows = conn.execute(
                "SELECT DISTINCT table_schema FROM information_schema.tables"
                " WHERE table_schema NOT IN ('pg_catalog', 'information_schema')"
            )
            return {row[0] for row in rows}

    assert schemas("exchange") == {"public"}
    assert schemas("keys") == {"assent_keys"}
    assert schemas("queue") == {"dbos"}
    with native.connect("keys", "exchange") as conn:
        assert one(conn, "SELECT count(*) FROM leaves") > 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("DELETE FROM outbox")
    with (
        native.connect("exchange", "exchange") as conn,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        conn.execute("DELETE FROM leaves")
    for role, database in (("exchange", "keys"), ("queue", "exchange"), ("exchange", "queue")):
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            native.connect(role, database)
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        native.connect("keys", "keys", password="guessed")


def test_the_file_keeps_its_promises() -> None:
    assert breaches(load()) == []


@pytest.mark.parametrize(
    ("change", "breach"),
    [
        (lambda services: services.pop("worker"), "worker is missing"),
        (lambda services: services["api"].pop("user"), "api runs as root"),
        (lambda services: services["db"].update(ports=["5432:5432"]), "db is published"),
        (lambda services: services["api"].update(ports=["8420:8420"]), "api is published"),
        (lambda services: services["node"].pop("healthcheck"), "node has no health check"),
        (lambda services: services["keys"].update(read_only=False), "keys may write"),
        (lambda services: services["worker"].update(cap_drop=[]), "worker keeps capabilities"),
        (lambda services: services["keys"].update(networks=["front"]), "keys is on front"),
        (
            lambda services: services["worker"].update(networks=["data"]),
            "worker shares no network with node",
        ),
        (lambda services: services["deploy"].pop("networks"), "deploy is on the default network"),
        (lambda services: services["api"]["volumes"].append("root:/x"), "api mounts the root key"),
        (lambda services: services["api"]["volumes"].append("lost:/x"), "not declared"),
        (
            lambda services: services["db"]["configs"].append({"source": "inline"}),
            "db is given inline, which is no file",
        ),
        (lambda services: services["api"].update(secrets=[]), "not given the secret"),
        (
            lambda services: services["api"]["environment"].update(A="postgresql://a:b@db/c"),
            "api has a password in A",
        ),
    ],
)
def test_a_broken_promise_is_named(change: Callable[[dict[str, Any]], object], breach: str) -> None:
    compose = copy.deepcopy(load())
    change(compose["services"])
    assert any(breach in one for one in breaches(compose)), breaches(compose)


def test_a_missing_service_stops_the_others() -> None:
    compose = load()
    del compose["services"]["keys"]
    with pytest.raises(Differs, match="missing"):
        order(compose)


@pytest.mark.parametrize(
    "command", [["python", "-m", "exchange", "prepared"], ["assentd", "prepare"]]
)
def test_a_wrong_command_is_noticed(command: list[str], tmp_path: Path) -> None:
    compose = load()
    compose["services"]["prepare"]["command"] = command
    wrong = Native(compose, tmp_path)
    with pytest.raises(Differs):
        wrong.start_one("prepare")


def test_every_environment_obeys_the_settings(tmp_path: Path) -> None:
    compose = load()
    native = Native(compose, tmp_path)
    for name, service in compose["services"].items():
        if name not in ("db", "node"):
            given = {
                variable: str(value).replace("/run/secrets", str(native.folder / "secrets"))
                for variable, value in service["environment"].items()
            }
            settings = load_settings(given)
            assert settings.data_dir == Path(DATA)
            assert settings.api.tls_cert or settings.api.host == "127.0.0.1"


def test_docker_itself_reads_the_file() -> None:
    docker = shutil.which("docker")
    if (
        docker is None
        or subprocess.run(
            [docker, "compose", "version"], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("docker compose is absent")
    done = subprocess.run(
        [docker, "compose", "config", "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
