"""The stage of the demonstration: hospitals with their files, an auditor, and the processes."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.jwk import ECKey

from exchange.hospital.client import ExchangeClient, fetch_deployment
from exchange.hospital.enrol import enrol
from exchange.hospital.identity import Identity
from exchange.hospital.subjects import Enrolled, SubjectMap
from exchange.private_file import write_private
from exchange.settings import load_settings
from exchange.up.stack import Progress, Stack, free_port
from ledger.ids import OrgId


@dataclass
class Hospital:
    """One hospital of the demonstration, in a folder of its own."""

    identity: Identity
    files: dict[str, Path] = field(default_factory=dict)
    client: ExchangeClient | None = None

    @property
    def home(self) -> Path:
        """Its folder."""
        return self.identity.home

    @property
    def org(self) -> OrgId:
        """Its id."""
        return self.identity.org

    @property
    def http(self) -> ExchangeClient:
        """Its connection."""
        if self.client is None:
            self.client = ExchangeClient.of(self.identity)
        return self.client

    @property
    def subjects(self) -> SubjectMap:
        """Its map from record number to subject."""
        return SubjectMap(self.home / "subjects.sqlite", self.org)

    def enrol(self, records: list[str]) -> list[Enrolled]:
        """Invite patients."""
        return enrol(self.http, self.identity, self.subjects, records)


@dataclass
class World:
    """Everything that a scenario acts on. ``folder`` holds all of it and may be deleted afterwards."""

    folder: Path
    stack: Stack
    hospitals: list[Hospital]
    auditor: dict[str, Any]

    @property
    def url(self) -> str:
        """The exchange's address."""
        return self.stack.settings.base_url

    def auditor_client(self) -> ExchangeClient:
        """The auditor's connection."""
        return ExchangeClient(self.url, client_id=self.auditor["id"], auth=self.auditor["private"])

    def start(self) -> None:
        """Start the processes; every hospital joins.

        Raises:
            SettingsError: a process does not start; its log says why.
        """
        self.stack.start()
        self.join()

    def join(self) -> None:
        """Every hospital pins the exchange."""
        deployment = fetch_deployment(self.url)
        for hospital in self.hospitals:
            hospital.identity.pin(self.url, deployment)

    def stop(self) -> None:
        """Stop everything that was started."""
        for hospital in self.hospitals:
            if hospital.client is not None:
                hospital.client.close()
        self.stack.stop()


def build(
    folder: Path, names: list[str], *, progress: Progress, environ: dict[str, str] | None = None
) -> World:
    """Make hospitals' and the auditor's keys in ``folder``, and a stack on free ports.

    ``environ`` are settings beside the ports and the data folder.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    hospitals = [
        Hospital(_identity(folder / f"hospital-{index}", name)) for index, name in enumerate(names)
    ]
    auditor = _auditor(folder / "auditor.json")
    settings = load_settings(
        {
            "ASSENT_DATA_DIR": str(folder / "exchange"),
            "ASSENT_API__PORT": str(free_port()),
            "ASSENT_LEDGER__PORT": str(free_port()),
            "ASSENT_LEDGER__ANCHOR_SECONDS": "1",
            "ASSENT_TOKEN_SECONDS": "28800",
            **(environ or {}),
        }
    )
    stack = Stack(
        settings,
        founders=[hospital.home / "card.json" for hospital in hospitals],
        auditors=[folder / "auditor.json"],
        anvil=find_anvil(),
        progress=progress,
    )
    private = json.loads((folder / "auditor.key").read_text())
    return World(folder, stack, hospitals, {**auditor, "private": private})


def find_anvil() -> Path | None:
    """The node binary beside this interpreter, or on the path; None lets the node look itself."""
    beside = Path(sys.executable).parent / "anvil"
    if beside.exists():
        return beside
    found = shutil.which("anvil")
    return None if found is None else Path(found)


def _identity(home: Path, name: str) -> Identity:
    """The hospital that lives in ``home``, made if there is none."""
    return Identity.load(home) if (home / "identity.json").exists() else Identity.make(home, name)


def _auditor(path: Path) -> dict[str, Any]:
    if path.exists():
        known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return known
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    jwk = {**ECKey.import_key(pem).as_dict(private=True), "kid": "auditor"}
    public = {name: jwk[name] for name in ("kty", "crv", "x", "y", "kid")}
    auditor = {"id": "auditor", "name": "The auditor", "jwk": public}
    path.write_text(json.dumps(auditor), encoding="utf-8")
    write_private(path.with_suffix(".key"), json.dumps(jwk).encode())
    return auditor
