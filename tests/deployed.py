"""A small deployment for tests: hospitals, patients with signed consents, a sealed dataset.

Every row and leaf is made by the exchange's own verbs from real signatures. Only the chain is left
out: :meth:`Deployed.record` writes what its follower writes when the chain has recorded a consent.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from exchange import log, sealing
from exchange.access import Requests
from exchange.actor import Actor, Role
from exchange.clock import SystemClock
from exchange.consents import Consents
from exchange.deployment import read_deployment, take_founders
from exchange.documents import CARD_DOMAIN, CARD_KIND, MANIFEST_KIND, REQUEST_KIND
from exchange.enrolment import Enrolment, Invitation
from exchange.gate import Gate
from exchange.settings import Settings, load_settings
from exchange.store import schema
from exchange.store.database import Store
from exchange.vault import Vault, content_path
from ledger.commitment import canonical, sha256
from ledger.ids import ConsentId, DatasetId, OrgId, ReleaseId, SubjectId
from ledger.leaf import Kind
from ledger.signing import (
    Domain,
    Grant,
    Invited,
    Key,
    Lift,
    Redeemed,
    Terms,
    Withdraw,
    sign_document,
    to_hex,
)

NOTICE = sha256(b"notice")


@dataclass
class Hospital:
    """A hospital's keys and card."""

    name: str
    key: Key = field(default_factory=Key.new)
    receive: tuple[bytes, bytes] = field(default_factory=sealing.new_receive_key)

    @property
    def org(self) -> OrgId:
        return OrgId.of_address(self.key.address)

    @property
    def actor(self) -> Actor:
        return Actor(Role.HOSPITAL, self.org.hex)

    def card(self) -> dict[str, Any]:
        card = {
            "kind": CARD_KIND,
            "org": self.org.hex,
            "name": self.name,
            "address": to_hex(self.key.address),
            "receiveKey": to_hex(self.receive[1]),
            "authJwk": {"kty": "EC"},
            "made": 1,
        }
        signature = sign_document(self.key, CARD_KIND, card, CARD_DOMAIN)
        return {"card": card, "signature": to_hex(signature)}


@dataclass
class Patient:
    """A subject and what its browser would keep."""

    subject: SubjectId
    identity: Key
    consents: list[Terms] = field(default_factory=list)

    @property
    def actor(self) -> Actor:
        return Actor(Role.SUBJECT, self.subject.hex)

    @property
    def consent(self) -> ConsentId:
        return self.consents[0].consent_id()


class NoReceipts:
    """Stands where receipts are of no interest."""

    def sign_receipts(self, indexes: Any) -> Any:
        return []


class Deployed:
    """One deployment in a folder; ``exchange`` is the address that stands in deployment.json."""

    def __init__(
        self, folder: Path, *, url: str | None = None, keys_url: str | None = None
    ) -> None:
        environ = {"ASSENT_DATA_DIR": str(folder)}
        if url is not None:
            environ["ASSENT_DATABASE_URL"] = url
        if keys_url is not None:
            environ["ASSENT_KEYS_DATABASE_URL"] = keys_url
        folder.mkdir(parents=True, exist_ok=True)
        self.settings: Settings = load_settings(environ)
        self.domain = Domain(secrets.token_bytes(32))
        self.publisher = Hospital("North")
        self.requester = Hospital("South")
        self.clock = SystemClock()
        self.store = Store.open(self.settings.database_url)
        self.vault = Vault.open(self.settings.vault_url)
        self.gate = Gate(self.settings.ledger.stale_seconds, self.clock)
        self.enrolment = Enrolment(self.store, self.domain, self.clock)
        self.consents = Consents(
            self.store, NoReceipts(), self.domain, frozenset({NOTICE}), self.clock
        )
        self.requests = Requests(self.store, self.gate, self.domain, self.clock)
        self.dataset = DatasetId.new()
        self.answer_chain()

    def close(self) -> None:
        self.store.close()

    def deploy(self, exchange: bytes, founders: list[Hospital] | None = None) -> None:
        """Write deployment.json, as ``assent deploy`` does, and enter the founders."""
        document = {
            "version": "assent.deployment/1",
            "deployment": to_hex(self.domain.deployment_id),
            "chainId": 31337,
            "genesisHash": "0x" + "00" * 32,
            "addresses": {},
            "codeHashes": {},
            "exchange": to_hex(exchange),
            "founders": [one.card() for one in founders or [self.publisher, self.requester]],
            "auditors": [],
        }
        self.settings.deployment_file.write_text(json.dumps(document))
        take_founders(self.store, read_deployment(document), self.clock)

    def answer_chain(self, *, ago_ms: int = 0) -> None:
        """Let the node have answered just now, or a while ago."""
        row = {
            "number": 1,
            "hash": "0x" + "00" * 32,
            "history": "[]",
            "answered_ms": self.clock.now_ms() - ago_ms,
        }

        def work(conn: sa.Connection) -> None:
            table = schema.chain_cursor
            if not conn.execute(sa.update(table).values(**row)).rowcount:
                conn.execute(sa.insert(table).values(id=1, **row))

        self.store.transact(work)

    def enrol(self, count: int, hospital: Hospital | None = None) -> list[Patient]:
        hospital = hospital or self.publisher
        subjects = sorted(SubjectId.new(hospital.org) for _ in range(count))
        codes = [Key.new() for _ in subjects]
        expiry = int(time.time()) + 86_400
        invitations = [
            Invitation(
                subject,
                code.address,
                expiry,
                hospital.key.sign(Invited(subject, code.address, expiry), self.domain),
            )
            for subject, code in zip(subjects, codes, strict=True)
        ]
        for start in range(0, count, 500):
            self.enrolment.invite(hospital.actor, invitations[start : start + 500])
        patients = []
        for subject, code in zip(subjects, codes, strict=True):
            identity = Key.new()
            signature = code.sign(Redeemed(subject, identity.address), self.domain)
            self.enrolment.redeem(subject, identity.address, signature)
            patients.append(Patient(subject, identity))
        return patients

    def document(self, patient: Patient, **changes: Any) -> dict[str, Any]:
        document = {
            "grammar": "assent.consent/1",
            "decision": "permit",
            "subject": patient.subject.hex,
            "purpose": ["HRESCH"],
            "requester": [self.requester.org.hex],
            "categories": ["notes"],
            "actions": ["disclose", "use"],
            "dataUse": {"code": "DUO:0000042", "modifiers": []},
            "from": int(time.time()) - 60,
            "until": None,
            "supersedes": None,
            "locale": "en",
            "notice": to_hex(NOTICE),
        }
        return document | changes

    def submission(self, patient: Patient, **changes: Any) -> dict[str, Any]:
        """A signed consent as the door takes it; remembered with the patient."""
        document = self.document(patient, **changes)
        consent_key = Key.new()
        terms = Terms.of_document(
            document,
            sign_by=int(time.time()) + 3_600,
            consent_key=consent_key.address,
            salt=secrets.token_bytes(32),
        )
        patient.consents.append(terms)
        commitment, day = terms.commitment(), terms.until_day
        withdraw = consent_key.sign(Withdraw(commitment, day), self.domain)
        self._withdraws = getattr(self, "_withdraws", {})
        self._withdraws[terms.consent_id()] = withdraw
        return {
            "terms": terms.to_json(),
            "termsSignature": to_hex(patient.identity.sign(terms, self.domain)),
            "document": document,
            "grantSignature": to_hex(consent_key.sign(Grant(commitment, day), self.domain)),
            "withdrawSignature": to_hex(withdraw) if document["decision"] == "permit" else None,
        }

    def grant(self, patient: Patient, **changes: Any) -> ConsentId:
        """Grant (or object) and let the chain record it."""
        outcome = self.consents.grant(patient.actor, self.submission(patient, **changes))
        self.record([(patient, outcome.consent)])
        return outcome.consent

    def record(self, consents: list[tuple[Patient, ConsentId]]) -> None:
        """Write what the follower writes once the chain has recorded grants."""

        def work(conn: sa.Connection) -> None:
            log.lock_head(conn)
            body = {"block": 1, "blockHash": "0x" + "00" * 32, "transaction": "0x" + "00" * 32}
            drafts = [
                log.Draft(Kind.CONSENT_RECORDED, body, patient.subject, consent)
                for patient, consent in consents
            ]
            entries = log.append_many(conn, drafts, self.clock.now_ms())
            table = schema.consents
            for (_, consent), entry in zip(consents, entries, strict=True):
                conn.execute(
                    sa.update(table)
                    .where(table.c.consent_id == consent.hex)
                    .values(status="active", recorded_leaf=entry.index, recorded_block=1)
                )

        self.store.transact(work)

    def withdraw(self, patient: Patient, consent: ConsentId | None = None) -> int:
        """Withdraw; return the leaf's index."""
        outcome = self.consents.withdraw(patient.actor, consent or patient.consent, None)
        return outcome.leaf

    def lift(self, patient: Patient, terms: Terms) -> None:
        """Lift an objection, and let the chain record it."""
        lift = patient.identity.sign(Lift(terms.commitment()), self.domain)
        consent = terms.consent_id()
        self.consents.lift(patient.actor, consent, withdraw=self._withdraws[consent], lift=lift)
        table = schema.consents
        self.store.transact(
            lambda conn: conn.execute(
                sa.update(table).where(table.c.consent_id == consent.hex).values(status="inactive")
            )
        )

    def manifest(
        self, parts: dict[SubjectId, bytes], keys_digest: bytes, **changes: Any
    ) -> dict[str, Any]:
        offset, listed = 0, []
        for subject in sorted(parts):
            blob = parts[subject]
            listed.append(
                {
                    "subject": subject.hex,
                    "offset": offset,
                    "length": len(blob),
                    "digest": to_hex(sha256(blob)),
                    "records": self.records[subject],
                }
            )
            offset += len(blob)
        manifest = {
            "kind": MANIFEST_KIND,
            "org": self.publisher.org.hex,
            "dataset": self.dataset.hex,
            "version": 1,
            "categories": ["notes"],
            "format": "notes",
            "columns": None,
            "records": sum(self.records.values()),
            "size": offset,
            "sha256": to_hex(sha256(b"".join(parts[subject] for subject in sorted(parts)))),
            "keysDigest": to_hex(keys_digest),
            "reportDigest": "0x" + "00" * 32,
            "parts": listed,
            "made": 1,
        }
        return manifest | changes

    def seal(self, patients: list[Patient], keys_key: bytes, *, records: int, size: int) -> bytes:
        """Seal ``records`` notes of about ``size`` bytes for each; store them; return the key list."""
        self.records = {patient.subject: records for patient in patients}
        keys = {patient.subject: sealing.new_key() for patient in patients}
        self.keys = keys
        self.plain: dict[SubjectId, list[dict[str, Any]]] = {}
        parts: dict[SubjectId, bytes] = {}
        for patient in patients:
            subject = patient.subject
            self.plain[subject] = [
                {"id": f"r{number}", "kind": "note", "content": secrets.token_hex(size // 2)}
                for number in range(records)
            ]
            lines = b"".join(canonical(record) + b"\n" for record in self.plain[subject])
            context = sealing.PartContext(self.publisher.org, self.dataset, 1, subject)
            parts[subject] = sealing.seal_part(keys[subject], context, lines)
        self.blobs = parts
        sealed = sealing.seal_key_list(keys_key, dataset=self.dataset, version=1, keys=keys)
        manifest = self.manifest(parts, sha256(sealed))
        signature = sign_document(self.publisher.key, MANIFEST_KIND, manifest, self.domain)
        path = content_path(self.dataset, 1)
        self.vault.put(path, (parts[subject] for subject in sorted(parts)))
        self.manifest_digest = sha256(canonical(manifest))

        def work(conn: sa.Connection) -> None:
            conn.execute(
                sa.insert(schema.datasets).values(
                    dataset_id=self.dataset.hex,
                    org_id=self.publisher.org.hex,
                    title="Notes",
                    description="",
                    kind="notes",
                    categories='["notes"]',
                    created_ms=self.clock.now_ms(),
                )
            )
            conn.execute(
                sa.insert(schema.dataset_versions).values(
                    dataset_id=self.dataset.hex,
                    version=1,
                    status="received",
                    manifest=canonical(manifest).decode(),
                    manifest_signature=to_hex(signature),
                    manifest_digest=to_hex(self.manifest_digest),
                    blob=path,
                    size=manifest["size"],
                    subjects=len(parts),
                    records=manifest["records"],
                )
            )
            rows = [
                {
                    "dataset_id": self.dataset.hex,
                    "version": 1,
                    **{name: part[name] for name in ("subject", "offset", "length", "digest")},
                    "records": part["records"],
                }
                for part in manifest["parts"]
            ]
            if "state" in schema.parts.c:
                rows = [row | {"state": "ok"} for row in rows]
            conn.execute(sa.insert(schema.parts), rows)

        self.store.transact(work)
        return sealed

    def open_intake_leaf(self) -> int:
        entry = self.store.transact(
            lambda conn: log.append(
                conn,
                kind=Kind.INTAKE_OPENED,
                body={"dataset": self.dataset.hex, "version": 1},
                at_ms=self.clock.now_ms(),
            )
        )
        return entry.index

    def publish(self) -> None:
        """Publish the sealed version, as intake does at its end."""

        def work(conn: sa.Connection) -> None:
            table = schema.dataset_versions
            row = conn.execute(sa.select(table).where(table.c.dataset_id == self.dataset.hex)).one()
            entry = log.append(
                conn,
                kind=Kind.DATASET_PUBLISHED,
                body={
                    "dataset": self.dataset.hex,
                    "version": 1,
                    "org": self.publisher.org.hex,
                    "manifestDigest": row.manifest_digest,
                    "manifest": json.loads(row.manifest),
                    "manifestSignature": row.manifest_signature,
                },
                at_ms=self.clock.now_ms(),
            )
            conn.execute(
                sa.update(table)
                .where(table.c.dataset_id == self.dataset.hex)
                .values(status="published", leaf_idx=entry.index)
            )

        self.store.transact(work)

    def request(self, **changes: Any) -> dict[str, Any]:
        return {
            "kind": REQUEST_KIND,
            "requester": self.requester.org.hex,
            "dataset": self.dataset.hex,
            "version": 1,
            "purpose": "HRESCH",
            "categories": ["notes"],
            "action": "disclose",
            "receiveKey": to_hex(self.requester.receive[1]),
            "nonce": to_hex(secrets.token_bytes(16)),
            "at": int(time.time()),
        } | changes

    def ask(self, **changes: Any) -> ReleaseId:
        """Request the dataset's records; return the release."""
        document = self.request(**changes)
        signature = sign_document(self.requester.key, REQUEST_KIND, document, self.domain)
        return self.requests.ask(self.requester.actor, document, signature).release

    def edit(self, statement: Any) -> None:
        """What an operator with a database client can do."""
        self.store.transact(lambda conn: conn.execute(statement))
