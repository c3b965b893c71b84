"""Prints the part of requirements.lock that some extras need, with its hashes.

    python scripts/subset_lock.py api patient > api.lock

It follows the requirements of what is installed in the interpreter that runs it, which must hold
the whole lock. So an image takes only what its processes load, at the locked versions.
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def blocks(lock: str) -> dict[str, str]:
    """The lock by package name: each requirement with its lines of hashes."""
    found: dict[str, str] = {}
    for block in re.split(r"\n(?=\S)", lock):
        name = re.match(r"[A-Za-z0-9][\w.-]*", block)
        if name:
            found[canonicalize_name(name[0])] = block.rstrip("\n")
    return found


def extra_requirements(project: dict[str, object], extras: list[str]) -> list[Requirement]:
    """What the project itself needs, and what these extras of it do, one naming another included."""
    name = str(project["name"])
    optional = project["optional-dependencies"]
    assert isinstance(optional, dict)
    dependencies = project["dependencies"]
    assert isinstance(dependencies, list)
    found = [Requirement(text) for text in dependencies]
    waiting, seen = list(extras), set()
    while waiting:
        extra = waiting.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for text in optional[extra]:
            requirement = Requirement(text)
            if requirement.name == name:
                waiting += sorted(requirement.extras)
            else:
                found.append(requirement)
    return found


def closure(wanted: list[Requirement]) -> set[str]:
    """The names of everything that is needed, as installed here."""
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [(requirement, "") for requirement in wanted]
    while waiting:
        requirement, parent_extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": parent_extra}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                needs = requires(name) or []
            except PackageNotFoundError:
                continue
            found.add(name)
            waiting += [(Requirement(text), extra) for text in needs]
    return found


def main(arguments: list[str]) -> int:
    """Print the subset; a name that the lock does not hold is an error."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = project["optional-dependencies"]
    extras = [name for name in arguments if name in known]
    single = [Requirement(name) for name in arguments if name not in known]
    lock = blocks((ROOT / "requirements.lock").read_text())
    names = closure(extra_requirements(project, extras) + single)
    absent = sorted(names - lock.keys())
    if absent or not arguments:
        print(f"not in requirements.lock: {', '.join(absent)}", file=sys.stderr)
        return 1
    print("\n".join(lock[name] for name in sorted(names)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
