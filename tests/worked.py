"""A deployment whose worker works: real versions drafted, deposited, inspected; real jobs in children.

:class:`Worked` is :class:`tests.deployed.Deployed` with a keys process on its socket and the worker's own
parts, called by hand. Only the chain is left out, as there.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from exchange import sealing
from exchange.catalogue import Catalogue
from exchange.claims import Once
from exchange.documents import JOB_KIND, MANIFEST_KIND, MODEL_KIND
from exchange.jobs import Jobs
from exchange.keys.client import KeysClient
from exchange.keys.process import KeysProcess
from exchange.keys.server import KeysServer
from exchange.models import Models
from exchange.store import schema
from exchange.worker.intake import Intake
from exchange.worker.running import Runner
from exchange.worker.sandbox import Limits
from ledger.commitment import canonical, sha256
from ledger.ids import ConsentId, DatasetId, JobId, ModelDigest, SubjectId
from ledger.leaf import Kind
from ledger.signing import sign_document, to_hex
from tests.deployed import Deployed, Hospital, Patient

LIMITS = Limits(seconds=120, memory_bytes=2 << 30)
CATEGORY = {"notes": "notes", "fhir": "clinical", "table": "tables"}


def a_note(text: str, number: int = 0) -> dict[str, Any]:
    return {"id": str(number), "kind": "note", "content": text}


def a_row(number: int = 0, **cells: Any) -> dict[str, Any]:
    return {"id": str(number), "kind": "row", "content": cells}


def a_column(name: str, kind: str = "number", **changes: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "unit": None, "min": None, "max": None} | changes


def lines(records: Sequence[Any]) -> bytes:
    """A part's plaintext, as a hospital writes it."""
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def children() -> list[int]:
    """The process ids of the jobs' children of this process; other tests may have others."""
    found: list[int] = []
    for thread in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended meanwhile
            found += [int(one) for one in (thread / "children").read_text().split()]
    return [one for one in found if _is_job(one)]


def _is_job(process: int) -> bool:
    try:
        return b"exchange.worker.child" in Path(f"/proc/{process}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


class Before:
    """Lets something happen once, just before one method of a real part is called."""

    def __init__(self, part: Any, method: str, happen: Any) -> None:
        self._part, self._method, self._happen = part, method, happen

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if name != self._method:
            return found

        def called(*args: Any, **kwargs: Any) -> Any:
            happen, self._happen = self._happen, lambda: None
            happen()
            return found(*args, **kwargs)

        return called


class Worked(Deployed):
    """One deployment in a folder, with everything that a job or an inspection needs."""

    def __init__(self, folder: Path, *, limits: Limits = LIMITS) -> None:
        super().__init__(folder)
        self.process = KeysProcess(self.settings)
        self.deploy(self.process.exchange_address)
        self.server: KeysServer | None = None
        self.start_keys()
        self.client = KeysClient(self.settings.keys_socket, timeout_seconds=20)
        self.catalogue = Catalogue(self.store, self.vault, self.domain, self.clock)
        self.jobs = Jobs(self.store, self.gate, self.vault, self.domain, self.clock)
        self.models = Models(self.store, self.vault, self.domain, self.clock)
        self.intake = Intake(self.store, self.vault, self.client, self.clock, limits)
        self.runner = Runner(self.store, self.vault, self.client, self.gate, self.clock, limits)

    def close(self) -> None:
        self.stop_keys()
        self.process.close()
        super().close()

    def start_keys(self) -> None:
        self.server = KeysServer(self.process.answer, self.settings.keys_socket)
        self._thread = threading.Thread(target=self.server.serve, daemon=True)
        self._thread.start()

    def stop_keys(self) -> None:
        if self.server is not None:
            self.client.close()
            self.server.stop()
            self._thread.join()
            self.server = None

    def announce(self, form: str = "notes", *, hospital: Hospital | None = None) -> DatasetId:
        """A dataset without a version."""
        actor = (hospital or self.publisher).actor
        once = Once(actor.id, uuid.uuid4().hex, "datasets", bytes(32), self.clock.now_ms())
        return self.catalogue.create(
            actor, once, title="A dataset", description="", form=form, categories=[CATEGORY[form]]
        )

    def draft(
        self,
        parts: Mapping[SubjectId, bytes],
        *,
        form: str = "notes",
        columns: list[dict[str, Any]] | None = None,
        records: Mapping[SubjectId, int] | None = None,
        **changes: Any,
    ) -> int:
        """Seal these plaintexts, hand the manifest and the keys in; the content is in ``blob``."""
        self.dataset = changes.pop("dataset_id", None) or self.announce(form)
        self.records = dict(records or {who: plain.count(b"\n") for who, plain in parts.items()})
        version = int(changes.get("version", 1))
        self.keys = {who: sealing.new_key() for who in parts}
        context = {
            who: sealing.PartContext(self.publisher.org, self.dataset, version, who)
            for who in parts
        }
        blobs = {
            who: sealing.seal_part(self.keys[who], context[who], plain)
            for who, plain in parts.items()
        }
        self.blob = b"".join(blobs[who] for who in sorted(blobs))
        sealed = sealing.seal_key_list(
            self.client.status().keys_key, dataset=self.dataset, version=version, keys=self.keys
        )
        report = {"quality": {"checked": len(parts)}}
        given = {
            "dataset": self.dataset.hex,
            "format": form,
            "categories": [CATEGORY[form]],
            "columns": columns,
            "reportDigest": to_hex(sha256(canonical(report))),
        }
        manifest = self.manifest(blobs, sha256(sealed), **(given | changes))
        signature = sign_document(self.publisher.key, MANIFEST_KIND, manifest, self.domain)
        self.catalogue.draft(self.publisher.actor, self.dataset, manifest, signature, report)
        self.client.deposit(self.dataset, version, sealed)
        return version

    def hand_in(self, parts: Mapping[SubjectId, bytes], **given: Any) -> int:
        """As :meth:`draft`, and all its bytes: the version is received."""
        version = self.draft(parts, **given)
        self.catalogue.receive(self.publisher.actor, self.dataset, version, [self.blob])
        return version

    def publish_parts(self, parts: Mapping[SubjectId, bytes], **given: Any) -> None:
        """Hand in and publish, as intake does when it finds nothing."""
        self.hand_in(parts, **given)
        self.publish()

    def publish_rows(
        self, rows: Sequence[tuple[Patient, dict[str, Any]]], columns: list[dict[str, Any]]
    ) -> None:
        """A published table with one row for each patient."""
        parts = {who.subject: lines([a_row(**cells)]) for who, cells in rows}
        self.publish_parts(parts, form="table", columns=columns)

    def version(self, version: int = 1) -> dict[str, Any]:
        return self.catalogue.status(self.publisher.actor, self.dataset, version)

    def spec(self, **changes: Any) -> dict[str, Any]:
        """A job as it is signed: a count of everything, unless changed."""
        return (
            self.request(categories=self.categories())
            | {
                "kind": JOB_KIND,
                "job": "query",
                "action": "use",
                "model": None,
                "parameters": {"filters": [], "want": "count"},
                "slots": None,
            }
            | changes
        )

    def categories(self) -> list[str]:
        table = schema.datasets
        with self.store.reading() as conn:
            found = conn.execute(
                sa.select(table.c.categories).where(table.c.dataset_id == self.dataset.hex)
            ).scalar_one_or_none()
        return ["tables"] if found is None else list(json.loads(found))

    def sign(self, kind: str, document: dict[str, Any], who: Hospital | None = None) -> bytes:
        return sign_document((who or self.requester).key, kind, document, self.domain)

    def submit(self, **changes: Any) -> JobId:
        """Submit a job of the requester's."""
        spec = self.spec(**changes)
        told = self.jobs.submit(self.requester.actor, spec, self.sign(JOB_KIND, spec))
        return JobId.parse(told["job"])

    def count(self, *filters: dict[str, str], **changes: Any) -> JobId:
        return self.submit(parameters={"filters": list(filters), "want": "count"}, **changes)

    def rows_of(self, *filters: dict[str, str], columns: list[str]) -> JobId:
        parameters = {"filters": list(filters), "columns": columns, "want": "rows"}
        return self.submit(parameters=parameters, action="disclose")

    def status(self, job: JobId) -> dict[str, Any]:
        return self.jobs.status(self.requester.actor, job)

    def answer(self, job: JobId) -> dict[str, Any]:
        """The result of a job, opened with the requester's key."""
        sealed = self.jobs.result(self.requester.actor, job)
        info = sealing.result_info(job)
        opened: dict[str, Any] = json.loads(
            sealing.open_sealed(self.requester.receive[0], sealed, info=info)
        )
        return opened

    def register(self, weights: bytes, card: dict[str, Any], **changes: Any) -> ModelDigest:
        """Register a model of the requester's."""
        document = {
            "kind": MODEL_KIND,
            "org": self.requester.org.hex,
            "card": card,
            "digest": to_hex(sha256(weights)),
        } | changes
        signature = self.sign(MODEL_KIND, document)
        return self.models.register(self.requester.actor, document, weights, signature)

    def consenting(
        self, count: int, hospital: Hospital | None = None, **changes: Any
    ) -> tuple[list[Patient], list[ConsentId]]:
        """Enrolled patients who consent to everything, unless changed."""
        patients = self.enrol(count, hospital)
        given = {"categories": "*"} | changes
        return patients, [self.grant(patient, **given) for patient in patients]

    def bodies(self, kind: Kind) -> list[dict[str, Any]]:
        """What the leaves of a kind say, oldest first."""
        table = schema.leaves
        query = sa.select(table.c.body).where(table.c.kind == kind).order_by(table.c.idx)
        with self.store.reading() as conn:
            return [json.loads(body) for body in conn.execute(query).scalars()]

    def states(self, job: JobId) -> dict[str, str]:
        """What became of each subject of a job."""
        table = schema.job_subjects
        query = sa.select(table.c.subject, table.c.state).where(table.c.job_id == job.hex)
        with self.store.reading() as conn:
            return {row.subject: row.state for row in conn.execute(query)}
