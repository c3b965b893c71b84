"""Planted identifiers, and a search for them wherever they must not be.

Every generated patient's name, record number, social security number, phone, address and the like stand
in the hospital's structured record or behind a label in its notes. After a scenario none may be found
outside that hospital: not in a log, database, chain, catalogue, metric, error body or released record.
Lines that are returned name whose identifier it is and where it was, never the identifier.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, quote_plus

import httpx2
import sqlalchemy as sa

from exchange.demo.patients import Person
from exchange.demo.world import World

_HEX = re.compile(rb"[0-9a-f]{12,}")
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{12,}")
_SQLITE = b"SQLite format 3\0"
_DATES = ("%Y-%m-%d", "%m/%d/%Y", "%B %d, %Y", "%d.%m.%Y", "%Y%m%d")


def planted(people: Iterable[Person]) -> dict[str, str]:
    """Each identifier, and whose it is. Birth dates apart: another's shifted date may be the same."""
    found = {}
    for person in people:
        for name in ("record", "ssn", "phone", "email", "street"):
            found[getattr(person, name)] = f"{name} of {person.record[:1]}-{person.record[-3:]}"
        for name in ("family", "clinician"):
            for part in (getattr(person, name), *getattr(person, name).split("-")):
                found.setdefault(part, f"{name} of {person.record[:1]}-{person.record[-3:]}")
    return found


class Search:
    """Looks for canaries in bytes: as they are in any case, in URLs, in hex, in base64."""

    def __init__(self, canaries: Mapping[str, str]) -> None:
        self._wanted: dict[bytes, str] = {}
        for text, whose in canaries.items():
            for form in (text, quote(text), quote_plus(text), json.dumps(text)[1:-1]):
                self._wanted[form.lower().encode()] = whose

    def within(self, data: bytes) -> set[str]:
        """Whose identifiers stand in ``data``."""
        return {
            whose
            for form in (data, *_decoded(data))
            for low in (form.lower(),)
            for wanted, whose in self._wanted.items()
            if wanted in low
        }

    def folder(self, folder: Path, *, but: Sequence[Path] = ()) -> list[str]:
        """Finds in every file below ``folder``, and in every cell of a SQLite database among them."""
        found = []
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not any(path.is_relative_to(one) for one in but):
                whose = self.within(_contents(path))
                found += [f"{one} in {path.relative_to(folder)}" for one in sorted(whose)]
        return found

    def database(self, url: str) -> list[str]:
        """Finds in every cell of any database that SQLAlchemy opens."""
        engine = sa.create_engine(url)
        try:
            meta = sa.MetaData()
            meta.reflect(engine)
            with engine.connect() as conn:
                return [
                    f"{one} in table {table.name}"
                    for table in meta.sorted_tables
                    for one in sorted(self.within(_joined(conn.execute(sa.select(table)))))
                ]
        finally:
            engine.dispose()


def find(world: World, people: Sequence[Sequence[Person]]) -> list[str]:
    """Every planted identifier that got out of its hospital. ``people``: each hospital's patients.

    Looks at what the exchange answers to anybody and to each hospital, provokes errors with the
    identifiers inside, then searches everything in the world's folder but the hospital's own, and but
    the other hospitals' sources, where the same name may stand for somebody else.
    """
    answers = dict(_answers(world, [person for some in people for person in some]))
    found = []
    for hospital, own in zip(world.hospitals, people, strict=False):
        search = Search(planted(own))
        sources = [other.home / "files" for other in world.hospitals]
        found += search.folder(world.folder, but=[hospital.home, *sources])
        found += [
            f"{whose} in {where}"
            for where, body in answers.items()
            for whose in sorted(search.within(body))
        ]
    url = world.stack.settings.database_url or ""
    if url and not url.startswith("sqlite"):
        found += Search(planted([one for some in people for one in some])).database(url)
    return found


def born(received: Path, people: Mapping[str, Person]) -> list[str]:
    """Subjects whose own birth date stands in their own released records; ``people`` by subject."""
    found = []
    for path in sorted(received.rglob("*.ndjson")):
        for line in path.read_text(encoding="utf-8").splitlines():
            person = people.get(json.loads(line)["subject"])
            if person and any(f"{person.born:{form}}" in line for form in _DATES):
                found.append(f"birth date of {person.record[:1]}-{person.record[-3:]}")
    return found


def _answers(world: World, people: Sequence[Person]) -> Iterator[tuple[str, bytes]]:
    """What the exchange says: metrics, catalogue, reports, and errors about what we send it."""
    one = people[0]
    with httpx2.Client(base_url=world.url, timeout=60, trust_env=False) as http:
        for path in ("/metrics", "/readyz", "/v1/deployment"):
            yield path, http.get(path).content
        for number, hospital in enumerate(world.hospitals):
            who = {"Authorization": f"Bearer {hospital.http.token()}"}
            listed = http.get("/v1/datasets", headers=who)
            yield f"the catalogue for hospital {number}", listed.content
            for item in listed.json()["items"]:
                at = f"/v1/datasets/{item['dataset']}"
                for path in (at, f"{at}/versions/{item.get('version', 1)}"):
                    yield path, http.get(path, headers=who).content
            for text in (one.family, one.ssn, one.email):
                yield (
                    "an error about a path",
                    http.get(f"/v1/datasets/{quote(text)}", headers=who).content,
                )
                yield (
                    "an error about a header",
                    http.get(
                        "/v1/datasets", headers={"Authorization": f"Bearer {quote(text)}"}
                    ).content,
                )
            for path, body in _refused(one):
                headers = who | {"Idempotency-Key": "canary-" + path[-8:].replace("/", "-")}
                answer = http.post(path, json=body, headers=headers)
                if answer.status_code < 400:
                    raise AssertionError(f"{path} was meant to be refused")
                yield f"an error of {path}", answer.content


def _refused(one: Person) -> Iterator[tuple[str, object]]:
    """Requests that cannot be right, with identifiers where a careless hospital would have them."""
    yield "/v1/datasets", {"title": "notes", "kind": one.family, "categories": [one.ssn]}
    yield (
        "/v1/requests",
        {"request": {"kind": one.record, one.phone: one.email}, "signature": one.ssn},
    )
    yield "/v1/queries", {"spec": {"filters": [{"field": one.family}]}, "signature": one.street}
    yield "/v1/invitations", {"invitations": [{"subject": one.record, "codeKey": one.email}]}
    yield "/v1/consents", {"terms": {"subject": one.record}, "document": {one.family: one.street}}


def _contents(path: Path) -> bytes:
    data = path.read_bytes()
    if not data.startswith(_SQLITE):
        return data
    # A long value is spread over pages: its cells are read as well as the bytes.
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
        names = [
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        return b"\n".join([data, *(_joined(db.execute(f'SELECT * FROM "{one}"')) for one in names)])


def _joined(rows: Iterable[Iterable[object]]) -> bytes:
    return b"\n".join(
        bytes(cell) if isinstance(cell, bytes | memoryview) else str(cell).encode()
        for row in rows
        for cell in row
    )


def _decoded(data: bytes) -> tuple[bytes, bytes]:
    """What stands in ``data`` as hex and as base64, whatever the alignment."""
    hexed = [run[: len(run) // 2 * 2] for run in _HEX.findall(data.lower())]
    plain = [binascii.unhexlify(run) for run in hexed]
    plain += [binascii.unhexlify(run[1 : 1 + (len(run) - 1) // 2 * 2]) for run in hexed]
    based = []
    for run in _BASE64.findall(data):
        text = run.translate(bytes.maketrans(b"-_", b"+/"))
        based += [base64.b64decode(text[at:] + b"A" * (-(len(text) - at) % 4)) for at in range(4)]
    return b"\n".join(plain), b"\n".join(based)
