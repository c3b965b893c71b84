"""Real files for the demonstration: who goes to which hospital, and what is read of whom.

Synthea bundles by sorted Patient.id alternate between hospitals A and B; the patients of the bulk export
with their notes go to A; every row of the three UCI heart files is one subject of one of three further
hospitals; every MTSamples note is a subject of its own at B. What is absent is named and skipped.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Say = Callable[[str], None]

#: Columns of the processed heart files that all three hospitals fill (UCI, heart-disease.names).
FEATURES = (
    "age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak",
)  # fmt: skip
_COLUMNS = (*FEATURES, "slope", "ca", "thal", "num")
_HEART = ("cleveland", "hungarian", "switzerland")
_BULK = ("Patient", "DocumentReference", "Condition", "AllergyIntolerance", "Immunization")
A, B, CLEVELAND, HUNGARIAN, SWITZERLAND = range(5)


@dataclass
class Cast:
    """Hospitals' names, files and record numbers, by hospital; rows of the heart files by record.

    ``structured`` are A's record numbers in the bundles that the main release is of.
    """

    names: list[str]
    files: list[dict[str, Path]] = field(default_factory=list)
    records: list[list[str]] = field(default_factory=list)
    structured: set[str] = field(default_factory=set)
    rows: dict[str, tuple[float, ...]] = field(default_factory=dict, repr=False)
    labels: dict[str, int] = field(default_factory=dict, repr=False)


def read_real(data: Path, folder: Path, *, say: Say) -> Cast:
    """Read what is there below ``data`` and write each hospital's own files below ``folder``."""
    cast = Cast(
        ["Hospital A", "Hospital B", "Cleveland Clinic", "Budapest Institute", "Swiss Hospitals"]
    )
    cast.files = [{} for _ in cast.names]
    cast.records = [[] for _ in cast.names]
    for index in range(len(cast.names)):
        (folder / str(index)).mkdir(parents=True)
    for what, read in (
        ("fhir/synthea_r4_bundles_dev.ndjson.gz", _synthea),
        ("fhir/bulk10", _bulk),
        ("notes/mtsamples_dev.csv.gz", _mtsamples),
    ):
        source = data / what
        if source.exists():
            read(source, folder, cast)
        else:
            say(f"  {what} is absent: skipped")
    for hospital, name in enumerate(_HEART, start=CLEVELAND):
        source = data / "tabular" / "heart_uci" / f"processed.{name}.data"
        if source.exists():
            _heart(source, folder, cast, hospital)
        else:
            say(f"  {source.name} is absent: skipped")
    for name, records in zip(cast.names, cast.records, strict=True):
        say(f"  {name}: {len(records)} patients")
    return cast


def _synthea(source: Path, folder: Path, cast: Cast) -> None:
    bundles: list[tuple[str, str]] = []
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        for line in lines:
            bundle = json.loads(line)
            patient = next(
                entry["resource"]["id"]
                for entry in bundle["entry"]
                if entry["resource"]["resourceType"] == "Patient"
            )
            bundles.append((patient, line))
    bundles.sort(key=lambda pair: pair[0])
    for hospital in (A, B):
        mine = bundles[hospital::2]
        path = folder / str(hospital) / "synthea.ndjson"
        path.write_text("".join(line for _, line in mine), encoding="utf-8")
        cast.files[hospital]["fhir"] = path
        cast.records[hospital] += [patient for patient, _ in mine]
    cast.structured = set(cast.records[A])


def _bulk(source: Path, folder: Path, cast: Cast) -> None:
    path = folder / str(A) / "bulk.ndjson"
    with path.open("w", encoding="utf-8") as out:
        for kind in _BULK:
            part = source / f"{kind}.000.ndjson.gz"
            if not part.exists():
                continue
            with gzip.open(part, "rt", encoding="utf-8") as lines:
                for line in lines:
                    out.write(line)
                    if kind == "Patient":
                        cast.records[A].append(json.loads(line)["id"])
    cast.files[A]["documents"] = path


def _mtsamples(source: Path, folder: Path, cast: Cast) -> None:
    path = folder / str(B) / "mtsamples.ndjson"
    with (
        gzip.open(source, "rt", encoding="utf-8", newline="") as lines,
        path.open("w", encoding="utf-8") as out,
    ):
        for row in csv.DictReader(lines):
            if not row["transcription"].strip():
                continue
            record = f"MT-{row['note_id']}"
            note = {"record": record, "id": record, "text": row["transcription"]}
            out.write(json.dumps(note, ensure_ascii=False) + "\n")
            cast.records[B].append(record)
    cast.files[B]["notes"] = path


def _heart(source: Path, folder: Path, cast: Cast, hospital: int) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["record", *_COLUMNS])
    prefix = source.name.split(".")[1][:2].upper()
    with source.open(encoding="ascii") as lines:
        for number, line in enumerate(lines, start=1):
            cells = ["" if cell == "?" else cell for cell in line.strip().split(",")]
            if len(cells) != len(_COLUMNS):
                continue
            record = f"{prefix}-{number:04d}"
            writer.writerow([record, *cells])
            cast.records[hospital].append(record)
            cast.rows[record] = tuple(_number(cell) for cell in cells[: len(FEATURES)])
            cast.labels[record] = int(float(cells[-1]) > 0) if cells[-1] else 0
    path = folder / str(hospital) / "heart.csv"
    path.write_text(text.getvalue(), encoding="utf-8")
    cast.files[hospital]["table"] = path


def _number(cell: str) -> float:
    return float(cell) if cell else math.nan


def rows_of(cast: Cast, hospital: int) -> tuple[list[tuple[float, ...]], list[int]]:
    """The complete rows of one heart hospital, and whether a disease was found."""
    whole = [
        record
        for record in cast.records[hospital]
        if record in cast.rows and not any(math.isnan(value) for value in cast.rows[record])
    ]
    return [cast.rows[record] for record in whole], [cast.labels[record] for record in whole]
