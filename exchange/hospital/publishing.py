"""``assent hospital publish``: from a file on disk to a published dataset version."""

from __future__ import annotations

import re
import uuid
from pathlib import Path
from typing import Any

from anonymize.profile import named
from anonymize.table import Role, TableSchema
from exchange.hospital.client import ExchangeClient
from exchange.hospital.identity import Identity
from exchange.hospital.publish import (
    Progress,
    await_intake,
    describe_columns,
    prepare,
    publish,
)
from exchange.hospital.sources import read, read_patients
from exchange.hospital.subjects import SubjectMap
from exchange.quality import read_columns
from ledger.ids import DatasetId

CATEGORY = {"notes": "notes", "fhir": "clinical", "table": "tables"}

_ROLES = (
    (re.compile(r"^(age|age_?years?)$", re.IGNORECASE), Role.AGE),
    (re.compile(r"(^|_)(zip|postcode|postal_?code)$", re.IGNORECASE), Role.ZIP),
    (re.compile(r"(^|_)(date|dob|birth_?date|day)$", re.IGNORECASE), Role.DATE),
    (
        re.compile(
            r"(name|surname|ssn|mrn|phone|email|address|insurance|passport|licen[cs]e)",
            re.IGNORECASE,
        ),
        Role.IDENTIFIER,
    ),
    (re.compile(r"(note|comment|text|remark|narrative)s?$", re.IGNORECASE), Role.FREE_TEXT),
)


def publish_file(
    home: Path,
    source: Path,
    *,
    form: str,
    title: str,
    description: str = "",
    dataset: str | None = None,
    categories: list[str] | None = None,
    patients: Path | None = None,
    record_column: str | None = None,
    profile: str = "safe-harbor",
    wait_seconds: float = 120.0,
    progress: Progress,
) -> dict[str, Any]:
    """Publish one file; what became of it, intake's verdict included.

    Raises:
        Malformed: the file cannot be read, or nothing is left to publish.
        NotFound: a record number has no subject.
        Problem: the exchange refused.
    """
    identity = Identity.load(home)
    found = read(source, form, record_column=record_column)
    contexts = found.patients if patients is None else read_patients(patients)
    described, schema = None, None
    if form == "table":
        described = describe_columns(found.columns, found.sources)
        schema = guess_schema(found.columns)
    prepared = prepare(
        found.sources,
        identity=identity,
        subjects=SubjectMap(home / "subjects.sqlite", identity.org),
        profile=named(profile),
        contexts=contexts,
        columns=read_columns(described or []),
        schema=schema,
        progress=progress,
    )
    prepared.aside[:0] = found.aside
    client = ExchangeClient.of(identity)
    try:
        words = sorted(categories or [CATEGORY[form]])
        if dataset is None:
            body = {"title": title, "description": description, "kind": form, "categories": words}
            dataset = client.post("/v1/datasets", body, key=uuid.uuid4().hex)["dataset"]
        published = publish(
            client,
            identity,
            prepared,
            dataset=DatasetId.parse(dataset),
            form=form,
            categories=words,
            columns=described,
            work_dir=home,
            progress=progress,
        )
        status = await_intake(client, published, seconds=wait_seconds, progress=progress)
    finally:
        client.close()
    return published.to_json() | {"status": status["status"], "quality": status["quality"]}


#: The subject column that de-identification asks for; a published row has none, its part says whose it is.
SUBJECT_COLUMN = "record number"


def guess_schema(columns: list[str]) -> TableSchema:
    """A role for every column by its name: what is not recognised is a value, looked through."""
    roles = {SUBJECT_COLUMN: Role.SUBJECT}
    for name in columns:
        roles[name] = next((role for test, role in _ROLES if test.search(name)), Role.VALUE)
    return TableSchema(roles)
