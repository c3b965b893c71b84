"""`python -m anonymize run | inspect`: a hospital runs it on its own premises.

Input is NDJSON (`--kind note`: `{"subject", "text"}` a line; `--kind fhir`: one R4 resource a line)
or CSV (`--kind row` with `--schema`). Patients among FHIR input, or in `--patients`, are the context
in which everything of theirs is de-identified. Released records go to `--output`, positions and
reasons of held ones to standard error, counts to `--report`.
Exit status: 0 all released (or nothing found), 1 some held (or found), 2 nothing could be done.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from anonymize import strict_json
from anonymize.context import PatientContext
from anonymize.deidentify import Deidentifier, Inspector, Record, Released
from anonymize.engine import block_torch
from anonymize.errors import AnonymizeError, RecordUnreadable
from anonymize.keys import DeidentificationKey
from anonymize.profile import PROFILES, named
from anonymize.table import TableSchema, read_rows, write_rows

_PROGRESS_EVERY = 500


def main(argv: list[str] | None = None) -> int:
    """Run the chosen verb and return the exit status."""
    arguments = _parser().parse_args(argv)
    block_torch()
    try:
        status: int = arguments.verb(arguments)
    except AnonymizeError as error:
        print(f"anonymize: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"anonymize: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m anonymize", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="run | inspect")
    run = verbs.add_parser("run", help="de-identify records with the hospital's key")
    run.set_defaults(verb=_run)
    run.add_argument("--key", type=Path, required=True, help="the de-identification key's file")
    run.add_argument("--output", type=Path, required=True, help="a new file for what may leave")
    run.add_argument("--report", type=Path, help="a new file for the counts, JSON")
    run.add_argument("--patients", type=Path, help="NDJSON of FHIR Patient resources")
    inspect = verbs.add_parser("inspect", help="look for identifiers that should not be there")
    inspect.set_defaults(verb=_inspect)
    for verb in (run, inspect):
        verb.add_argument("--input", type=Path, required=True)
        verb.add_argument("--kind", choices=["note", "fhir", "row"], required=True)
        verb.add_argument("--schema", type=Path, help="column roles of a CSV, JSON")
        verb.add_argument("--profile", choices=sorted(PROFILES), default="safe-harbor")
        verb.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    key = DeidentificationKey.load(arguments.key)
    schema = _schema(arguments)
    contexts = _contexts(arguments)
    worker = Deidentifier(named(arguments.profile), key)
    released: list[dict[str, Any]] = []
    with arguments.output.open("x", encoding="utf-8", newline="") as output:
        for record in _records(arguments, schema):
            found = contexts.get(record.subject)
            outcome = worker.deidentify(replace(record, context=found))
            if isinstance(outcome, Released):
                if record.kind == "row" and isinstance(outcome.record.content, dict):
                    released.append(outcome.record.content)
                else:
                    _write_line(output, outcome.record, key)
            else:
                print(f"{outcome.position}: held: {outcome.reason_code}", file=sys.stderr)
            _progress(worker.report.records)
        if schema is not None:
            left = [c for c, role in schema.columns.items() if role != "drop"]
            write_rows(output, released, left)
    report = worker.report
    text = json.dumps(report.to_json(), indent=1)
    if arguments.report is not None:
        with arguments.report.open("x", encoding="utf-8") as file:
            file.write(text + "\n")
    held = report.records - report.released
    print(text if arguments.json else f"{report.released} released, {held} held")
    return 1 if held else 0


def _inspect(arguments: argparse.Namespace) -> int:
    schema = _schema(arguments)
    inspector = Inspector(named(arguments.profile))
    found: list[dict[str, Any]] = []
    count = 0
    for count, record in enumerate(_records(arguments, schema), start=1):
        try:
            findings = {f.kind.value: f.count for f in inspector.inspect(record)}
        except AnonymizeError as error:
            findings = {f"unjudged: {error.reason}": 1}
        if findings:
            found.append({"position": record.position, "findings": findings})
        _progress(count)
    if arguments.json:
        print(json.dumps({"records": count, "found": found}, indent=1))
    else:
        for item in found:
            shown = ", ".join(f"{k} {n}" for k, n in item["findings"].items())
            print(f"{item['position']}: {shown}")
        print(f"{count} looked through, {len(found)} with findings")
    return 1 if found else 0


def _schema(arguments: argparse.Namespace) -> TableSchema | None:
    if arguments.kind != "row":
        return None
    if arguments.schema is None:
        raise RecordUnreadable("no-schema", str(arguments.input.name), "give --schema for rows")
    return TableSchema.from_json(_text(arguments.schema))


def _contexts(arguments: argparse.Namespace) -> dict[str, PatientContext]:
    sources = [p for p in (arguments.patients,) if p is not None]
    if arguments.kind == "fhir":
        sources.append(arguments.input)
    contexts: dict[str, PatientContext] = {}
    for source in sources:
        for position, line in _lines(source):
            resource = strict_json.parse(line, position)
            identity = resource.get("id")
            if resource.get("resourceType") == "Patient" and isinstance(identity, str):
                contexts[identity] = PatientContext.from_fhir(resource, subject=identity)
    return contexts


def _records(arguments: argparse.Namespace, schema: TableSchema | None) -> Iterator[Record]:
    if schema is not None:
        with arguments.input.open(encoding="utf-8-sig", newline="") as file:
            try:
                yield from read_rows(file, schema, arguments.input.name)
            except UnicodeDecodeError:
                raise RecordUnreadable("bad-encoding", arguments.input.name, "not UTF-8") from None
        return
    for position, line in _lines(arguments.input):
        value = strict_json.parse(line, position)
        if arguments.kind == "fhir":
            yield Record("fhir", _subject(value, position), value, position=position)
            continue
        subject, text = value.get("subject"), value.get("text")
        if not isinstance(subject, str) or not isinstance(text, str):
            raise RecordUnreadable("bad-note", position, 'a line is {"subject": …, "text": …}')
        yield Record("note", subject, text, position=position)


def _subject(resource: dict[str, Any], position: str) -> str:
    if resource.get("resourceType") == "Patient" and isinstance(resource.get("id"), str):
        return str(resource["id"])
    if resource.get("resourceType") == "Bundle":
        entries = resource.get("entry")
        listed = entries if isinstance(entries, list) else []
        inside = [e.get("resource") for e in listed if isinstance(e, dict)]
        patients = [
            r["id"] for r in inside if isinstance(r, dict) and r.get("resourceType") == "Patient"
        ]
        if len(patients) == 1 and isinstance(patients[0], str):
            return patients[0]
        raise RecordUnreadable("no-subject", position, "a Bundle holds exactly one Patient")
    for element in ("subject", "patient", "beneficiary"):
        reference = resource.get(element)
        if isinstance(reference, dict) and isinstance(reference.get("reference"), str):
            text: str = reference["reference"]
            return text.removeprefix("urn:uuid:").rpartition("/")[2]
    identity = resource.get("id")
    if isinstance(identity, str) and identity:
        return identity
    raise RecordUnreadable("no-subject", position, "neither subject nor id")


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            position = f"{path.name} line {number}"
            try:
                line = raw.decode("utf-8-sig").strip()
            except UnicodeDecodeError:
                raise RecordUnreadable("bad-encoding", position, "not UTF-8") from None
            if line:
                yield position, line


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise RecordUnreadable("bad-encoding", path.name, "not UTF-8") from None


def _write_line(output: IO[str], record: Record, key: DeidentificationKey) -> None:
    content: object = record.content
    if record.kind == "note":
        content = {"subject": key.resource_id(record.subject, record.subject), "text": content}
    output.write(json.dumps(content, ensure_ascii=False) + "\n")


def _progress(count: int) -> None:
    if count % _PROGRESS_EVERY == 0 and count:
        print(f"{count} records", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
