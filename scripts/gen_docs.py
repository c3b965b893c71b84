"""Writes the documents that are made from the code, or checks that they are fresh.

    .venv/bin/python scripts/gen_docs.py           # write them
    .venv/bin/python scripts/gen_docs.py --check   # exit 1 and name each one that is stale

A document has one maker below: a function without arguments that returns the whole text. Making
one starts no process, opens no socket and reads no setting of the caller.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
for name in [name for name in os.environ if name.startswith("ASSENT_")]:
    del os.environ[name]

NOTE = "<!-- Made by `make gen` from the code; edit the code. -->\n\n"
TREES = {
    "ledger.errors": "LedgerError",
    "anonymize.errors": "AnonymizeError",
    "compute.errors": "ComputeError",
    "exchange.errors": "ExchangeError",
}


def cell(text: object) -> str:
    """Text that stands in one cell of a Markdown table."""
    return str(text).replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").strip()


def first_sentence(thing: object) -> str:
    """The first line of a docstring."""
    return ((getattr(thing, "__doc__", None) or "").strip().splitlines() or [""])[0]


def settings() -> str:
    """Every setting, as `exchange.settings.described()` lists them."""
    rows = importlib.import_module("exchange.settings").described()
    lines = [
        "# Settings\n",
        "Read from the environment, by `exchange/settings.py` alone.\n",
        "| variable | type | default | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for variable, kind, default, meaning in rows:
        shown = f"`{cell(default)}`" if default else "—"
        lines.append(f"| `{variable}` | {cell(kind)} | {shown} | {cell(meaning)} |")
    return NOTE + "\n".join(lines) + "\n"


def below(error: type[BaseException], depth: int = 0) -> Iterator[tuple[int, type[BaseException]]]:
    """An error tree, depth first, in order of definition."""
    yield depth, error
    for child in error.__subclasses__():
        yield from below(child, depth + 1)


def errors() -> str:
    """The error trees, and the problem that each error becomes at the HTTP door."""
    table = importlib.import_module("exchange.api.problems").TABLE
    text = ["# Errors\n", "An error means that no answer could be given; a refusal is a value.\n"]
    for module_name, root_name in TREES.items():
        package = module_name.split(".", maxsplit=1)[0]
        root = getattr(importlib.import_module(module_name), root_name)
        text += [f"## {package}\n", "| error | meaning | status | problem | next step |"]
        text += ["| --- | --- | --- | --- | --- |"]
        for depth, error in below(root):
            if error.__module__.split(".", maxsplit=1)[0] != package:
                continue
            names = (f"{package}.{each.__name__}" for each in error.__mro__)
            row = next((table[name] for name in names if name in table), None)
            shown = (
                "  |  | " if row is None else f"{row.status} | `{row.slug}` | {cell(row.next_step)}"
            )
            indent = "&emsp;" * depth
            meaning = cell(first_sentence(error))
            text.append(f"| {indent}`{error.__name__}` | {meaning} | {shown} |")
        text.append("")
    return NOTE + "\n".join(text)


def openapi() -> str:
    """The API as OpenAPI 3.1, as `exchange.app.openapi()` gives it."""
    made = importlib.import_module("exchange.app").openapi()
    return json.dumps(made, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def verbs(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every command and group of a command line, parents first."""
    yield path
    for name, child in sorted(getattr(command, "commands", {}).items()):
        yield from verbs(child, (*path, name))


def cli() -> str:
    """The command `assent`: the help of every verb of `exchange.__main__.app`."""
    import typer
    from typer.testing import CliRunner

    app = importlib.import_module("exchange.__main__").app
    plain = {"COLUMNS": "96", "TERM": "dumb", "NO_COLOR": "1"}
    text = ["# The command `assent`\n"]
    for path in verbs(typer.main.get_command(app)):
        said = CliRunner().invoke(app, [*path, "--help"], prog_name="assent", env=plain)
        help_text = "\n".join(line.rstrip() for line in said.output.strip().splitlines())
        text.append(f"## `{' '.join(('assent', *path))}`\n\n```text\n{help_text}\n```\n")
    return NOTE + "\n".join(text)


# document -> (the file without which it has nothing to say, its maker)
DOCUMENTS: dict[str, tuple[str, Callable[[], str]]] = {
    "docs/settings.md": ("exchange/settings.py", settings),
    "docs/errors.md": ("exchange/api/problems.py", errors),
    "docs/openapi.json": ("exchange/app.py", openapi),
    "docs/cli.md": ("exchange/__main__.py", cli),
}


def main(arguments: list[str]) -> int:
    """Write or check every document."""
    stale = []
    for name, (origin, make) in DOCUMENTS.items():
        if not (ROOT / origin).exists():
            continue
        path, text = ROOT / name, make()
        if path.exists() and path.read_text() == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            print(f"written: {name}")
    if stale and "--check" in arguments:
        print(f"stale: {', '.join(stale)}\nnext: make gen", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
