"""What docs/THREATS.md says is proved names a test that exists."""

from __future__ import annotations

import ast
import re

from tests.architecture import ROOT

THREATS = ROOT / "docs" / "THREATS.md"
REFERENCE = re.compile(r"`((?:[a-z0-9_]+/)*test_\w+\.py)::(\w+)`")


def found_in(text):
    """Names of the test functions and of the test classes' methods."""
    return {
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def unproved(document, tests):
    """References to tests that are not there; `tests` maps a path from tests/ to its test names."""
    return [
        f"{path}::{name}"
        for path, name in REFERENCE.findall(document)
        if name not in tests.get(path, ())
    ]


def without_proof(document):
    """Rows of a table of threats whose last cell names no test."""
    rows = [line for line in document.splitlines() if line.startswith("| ")]
    kept = [row for row in rows if not row.startswith(("| threat |", "| --- |"))]
    return [row.split("|")[1].strip() for row in kept if not REFERENCE.search(row.split("|")[-2])]


def test_every_named_test_exists():
    root = ROOT / "tests"
    tests = {
        path.relative_to(root).as_posix(): found_in(path.read_text())
        for path in root.rglob("test_*.py")
    }
    document = THREATS.read_text()
    assert len(REFERENCE.findall(document)) > 50
    assert unproved(document, tests) == []


def test_every_threat_has_its_proof():
    assert without_proof(THREATS.read_text()) == []


def test_a_renamed_test_and_a_missing_file_are_seen():
    tests = {"unit/test_a.py": found_in("def test_x(): ...\nclass T:\n    def test_y(self): ...\n")}
    told = "`unit/test_a.py::test_x` `unit/test_a.py::test_y`"
    assert unproved(told, tests) == []
    assert unproved(told + " `unit/test_a.py::test_z`", tests) == ["unit/test_a.py::test_z"]
    assert unproved("`unit/test_b.py::test_x`", tests) == ["unit/test_b.py::test_x"]


def test_a_threat_without_a_proof_is_seen():
    table = "| threat | control | proved by |\n| --- | --- | --- |\n| t | c | {} |\n"
    assert without_proof(table.format("`unit/test_a.py::test_x`")) == []
    assert without_proof(table.format("trust us")) == ["t"]
