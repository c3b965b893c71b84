"""``assent doctor``: what this installation needs, one line per check, and how to mend what is missing.

Nothing is changed, and nothing heavy is imported: libraries are looked for, not loaded. What is
*needed* fails the command; what only matters later is a note.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib.util
import json
import os
import platform
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import typer

from exchange.deployment import load_deployment
from exchange.errors import ExchangeError, SettingsError
from exchange.settings import Settings, load_settings
from exchange.up.ports import is_free, served_ports
from ledger.engine import find_anvil
from ledger.errors import LedgerError

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)
#: Up to this release two connections could, very rarely, spoil a write-ahead log (sqlite.org/wal.html).
SOUND_SQLITE = (3, 51, 3)
#: Where this version was written; a clock before it is wrong.
WRITTEN = datetime(2026, 11, 1, tzinfo=UTC)

NEEDED = {
    "fastapi": "the api",
    "sqlalchemy": "the store",
    "cryptography": "sealing",
    "coincurve": "signatures",
    "obstore": "the vault",
    "web3": "the chain",
    "dbos": "the worker",
    "presidio_analyzer": "inspection of what hospitals publish",
    "spacy": "inspection of what hospitals publish",
}
WANTED = {"tenseal": "encrypted inference", "torch": "training and plain inference"}

_LEAST_BYTES, _ENOUGH_BYTES = 256 << 20, 2 << 30
_TIME_ERROR = 5
_INSTALL = "run `make setup`"

State = Literal["ok", "note", "missing"]


@dataclass(frozen=True)
class Finding:
    """One check: its name, its state, what was found, and the step that mends it (empty if ok)."""

    check: str
    state: State
    found: str
    fix: str = ""


def doctor(*, as_json: bool = False) -> int:
    """Run every check and print it; 1 if something needed is missing, else 0."""
    findings = list(examine())
    missing = sum(finding.state == "missing" for finding in findings)
    if as_json:
        typer.echo(json.dumps({"ok": not missing, "checks": [asdict(one) for one in findings]}))
        return 1 if missing else 0
    for finding in findings:
        typer.echo(f"{finding.state:<8} {finding.check:<12} {finding.found}")
        if finding.fix:
            typer.echo(f"{'':<21} fix: {finding.fix}")
    typer.echo(f"{missing} missing" if missing else "everything needed is here")
    return 1 if missing else 0


def examine() -> Iterator[Finding]:
    """Every check, in order; without valid settings only those that need none."""
    yield check_python(sys.version_info[:2])
    yield check_sqlite(sqlite3.sqlite_version_info)
    yield check_clock(datetime.now(UTC))
    yield from check_libraries()
    yield check_confinement()
    try:
        settings = load_settings()
    except SettingsError as error:
        yield Finding("settings", "missing", str(error), error.next_step)
        return
    yield Finding("settings", "ok", f"{settings.environment}, data in {settings.data_dir}")
    yield check_chain(settings)
    yield check_anvil(settings)
    yield check_folder(settings.data_dir)
    yield check_space(settings.data_dir)
    yield check_sync(settings.data_dir)
    yield from check_databases(settings)
    yield from check_ports(settings)
    yield from check_secrets(settings)
    yield check_deployment(settings)


def check_python(version: tuple[int, ...]) -> Finding:
    """The interpreter is one that every pinned package has a build for."""
    shown = ".".join(map(str, version))
    if OLDEST_PYTHON <= version[:2] <= NEWEST_PYTHON:
        return Finding("python", "ok", f"{shown} at {sys.executable}")
    return Finding(
        "python", "missing", f"{shown} is not supported", "use Python 3.11, 3.12 or 3.13"
    )


def check_sqlite(version: tuple[int, ...]) -> Finding:
    """SQLite has no known fault in its write-ahead log."""
    shown = ".".join(map(str, version))
    if version >= SOUND_SQLITE:
        return Finding("sqlite", "ok", shown)
    sound = ".".join(map(str, SOUND_SQLITE))
    return Finding(
        "sqlite",
        "note",
        f"{shown}; before {sound} a write-ahead log could very rarely be spoiled",
        "for production set ASSENT_DATABASE_URL to a PostgreSQL, or use a newer Python build",
    )


def check_clock(now: datetime) -> Finding:
    """The clock is not in the past, and the kernel believes it."""
    shown = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    if now < WRITTEN:
        return Finding(
            "clock", "missing", f"{shown} is before this version was written", "set the clock"
        )
    if platform.system() == "Linux":
        # A zeroed struct timex only asks; adjtimex(2) returns 5 for a clock without a source.
        timex = ctypes.create_string_buffer(512)
        if ctypes.CDLL(None).adjtimex(timex) == _TIME_ERROR:
            return Finding(
                "clock", "note", f"{shown}, not synchronised", "run an NTP client on this machine"
            )
    return Finding("clock", "ok", shown)


def check_libraries(
    present: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None,
) -> Iterator[Finding]:
    """Every library that a process of ours loads is installed."""
    absent = [name for name in NEEDED if not present(name)]
    for name in absent:
        yield Finding(name, "missing", f"is not installed; {NEEDED[name]} needs it", _INSTALL)
    if not absent:
        yield Finding("libraries", "ok", f"all {len(NEEDED)} that are needed")
    for name, purpose in WANTED.items():
        if present(name):
            yield Finding(name, "ok", "installed")
        else:
            yield Finding(name, "note", f"is not installed; {purpose} needs it", _INSTALL)


def check_confinement(
    program: str = (
        "from exchange.worker.confine import confine, is_confined\n"
        "confine(cpu_seconds=10, memory_bytes=1 << 30)\n"
        "raise SystemExit(0 if is_confined() else 1)\n"
    ),
) -> Finding:
    """A child of ours can give up the network for good; without that no job is run."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).resolve().parent.parent.parent,
    )
    if done.returncode == 0:
        return Finding("confinement", "ok", "a job's child can open no socket")
    return Finding(
        "confinement",
        "missing",
        "a job's child cannot be confined, so no job and no inspection will run",
        "run the worker on Linux (x86_64 or arm64) with seccomp, which containers have by default",
    )


def check_chain(settings: Settings) -> Finding:
    """Who can vouch for the chain."""
    ledger = settings.ledger
    if ledger.finality == "managed":
        return Finding(
            "chain",
            "note",
            "managed: a node that one operator runs alone proves nothing to others",
            "for production set ASSENT_LEDGER__RPC_URL to a shared network, and its finality",
        )
    return Finding("chain", "ok", f"finality {ledger.finality}")


def check_anvil(settings: Settings) -> Finding:
    """The managed node's binary is there and starts."""
    if settings.ledger.rpc_url is not None:
        return Finding("anvil", "ok", "not needed: ASSENT_LEDGER__RPC_URL names a node")
    fix = "run `python3 scripts/fetch_anvil.py`, or put anvil on PATH"
    try:
        path = find_anvil()
    except LedgerError:
        return Finding("anvil", "missing", "was not found", fix)
    try:
        done = subprocess.run([path, "--version"], capture_output=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return Finding("anvil", "missing", f"{path} does not start", fix)
    if done.returncode != 0:
        return Finding("anvil", "missing", f"{path} does not start", fix)
    words = done.stdout.decode(errors="replace").split()
    version = next((word for word in words if word[:1].isdigit()), "of unknown version")
    return Finding("anvil", "ok", f"{version} at {path}")


def check_folder(folder: Path) -> Finding:
    """The data folder is ours alone, or can be made."""
    if not folder.exists():
        if os.access(_existing(folder), os.W_OK | os.X_OK):
            return Finding("data folder", "ok", f"{folder} will be made")
        return Finding(
            "data folder", "missing", f"{folder} cannot be made", "set ASSENT_DATA_DIR elsewhere"
        )
    found = folder.stat()
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Finding(
            "data folder", "missing", f"{folder} cannot be written", "change its owner or mode"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        return Finding("data folder", "missing", f"others may read {folder}", f"chmod 700 {folder}")
    return Finding("data folder", "ok", f"{folder} is ours alone")


def check_space(folder: Path) -> Finding:
    """There is room for data."""
    free = shutil.disk_usage(_existing(folder)).free
    shown = f"{free >> 20} MiB free"
    if free < _LEAST_BYTES:
        return Finding("disk space", "missing", shown, "free space, or set ASSENT_DATA_DIR")
    if free < _ENOUGH_BYTES:
        return Finding("disk space", "note", shown, "more is needed for data of any size")
    return Finding("disk space", "ok", shown)


def check_sync(folder: Path) -> Finding:
    """The disk takes an fsync: what is acknowledged is durable only through it."""
    place = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            started = time.perf_counter()
            rounds = 8
            for _ in range(rounds):
                file.write(b"\0" * 4096)
                file.flush()
                os.fsync(file.fileno())
            took = (time.perf_counter() - started) / rounds
    except OSError as error:
        return Finding(
            "disk sync",
            "missing",
            f"fsync in {place} fails ({type(error).__name__})",
            "set ASSENT_DATA_DIR to a local disk that can be written",
        )
    return Finding("disk sync", "ok", f"{took * 1000:.1f} ms per fsync")


def check_databases(settings: Settings) -> Iterator[Finding]:
    """A PostgreSQL that is named answers."""
    for name, url in (
        ("store", settings.database_url),
        ("keys store", settings.keys_database_url),
        ("queue", settings.worker.database_url or ""),
    ):
        if url.startswith("postgresql"):
            yield _check_postgres(name, url)


def _check_postgres(name: str, url: str) -> Finding:
    import sqlalchemy as sa

    parsed = sa.make_url(url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(parsed, connect_args={"connect_timeout": 5}, poolclass=sa.NullPool)
    try:
        with engine.connect() as conn:
            version = conn.execute(sa.text("SHOW server_version")).scalar_one()
    except sa.exc.SQLAlchemyError as error:
        return Finding(
            name,
            "missing",
            f"the PostgreSQL does not take us ({type(error).__name__})",
            "check address, role and password of its ASSENT_…DATABASE_URL",
        )
    finally:
        engine.dispose()
    return Finding(name, "ok", f"PostgreSQL {version}")


def check_ports(settings: Settings) -> Iterator[Finding]:
    """The ports are free, or held by this installation itself."""
    ours = is_running(settings.run_dir)
    for name, variable, host, port in served_ports(settings):
        check = f"{name} port"
        if port == 0:
            yield Finding(check, "ok", "any free one")
        elif is_free(host, port):
            yield Finding(check, "ok", f"{port} is free")
        elif ours:
            yield Finding(check, "ok", f"{port} is held by this running installation")
        else:
            yield Finding(
                check,
                "missing",
                f"{port} is taken by another program",
                f"stop it, or set {variable}",
            )


def check_secrets(settings: Settings) -> Iterator[Finding]:
    """No secret on disk may be read by others."""
    data = settings.data_dir
    files = [data / "keys" / "root.key", data / "worker" / "relayer.key", settings.api.tls_key]
    files += [
        Path(url.removeprefix("sqlite:///"))
        for url in (settings.keys_database_url,)
        if url.startswith("sqlite:///")
    ]
    present = [path for path in files if path is not None and path.exists()]
    open_ones = [path for path in present if stat.S_IMODE(path.stat().st_mode) & 0o077]
    for path in open_ones:
        yield Finding("secrets", "missing", f"others may read {path}", f"chmod 600 {path}")
    if not open_ones:
        yield Finding("secrets", "ok", f"{len(present)} files, each ours alone")


def check_deployment(settings: Settings) -> Finding:
    """The deployment's file, if there is one, can be read."""
    if not settings.deployment_file.exists():
        return Finding("deployment", "ok", "none yet: `assent up` or `assent deploy` makes it")
    try:
        found = load_deployment(settings.deployment_file)
    except ExchangeError as error:
        return Finding("deployment", "missing", str(error), error.next_step)
    return Finding(
        "deployment", "ok", f"0x{found.id.hex()[:12]}… with {len(found.founders)} founders"
    )


def is_running(run_dir: Path) -> bool:
    """Whether an ``assent up`` holds this data folder."""
    lock = run_dir / "up.lock"
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _existing(path: Path) -> Path:
    """The path, or its nearest ancestor that exists."""
    while not path.exists():
        path = path.parent
    return path
