"""Reads the house as it is: its files, what each imports, and the table that says what each may.

docs/ARCHITECTURE.md has, between the lines `<!-- imports:begin -->` and `<!-- imports:end -->`,
headings and Markdown tables with one row per file of the four packages:

    | file | purpose | may import (ours) | may import (others) |
    | --- | --- | --- | --- |
    | `ledger/ids.py` | One frozen value type per id. | ledger.errors | eth_utils |

*file* is a path from the root, in backticks; *ours* are dotted modules of the four packages and
*others* top-level names of installed ones, separated by commas, `—` for none. The standard library
is not listed. The table is exact: an import that it lacks and a permission that nothing uses both
break it (`tests/house.py`). `scripts/architecture_table.py` writes it from the real imports.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("anonymize", "compute", "exchange", "ledger")
TABLE = ROOT / "docs" / "ARCHITECTURE.md"
BEGIN, END = "<!-- imports:begin -->", "<!-- imports:end -->"


@dataclass(frozen=True)
class Imports:
    """What one module imports: dotted modules of ours, top-level names of others."""

    ours: frozenset[str]
    others: frozenset[str]


def module_name(path: str) -> str:
    """`ledger/ids.py` -> `ledger.ids`; a package's `__init__.py` is the package."""
    parts = path.removesuffix(".py").split("/")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(root: Path = ROOT) -> dict[str, str]:
    """Path from the root -> text, for every Python file of the four packages."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            found[path.relative_to(root).as_posix()] = path.read_text()
    return found


def _is_type_checking(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in ast.dump(test)


def _statements(tree: ast.AST, *, loading: bool) -> Iterable[ast.stmt]:
    """Every import statement; with `loading` only those that run when the module is loaded."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif loading and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        elif loading and isinstance(node, ast.If) and _is_type_checking(node.test):
            for other in node.orelse:
                yield from _statements(other, loading=loading)
        else:
            yield from _statements(node, loading=loading)


def imports(text: str, modules: Iterable[str], *, loading: bool = False) -> Imports:
    """What the source `text` imports; `modules` are the dotted names that exist in the house."""
    known = set(modules)
    ours, others = set(), set()
    for node in _statements(ast.parse(text), loading=loading):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            origin = node.module or ""
            names = [
                f"{origin}.{alias.name}" if f"{origin}.{alias.name}" in known else origin
                for alias in node.names
            ]
        else:
            names = []
        for name in names:
            top = name.split(".")[0]
            if top in PACKAGES:
                ours.add(name)
            elif top not in sys.stdlib_module_names:
                others.add(top)
    return Imports(frozenset(ours), frozenset(others))


def all_imports(files: Mapping[str, str], *, loading: bool = False) -> dict[str, Imports]:
    """Path -> imports, for all files."""
    modules = {module_name(path) for path in files}
    return {path: imports(text, modules, loading=loading) for path, text in files.items()}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    purpose: str
    imports: Imports


def _cells(line: str) -> list[str]:
    parts = re.split(r"(?<!\\)\|", line.strip().strip("|"))
    return [part.strip() for part in parts]


def _names(cell: str) -> frozenset[str]:
    found = (name.strip().strip("`") for name in cell.split(","))
    return frozenset(name for name in found if name not in ("", "—", "-"))


def parse_table(text: str) -> dict[str, Row]:
    """The rows between the two marks; raises ValueError where the marks or a cell are missing."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"the table stands between one {BEGIN} and one {END}")
    rows: dict[str, Row] = {}
    for line in text.partition(BEGIN)[2].partition(END)[0].splitlines():
        if not line.startswith("| `"):
            continue
        cells = _cells(line)
        if len(cells) != 4:
            raise ValueError(f"four cells, not {len(cells)}: {line}")
        path = cells[0].strip("`")
        if path in rows:
            raise ValueError(f"{path} has two rows")
        rows[path] = Row(cells[1], Imports(_names(cells[2]), _names(cells[3])))
    return rows


def show_row(path: str, purpose: str, found: Imports) -> str:
    """One line of the table."""
    ours = ", ".join(sorted(found.ours)) or "—"
    others = ", ".join(sorted(found.others)) or "—"
    return f"| `{path}` | {purpose} | {ours} | {others} |"
