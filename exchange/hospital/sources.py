"""How files on the hospital's disk become records, each with its record number and its position.

Three forms: notes (NDJSON lines ``{"record", "id", "text"}``), FHIR R4 (NDJSON of resources or of
bundles, or one bundle), tables (CSV with a header). A line that cannot be read is *set aside* with its
position and a reason; the lines around it go on.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exchange.errors import Malformed
from ledger.commitment import require_shallow
from ledger.errors import MalformedValue

#: One line longer than this is set aside unread (bytes).
MAX_LINE = 64 * 1024 * 1024


@dataclass(frozen=True)
class Source:
    """One record as it lies at the hospital: whose, which, and where it stood."""

    record: str
    kind: str
    id: str
    content: Any
    position: str

    def __repr__(self) -> str:
        return f"Source(kind={self.kind!r}, position={self.position!r})"


@dataclass(frozen=True)
class SetAside:
    """A line that was not taken: where, and a stable reason."""

    position: str
    reason: str


@dataclass
class Read:
    """Everything that was read from one file, the good part and what was set aside."""

    sources: list[Source] = field(default_factory=list)
    aside: list[SetAside] = field(default_factory=list)
    patients: dict[str, dict[str, Any]] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)


def read(path: Path, form: str, *, record_column: str | None = None) -> Read:
    """Read one file in the given form (``notes``, ``fhir`` or ``table``).

    Raises:
        Malformed: the file cannot be read, is not UTF-8, or has no usable header.
    """
    try:
        match form:
            case "notes":
                return _notes(path)
            case "fhir":
                return read_fhir(path)
            case "table":
                return _table(path, record_column)
    except OSError as error:
        raise Malformed(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise Malformed(f"{path}: is not UTF-8 at byte {error.start}: convert it") from None
    raise Malformed(f"{form} is not a form: use notes, fhir or table")


def read_fhir(path: Path) -> Read:
    """FHIR resources, each with the id of its patient; ``patients`` holds the Patient resources."""
    found = Read()
    for position, resource in _resources(path, found):
        patient = _patient_of(resource)
        if patient is None:
            found.aside.append(SetAside(position, "no-patient"))
            continue
        if resource.get("resourceType") == "Patient":
            found.patients[patient] = resource
        found.sources.append(
            Source(patient, "fhir", str(resource.get("id", position)), resource, position)
        )
    return found


def read_patients(path: Path) -> dict[str, dict[str, Any]]:
    """The Patient resources of a file, by Patient.id; other resources beside them are left alone.

    Raises:
        Malformed: a line that cannot be understood, or no Patient at all. What names a patient must
            not get lost silently: the names would stay in the patient's notes.
    """
    found = read(path, "fhir")
    for one in found.aside:
        if one.reason != "no-patient":
            raise Malformed(f"{one.position}: {one.reason}: use FHIR Patient resources, one a line")
    if not found.patients:
        raise Malformed(f"{path}: holds no FHIR Patient resource")
    return found.patients


def strict_json(text: str | bytes) -> Any:
    """JSON as FHIR needs it: no repeated key, no NaN, no nesting beyond 64.

    Raises:
        ValueError: any of those, or not JSON at all.
    """
    try:
        require_shallow(text if isinstance(text, bytes) else text.encode())
    except MalformedValue as error:
        raise ValueError(str(error)) from None
    return json.loads(text, object_pairs_hook=_no_repeats, parse_constant=_no_constant)


def _notes(path: Path) -> Read:
    found = Read()
    for position, line in _lines(path, found):
        try:
            note = strict_json(line)
        except (ValueError, RecursionError):
            found.aside.append(SetAside(position, "not-json"))
            continue
        if (
            not isinstance(note, dict)
            or not isinstance(note.get("text"), str)
            or not note.get("record")
        ):
            found.aside.append(SetAside(position, "not-a-note"))
            continue
        found.sources.append(
            Source(
                str(note["record"]), "note", str(note.get("id", position)), note["text"], position
            )
        )
    return found


def _table(path: Path, record_column: str | None) -> Read:
    found = Read()
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        header = next(reader, None)
        if not header or len(set(header)) != len(header) or not all(header):
            raise Malformed(f"{path}: line 1 must name every column once")
        key = record_column or header[0]
        if key not in header:
            raise Malformed(f"{path}: no column is called {key[:40]}: see --record-column")
        found.columns = [name for name in header if name != key]
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return found
            except csv.Error:
                found.aside.append(SetAside(f"{path.name}:{reader.line_num}", "not-csv"))
                continue
            position = f"{path.name}:{reader.line_num}"
            if len(row) != len(header):
                found.aside.append(SetAside(position, "ragged-row"))
                continue
            cells = dict(zip(header, row, strict=True))
            record = cells.pop(key)
            if not record:
                found.aside.append(SetAside(position, "no-record-number"))
                continue
            content = {name: (value if value != "" else None) for name, value in cells.items()}
            found.sources.append(Source(record, "row", position, content, position))


def _lines(path: Path, found: Read) -> Iterator[tuple[str, bytes]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            line = raw.strip().removeprefix(b"\xef\xbb\xbf")
            if not line:
                continue
            position = f"{path.name}:{number}"
            if len(line) > MAX_LINE:
                found.aside.append(SetAside(position, "too-long"))
                continue
            yield position, line


def _resources(path: Path, found: Read) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix == ".json":
        pieces: Iterator[tuple[str, bytes]] = iter([(path.name, path.read_bytes())])
    else:
        pieces = _lines(path, found)
    for position, text in pieces:
        try:
            resource = strict_json(text)
        except (ValueError, RecursionError):
            found.aside.append(SetAside(position, "not-json"))
            continue
        if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
            found.aside.append(SetAside(position, "not-a-resource"))
        elif resource["resourceType"] == "Bundle":
            yield from _entries(resource, position, found)
        else:
            yield position, resource


def _entries(
    bundle: dict[str, Any], position: str, found: Read
) -> Iterator[tuple[str, dict[str, Any]]]:
    entries = bundle.get("entry", [])
    if not isinstance(entries, list):
        found.aside.append(SetAside(position, "not-a-bundle"))
        return
    resources: list[tuple[str, dict[str, Any]]] = []
    aliases: dict[str, str] = {}
    for index, entry in enumerate(entries):
        where = f"{position}/entry/{index}"
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
            found.aside.append(SetAside(where, "not-a-resource"))
            continue
        if resource["resourceType"] == "Patient" and isinstance(entry.get("fullUrl"), str):
            aliases[entry["fullUrl"]] = str(resource.get("id", ""))
        resources.append((where, resource))
    for where, resource in resources:
        reference = _reference(resource)
        if reference in aliases:
            field_name = "subject" if "subject" in resource else "patient"
            target = {**resource[field_name], "reference": f"Patient/{aliases[reference]}"}
            yield where, {**resource, field_name: target}
        else:
            yield where, resource


def _reference(resource: dict[str, Any]) -> str:
    for name in ("subject", "patient"):
        target = resource.get(name)
        if isinstance(target, dict) and isinstance(target.get("reference"), str):
            return str(target["reference"])
    return ""


def _patient_of(resource: dict[str, Any]) -> str | None:
    if resource.get("resourceType") == "Patient":
        identity = resource.get("id")
        return identity if isinstance(identity, str) and identity else None
    reference = _reference(resource)
    if "Patient/" in reference:
        return reference.rsplit("Patient/", 1)[1].split("/", 1)[0] or None
    return None


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is repeated")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
