"""De-identify, check, group by subject, seal, sign, upload (walk B of the house, step 1).

Runs on the hospital's premises and is the only place outside the worker's child where records are in the
clear. A record that cannot be de-identified, or is unfit, is set aside with its position; the good part
goes on. Nothing is uploaded before everything was sealed, so an interrupted run leaves no half version
at the exchange, and a repeated one with the same input starts a new version only if the first got there.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from anonymize.context import PatientContext
from anonymize.deidentify import Deidentifier
from anonymize.keys import DeidentificationKey
from anonymize.profile import Profile
from anonymize.record import Quarantined, Record
from anonymize.table import TableSchema
from exchange.documents import MANIFEST_KIND
from exchange.errors import Malformed
from exchange.hospital.client import ExchangeClient
from exchange.hospital.identity import Identity
from exchange.hospital.sources import SetAside, Source
from exchange.hospital.subjects import SubjectMap
from exchange.quality import Column, Quality
from exchange.sealing import PartContext, new_key, seal_key_list, seal_part
from ledger.commitment import canonical
from ledger.ids import DatasetId, SubjectId
from ledger.signing import sign_document

Progress = Callable[[str, int, int], None]
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class Published:
    """What became of a publication: ids, counts, and what was set aside (positions, no contents)."""

    dataset: DatasetId
    version: int
    subjects: int
    records: int
    aside: tuple[SetAside, ...]
    report: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "dataset": self.dataset.hex,
            "version": self.version,
            "subjects": self.subjects,
            "records": self.records,
            "setAside": [{"position": one.position, "reason": one.reason} for one in self.aside],
            "report": self.report,
        }


@dataclass
class Prepared:
    """De-identified records by subject (plain, at the hospital), before sealing."""

    by_subject: dict[SubjectId, list[bytes]]
    aside: list[SetAside]
    report: dict[str, Any]

    @property
    def records(self) -> int:
        """How many records will be published."""
        return sum(len(lines) for lines in self.by_subject.values())


def prepare(
    sources: list[Source],
    *,
    identity: Identity,
    subjects: SubjectMap,
    profile: Profile,
    contexts: dict[str, dict[str, Any]],
    columns: list[Column],
    schema: TableSchema | None,
    progress: Progress,
) -> Prepared:
    """De-identify and check every record; group the good ones by subject.

    ``contexts`` maps record numbers to FHIR Patient resources: what the structured record knows of a
    patient is removed from that patient's records.

    Raises:
        NotFound: a record number has no subject yet.
        AnonymizeError: the engine cannot start.
    """
    key = DeidentificationKey(identity.deidentification)
    engine = Deidentifier(profile, key)
    known: dict[str, PatientContext | None] = {}
    ids: dict[str, SubjectId] = {}

    def records() -> Iterator[Record]:
        for source in sources:
            if source.record not in ids:
                ids[source.record] = subjects.subject_of(source.record)
                patient = contexts.get(source.record)
                known[source.record] = (
                    None
                    if patient is None
                    else PatientContext.from_fhir(patient, subject=ids[source.record].hex)
                )
            yield Record(
                kind=source.kind,  # type: ignore[arg-type]  # sources yields these three kinds
                subject=ids[source.record].hex,
                content=_with_record(source, schema),
                context=known[source.record],
                position=source.position,
                schema=schema,
            )

    aside: list[SetAside] = []
    by_subject: dict[SubjectId, list[bytes]] = {}
    quality = Quality()
    for number, (source, outcome) in enumerate(
        zip(sources, engine.deidentify_batch(records()), strict=True), start=1
    ):
        progress("de-identifying", number, len(sources))
        if isinstance(outcome, Quarantined):
            aside.append(SetAside(source.position, outcome.reason_code))
            continue
        subject = ids[source.record]
        lines = by_subject.setdefault(subject, [])
        content = outcome.record.content
        if schema is not None and isinstance(content, dict):
            # Whose row it is stands in its part; a pseudonym of the record number helps nobody.
            content = {name: cell for name, cell in content.items() if name != schema.subject}
        elif source.kind == "fhir" and isinstance(content, str):
            content = json.loads(content)
        record = {"id": str(len(lines)), "kind": source.kind, "content": content}
        reason = quality.check(subject.hex, len(lines), record, columns)
        if reason is not None:
            aside.append(SetAside(source.position, reason))
            continue
        lines.append(json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode())
    report = {"deidentification": _signable(engine.report.to_json()), "quality": quality.report()}
    return Prepared({who: lines for who, lines in by_subject.items() if lines}, aside, report)


def publish(
    client: ExchangeClient,
    identity: Identity,
    prepared: Prepared,
    *,
    dataset: DatasetId,
    form: str,
    categories: list[str],
    columns: list[dict[str, Any]] | None,
    work_dir: Path,
    progress: Progress,
) -> Published:
    """Seal every subject's records, sign the manifest, upload keys and bytes.

    Raises:
        Malformed: nothing is left to publish.
        Problem: the exchange refused.
    """
    if not prepared.by_subject:
        raise Malformed("nothing to publish: every record was set aside")
    pins = identity.pins()
    status = client.get("/v1/hospital/datasets")["items"]
    version = 1 + max(
        (row["version"] for row in status if row["dataset"] == dataset.hex), default=0
    )
    blob = work_dir / f".{dataset.hex}-{version}-{os.getpid()}.sealed"
    keys: dict[SubjectId, bytes] = {}
    parts: list[dict[str, Any]] = []
    total = sha256()
    offset = 0
    try:
        with blob.open("wb") as file:
            ordered = sorted(prepared.by_subject, key=lambda who: who.raw)
            for number, subject in enumerate(ordered, start=1):
                progress("sealing", number, len(ordered))
                key = new_key()
                lines = prepared.by_subject[subject]
                context = PartContext(identity.org, dataset, version, subject)
                sealed = seal_part(key, context, b"\n".join(lines) + b"\n")
                file.write(sealed)
                total.update(sealed)
                keys[subject] = key
                parts.append(
                    {
                        "subject": subject.hex,
                        "offset": offset,
                        "length": len(sealed),
                        "digest": "0x" + sha256(sealed).hexdigest(),
                        "records": len(lines),
                    }
                )
                offset += len(sealed)
        sealed_keys = seal_key_list(pins.keys_key, dataset=dataset, version=version, keys=keys)
        manifest = {
            "kind": MANIFEST_KIND,
            "org": identity.org.hex,
            "dataset": dataset.hex,
            "version": version,
            "categories": sorted(categories),
            "format": form,
            "columns": columns,
            "records": prepared.records,
            "size": offset,
            "sha256": "0x" + total.hexdigest(),
            "keysDigest": "0x" + sha256(sealed_keys).hexdigest(),
            "reportDigest": "0x" + sha256(canonical(prepared.report)).hexdigest(),
            "parts": parts,
            "made": int(time.time()),
        }
        signature = sign_document(identity.signing, MANIFEST_KIND, manifest, pins.domain)
        base = f"/v1/datasets/{dataset.hex}/versions"
        client.post(
            base,
            {
                "manifest": manifest,
                "signature": "0x" + signature.hex(),
                "report": prepared.report,
            },
        )
        client.put(f"{base}/{version}/keys", sealed_keys)
        client.put(f"{base}/{version}/content", _chunks(blob, offset, progress))
    finally:
        blob.unlink(missing_ok=True)
    return Published(
        dataset, version, len(parts), prepared.records, tuple(prepared.aside), prepared.report
    )


def await_intake(
    client: ExchangeClient, published: Published, *, seconds: float, progress: Progress
) -> dict[str, Any]:
    """Wait until the exchange has inspected a version; its status as the hospital sees it.

    Raises:
        Malformed: intake takes longer than ``seconds``; ask again later.
    """
    end = time.monotonic() + seconds
    path = f"/v1/datasets/{published.dataset.hex}/versions/{published.version}"
    while time.monotonic() < end:
        status: dict[str, Any] = client.get(path)
        if status["status"] in ("published", "refused"):
            return status
        progress("waiting for intake", 0, 0)
        time.sleep(0.1)
    raise Malformed("intake has not finished yet: ask later with `assent hospital datasets`")


def describe_columns(names: list[str], rows: list[Source]) -> list[dict[str, Any]]:
    """Column descriptions guessed from a table: numbers where every filled cell is one."""
    counted: Counter[str] = Counter()
    for row in rows:
        for name in names:
            value = row.content[name]
            if value is not None and not _is_number(value):
                counted[name] += 1
    return [
        {
            "name": name,
            "type": "text" if counted[name] else "number",
            "unit": None,
            "min": None,
            "max": None,
        }
        for name in names
    ]


def _with_record(source: Source, schema: TableSchema | None) -> Any:
    """A row as de-identification takes it: with the column that says whose it is."""
    if schema is None:
        return source.content
    return {schema.subject: source.record, **source.content}


def _signable(report: dict[str, Any]) -> dict[str, Any]:
    """The report with its fractions as decimal strings, since signed documents hold no floats."""
    return {
        name: f"{value:.6f}" if isinstance(value, float) else value
        for name, value in report.items()
    }


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _chunks(path: Path, size: int, progress: Progress) -> Iterator[bytes]:
    sent = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
            sent += len(chunk)
            progress("uploading", sent, size)
