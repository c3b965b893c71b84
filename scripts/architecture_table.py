"""Prints the table of files and imports as it really is; purposes that are written stay.

    .venv/bin/python scripts/architecture_table.py           # to the terminal
    .venv/bin/python scripts/architecture_table.py --write   # between the marks of docs/ARCHITECTURE.md

A new file's purpose is taken from the first line of its docstring; improve it by hand.
"""

from __future__ import annotations

import ast
import sys
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests import architecture

HEADER = "| file | purpose | may import (ours) | may import (others) |\n| --- | --- | --- | --- |"


def first_line(text: str) -> str:
    """The first line of a module's docstring, safe inside a table."""
    document = ast.get_docstring(ast.parse(text)) or "…"
    return document.splitlines()[0].replace("|", "\\|")


def folder_of(path: str) -> str:
    """The folder of a file."""
    return path.rsplit("/", 1)[0]


def table() -> str:
    """The whole table, one section per folder."""
    known: dict[str, architecture.Row] = {}
    if architecture.TABLE.exists() and architecture.BEGIN in architecture.TABLE.read_text():
        known = architecture.parse_table(architecture.TABLE.read_text())
    files = architecture.sources()
    found = architecture.all_imports(files)
    sections = []
    for folder, paths in groupby(sorted(files, key=folder_of), key=folder_of):
        lines = [
            architecture.show_row(
                path,
                known[path].purpose if path in known else first_line(files[path]),
                found[path],
            )
            for path in paths
        ]
        sections.append("\n".join([f"#### `{folder}/`", "", HEADER, *lines]))
    return "\n\n".join(sections)


def main() -> int:
    """Print or write."""
    made = table()
    if "--write" not in sys.argv[1:]:
        print(made)
        return 0
    text = architecture.TABLE.read_text()
    before, rest = text.split(architecture.BEGIN)
    after = rest.split(architecture.END)[1]
    architecture.TABLE.write_text(
        f"{before}{architecture.BEGIN}\n\n{made}\n\n{architecture.END}{after}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
