"""The documents that hospitals sign: their kinds, their fields, and strict readers.

A document is a JSON object without floats; its signature is over ``Document{kind, documentHash}`` (EIP-712,
``ledger.signing``), ``documentHash`` being the SHA-256 of its canonical form. A reader refuses unknown and
missing fields, so that what was signed is what is understood.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from exchange.errors import DocumentMalformed
from ledger.commitment import canonical, sha256
from ledger.errors import IdMalformed
from ledger.ids import ConsentId, DatasetId, OrgId, SubjectId
from ledger.signing import Domain, verify_document

CARD_KIND = "assent.card/1"
KEYS_KEY_KIND = "assent.keys-key/1"
MANIFEST_KIND = "assent.manifest/1"
REQUEST_KIND = "assent.request/1"
JOB_KIND = "assent.job/1"
MODEL_KIND = "assent.model/1"
TRAILER_KIND = "assent.trailer/1"

#: Cards are signed outside any deployment, so that a hospital may found several with one card.
CARD_DOMAIN = Domain(bytes(32))

FORMATS = ("notes", "fhir", "table")
CATEGORIES = ("clinical", "genomics", "images", "notes", "tables")
_HEX = re.compile(r"0x(?:[0-9a-f]{2})*")
_MAX_SUBJECTS = 200_000
_MAX_SLOTS = 8_192


def digest(document: Mapping[str, Any]) -> bytes:
    """SHA-256 (32 bytes) of a document's canonical form."""
    return sha256(canonical(dict(document)))


def hex_bytes(document: Mapping[str, Any], field: str, length: int) -> bytes:
    """A ``0x…`` field of exactly ``length`` bytes.

    Raises:
        DocumentMalformed: it is something else.
    """
    value = document.get(field)
    if not isinstance(value, str) or not _HEX.fullmatch(value) or len(value) != 2 + 2 * length:
        raise DocumentMalformed(f"/{field}", f"must be 0x and {2 * length} lower-case hex digits")
    return bytes.fromhex(value[2:])


def fields(document: Any, kind: str, names: set[str]) -> dict[str, Any]:
    """The document itself, once its kind and its exact fields were checked.

    Raises:
        DocumentMalformed: not an object, another kind, a field too many or too few.
    """
    if not isinstance(document, dict):
        raise DocumentMalformed("", "must be an object")
    if document.get("kind") != kind:
        raise DocumentMalformed("/kind", f"must be {kind}")
    wanted = names | {"kind"}
    if missing := sorted(wanted - set(document)):
        raise DocumentMalformed("/" + missing[0], "is missing")
    if unknown := sorted(set(document) - wanted):
        raise DocumentMalformed("/" + str(unknown[0])[:40], "is not a field of this document")
    return document


def integer(document: Mapping[str, Any], field: str, *, least: int = 0) -> int:
    """A whole number that JSON readers agree on (below 2**53).

    Raises:
        DocumentMalformed: it is something else, or less than ``least``.
    """
    value = document.get(field)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**53:
        raise DocumentMalformed(f"/{field}", f"must be a whole number, at least {least}")
    return value


def words(document: Mapping[str, Any], field: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """A sorted, non-empty list of known words.

    Raises:
        DocumentMalformed: empty, unsorted, repeated or unknown.
    """
    value = document.get(field)
    if not isinstance(value, list) or not value or any(word not in allowed for word in value):
        raise DocumentMalformed(f"/{field}", "must list one or more of " + ", ".join(allowed))
    if value != sorted(set(value)):
        raise DocumentMalformed(f"/{field}", "must be sorted and without repetition")
    return tuple(value)


def check_card(stored: Any) -> dict[str, Any]:
    """The card inside a signed card ``{"card", "signature"}``, its own signature and id checked.

    Raises:
        DocumentMalformed: a field is missing, or the id is not derived from the address.
        SignatureInvalid: the signature is not by the card's own address.
    """
    if not isinstance(stored, dict) or set(stored) != {"card", "signature"}:
        raise DocumentMalformed("", "a signed card holds card and signature, nothing else")
    card = fields(
        stored["card"], CARD_KIND, {"org", "name", "address", "receiveKey", "authJwk", "made"}
    )
    address = hex_bytes(card, "address", 20)
    hex_bytes(card, "receiveKey", 32)
    integer(card, "made")
    if not isinstance(card["name"], str) or not 0 < len(card["name"].strip()) <= 120:
        raise DocumentMalformed("/name", "must have 1 to 120 characters")
    if not isinstance(card["authJwk"], dict):
        raise DocumentMalformed("/authJwk", "must be a public key as a JWK")
    verify_document(CARD_KIND, card, hex_bytes(stored, "signature", 64), address, CARD_DOMAIN)
    if OrgId.of_address(address).hex != card["org"]:
        raise DocumentMalformed("/org", "must be derived from the address")
    return card


@dataclass(frozen=True)
class Part:
    """Where one subject's sealed records lie in a dataset version's blob (bytes), and their digest."""

    subject: SubjectId
    offset: int
    length: int
    digest: bytes
    records: int


@dataclass(frozen=True)
class Manifest:
    """What a hospital signs about one dataset version: all of it, so that nothing can be added."""

    org: OrgId
    dataset: DatasetId
    version: int
    categories: tuple[str, ...]
    format: str
    columns: tuple[dict[str, Any], ...] | None
    records: int
    size: int
    sha256: bytes
    keys_digest: bytes
    report_digest: bytes
    parts: tuple[Part, ...]
    document: dict[str, Any]

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the signed document."""
        return digest(self.document)


def read_manifest(document: Any) -> Manifest:
    """A manifest, its parts contiguous, sorted by subject and of the publishing hospital.

    Raises:
        DocumentMalformed: with the pointer of the field that is wrong.
    """
    manifest = fields(
        document,
        MANIFEST_KIND,
        {
            "org", "dataset", "version", "categories", "format", "columns", "records", "size",
            "sha256", "keysDigest", "reportDigest", "parts", "made",
        },
    )  # fmt: skip
    org = _id(manifest, "org", OrgId)
    integer(manifest, "made")
    if manifest["format"] not in FORMATS:
        raise DocumentMalformed("/format", "must be one of " + ", ".join(FORMATS))
    columns = manifest["columns"]
    if columns is not None and (
        not isinstance(columns, list) or any(not isinstance(column, dict) for column in columns)
    ):
        raise DocumentMalformed("/columns", "must be null or a list of column descriptions")
    if (columns is None) != (manifest["format"] != "table"):
        raise DocumentMalformed(
            "/columns", "must describe a table's columns, and be null otherwise"
        )
    raw_parts = manifest["parts"]
    if not isinstance(raw_parts, list) or not 0 < len(raw_parts) <= _MAX_SUBJECTS:
        raise DocumentMalformed("/parts", f"must list 1 to {_MAX_SUBJECTS} parts")
    parts: list[Part] = []
    offset = 0
    for index, raw in enumerate(raw_parts):
        part = _part(raw, f"/parts/{index}")
        if part.subject.org != org:
            raise DocumentMalformed(f"/parts/{index}/subject", "is another hospital's subject")
        if parts and part.subject.raw <= parts[-1].subject.raw:
            raise DocumentMalformed(f"/parts/{index}/subject", "must be in ascending order")
        if part.offset != offset:
            raise DocumentMalformed(f"/parts/{index}/offset", "must follow the part before it")
        offset += part.length
        parts.append(part)
    if offset != integer(manifest, "size", least=1):
        raise DocumentMalformed("/size", "must be the sum of the parts' lengths")
    if sum(part.records for part in parts) != integer(manifest, "records", least=1):
        raise DocumentMalformed("/records", "must be the sum of the parts' records")
    return Manifest(
        org=org,
        dataset=_id(manifest, "dataset", DatasetId),
        version=integer(manifest, "version", least=1),
        categories=words(manifest, "categories", CATEGORIES),
        format=manifest["format"],
        columns=None if columns is None else tuple(columns),
        records=manifest["records"],
        size=manifest["size"],
        sha256=hex_bytes(manifest, "sha256", 32),
        keys_digest=hex_bytes(manifest, "keysDigest", 32),
        report_digest=hex_bytes(manifest, "reportDigest", 32),
        parts=tuple(parts),
        document=manifest,
    )


def _part(raw: Any, pointer: str) -> Part:
    names = {"subject", "offset", "length", "digest", "records"}
    if not isinstance(raw, dict) or set(raw) != names:
        raise DocumentMalformed(pointer, "must have exactly " + ", ".join(sorted(names)))
    try:
        return Part(
            subject=SubjectId.parse(raw["subject"]),
            offset=integer(raw, "offset"),
            length=integer(raw, "length", least=1),
            digest=hex_bytes(raw, "digest", 32),
            records=integer(raw, "records", least=1),
        )
    except IdMalformed as error:
        raise DocumentMalformed(f"{pointer}/subject", "is not a subject id") from error
    except DocumentMalformed as error:
        raise DocumentMalformed(pointer + error.pointer, error.what) from error


@dataclass(frozen=True)
class ReleaseRequest:
    """A hospital's signed request for the records of one dataset version."""

    requester: OrgId
    dataset: DatasetId
    version: int
    purpose: str
    categories: tuple[str, ...]
    receive_key: bytes
    at: int
    document: dict[str, Any]

    @property
    def digest(self) -> bytes:
        """SHA-256 of the signed document; a document serves once, by its nonce."""
        return digest(self.document)


def read_request(document: Any) -> ReleaseRequest:
    """A release request.

    Raises:
        DocumentMalformed: with the pointer of the field that is wrong.
    """
    request = fields(
        document,
        REQUEST_KIND,
        {
            "requester", "dataset", "version", "purpose", "categories", "action", "receiveKey",
            "nonce", "at",
        },
    )  # fmt: skip
    if request["action"] != "disclose":
        raise DocumentMalformed("/action", "must be disclose: a release hands records over")
    if not isinstance(request["purpose"], str) or not request["purpose"]:
        raise DocumentMalformed("/purpose", "must be a purpose-of-use code such as HRESCH")
    hex_bytes(request, "nonce", 16)
    return ReleaseRequest(
        requester=_id(request, "requester", OrgId),
        dataset=_id(request, "dataset", DatasetId),
        version=integer(request, "version", least=1),
        purpose=request["purpose"],
        categories=words(request, "categories", CATEGORIES),
        receive_key=hex_bytes(request, "receiveKey", 32),
        at=integer(request, "at", least=1),
        document=request,
    )


def _id(document: Mapping[str, Any], field: str, kind: Any) -> Any:
    try:
        return kind.parse(document[field])
    except IdMalformed as error:
        raise DocumentMalformed(f"/{field}", f"is not a {kind.__name__}") from error


JOB_FORMS = ("encrypted-inference", "plain-inference", "query", "statistics")


@dataclass(frozen=True)
class JobRequest:
    """A hospital's signed request to compute: what, on which dataset version, for which purpose.

    ``slots`` are the ``(subject, consent)`` pairs of an encrypted job, in the order of its ciphertext's
    slots (decision D9); None for jobs on published records. Numbers in ``parameters`` are decimal strings
    or whole, since signed documents hold no floats.
    """

    job: str
    requester: OrgId
    dataset: DatasetId | None
    version: int | None
    purpose: str
    categories: tuple[str, ...]
    action: str
    model: str | None
    parameters: dict[str, Any]
    slots: tuple[tuple[SubjectId, str], ...] | None
    receive_key: bytes
    at: int
    document: dict[str, Any]

    @property
    def digest(self) -> bytes:
        """SHA-256 of the signed document; a document serves once, by its nonce."""
        return digest(self.document)


def read_job(document: Any) -> JobRequest:
    """A job request.

    Raises:
        DocumentMalformed: with the pointer of the field that is wrong.
    """
    job = fields(
        document,
        JOB_KIND,
        {
            "job", "requester", "dataset", "version", "purpose", "categories", "action", "model",
            "parameters", "slots", "receiveKey", "nonce", "at",
        },
    )  # fmt: skip
    if job["job"] not in JOB_FORMS:
        raise DocumentMalformed("/job", "must be one of " + ", ".join(JOB_FORMS))
    if job["action"] not in ("disclose", "use"):
        raise DocumentMalformed("/action", "must be disclose or use")
    if not isinstance(job["purpose"], str) or not job["purpose"]:
        raise DocumentMalformed("/purpose", "must be a purpose-of-use code such as HRESCH")
    if not isinstance(job["parameters"], dict):
        raise DocumentMalformed("/parameters", "must be an object")
    hex_bytes(job, "nonce", 16)
    needs_model = job["job"] in ("encrypted-inference", "plain-inference")
    if needs_model != (job["model"] is not None):
        raise DocumentMalformed("/model", "must name a model for inference, and only then")
    if needs_model:
        hex_bytes(job, "model", 32)
    encrypted = job["job"] == "encrypted-inference"
    if encrypted != (job["slots"] is not None) or encrypted != (job["dataset"] is None):
        raise DocumentMalformed("/slots", "belong to encrypted jobs, a dataset to all others")
    return JobRequest(
        job=job["job"],
        requester=_id(job, "requester", OrgId),
        dataset=None if encrypted else _id(job, "dataset", DatasetId),
        version=None if encrypted else integer(job, "version", least=1),
        purpose=job["purpose"],
        categories=words(job, "categories", CATEGORIES),
        action=job["action"],
        model=job["model"],
        parameters=job["parameters"],
        slots=_slots(job["slots"]) if encrypted else None,
        receive_key=hex_bytes(job, "receiveKey", 32),
        at=integer(job, "at", least=1),
        document=job,
    )


def _slots(raw: Any) -> tuple[tuple[SubjectId, str], ...]:
    if not isinstance(raw, list) or not 0 < len(raw) <= _MAX_SLOTS:
        raise DocumentMalformed("/slots", f"must list 1 to {_MAX_SLOTS} pairs")
    slots = []
    for index, pair in enumerate(raw):
        if not isinstance(pair, list):
            raise DocumentMalformed(f"/slots/{index}", "must be [subject, consent]")
        try:
            subject, consent = pair
            slots.append((SubjectId.parse(subject), ConsentId.parse(consent).hex))
        except (ValueError, IdMalformed) as error:
            raise DocumentMalformed(f"/slots/{index}", "must be [subject, consent]") from error
    return tuple(slots)
