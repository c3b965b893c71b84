"""Decisions are written down: one file each, whole, and one line for every dependency."""

from __future__ import annotations

import re
import tomllib

from tests.architecture import ROOT

FOLDER = ROOT / "docs" / "adr"
DEPENDENCIES = FOLDER / "0015-why-each-dependency-came-in.md"
SECTIONS = ("**Status:**", "## Context", "## Decision", "## Consequences", "\nWorse: ")
ONE_PAGE = 700


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(project):
    """Every package that pyproject.toml names itself, without extras, markers and versions."""
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {normal(re.match(r"[A-Za-z0-9._-]+", one).group()) for each in lists for one in each}
    return names - {normal(project["name"])}


def explained(text):
    """The packages with a line in the tables, each with its reason."""
    return {
        normal(name): why.strip()
        for name, why in re.findall(r"^\| `([^`]+)` \| (.+) \|$", text, re.MULTILINE)
    }


def gaps(names, reasons):
    """Packages without a reason, and reasons without a package."""
    return [f"{name} came in without a reason" for name in sorted(names - reasons.keys())] + [
        f"{name} is explained and not declared" for name in sorted(reasons.keys() - names)
    ]


def faults(name, text, number):
    """What a decision record lacks."""
    found = [f"{name} lacks {part.strip()}" for part in SECTIONS if part not in text]
    if not text.startswith(f"# {number:04d} ") or not name.startswith(f"{number:04d}-"):
        found.append(f"{name} is not number {number:04d}")
    prose = [line for line in text.splitlines() if not line.startswith("|")]
    if len(" ".join(prose).split()) > ONE_PAGE:
        found.append(f"{name} is longer than a page")
    return found


def test_every_decision_is_a_whole_page_with_its_price():
    files = sorted(FOLDER.glob("*.md"))
    assert files
    found = [
        fault
        for number, path in enumerate(files, 1)
        for fault in faults(path.name, path.read_text(), number)
    ]
    assert found == []


def test_every_dependency_has_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert gaps(declared(project), explained(DEPENDENCIES.read_text())) == []


def test_a_record_without_its_price_is_seen():
    whole = (
        "# 0001 T\n\n**Status:** a\n\n## Context\n\n## Decision\n\n## Consequences\n\nWorse: x.\n"
    )
    assert faults("0001-t.md", whole, 1) == []
    assert faults("0001-t.md", whole.replace("Worse: x.", ""), 1) == ["0001-t.md lacks Worse:"]
    assert faults("0003-t.md", whole, 2) == ["0003-t.md is not number 0002"]
    assert faults("0001-t.md", whole + "word " * ONE_PAGE, 1) == ["0001-t.md is longer than a page"]


def test_a_dependency_without_a_reason_is_seen():
    project = {
        "name": "the-house",
        "dependencies": ["One[extra]>=1,<2", "the-house[more]"],
        "optional-dependencies": {"more": ["two_words==3; python_version < '4'"]},
    }
    reasons = explained("| package | why |\n| --- | --- |\n| `one` | because |\n| `old` | was |\n")
    assert declared(project) == {"one", "two-words"}
    assert gaps(declared(project), reasons) == [
        "two-words came in without a reason",
        "old is explained and not declared",
    ]
