"""``assent up`` and ``assent settings``.

``up`` holds a lock of its data folder, starts every process, prints where to go, and stays until
Ctrl-C or SIGTERM, which stop everything in order. A process that ends meanwhile is started again.
"""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import typer

from exchange.deployment import Deployment
from exchange.errors import Conflict, SettingsError
from exchange.settings import Settings, described, environment_of, load_settings
from exchange.up.stack import Stack

_MASK = "***"


def up(*, demo: bool, founders: Sequence[Path], auditors: Sequence[Path]) -> int:
    """Run everything until a signal comes; returns the exit code.

    Raises:
        SettingsError: nobody founds the deployment, a port is taken, or a process ended at once.
        Conflict: this data folder is in use already.
    """
    settings = load_settings()
    if demo:
        from exchange.demo.command import up_demo

        with alone(settings.run_dir):
            return up_demo(settings)
    if not founders and not settings.deployment_file.exists():
        raise SettingsError(
            "a first start needs founding hospitals",
            next_step=(
                "run `assent hospital init --name NAME` and then `assent up --founder "
                "hospital/card.json`; or look around with `assent up --demo`"
            ),
        )
    with alone(settings.run_dir):
        stack = Stack(settings, list(founders), list(auditors), progress=typer.echo)
        return serve(stack, told=lambda deployment: links(stack.settings, deployment))


def serve(stack: Stack, *, told: Callable[[Deployment], Sequence[str]]) -> int:
    """Start a stack, print what ``told`` says of it, stay until a signal, stop it; the exit code.

    A signal while it starts stops what has started.
    """
    done = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, signal.default_int_handler)
    try:
        try:
            for line in told(stack.start()):
                typer.echo(line)
            done.wait()
        except KeyboardInterrupt:
            typer.echo("stopping")
    finally:
        for number in before:
            # Whoever presses Ctrl-C twice would leave processes without their parent.
            signal.signal(number, signal.SIG_IGN)
        stack.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
    typer.echo("stopped")
    return 0


def links(settings: Settings, deployment: Deployment) -> list[str]:
    """What to open and what to do next, once everything runs."""
    base = settings.base_url
    return [
        f"ready: {base}",
        f"  chain        {settings.rpc_url} (id {deployment.chain_id})",
        f"  exchange key 0x{deployment.exchange.hex()}",
        f"next: assent hospital join --exchange {base} --fingerprint 0x{deployment.exchange.hex()}",
        "Ctrl-C stops everything",
    ]


@contextmanager
def alone(run_dir: Path) -> Iterator[None]:
    """Hold this data folder for one ``assent up``; the kernel frees it if we die.

    Raises:
        Conflict: somebody holds it.
    """
    run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(run_dir / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                "another `assent up` runs on this data folder",
                next_step="stop it, or set ASSENT_DATA_DIR to another folder",
            ) from None
        yield
    finally:
        os.close(descriptor)


def show_settings() -> int:
    """Print every setting in force as ``VARIABLE=value``, secrets masked; 0."""
    for line in shown(load_settings()):
        typer.echo(line)
    return 0


def shown(settings: Settings) -> list[str]:
    """One line per variable, in the manual's order; unset ones are comments."""
    values = environment_of(settings)
    return [
        f"{variable}={masked(values[variable])}" if variable in values else f"# {variable} is unset"
        for variable, *_ in described()
    ]


def masked(value: str) -> str:
    """The value; of an address neither password nor query, nor the path of an HTTP one.

    Providers of networks put access keys into paths and queries.
    """
    parts = urlsplit(value)
    if not parts.scheme or not parts.netloc:
        return value
    host = parts.netloc.rpartition("@")[2]
    user = parts.netloc.rpartition("@")[0].partition(":")[0]
    secret_path = parts.scheme in ("http", "https") and parts.path not in ("", "/")
    return urlunsplit(
        (
            parts.scheme,
            f"{user}:{_MASK}@{host}" if user else host,
            f"/{_MASK}" if secret_path else parts.path,
            _MASK if parts.query else "",
            "",
        )
    )
