"""The house's own laws hold, and each of them can fail.

The table in docs/ARCHITECTURE.md is described at the top of tests/architecture.py; after a change of
imports, `.venv/bin/python scripts/architecture_table.py --write` brings it up to date, and the new
row's purpose is yours to write.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib

import pytest

from tests import architecture, house

# Path -> why this one file may be longer than the rest.
EXCUSED_LENGTH = {
    "exchange/migrations/versions/0001_first.py": (
        "a revision is one step forward and one back; cut in two, a database could stop between"
    ),
}
HEAVY = ("torch", "tenseal", "presidio_analyzer", "presidio_anonymizer", "spacy", "dbos")
TREES = {
    "ledger.errors": "LedgerError",
    "anonymize.errors": "AnonymizeError",
    "compute.errors": "ComputeError",
    "exchange.errors": "ExchangeError",
}


@pytest.fixture(scope="module")
def files():
    return architecture.sources()


@pytest.fixture(scope="module")
def real(files):
    return architecture.all_imports(files)


def tracked() -> dict[str, str]:
    """Every tracked text but the pages' vendored libraries."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=architecture.ROOT, capture_output=True, check=True
    )
    texts = {}
    for name in listed.stdout.decode().split("\0"):
        path = architecture.ROOT / name
        if name and path.is_file() and "/vendor/" not in name:
            texts[name] = path.read_bytes().decode("utf-8", "ignore")
    return texts


# The laws


def test_every_import_stands_in_the_table(real):
    rows = architecture.parse_table(architecture.TABLE.read_text())
    assert house.table_breaches(rows, real) == []


def test_the_one_rule(real):
    assert house.direction_breaches(real) == []


def test_libraries_stay_at_home(real):
    assert house.home_breaches(real) == []


def test_rooms_reach_no_more_than_they_are_trusted_with(files):
    assert house.wall_breaches(architecture.all_imports(files, loading=True)) == []


def test_only_the_gate_and_the_proof_decide(files):
    assert house.decide_breaches(files) == []


def test_names_say_something(files):
    assert house.name_breaches(files) == []


def test_no_file_is_too_long(files):
    assert house.size_breaches(files, EXCUSED_LENGTH) == []


def test_packages_are_signboards(files):
    assert house.signboard_breaches(files) == []


def test_imports_are_absolute(files):
    assert house.relative_breaches(files) == []


def test_only_the_settings_read_the_environment(files):
    assert house.environment_breaches(files) == []


def test_tracked_files_name_no_registry_and_no_machine():
    assert house.place_breaches(tracked()) == []


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_the_lock_serves_every_machine(name):
    assert house.lock_breaches((architecture.ROOT / name).read_text()) == []


def test_every_library_is_declared(real):
    project = tomllib.loads((architecture.ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [*project["dependencies"], *(each for extra in extras for each in extra)]
    declared = [re.split(r"[^\w.-]", requirement)[0] for requirement in wanted]
    assert house.undeclared(real, importlib.metadata.packages_distributions(), declared) == []


@pytest.mark.parametrize("package", architecture.PACKAGES)
def test_the_four_names_are_ours(package):
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin == str(architecture.ROOT / package / "__init__.py")


def test_every_error_has_its_problem(real):
    for path in real:
        if path.endswith("/errors.py"):
            importlib.import_module(architecture.module_name(path))
    from exchange.api.problems import TABLE

    trees = [getattr(importlib.import_module(module), root) for module, root in TREES.items()]
    assert house.unmapped(trees, TABLE) == []


def loaded_by(module: str) -> set[str]:
    """The heavy libraries in a fresh interpreter that imported `module`."""
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=architecture.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in done.stdout.split()} & set(HEAVY)


def test_the_api_loads_nothing_heavy():
    assert loaded_by("exchange.app") == set()


# The laws can fail


def seen(**files: str) -> dict[str, str]:
    """A small house: ledger__ids="..." is the file ledger/ids.py."""
    return {f"{name.replace('__', '/', 1)}.py": text for name, text in files.items()}


TABLE_SAMPLE = f"""
{architecture.BEGIN}
| file | purpose | may import (ours) | may import (others) |
| --- | --- | --- | --- |
| `ledger/ids.py` | Ids. | ledger.errors | eth_utils |
{architecture.END}
"""


def test_the_table_is_read():
    row = architecture.parse_table(TABLE_SAMPLE)["ledger/ids.py"]
    assert row == architecture.Row(
        "Ids.", architecture.Imports(frozenset({"ledger.errors"}), frozenset({"eth_utils"}))
    )
    shown = architecture.show_row("ledger/ids.py", row.purpose, row.imports)
    assert shown in TABLE_SAMPLE


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no marks", "stands between"),
        (TABLE_SAMPLE.replace("Ids. | ", ""), "four cells"),
        (
            TABLE_SAMPLE.replace(
                architecture.END, "| `ledger/ids.py` | a | — | — |\n" + architecture.END
            ),
            "two rows",
        ),
    ],
)
def test_a_broken_table_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        architecture.parse_table(text)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("from ledger.errors import LedgerError\nimport eth_utils", []),
        ("import os\nfrom ledger import errors\nimport eth_utils.crypto", []),
        ("import eth_utils", ["ledger/ids.py may import ledger.errors, unused"]),
        (
            "import ledger.errors, eth_utils\ndef f():\n    from ledger import consent",
            ["ledger/ids.py imports ledger.consent, not in its row"],
        ),
        (
            "import ledger.errors, eth_utils, requests",
            ["ledger/ids.py imports requests, not in its row"],
        ),
    ],
)
def test_the_table_is_exact(code, said):
    rows = architecture.parse_table(TABLE_SAMPLE)
    world = seen(ledger__ids=code, ledger__errors="", ledger__consent="")
    found = {"ledger/ids.py": architecture.all_imports(world)["ledger/ids.py"]}
    assert house.table_breaches(rows, found) == said


def test_a_file_without_a_row_is_named_with_the_row_to_add():
    found = architecture.all_imports(seen(ledger__new="import web3"))
    assert house.table_breaches({}, found) == [
        "ledger/new.py has no row; add: | `ledger/new.py` | … | — | web3 |"
    ]
    rows = architecture.parse_table(TABLE_SAMPLE)
    assert house.table_breaches(rows, {}) == ["ledger/ids.py has a row and does not exist"]


@pytest.mark.parametrize(
    "world",
    [
        {"ledger__a": "import exchange.gate"},
        {"ledger__a": "from compute.job import JobSpec"},
        {"anonymize__a": "def f():\n    from ledger.ids import SubjectId"},
        {"compute__a": "from ledger import consent", "ledger__consent": ""},
        {"compute__a": "import anonymize.report"},
    ],
)
def test_an_import_upward_is_seen(world):
    assert len(house.direction_breaches(architecture.all_imports(seen(**world)))) == 1


def test_an_import_downward_is_fine():
    world = seen(
        exchange__a="import compute.run, anonymize.fhir", compute__a="import ledger.policy"
    )
    assert house.direction_breaches(architecture.all_imports(world)) == []


@pytest.mark.parametrize("library", sorted(house.HOMES))
def test_a_library_that_strays_is_seen(library):
    world = seen(exchange__astray=f"def f():\n    import {library}")
    assert len(house.home_breaches(architecture.all_imports(world))) == 1


@pytest.mark.parametrize("room", sorted(house.WALLS))
def test_a_wall_that_is_climbed_is_seen(room):
    forbidden = house.WALLS[room][0]
    path = room.replace(".", "/") + ("" if room == "ledger.verify" else "/door") + ".py"
    world = {path: "from exchange import between", "exchange/between.py": f"import {forbidden}"}
    loading = architecture.all_imports(world, loading=True)
    assert house.wall_breaches(loading) == [f"{room} reaches {forbidden} through exchange.between"]


def test_an_import_that_waits_climbs_no_wall():
    text = (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n"
        "def f():\n    import torch"
    )
    loading = architecture.all_imports({"exchange/api/door.py": text}, loading=True)
    assert house.wall_breaches(loading) == []


@pytest.mark.parametrize(
    "code",
    ["from ledger.policy import decide", "import ledger.policy\nledger.policy.decide(1, [])"],
)
def test_a_second_decider_is_seen(code):
    assert len(house.decide_breaches(seen(exchange__access=code))) == 1
    assert house.decide_breaches(seen(exchange__gate=code)) == []


def test_other_breaches_are_seen():
    assert house.name_breaches(["exchange/utils.py", "ledger/core/x.py", "ledger/ids.py"]) == [
        "exchange/utils.py: the name utils says nothing",
        "ledger/core/x.py: the name core says nothing",
    ]
    long = seen(ledger__a="x = 1\n" * (house.LONGEST + 1), ledger__b="x = 1\n" * house.LONGEST)
    assert len(house.size_breaches(long, {})) == 1
    assert house.size_breaches(long, {"ledger/a.py": "a reason"}) == []
    assert len(house.size_breaches(long, {"ledger/a.py": "why", "ledger/b.py": "none"})) == 1
    assert len(house.signboard_breaches(seen(ledger____init__=""))) == 1
    assert len(house.signboard_breaches(seen(ledger____init__='"""Doc."""\nimport os'))) == 1
    assert house.signboard_breaches(seen(ledger____init__='"""Doc."""')) == []
    assert len(house.relative_breaches(seen(ledger__a="from . import ids"))) == 1


@pytest.mark.parametrize(
    "code",
    ["import os\nx = os.environ['A']", "import os\nx = os.getenv('A')", "x = os.environ.get('A')"],
)
def test_a_hidden_setting_is_seen(code):
    assert len(house.environment_breaches(seen(ledger__a=code))) == 1
    assert house.environment_breaches(seen(exchange__settings=code)) == []


def test_handing_on_the_environment_is_no_setting():
    code = "import os\nchild = dict(os.environ)\nother = {**os.environ}\n"
    assert house.environment_breaches(seen(ledger__a=code)) == []


@pytest.mark.parametrize(
    "line", ["index = https://" + "pypi" + ".org/simple", "see /" + "root/notes", "cd /" + "tmp/x"]
)
def test_a_place_that_is_named_is_seen(line):
    assert len(house.place_breaches({"a.txt": f"fine\n{line}\n"})) == 1


def test_ordinary_paths_are_not_places():
    assert (
        house.place_breaches({"a.txt": "GET /v1/opt/in, ./tmp/x, a/work/b, https://x.org/home/a/b"})
        == []
    )


@pytest.mark.parametrize(
    "text",
    [
        "torch==2.13.0 \\\n    --hash=sha256:ab\n",
        "nvidia-cublas==13 \\\n    --hash=sha256:ab\n",
        "rich==15.0.0\n",
        "rich @ https://example.org/rich.whl \\\n    --hash=sha256:ab\n",
    ],
)
def test_a_bad_lock_is_seen(text):
    assert house.lock_breaches("regex==1 \\\n    --hash=sha256:ab\n" + text)


def test_an_undeclared_library_is_seen():
    found = architecture.all_imports(seen(ledger__a="import yaml, eth_utils"))
    ships = {"yaml": ["PyYAML"], "eth_utils": ["eth-utils"]}
    assert house.undeclared(found, ships, ["eth-utils"]) == [
        "ledger/a.py imports yaml, which pyproject.toml does not name"
    ]
    assert house.undeclared(found, ships, ["eth_utils", "pyyaml"]) == []


def test_an_unmapped_error_is_seen():
    class Tree(Exception): ...

    class Branch(Tree): ...

    class Leaf(Branch):
        __module__ = "room.errors"

    class Other(Tree):
        __module__ = "room.errors"

    class Elsewhere(Tree): ...

    assert house.leaves(Tree) == {Leaf, Other, Elsewhere}
    names = [f"{error.__module__.split('.')[0]}.{error.__name__}" for error in (Leaf, Other)]
    assert house.unmapped([Tree], names) == []
    assert house.unmapped([Tree], names[1:]) == [f"{names[0]} is mapped to no problem"]


def test_a_heavy_import_is_seen():
    assert loaded_by("tenseal") == {"tenseal"}
