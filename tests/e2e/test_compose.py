"""docker-compose.yml, held to its own words: its services' commands and environments, run natively.

Hospitals and patients walk through what the file alone has set up and started.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from exchange.patient.client import Patient
from exchange.settings import load_settings
from ledger.ids import OrgId
from tests.composed import (
    DATA,
    READY_SECONDS,
    ROLES,
    ROOT,
    Differs,
    Native,
    breaches,
    load,
    mounts,
    order,
)


@pytest.fixture
def server(postgres_server: str) -> Iterator[str]:
    """The address of a real PostgreSQL, for psql; afterwards as it was before."""
    address = postgres_server.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(address, autocommit=True) as conn:
        hba = Path(conn.execute("SHOW hba_file").fetchone()[0])
        before = hba.read_text()
        yield address
        hba.write_text(before)
        conn.execute("SELECT pg_reload_conf()")
        for role in ROLES:
            conn.execute(f"DROP DATABASE IF EXISTS {role} WITH (FORCE)")
        for role in ROLES:
            conn.execute(f"DROP ROLE IF EXISTS assent_{role}")


@pytest.fixture
def native(server: str, tmp_path: Path, anvil_path: Path) -> Iterator[Native]:
    (tmp_path / "machine").mkdir()
    made = Native(load(), tmp_path / "machine", server)
    try:
        yield made
    finally:
        made.stop()


def hospital(home: Path, *words: str) -> Any:
    """A hospital's own command; its JSON where it prints some."""
    done = subprocess.run(
        [sys.executable, "-m", "exchange", "hospital", *words, "--home", home],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        cwd=home.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Differs(f"assent hospital {words[0]}: {done.stderr[-1500:]}")
    return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout


@pytest.mark.slow
def test_the_services_of_the_file_carry_a_release(native: Native, tmp_path: Path):
    first, second = tmp_path / "first", tmp_path / "second"
    orgs = []
    for home, name in ((first, "First"), (second, "Second")):
        orgs.append(hospital(home, "init", "--name", name, "--json")["org"])
        shutil.copy(home / "card.json", native.folder / "founders" / f"{name}.json")

    native.start()
    native.await_health("api")
    native.await_health("worker")

    url = native.mapped("https://localhost:8420")
    ca = native.path(f"{DATA}/tls/cert.pem")
    for home in (first, second):
        hospital(home, "join", "--exchange", url, "--ca", str(ca))
    hospital(first, "enrol", "a", "b", "--letters", str(tmp_path / "letters.csv"))
    letters = (tmp_path / "letters.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in letters] == ["a", "b"]
    granted = None
    for seed, line in enumerate(letters, start=1):
        with Patient(url, bytes([seed]) * 32, tls=str(ca)) as patient:
            patient.enrol(line.split(",")[2])
            if seed == 1:
                wanted = {"purposes": ["HRESCH"], "requesters": [OrgId.parse(orgs[1])]}
                patient.grant(**wanted, categories=["notes"])
                await_recorded(patient)
                granted = patient.subject
    assert granted is not None

    notes = tmp_path / "notes.ndjson"
    lines = [
        {"record": record, "id": "1", "text": "Blood pressure 131/80, no complaint."}
        for record in ("a", "b")
    ]
    notes.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ("--form", "notes", "--title", "Notes", "--json")
    published = hospital(first, "publish", str(notes), *options)
    assert published["status"] == "published", published

    asked = hospital(second, "request", published["dataset"], "--purpose", "HRESCH", "--json")
    assert (asked["decision"], asked["permitted"]) == ("permit", 1)
    received = hospital(
        second, "receive", asked["release"], "--out", str(tmp_path / "out"), "--json"
    )
    assert received["subjects"] == [granted.hex]
    assert "Blood pressure 131/80" in Path(received["file"]).read_text()

    databases_are_apart(native)
    assert native.stop() == {"node": 0, "keys": 0, "api": 0, "worker": 0}


def await_recorded(patient: Patient) -> None:
    end = time.monotonic() + READY_SECONDS
    while patient.consents()[0]["status"] != "active":
        if time.monotonic() > end:
            raise Differs("the worker does not bring a grant to the chain")
        time.sleep(0.05)


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
        assert conn.execute("SELECT count(*) FROM leaves").fetchone()[0] > 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("DELETE FROM outbox")
    for role, database in (("exchange", "keys"), ("queue", "exchange"), ("exchange", "queue")):
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            native.connect(role, database)
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        native.connect("keys", "keys", password="guessed")


def test_the_file_keeps_its_promises():
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
        (lambda services: services["deploy"].pop("networks"), "deploy is on the default network"),
        (lambda services: services["api"]["volumes"].append("root:/x"), "api mounts the root key"),
        (lambda services: services["api"]["volumes"].append("lost:/x"), "not declared"),
        (lambda services: services["api"].update(secrets=[]), "not given the secret"),
        (
            lambda services: services["api"]["environment"].update(A="postgresql://a:b@db/c"),
            "api has a password in A",
        ),
    ],
)
def test_a_broken_promise_is_named(change, breach):
    compose = copy.deepcopy(load())
    change(compose["services"])
    assert any(breach in one for one in breaches(compose)), breaches(compose)


def test_a_missing_service_stops_the_others():
    compose = load()
    del compose["services"]["keys"]
    with pytest.raises(Differs, match="missing"):
        order(compose)


@pytest.mark.parametrize(
    "command", [["python", "-m", "exchange", "prepared"], ["assentd", "prepare"]]
)
def test_a_wrong_command_is_noticed(command: list[str], tmp_path: Path):
    compose = load()
    compose["services"]["prepare"]["command"] = command
    wrong = Native(compose, tmp_path)
    with pytest.raises(Differs):
        wrong.start_one("prepare")


def test_every_environment_obeys_the_settings(tmp_path: Path):
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


def test_images_and_volumes_are_those_of_the_dockerfile():
    dockerfile = (ROOT / "Dockerfile").read_text()
    built_on = re.findall(r"^FROM (\S+) AS (\S+)$", dockerfile, re.MULTILINE)
    stages = {stage: source for source, stage in built_on}
    folders = re.search(r"for part in ([\w. ]+);", dockerfile)
    assert folders is not None
    for name, service in load()["services"].items():
        if "build" not in service:
            continue
        stage = service["build"]["target"]
        while stage in stages and stage != "process":
            stage = stages[stage]
        assert stage == "process", f"{name} is built on another stage than the one without root"
        for path in mounts(service):
            if path.startswith(DATA + "/"):
                # A volume gets owner and mode from the image's folder at its mount point.
                assert path.removeprefix(DATA + "/") in folders[1].split()
    assert "USER 10001:10001" in dockerfile


def test_the_api_image_takes_its_packages_from_the_lock_and_none_that_is_heavy():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "subset_lock.py", "api", "typer", "httpx2"],
        capture_output=True,
        text=True,
        check=True,
    )
    names = set(re.findall(r"^([\w.-]+)==", done.stdout, re.MULTILINE))
    assert {"fastapi", "sqlalchemy", "web3", "psycopg", "typer", "httpx2"} <= names
    assert names.isdisjoint({"torch", "tenseal", "spacy", "presidio-analyzer", "dbos"})
    assert done.stdout.count("--hash=sha256:") >= len(names)
    # torch is no part of the lock, and whoever asks for nothing has mistyped.
    for words in (["compute"], []):
        wrong = subprocess.run(
            [sys.executable, ROOT / "scripts" / "subset_lock.py", *words],
            capture_output=True,
            check=False,
        )
        assert wrong.returncode == 1


def test_docker_itself_reads_the_file():
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
