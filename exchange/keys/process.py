"""The keys process: one method per verb, served on a Unix socket.

It starts before there is a deployment or a store: then it answers ``status`` alone, which is how
``assent deploy`` learns the exchange key. As soon as ``deployment.json`` is there it pins it and
answers everything. Every effect may be repeated, so it may be killed at any moment.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from exchange import logs
from exchange.clock import Clock, SystemClock
from exchange.deployment import Deployment
from exchange.documents import KEYS_KEY_KIND
from exchange.errors import ExchangeError, KeysRefused, StoreError, Transient
from exchange.gate import Gate
from exchange.keys.checks import Checks
from exchange.keys.database import KeysDatabase
from exchange.keys.evidence import Evidence
from exchange.keys.lending import Lending
from exchange.keys.opening import MOST_PARTS, Openings
from exchange.keys.pins import Pins, find_deployment
from exchange.keys.ring import KeyRing
from exchange.keys.rootkey import Secrets
from exchange.keys.server import KeysServer
from exchange.keys.vouching import Voucher
from exchange.settings import Settings
from exchange.store.database import Store
from ledger.errors import LedgerError, MalformedValue
from ledger.ids import DatasetId, JobId, ReleaseId, SubjectId
from ledger.signing import from_hex, sign_document, to_hex

log = logging.getLogger(__name__)

_MOST_INDEXES = 1_000
_MOST_SUBJECTS = 200_000

Fields = Mapping[str, Any]


class _Ready:
    """What exists once the deployment is known and the store can be read."""

    def __init__(
        self,
        deployment: Deployment,
        *,
        store: Store,
        own: KeysDatabase,
        secrets: Secrets,
        ring: KeyRing,
        pins: Pins,
        gate: Gate,
        clock: Clock,
    ) -> None:
        pins.pin_founders(deployment, secrets.exchange_key.address)
        domain = deployment.domain
        self.domain = domain
        self.deployment_id = deployment.id
        self.store = store
        evidence = Evidence(own, pins, domain)
        self.evidence = evidence
        self.voucher = Voucher(own, secrets.exchange_key, evidence, domain)
        checks = Checks(pins=pins, evidence=evidence, gate=gate, domain=domain)
        self.lending = Lending(store=store, own=own, secrets=secrets, ring=ring, checks=checks)
        self.openings = Openings(
            store=store,
            own=own,
            secrets=secrets,
            ring=ring,
            checks=checks,
            evidence=evidence,
            clock=clock,
            domain=domain,
        )
        document = {"kind": KEYS_KEY_KIND, "publicKey": to_hex(secrets.hpke_public)}
        self.keys_key_signature = sign_document(
            secrets.exchange_key, KEYS_KEY_KIND, document, domain
        )


class KeysProcess:
    """The keys process without its socket: verbs in, answers out.

    ``store`` and ``gate`` are opened on first need where they are not given, since both may not
    exist at the first start.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store | None = None,
        gate: Gate | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._clock = clock or SystemClock()
        self._store = store
        self._gate = gate or Gate(settings.ledger.stale_seconds, self._clock)
        self._own = KeysDatabase(settings.keys_database_url)
        self._secrets = Secrets(self._own, settings.data_dir / "keys" / "root.key")
        self._ring = KeyRing(self._own, self._secrets)
        self._ring.replay_shredding()
        self._pins = Pins(self._own)
        self._ready: _Ready | None = None
        self._lock = threading.Lock()
        self._verbs: dict[str, Callable[[Fields], dict[str, Any]]] = {
            "status": self._status,
            "sign_receipts": self._sign_receipts,
            "sign_checkpoint": self._sign_checkpoint,
            "sign_trailer": self._sign_trailer,
            "deposit": self._deposit,
            "open_intake": self._open_intake,
            "open_release": self._open_release,
            "open_parts": self._open_parts,
            "opened": self._opened,
            "open_job": self._open_job,
            "pin": self._pin,
            "shred": self._shred,
        }
        self._find_deployment()

    @property
    def exchange_address(self) -> bytes:
        """Address of the exchange key, 20 bytes."""
        return self._secrets.exchange_key.address

    def close(self) -> None:
        """Keep what was proved, and let go of the databases."""
        if self._ready is not None:
            self._ready.evidence.save()
        if self._store is not None:
            self._store.close()
        self._own.close()

    def answer(self, question: Fields) -> dict[str, Any]:
        """Answer one question; never raises for what a client can cause."""
        verb = question.get("verb")
        method = self._verbs.get(verb) if isinstance(verb, str) else None
        if method is None:
            return {"refused": ["unknown-verb"]}
        try:
            return {"ok": method(question)}
        except KeysRefused as refusal:
            log.info("refused", extra={"verb": verb, "reasons": list(refusal.reasons)})
            return {"refused": list(refusal.reasons)}
        except (MalformedValue, KeyError, TypeError, ValueError):
            log.warning("malformed question", extra={"verb": str(verb)[:40]}, exc_info=True)
            return {"refused": ["malformed"]}
        except (ExchangeError, LedgerError) as error:
            log.warning("no answer", extra={"verb": verb}, exc_info=True)
            if isinstance(error, Transient):
                return {"unavailable": type(error).__name__}
            return {"refused": [type(error).__name__]}
        except Exception:
            # Silence would leave the client waiting; what happened is for the log alone.
            log.exception("a verb failed", extra={"verb": verb})
            return {"unavailable": "failed"}

    def _find_deployment(self) -> _Ready | None:
        with self._lock:
            if self._ready is None:
                deployment = find_deployment(self._settings.deployment_file)
                if deployment is not None:
                    self._ready = _Ready(
                        deployment,
                        store=self._readable_store(),
                        own=self._own,
                        secrets=self._secrets,
                        ring=self._ring,
                        pins=self._pins,
                        gate=self._gate,
                        clock=self._clock,
                    )
            return self._ready

    def _readable_store(self) -> Store:
        if self._store is None:
            self._store = Store.open(self._settings.database_url, read_only=True)
        return self._store

    def _needed(self) -> _Ready:
        ready = self._ready or self._find_deployment()
        if ready is None:
            raise KeysRefused(("not-deployed",))
        return ready

    # Verbs ---------------------------------------------------------------------------------

    def _status(self, _: Fields) -> dict[str, Any]:
        try:
            ready = self._ready or self._find_deployment()
        except StoreError:
            # Between the deployment and the api's first start nobody has made the store yet.
            ready = None
        return {
            "pid": os.getpid(),
            "exchange": to_hex(self.exchange_address),
            "deployment": None if ready is None else to_hex(ready.deployment_id),
            "keysKey": {
                "publicKey": to_hex(self._secrets.hpke_public),
                "signature": None if ready is None else to_hex(ready.keys_key_signature),
            },
            "pinned": self._pins.count(),
        }

    def _sign_receipts(self, question: Fields) -> dict[str, Any]:
        ready = self._needed()
        indexes = [_whole(index) for index in _listed(question, "indexes", _MOST_INDEXES)]
        with ready.store.reading() as conn:
            return {"receipts": ready.voucher.sign_receipts(conn, indexes)}

    def _sign_checkpoint(self, question: Fields) -> dict[str, Any]:
        ready = self._needed()
        root = question.get("root")
        with ready.store.reading() as conn:
            return ready.voucher.sign_checkpoint(
                conn, _whole(question["size"]), None if root is None else from_hex(root, 32)
            )

    def _sign_trailer(self, question: Fields) -> dict[str, Any]:
        return self._needed().openings.sign_trailer(ReleaseId.parse(question["release"]))

    def _deposit(self, question: Fields) -> dict[str, Any]:
        dataset, version = _version(question)
        sealed = from_hex(question["sealed"])
        return {"keys": self._needed().lending.deposit(dataset, version, sealed)}

    def _open_intake(self, question: Fields) -> dict[str, Any]:
        dataset, version = _version(question)
        leaf = question.get("leaf")
        sealed = self._needed().lending.open_intake(
            dataset,
            version,
            from_hex(question["childKey"], 32),
            leaf=None if leaf is None else _whole(leaf),
        )
        return {"sealed": to_hex(sealed)}

    def _open_release(self, question: Fields) -> dict[str, Any]:
        return self._needed().openings.open_release(ReleaseId.parse(question["release"]))

    def _open_parts(self, question: Fields) -> dict[str, Any]:
        subjects = [SubjectId.parse(text) for text in _listed(question, "subjects", MOST_PARTS)]
        release = ReleaseId.parse(question["release"])
        return self._needed().openings.open_parts(release, subjects)

    def _opened(self, question: Fields) -> dict[str, Any]:
        found = self._needed().openings.opened_subjects(ReleaseId.parse(question["release"]))
        return {"subjects": [subject.hex for subject in found]}

    def _open_job(self, question: Fields) -> dict[str, Any]:
        texts = _listed(question, "subjects", _MOST_SUBJECTS)
        sealed, refused = self._needed().lending.open_job(
            JobId.parse(question["job"]),
            [SubjectId.parse(text) for text in texts],
            from_hex(question["childKey"], 32),
        )
        return {
            "sealed": to_hex(sealed),
            "refused": {subject.hex: list(reasons) for subject, reasons in refused.items()},
        }

    def _pin(self, question: Fields) -> dict[str, Any]:
        ready = self._needed()
        signatures = [str(text) for text in _listed(question, "signatures", 1_000)]
        return {"org": self._pins.admit(question["card"], signatures, ready.domain).hex}

    def _shred(self, question: Fields) -> dict[str, Any]:
        self._needed()
        dataset, version = _version(question)
        gone = self._ring.shred(dataset, version, SubjectId.parse(question["subject"]))
        log.info("shredded", extra={"dataset": dataset.hex, "version": version})
        return {"shredded": gone}


def _listed(question: Fields, name: str, most: int) -> list[Any]:
    found = question[name]
    if not isinstance(found, list) or not 0 < len(found) <= most:
        raise KeysRefused(("malformed",))
    return found


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise KeysRefused(("malformed",))
    return value


def _version(question: Fields) -> tuple[DatasetId, int]:
    return DatasetId.parse(question["dataset"]), _whole(question["version"])


def main(settings: Settings) -> int:
    """Run the keys process until SIGTERM or SIGINT; print one JSON line when ready."""
    logs.set_up("keys", level=settings.log_level)
    os.umask(0o077)
    process = KeysProcess(settings)
    server = KeysServer(process.answer, settings.keys_socket)

    def stop(_signal: int, _frame: object) -> None:
        server.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    ready = {
        "ready": "keys",
        "socket": str(settings.keys_socket),
        "exchange": to_hex(process.exchange_address),
    }
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    server.serve()
    process.close()
    return 0
