"""The house's laws, each a function over given inputs that returns what breaks it.

`tests/unit/test_house.py` holds the project to them, and shows each failing on a sample that
breaks it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from tests.architecture import Imports, Row, module_name, show_row

LONGEST = 400

# Who may know whom (docs/ARCHITECTURE.md, "The one rule"). A package may always know itself.
DIRECTIONS = {
    "exchange": ("anonymize", "compute", "ledger"),
    "compute": ("ledger.policy",),
    "anonymize": (),
    "ledger": (),
}

# Libraries with one home: the library -> the modules that may import it.
HOMES = {
    "torch": ("compute.clear", "compute.engine*", "compute.train*"),
    "tenseal": ("compute.context", "compute.client*", "compute.engine*", "compute.encrypted"),
    "web3": ("ledger.chain", "ledger.rpc", "ledger.build", "ledger.node*"),
    "solcx": ("ledger.build",),
    "coincurve": ("ledger.signing",),
    "eth_account": ("ledger.signing",),
    "dbos": ("exchange.worker.execution",),
    "presidio_analyzer": ("anonymize.*",),
    "presidio_anonymizer": ("anonymize.*",),
    "spacy": ("anonymize.*",),
    "fastapi": ("exchange.app", "exchange.api.*"),
    "obstore": ("exchange.vault",),
}

# What a room must not reach, by any chain of imports that are made when its modules load.
_NOT_AT_THE_DOOR = (
    *("torch", "tenseal", "presidio_analyzer", "presidio_anonymizer", "spacy", "dbos"),
    *("exchange.hospital", "exchange.patient", "exchange.worker", "exchange.sealing"),
)
WALLS = {
    "exchange.app": _NOT_AT_THE_DOOR,
    "exchange.api": _NOT_AT_THE_DOOR,
    "exchange.keys": ("fastapi", "starlette", "anonymize", "torch", "tenseal", "web3", "dbos"),
    "exchange.hospital": ("exchange.store", "exchange.gate", "exchange.log", "fastapi", "dbos"),
    "exchange.patient": ("exchange.store", "exchange.gate", "exchange.log", "fastapi", "dbos"),
    "ledger.verify": ("web3", "solcx"),
}

FORBIDDEN_NAMES = {
    *("utils", "util", "helpers", "helper", "common", "manager", "handler"),
    *("base", "core", "misc"),
}
DECIDERS = ("ledger.policy", "ledger.policies*", "ledger.verify", "exchange.gate")
# The sandbox picks by name what little its child may see.
ENVIRONMENT_READERS = ("exchange.settings", "exchange.worker.sandbox")


def table_breaches(rows: Mapping[str, Row], real: Mapping[str, Imports]) -> list[str]:
    """Where the table and the imports differ; a missing row is named in full, ready to add."""
    breaches = []
    for path, found in real.items():
        row = rows.get(path)
        if row is None:
            breaches.append(f"{path} has no row; add: {show_row(path, '…', found)}")
            continue
        if not row.purpose or row.purpose == "…":
            breaches.append(f"{path} has no purpose")
        for kind in ("ours", "others"):
            used, allowed = getattr(found, kind), getattr(row.imports, kind)
            breaches += [
                f"{path} imports {name}, not in its row" for name in sorted(used - allowed)
            ]
            breaches += [f"{path} may import {name}, unused" for name in sorted(allowed - used)]
    breaches += [f"{path} has a row and does not exist" for path in rows if path not in real]
    return breaches


def _within(name: str, homes: Iterable[str]) -> bool:
    return any(name == home or name.startswith(f"{home}.") for home in homes)


def direction_breaches(real: Mapping[str, Imports]) -> list[str]:
    """Imports against the one rule."""
    breaches = []
    for path, found in real.items():
        package = path.split("/")[0]
        allowed = (package, *DIRECTIONS[package])
        breaches += [
            f"{path} imports {name}: {package} may not know it"
            for name in sorted(found.ours)
            if not _within(name, allowed)
        ]
    return breaches


def home_breaches(real: Mapping[str, Imports]) -> list[str]:
    """Libraries imported outside their one home."""
    return [
        f"{path} imports {name}, which lives in {', '.join(HOMES[name])}"
        for path, found in real.items()
        for name in sorted(found.others & HOMES.keys())
        if not any(fnmatchcase(module_name(path), home) for home in HOMES[name])
    ]


def reached(start: str, loading: Mapping[str, Imports]) -> dict[str, str]:
    """Everything that loading the room `start` loads: name -> the module that brings it in."""
    graph = {module_name(path): found for path, found in loading.items()}
    found: dict[str, str] = {}
    waiting = [name for name in graph if _within(name, (start,))]
    seen = set(waiting)
    while waiting:
        name = waiting.pop()
        here = graph.get(name)
        if here is None:
            continue
        for other in here.others | here.ours:
            found.setdefault(other, name)
        for other in here.ours - seen:
            seen.add(other)
            waiting.append(other)
    return found


def wall_breaches(loading: Mapping[str, Imports]) -> list[str]:
    """Rooms that reach what their sentence of trust says they do not."""
    breaches = []
    for room, walls in WALLS.items():
        for name, through in sorted(reached(room, loading).items()):
            if _within(name, walls):
                breaches.append(f"{room} reaches {name} through {through}")
    return breaches


def decide_breaches(files: Mapping[str, str]) -> list[str]:
    """Modules that call or take `decide` and are not the gate or the auditor's proof."""
    breaches = []
    for path, text in files.items():
        if any(fnmatchcase(module_name(path), home) for home in DECIDERS):
            continue
        for node in ast.walk(ast.parse(text)):
            taken = isinstance(node, ast.ImportFrom) and node.module == "ledger.policy"
            named = taken and "decide" in [alias.name for alias in getattr(node, "names", ())]
            called = isinstance(node, ast.Attribute) and node.attr == "decide"
            if named or called:
                line = getattr(node, "lineno", 0)
                breaches.append(f"{path}:{line} uses decide; only the gate asks it")
    return breaches


def name_breaches(paths: Iterable[str]) -> list[str]:
    """Modules and folders whose name says nothing."""
    return [
        f"{path}: the name {part} says nothing"
        for path in paths
        for part in path.removesuffix(".py").split("/")
        if part in FORBIDDEN_NAMES
    ]


def size_breaches(files: Mapping[str, str], excused: Mapping[str, str]) -> list[str]:
    """Files with more than `LONGEST` lines; `excused` maps a path to the reason why it may."""
    counts = {path: len(text.splitlines()) for path, text in files.items()}
    long = [
        f"{path} has {count} lines: a room with two subjects is split"
        for path, count in counts.items()
        if count > LONGEST and path not in excused
    ]
    return long + [
        f"{path} is excused and need not be" for path in excused if counts.get(path, 0) <= LONGEST
    ]


def signboard_breaches(files: Mapping[str, str]) -> list[str]:
    """`__init__.py` files that hold more, or less, than a docstring."""
    breaches = []
    for path, text in files.items():
        if path.endswith("/__init__.py"):
            body = ast.parse(text).body
            if len(body) != 1 or ast.get_docstring(ast.parse(text)) is None:
                breaches.append(f"{path} holds something other than a docstring")
    return breaches


def relative_breaches(files: Mapping[str, str]) -> list[str]:
    """Relative imports."""
    return [
        f"{path}:{node.lineno} imports relatively"
        for path, text in files.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and node.level
    ]


def environment_breaches(files: Mapping[str, str]) -> list[str]:
    """Modules that read a setting from the environment and are not the settings.

    Handing a child process its environment (`dict(os.environ)`, `**os.environ`) reads no setting.
    """
    breaches = []
    for path, text in files.items():
        if any(fnmatchcase(module_name(path), home) for home in ENVIRONMENT_READERS):
            continue
        for node in ast.walk(ast.parse(text)):
            word = ""
            if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
                word = ast.unparse(node.value)
            elif isinstance(node, ast.Call):
                word = ast.unparse(node.func)
            if word in ("os.environ", "os.environ.get", "os.getenv", "environ.get"):
                breaches.append(f"{path}:{getattr(node, 'lineno', 0)} reads the environment")
    return breaches


def leaves(tree: type[BaseException]) -> set[type[BaseException]]:
    """The classes of an error tree that have no subclass; the root alone when it has none."""
    below = tree.__subclasses__()
    return set().union(*(leaves(child) for child in below)) if below else {tree}


def unmapped(trees: Iterable[type[BaseException]], mapped: Iterable[str]) -> list[str]:
    """Leaf errors without a row of their own in the table of problems (keys `package.Error`).

    Those of the packages' own `errors` modules: others, of a client or a command, never reach the api.
    """
    found = {
        f"{error.__module__.split('.', maxsplit=1)[0]}.{error.__name__}"
        for tree in trees
        for error in leaves(tree)
        if error.__module__.endswith(".errors")
    }
    return [f"{name} is mapped to no problem" for name in sorted(found - set(mapped))]


# Spelt in halves, so that this file does not break its own law.
HOSTS = re.compile(
    "|".join(
        re.escape(first + second)
        for first, second in (
            *(("pypi", ".org"), ("pythonhosted", ".org"), ("npmjs", ".org"), ("npmjs", ".com")),
            *(("download.pytorch", ".org"), ("deb.debian", ".org"), ("yarnpkg", ".com")),
        )
    )
)
MACHINE = re.compile(r"(?<![\w.:/-])/(?:work|root|farm|tmp|opt|home/\w+)/[\w.]")


def place_breaches(texts: Mapping[str, str]) -> list[str]:
    """Tracked texts that name a registry's host or a path of one machine."""
    return [
        f"{path}:{number} names {match.group()}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        for match in (HOSTS.search(line) or MACHINE.search(line),)
        if match
    ]


def lock_breaches(text: str) -> list[str]:
    """Lines of a lock that a machine without a GPU, or without the author's mirror, cannot use."""
    breaches = [
        f"{word} is not for every machine"
        for word in re.findall(r"^(torch|triton|nvidia-\S+|cuda-\S+)==", text, re.MULTILINE)
    ]
    if "://" in text:
        breaches.append("an address stands in the lock")
    requirements = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)
    return breaches + [
        f"{block.split('==')[0]} has no hash"
        for block in requirements
        if block.strip() and "--hash=sha256:" not in block
    ]


def undeclared(
    real: Mapping[str, Imports], provides: Mapping[str, Iterable[str]], declared: Iterable[str]
) -> list[str]:
    """Libraries that are imported and stand in no extra of pyproject.toml.

    `provides` maps an import name to the distributions that ship it.
    """
    asked = {re.sub(r"[-_.]+", "-", name).lower() for name in declared}
    breaches = []
    for path, found in real.items():
        for name in sorted(found.others):
            shipped = {re.sub(r"[-_.]+", "-", dist).lower() for dist in provides.get(name, ())}
            if not shipped & asked:
                breaches.append(f"{path} imports {name}, which pyproject.toml does not name")
    return breaches
