"""After patients enrolled, signed and were published, released and counted: what must not have got out.

And what the api, which served all of that, must not have loaded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.demo.command import populate
from exchange.demo.scenario import Scenario
from exchange.demo.world import build
from tests.canaries import born, find

HEAVY = ("libtorch", "_tenseal", "presidio", "spacy")


def mapped(pid: int) -> set[str]:
    """Heavy libraries that a running process has mapped."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    return {name for name in HEAVY if name in maps}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, anvil_path: Path) -> Iterator[Scenario]:
    """Patients, consents, three datasets, a release and queries; everything still runs."""
    world = build(tmp_path_factory.mktemp("played"), ["A", "B"], progress=lambda _line: None)
    scenario = populate(world, 24, time.time(), say=lambda _line: None)
    world.start()
    try:
        scenario.fill()
        yield scenario
    finally:
        scenario.crowd.close()
        world.stop()


def test_no_planted_identifier_is_anywhere_outside_its_hospital(played):
    assert find(played.world, played.people) == []
    people = {
        wish.subject.hex: person
        for wishes, group in zip(played.wishes, played.people, strict=True)
        for wish, person in zip(wishes, group, strict=True)
    }
    received = played.world.folder / "received"
    assert list(received.rglob("*.ndjson"))
    assert born(received, people) == []


def test_a_planted_identifier_in_a_log_is_found(played):
    person = played.people[0][3]
    log = played.world.stack.settings.data_dir / "logs" / "api.log"
    whole = log.stat().st_size
    with log.open("ab") as file:
        file.write(f'{{"event":"request","detail":"{person.ssn}"}}\n'.encode())
    try:
        found = find(played.world, played.people)
    finally:
        with log.open("r+b") as file:
            file.truncate(whole)
    assert found
    assert all("api.log" in line and person.ssn not in line for line in found)


def test_the_api_under_load_has_loaded_nothing_heavy(played):
    world = played.world
    assert mapped(world.stack.pid("api")) == set()
    assert mapped(world.stack.pid("keys")) == set()


def test_a_heavy_library_would_be_seen():
    import torch  # noqa: F401 - mapped into this very process

    assert "libtorch" in mapped(int(Path("/proc/self").readlink().name))
