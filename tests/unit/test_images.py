"""The Dockerfile against docker-compose.yml, the lock, and what the processes import."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

import pytest

from tests import architecture, house
from tests.composed import DATA, ROOT, load, mounts

# What runs in the api's image: the api itself, keys, prepare and deploy; and node, on top of it.
ROOMS = (
    "exchange.__main__",
    "exchange.api",
    "exchange.keys",
    "exchange.deploying",
    "exchange.up.preparing",
    "ledger.node",
)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def packages(*extras: str) -> set[str]:
    """What an image with these extras installs."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "subset_lock.py", *extras],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r"^([\w.-]+)==", done.stdout, re.MULTILINE)
    assert done.stdout.count("--hash=sha256:") >= len(found)
    return {normal(name) for name in found}


def lacking(rooms: tuple[str, ...], installed: set[str]) -> list[str]:
    """Imports of these rooms, the deferred ones included, that no installed package provides."""
    files = architecture.sources()
    loading = architecture.all_imports(files, loading=True)
    imports = {
        architecture.module_name(path): found
        for path, found in architecture.all_imports(files).items()
    }
    provides = importlib.metadata.packages_distributions()
    found = []
    for room in rooms:
        inside = {name for name in imports if name == room or name.startswith(f"{room}.")}
        for module in sorted(inside | set(house.reached(room, loading)) & set(imports)):
            found += [
                f"{module} imports {name}"
                for name in sorted(imports[module].others)
                if not {normal(one) for one in provides.get(name, ())} & installed
            ]
    return found


def test_images_and_volumes_are_those_of_the_dockerfile() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    built_on = re.findall(r"^FROM (\S+) AS (\S+)$", dockerfile, re.MULTILINE)
    stages = {stage: source for source, stage in built_on}
    folders = re.search(r"for part in ([\w. ]+);", dockerfile)
    assert folders is not None
    for name, service in load()["services"].items():
        if "build" not in service:
            continue
        stage = service["build"]["target"]
        while stage in stages and stage != "process":
            stage = stages[stage]
        assert stage == "process", f"{name} is built on another stage than the one without root"
        for path in mounts(service):
            if path.startswith(DATA + "/"):
                # A volume gets owner and mode from the image's folder at its mount point.
                assert path.removeprefix(DATA + "/") in folders[1].split()
    assert "USER 10001:10001" in dockerfile


def test_the_api_image_takes_its_packages_from_the_lock_and_none_that_is_heavy() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    asked = re.search(r"subset_lock.py ([\w ]+) >", dockerfile)
    assert asked is not None
    names = packages(*asked[1].split())
    assert {"fastapi", "sqlalchemy", "web3", "psycopg", "typer", "httpx2"} <= names
    assert names.isdisjoint({"torch", "tenseal", "spacy", "presidio-analyzer", "dbos"})
    assert lacking(ROOMS, names) == []
    # Without one of the extras it would not start, and the worker would not in this image.
    assert "exchange.__main__ imports typer" in lacking(ROOMS, packages("api"))
    assert "exchange.worker.execution imports dbos" in lacking(("exchange.worker",), names)


@pytest.mark.parametrize("words", [["compute"], []])
def test_an_image_without_a_lock_is_not_built(words: list[str]) -> None:
    # torch is no part of the lock, and whoever asks for nothing has mistyped.
    wrong = subprocess.run(
        [sys.executable, ROOT / "scripts" / "subset_lock.py", *words],
        capture_output=True,
        check=False,
    )
    assert wrong.returncode == 1
