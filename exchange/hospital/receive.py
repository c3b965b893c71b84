"""Opening a release at the requester: nothing is kept before the signed trailer says what it is.

Records are written to ``<release>.ndjson.partial`` as they open, one JSON object a line, each with
its ``subject``. A subject that was stopped is cut off again. When the trailer is signed by the
pinned exchange key and says exactly what arrived, the file takes its name, and the trailer is kept
beside it as ``<release>.trailer.json``. Anything else leaves no file behind.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from exchange.documents import TRAILER_KIND
from exchange.errors import EnvelopeCorrupt
from exchange.sealing import (
    PartContext,
    open_sealed,
    open_stream,
    release_info,
    unwrap_released,
)
from exchange.stream import DATA, HEADER, KEY, STOPPED, TRAILER, read_json, read_messages
from ledger.commitment import canonical
from ledger.errors import IdMalformed, MalformedValue
from ledger.ids import DatasetId, OrgId, ReleaseId, SubjectId
from ledger.signing import Domain, from_hex, to_hex, verify_document

_RECORDS = json.JSONDecoder()
_LONGEST_LINE = 64 << 20


@dataclass(frozen=True)
class Received:
    """What was received. ``records`` counts lines of ``path``; ids are ``0x`` hex."""

    path: Path
    trailer_path: Path
    release: ReleaseId
    dataset: DatasetId
    version: int
    manifest_digest: bytes
    delivered: tuple[SubjectId, ...]
    stopped: tuple[SubjectId, ...]
    records: int
    leaf: int


@dataclass(frozen=True)
class _Header:
    release: ReleaseId
    org: OrgId
    dataset: DatasetId
    version: int
    requester: OrgId
    manifest_digest: bytes
    release_key: bytes


def open_release_stream(
    stream: Iterable[bytes],
    receive_private_key: bytes,
    exchange_address: bytes,
    domain: Domain,
    out_dir: Path,
    *,
    release: ReleaseId | None = None,
    manifest_digest: bytes | None = None,
) -> Received:
    """Open a release stream into ``out_dir``; return what was received.

    ``receive_private_key`` is the raw X25519 key that the request named, ``exchange_address`` the
    20 bytes pinned of the exchange. ``release`` and ``manifest_digest``, where given, must be the
    stream's own.

    Raises:
        EnvelopeCorrupt: cut, changed, to another receiver, or other than the trailer says.
        EnvelopeVersionUnknown: a format that this code does not know.
        SignatureInvalid: the trailer is not signed by the exchange.

    """
    messages = read_messages(stream)
    kind, payload = next(messages, (b"", b""))
    if kind != HEADER:
        raise EnvelopeCorrupt("a release stream begins without its header")
    header = _read_header(payload, receive_private_key)
    if release is not None and header.release != release:
        raise EnvelopeCorrupt("the stream is of another release")
    if manifest_digest is not None and header.manifest_digest != manifest_digest:
        raise EnvelopeCorrupt("the stream is of another manifest")
    out_dir.mkdir(parents=True, exist_ok=True)
    path = out_dir / f"{header.release.hex}.ndjson"
    partial = out_dir / f"{header.release.hex}.ndjson.partial"
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            reader = _Reader(header, file)
            trailer, signature = reader.run(messages)
            verify_document(TRAILER_KIND, trailer, signature, exchange_address, domain)
            reader.compare(trailer)
            file.flush()
            os.fsync(file.fileno())
        trailer_path = out_dir / f"{header.release.hex}.trailer.json"
        trailer_path.write_bytes(
            canonical({"trailer": trailer, "signature": to_hex(signature)}) + b"\n"
        )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return Received(
        path=path,
        trailer_path=trailer_path,
        release=header.release,
        dataset=header.dataset,
        version=header.version,
        manifest_digest=header.manifest_digest,
        delivered=tuple(sorted(reader.delivered)),
        stopped=tuple(sorted(reader.stopped)),
        records=reader.records,
        leaf=trailer["leaf"],
    )


def _read_header(payload: bytes, private: bytes) -> _Header:
    names = {"release", "org", "dataset", "version", "requester", "manifestDigest", "releaseKey"}
    document = read_json(payload, names)
    try:
        release = ReleaseId.parse(document["release"])
        version = document["version"]
        if type(version) is not int:
            raise EnvelopeCorrupt("a release stream's header is malformed")
        return _Header(
            release=release,
            org=OrgId.parse(document["org"]),
            dataset=DatasetId.parse(document["dataset"]),
            version=version,
            requester=OrgId.parse(document["requester"]),
            manifest_digest=from_hex(document["manifestDigest"], 32),
            release_key=open_sealed(
                private, from_hex(document["releaseKey"]), info=release_info(release)
            ),
        )
    except (IdMalformed, MalformedValue):
        raise EnvelopeCorrupt("a release stream's header is malformed") from None


class _Reader:
    """Follows the messages; knows at every moment what the file holds."""

    def __init__(self, header: _Header, file: IO[bytes]) -> None:
        self._header = header
        self._file = file
        self.delivered: dict[SubjectId, bytes] = {}
        self.stopped: set[SubjectId] = set()
        self.records = 0

    def run(self, messages: Iterator[tuple[bytes, bytes]]) -> tuple[dict[str, Any], bytes]:
        """Write what opens; return trailer and signature as the stream has them."""
        for kind, payload in messages:
            if kind == KEY:
                self._subject(payload, messages)
            elif kind == STOPPED:
                self._stop(payload)
            elif kind == TRAILER:
                if next(messages, None) is not None:
                    raise EnvelopeCorrupt("something follows the trailer")
                document = read_json(payload, {"trailer", "signature"})
                if not isinstance(document["trailer"], dict):
                    raise EnvelopeCorrupt("the trailer is malformed")
                try:
                    return document["trailer"], from_hex(document["signature"], 64)
                except MalformedValue:
                    raise EnvelopeCorrupt("the trailer is malformed") from None
            else:
                raise EnvelopeCorrupt("a message stands in the wrong place")
        raise EnvelopeCorrupt("the stream ended without a trailer: it is not everything")

    def compare(self, trailer: dict[str, Any]) -> None:
        """Hold the signed trailer against what arrived. Raises EnvelopeCorrupt."""
        header = self._header
        expected = {
            "kind": TRAILER_KIND,
            "release": header.release.hex,
            "requester": header.requester.hex,
            "dataset": header.dataset.hex,
            "version": header.version,
            "manifestDigest": to_hex(header.manifest_digest),
            "delivered": [
                [subject.hex, to_hex(self.delivered[subject])] for subject in sorted(self.delivered)
            ],
            "stopped": [subject.hex for subject in sorted(self.stopped)],
            "leaf": trailer.get("leaf"),
        }
        if trailer != expected or type(trailer["leaf"]) is not int:
            raise EnvelopeCorrupt("the trailer says something else than what arrived")

    def _stop(self, payload: bytes) -> SubjectId:
        subject = _subject(read_json(payload, {"subject"}))
        if subject in self.delivered or subject in self.stopped:
            raise EnvelopeCorrupt(f"{subject} was told twice")
        self.stopped.add(subject)
        return subject

    def _subject(self, payload: bytes, messages: Iterator[tuple[bytes, bytes]]) -> None:
        told = read_json(payload, {"subject", "wrapped", "digest", "length", "records"})
        subject = _subject(told)
        if subject in self.delivered or subject in self.stopped:
            raise EnvelopeCorrupt(f"{subject} was told twice")
        header = self._header
        length = told["length"]
        try:
            digest = from_hex(told["digest"], 32)
            key = unwrap_released(
                header.release_key,
                from_hex(told["wrapped"]),
                release=header.release,
                subject=subject,
            )
        except MalformedValue:
            raise EnvelopeCorrupt(f"the key of {subject} is malformed") from None
        context = PartContext(header.org, header.dataset, header.version, subject)
        start, before = self._file.tell(), self.records
        data = _PartData(messages, length)
        try:
            self._write(subject, open_stream(key, context, data))
        except _Stopped as stop:
            if self._stop(stop.payload) != subject:
                raise EnvelopeCorrupt(f"another subject than {subject} was stopped") from None
            self._file.seek(start)
            self._file.truncate()
            self.records = before
            return
        if data.sha256() != digest:
            raise EnvelopeCorrupt(f"the part of {subject} has another digest")
        if self.records - before != told["records"]:
            raise EnvelopeCorrupt(f"the part of {subject} has another number of records")
        self.delivered[subject] = digest

    def _write(self, subject: SubjectId, frames: Iterator[bytes]) -> None:
        prefix = b'{"subject":"' + subject.hex.encode() + b'",'
        waiting = b""
        for frame in frames:
            lines = (waiting + frame).split(b"\n")
            waiting = lines.pop()
            if len(waiting) > _LONGEST_LINE:
                raise EnvelopeCorrupt(f"a record of {subject} is too long")
            out = []
            for line in lines:
                _require_record(subject, line)
                out.append(prefix + line[1:])
            self.records += len(out)
            if out:
                self._file.write(b"\n".join(out) + b"\n")
        if waiting:
            raise EnvelopeCorrupt(f"the last record of {subject} has no end")


class _Stopped(Exception):
    """A part was stopped midway."""

    def __init__(self, payload: bytes) -> None:
        super().__init__()
        self.payload = payload


class _PartData:
    """The bytes of one part, out of its D messages, digested on the way."""

    def __init__(self, messages: Iterator[tuple[bytes, bytes]], length: int) -> None:
        if type(length) is not int or length < 1:
            raise EnvelopeCorrupt("a part's length is malformed")
        self._messages = messages
        self._missing = length
        self._digest = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._missing:
            raise StopIteration
        kind, payload = next(self._messages, (b"", b""))
        if kind == STOPPED:
            raise _Stopped(payload)
        if kind != DATA or not 0 < len(payload) <= self._missing:
            raise EnvelopeCorrupt("a part of a release stream was cut")
        self._missing -= len(payload)
        self._digest.update(payload)
        return payload

    def sha256(self) -> bytes:
        """Digest of everything that came; the rest is read first."""
        for _ in self:
            pass
        return self._digest.digest()


def _subject(told: dict[str, Any]) -> SubjectId:
    try:
        return SubjectId.parse(told["subject"])
    except IdMalformed:
        raise EnvelopeCorrupt("a release stream names no subject") from None


def _require_record(subject: SubjectId, line: bytes) -> None:
    try:
        record = _RECORDS.decode(line.decode())
    except ValueError:
        record = None
    if not isinstance(record, dict) or not record or line[:1] != b"{" or "subject" in record:
        raise EnvelopeCorrupt(f"a record of {subject} is not a JSON object")
