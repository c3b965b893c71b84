"""The search for planted identifiers finds each of them, in whatever form, and nothing else."""

from __future__ import annotations

import base64
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from exchange.demo.patients import generate, notes_of
from tests.canaries import Search, born, planted

PEOPLE = generate(6, prefix="A", seed=5)
ONE = PEOPLE[0]


@pytest.fixture
def search() -> Search:
    return Search(planted(PEOPLE))


@pytest.mark.parametrize(
    "name", ["family", "record", "ssn", "phone", "email", "street", "clinician"]
)
def test_each_identifier_is_found_in_a_log(search: Search, tmp_path: Path, name: str) -> None:
    log = tmp_path / "logs" / "api.log"
    log.parent.mkdir()
    log.write_text(json.dumps({"event": "request", "detail": getattr(ONE, name)}) + "\n")
    found = search.folder(tmp_path)
    assert found
    assert all("in logs/api.log" in line for line in found)
    assert not any(getattr(ONE, name) in line for line in found)
    assert search.folder(tmp_path, but=[log.parent]) == []


@pytest.mark.parametrize(
    "hidden",
    [
        ONE.family.upper().encode(),
        quote(ONE.phone).encode(),
        ONE.email.encode().hex().encode(),
        b"f" + ONE.email.encode().hex().upper().encode(),
        *(base64.b64encode(b"x" * pad + ONE.street.encode()) for pad in range(3)),
        base64.urlsafe_b64encode(b"{'ssn': '" + ONE.ssn.encode()),
    ],
)
def test_what_is_written_otherwise_is_found(search: Search, hidden: bytes) -> None:
    assert search.within(b"before " + hidden + b" after")


def test_half_of_a_double_name_is_found(search: Search) -> None:
    first, second = ONE.family.split("-")
    assert search.within(f"seen by {first.lower()}".encode())
    assert search.within(f"Mrs. {second}".encode())


def test_a_value_that_is_spread_over_pages_is_found(search: Search, tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    text = ("x" * 4090 + ONE.email) * 3
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE bodies (id INTEGER PRIMARY KEY, body TEXT)")
        db.executemany("INSERT INTO bodies VALUES (?, ?)", [(at, text[at:]) for at in range(40)])
    assert search.folder(tmp_path)
    assert "email of A-000 in table bodies" in search.database(f"sqlite:///{path}")


def test_what_is_harmless_is_not_found(search: Search, tmp_path: Path) -> None:
    stranger = generate(1, prefix="Z", seed=99)[0]
    (tmp_path / "a").write_text(f"{stranger.ssn} {stranger.record} 0x{'5a' * 32} hypertension")
    assert search.folder(tmp_path) == []


def test_a_note_that_was_not_de_identified_is_found(search: Search, tmp_path: Path) -> None:
    lines = [{"subject": "0xab", "content": note["text"]} for note in notes_of(ONE)]
    (tmp_path / "release.ndjson").write_text("\n".join(map(json.dumps, lines)))
    assert len(search.folder(tmp_path)) >= 7
    assert born(tmp_path, {"0xab": ONE}) == ["birth date of A-000"]
    assert born(tmp_path, {"0xab": PEOPLE[1]}) == []
