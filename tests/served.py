"""An exchange behind its HTTP door, with a real keys process on its socket, for tests.

Nothing is a stand-in: the store is SQLite on disk, the keys process answers on a Unix socket in a thread
of its own, hospitals and patients sign with keys of their own. Only the chain is left out:
:meth:`Served.record` writes what its follower writes.
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2
import sqlalchemy as sa
import uvicorn
from fastapi.testclient import TestClient
from joserfc import jwt
from joserfc.jwk import ECKey

from exchange import log
from exchange.api.process import server_config
from exchange.app import create_app
from exchange.documents import CARD_DOMAIN, CARD_KIND
from exchange.keys.process import KeysProcess
from exchange.keys.server import KeysServer
from exchange.patient.client import Patient
from exchange.sealing import new_receive_key
from exchange.settings import load_settings
from exchange.store import schema
from exchange.wiring import build
from ledger.ids import ConsentId, OrgId, SubjectId
from ledger.leaf import Kind
from ledger.messages import Domain, Invited, to_hex
from ledger.signing import Key, code_key, code_to_text, new_code, sign_document

BASE = "http://127.0.0.1"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def new_jwk(name: str) -> dict[str, Any]:
    jwk = dict(ECKey.generate_key("P-256").as_dict(private=True))
    jwk["kid"] = name
    return jwk


def public(jwk: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in jwk.items() if name in ("kty", "crv", "x", "y", "kid")}


@dataclass
class Hospital:
    """A hospital's keys, and its card."""

    name: str
    key: Key = field(default_factory=Key.new)

    def __post_init__(self) -> None:
        self.jwk = new_jwk(self.org.hex)
        self.receive, self.receive_public = new_receive_key()

    @property
    def org(self) -> OrgId:
        return OrgId.of_address(self.key.address)

    @property
    def client_id(self) -> str:
        return self.org.hex

    def card(self) -> dict[str, Any]:
        card = {
            "kind": CARD_KIND,
            "org": self.org.hex,
            "name": self.name,
            "address": to_hex(self.key.address),
            "receiveKey": to_hex(self.receive_public),
            "authJwk": public(self.jwk),
            "made": 1,
        }
        signature = sign_document(self.key, CARD_KIND, card, CARD_DOMAIN)
        return {"card": card, "signature": to_hex(signature)}


@dataclass
class Auditor:
    """An auditor's name and key."""

    client_id: str = "auditor-1"

    def __post_init__(self) -> None:
        self.jwk = new_jwk(self.client_id)


def assertion(who: Hospital | Auditor, **changes: Any) -> str:
    """A ``private_key_jwt``, valid but for what is changed."""
    now = int(time.time())
    key = changes.pop("key", who.jwk)
    header = changes.pop("header", {"alg": "ES256", "kid": who.client_id})
    claims = {
        "iss": who.client_id,
        "sub": who.client_id,
        "aud": f"{BASE}/v1/token",
        "iat": now,
        "exp": now + 240,
        "jti": uuid.uuid4().hex,
    } | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(header, claims, ECKey.import_key(key), algorithms=[header["alg"]])


class Served:
    """One exchange in a folder, and clients of it."""

    def __init__(self, folder: Path, **environ: str) -> None:
        self.settings = load_settings({"ASSENT_DATA_DIR": str(folder), **environ})
        folder.mkdir(parents=True, exist_ok=True)
        self.domain = Domain(secrets.token_bytes(32))
        self.north, self.south = Hospital("North"), Hospital("South")
        self.auditor = Auditor()
        self.process = KeysProcess(self.settings)
        document = {
            "version": "assent.deployment/1",
            "deployment": to_hex(self.domain.deployment_id),
            "chainId": 31337,
            "genesisHash": "0x" + "00" * 32,
            "addresses": {},
            "codeHashes": {},
            "exchange": to_hex(self.process.exchange_address),
            "founders": [self.north.card(), self.south.card()],
            "auditors": [
                {"id": self.auditor.client_id, "name": "Audit", "jwk": public(self.auditor.jwk)}
            ],
        }
        self.settings.deployment_file.write_text(json.dumps(document))
        self.exchange = build(self.settings)
        self.server: KeysServer | None = None
        self.start_keys()
        self.app = create_app(self.exchange, pages=None)
        self.http = self.client()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop_keys()
        self.process.close()
        self.exchange.close()

    def start_keys(self) -> None:
        self.server = KeysServer(self.process.answer, self.settings.keys_socket)
        self._thread = threading.Thread(target=self.server.serve, daemon=True)
        self._thread.start()

    def stop_keys(self) -> None:
        """Let nobody answer on the socket."""
        self.exchange.keys.close()
        if self.server is not None:
            self.server.stop()
            self._thread.join()
            self.server = None

    def client(self) -> httpx2.Client:
        return TestClient(self.app, base_url=BASE, raise_server_exceptions=False)

    def token(self, who: Hospital | Auditor) -> str:
        answer = self.http.post(
            "/v1/token",
            data={
                "grant_type": "client_credentials",
                "client_assertion_type": ASSERTION,
                "client_assertion": assertion(who),
            },
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    def headers(self, who: Hospital | Auditor | Patient) -> dict[str, str]:
        """What a creating request of this actor needs."""
        token = who._headers()["Authorization"] if isinstance(who, Patient) else None
        return {
            "Authorization": token or f"Bearer {self.token(who)}",  # type: ignore[arg-type]
            "Idempotency-Key": uuid.uuid4().hex,
        }

    def invitation(self, hospital: Hospital, **changes: Any) -> tuple[bytes, dict[str, Any]]:
        """A code and the signed invitation that names its key."""
        code = new_code()
        subject = changes.get("subject") or SubjectId.new(hospital.org)
        expiry = changes.get("expiry") or int(time.time()) + 86_400
        key = code_key(code).address
        domain = changes.get("domain") or self.domain
        signer = changes.get("signer") or hospital.key
        return code, {
            "subject": subject.hex,
            "codeKey": to_hex(key),
            "expiry": expiry,
            "signature": to_hex(signer.sign(Invited(subject, key, expiry), domain)),
        }

    def invite(self, count: int, hospital: Hospital | None = None) -> list[str]:
        """Invite subjects; the codes as they are printed."""
        hospital = hospital or self.north
        made = [self.invitation(hospital) for _ in range(count)]
        answer = self.http.post(
            "/v1/invitations",
            json={"invitations": [body for _, body in made]},
            headers=self.headers(hospital),
        )
        assert answer.status_code == 201, answer.text
        return [code_to_text(code) for code, _ in made]

    def stranger(self) -> Patient:
        """A patient who has not enrolled yet."""
        return Patient(BASE, secrets.token_bytes(32), http=self.client())

    def patient(self, hospital: Hospital | None = None) -> Patient:
        """An enrolled patient."""
        patient = self.stranger()
        patient.enrol(self.invite(1, hospital)[0])
        return patient

    @contextmanager
    def listening(self) -> Iterator[str]:
        """Serve on a loopback port as the process does; the address."""
        config = server_config(self.settings, self.app)
        config.loop = "asyncio"
        config.port = 0
        server = uvicorn.Server(config)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
            thread.start()
            try:
                yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            finally:
                server.should_exit = True
                thread.join(timeout=20)
                assert not thread.is_alive()

    def record(self, consent: ConsentId) -> None:
        """Write what the follower writes once the chain has recorded a consent."""
        table = schema.consents

        def work(conn: sa.Connection) -> None:
            log.lock_head(conn)
            subject = conn.execute(
                sa.select(table.c.subject).where(table.c.consent_id == consent.hex)
            ).scalar_one()
            entry = log.append(
                conn,
                kind=Kind.CONSENT_RECORDED,
                body={"block": 1, "blockHash": "0x" + "00" * 32, "transaction": "0x" + "00" * 32},
                at_ms=self.exchange.clock.now_ms(),
                subject=SubjectId.parse(subject),
                consent=consent,
            )
            conn.execute(
                sa.update(table)
                .where(table.c.consent_id == consent.hex)
                .values(status="active", recorded_leaf=entry.index, recorded_block=1)
            )

        self.exchange.store.transact(work)

    def rows(self, table: sa.Table) -> list[Any]:
        with self.exchange.store.reading() as conn:
            return list(conn.execute(sa.select(table)).mappings())
