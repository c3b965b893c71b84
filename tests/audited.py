"""An exchange whose consents a real chain records, and an auditor with a node to ask.

:class:`Audited` is :class:`tests.deployed.Deployed` over a managed node: grants and withdrawals are
handed in and followed by the worker's own side of the chain, stepped by hand, checkpoints are signed
by a keys process on its socket and anchored by the contract.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from exchange import log
from exchange.actor import Actor, Role
from exchange.audit import Audit
from exchange.deployment import read_deployment, take_founders
from exchange.documents import JOB_KIND
from exchange.jobs import Jobs
from exchange.keys.client import KeysClient
from exchange.keys.process import KeysProcess
from exchange.keys.server import KeysServer
from exchange.release import Releases
from exchange.store import schema
from exchange.worker.chain_side import ChainSide
from ledger.chain import deploy, fetch_trust
from ledger.commitment import canonical
from ledger.errors import VerificationError
from ledger.ids import ConsentId, JobId, ReleaseId
from ledger.signing import Lift, Terms, sign_document, to_hex
from ledger.trust import Trust, parse
from ledger.verify import Verified, verify_bundle
from tests.deployed import Deployed, Patient
from tests.ledgers import RELAYER, Chain

AUDITOR = Actor(Role.AUDITOR, "auditor-1")


class Audited(Deployed):
    """One deployment on a chain that runs; its own keys process answers on a socket."""

    def __init__(self, folder: Path, chain: Chain, *, url: str | None = None) -> None:
        super().__init__(folder, url=url)
        self.edit(sa.delete(schema.chain_cursor))
        self.process = KeysProcess(self.settings)
        self.server = KeysServer(self.process.answer, self.settings.keys_socket)
        self._thread = threading.Thread(target=self.server.serve)
        self._thread.start()
        self.rpc_url = chain.url
        founders = [self.publisher, self.requester]
        self.on_chain = deploy(
            chain.url,
            self.domain.deployment_id,
            [one.key.address for one in founders],
            self.process.exchange_address,
            RELAYER,
        )
        document = {
            "version": "assent.deployment/1",
            **self.on_chain.to_json(),
            "exchange": to_hex(self.process.exchange_address),
            "founders": [one.card() for one in founders],
            "auditors": [],
        }
        self.settings.deployment_file.write_text(json.dumps(document))
        self.deployment = read_deployment(document)
        take_founders(self.store, self.deployment, self.clock)
        self.client = KeysClient(self.settings.keys_socket, timeout_seconds=20)
        self.chain = ChainSide(
            store=self.store,
            keys=self.client,
            clock=self.clock,
            deployment=self.deployment,
            rpc_url=chain.url,
            relayer=RELAYER,
            anchor_seconds=1,
            confirmations=0,
        )
        self.releases = Releases(
            store=self.store,
            gate=self.gate,
            keys=self.client,
            vault=self.vault,
            clock=self.clock,
        )
        self.jobs = Jobs(self.store, self.gate, self.vault, self.domain, self.clock)
        self.audit = Audit(self.store, self.deployment)
        self.step()

    def close(self) -> None:
        self.chain.close()
        self.client.close()
        self.server.stop()
        self._thread.join()
        self.process.close()
        super().close()

    def step(self) -> None:
        """Hand in what waits and follow the chain, until nothing waits any more."""
        table = schema.outbox
        waiting = sa.select(sa.func.count()).where(table.c.status != "recorded")
        for _ in range(50):
            self.chain.hand_in()
            while self.chain.follow():
                pass
            with self.store.reading() as conn:
                if not conn.execute(waiting).scalar_one():
                    return
        raise AssertionError("the chain does not record what it was handed")

    def record(self, consents: list[tuple[Patient, ConsentId]]) -> None:
        """Let the chain record what waits, instead of writing that it did."""
        self.step()

    def lift(self, patient: Patient, terms: Terms) -> None:
        """Lift an objection, and let the chain record its end."""
        lift = patient.identity.sign(Lift(terms.commitment()), self.domain)
        consent = terms.consent_id()
        self.consents.lift(patient.actor, consent, withdraw=self._withdraws[consent], lift=lift)
        self.step()

    def publish_for(self, patients: list[Patient], *, records: int = 1, size: int = 60) -> None:
        """Seal, deposit and publish the records of these patients."""
        sealed = self.seal(patients, self.client.status().keys_key, records=records, size=size)
        self.client.deposit(self.dataset, 1, sealed)
        self.publish()

    def stream(self, release: ReleaseId) -> bytes:
        """Stream a release to its requester; what arrived."""
        stream = self.releases.open(self.requester.org, release)
        try:
            return b"".join(stream)
        finally:
            stream.close()

    def job(self, **changes: Any) -> JobId:
        """Submit a job on the published dataset; who is not covered is left out."""
        document = {
            **self.request(),
            "kind": JOB_KIND,
            "job": "query",
            "action": "use",
            "model": None,
            "parameters": {"filters": [], "columns": [], "want": "count"},
            "slots": None,
        } | changes
        signature = sign_document(self.requester.key, JOB_KIND, document, self.domain)
        return JobId.parse(self.jobs.submit(self.requester.actor, document, signature)["job"])

    def anchor(self) -> None:
        """Sign the log's head and let the chain hold it."""
        self.chain.checkpoint()
        self.step()

    def trust(self) -> Trust:
        """What the auditor's own node says."""
        return parse(fetch_trust(self.rpc_url, self.on_chain.addresses))

    def bundle(self, access: ReleaseId | JobId) -> bytes:
        """The evidence, as an auditor fetches it."""
        return self.audit.bundle(AUDITOR, access.hex)

    def verify(self, access: ReleaseId | JobId) -> Verified:
        """Fetch and prove."""
        return verify_bundle(self.bundle(access), self.trust())

    def leaves(self) -> list[log.Entry]:
        """Every leaf of the log."""
        with self.store.reading() as conn:
            return log.entries(conn, 0, log.head(conn)[0])


def failing_step(data: bytes, trust: Trust) -> int | None:
    """The step at which the proof fails; None where it holds."""
    try:
        verify_bundle(data, trust)
    except VerificationError as error:
        return error.step
    return None


def changed(data: bytes, change: Callable[[Any], None]) -> bytes:
    """The bundle after somebody changed its JSON, spelt canonically again."""
    value = json.loads(data)
    change(value)
    return canonical(value)
