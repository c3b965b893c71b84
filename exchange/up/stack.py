"""Node, keys, api and worker as child processes (decision D5).

Order: node and keys side by side, then the deployment, then api and worker. A process that ends while it
should run is started again; whoever kills one on purpose (the fault trials) sees it return.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from exchange.deployment import Deployment
from exchange.errors import SettingsError
from exchange.relayer import relayer_key
from exchange.settings import Settings, environment_of
from exchange.up.ports import require_ports
from exchange.up.process import Process

NAMES = ("node", "keys", "api", "worker")
_PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_GRACE_SECONDS = 8.0
#: So often a process that ends at its start is started; one that something killed, somewhat more often.
_MOST_TRIES, _MOST_TRIES_KILLED = 2, 5

Progress = Callable[[str], None]


def free_port() -> int:
    """A TCP port on the loopback that nobody holds at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Stack:
    """The processes of one data folder. ``founders`` and ``auditors`` are files for the first start."""

    settings: Settings
    founders: list[Path] = field(default_factory=list)
    auditors: list[Path] = field(default_factory=list)
    anvil: Path | None = None
    progress: Progress = lambda _line: None
    deployment: Deployment | None = None
    _processes: dict[str, Process] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _watcher: threading.Thread | None = None

    def start(self) -> Deployment:
        """Start everything and return once all of them serve; if one cannot, stop the others.

        Raises:
            SettingsError: a port is taken, or a process ended at its start; it says why.
        """
        try:
            return self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> Deployment:
        from exchange.deploying import deploy_once

        settings = self.settings = _with_ports(self.settings)
        require_ports(settings)
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        logs = settings.data_dir / "logs"
        logs.mkdir(exist_ok=True, mode=0o700)
        for name, command in self._commands(settings).items():
            self._processes[name] = Process(name, command, logs / f"{name}.log")
        self._bring_up("node", "keys")
        self.deployment = deploy_once(settings, self.founders, self.auditors)
        self._bring_up("api", "worker")
        self.wait_for_api()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self.deployment

    def stop(self) -> None:
        """Stop everything that was started here, in reverse order."""
        self._stopping.set()
        with self._lock:
            for name in reversed(self._processes):
                self._processes[name].terminate()
            end = time.monotonic() + _GRACE_SECONDS
            for process in self._processes.values():
                process.await_end(end - time.monotonic())

    def kill(self, name: str) -> int:
        """Kill one process as if the machine had failed it (SIGKILL); its pid."""
        with self._lock:
            return self._processes[name].kill()

    def pid(self, name: str) -> int:
        """The pid of a process, 0 if it does not run."""
        return self._processes[name].pid

    def wait_for_api(self) -> None:
        """Return once the api answers.

        Raises:
            SettingsError: it does not, for a minute, or it ends at its start; it says why.
        """
        end = time.monotonic() + _PATIENCE_SECONDS
        address, context = _own_door(self.settings)
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"{address}/livez", timeout=1, context=context):  # noqa: S310 - our own address
                    return
            except (urllib.error.URLError, OSError):
                self._require_running(self._processes["api"])
                time.sleep(_LOOK_SECONDS)
        raise _failed(self._processes["api"], "does not answer")

    def _commands(self, settings: Settings) -> dict[str, list[str]]:
        python = [sys.executable, "-m", "exchange"]
        commands = {name: [*python, name] for name in NAMES}
        if settings.ledger.rpc_url is not None:
            del commands["node"]
            return commands
        commands["node"] += ["--data", str(settings.data_dir / "node")]
        commands["node"] += ["--port", str(settings.ledger.port)]
        commands["node"] += ["--sender", "0x" + relayer_key(settings).address.hex()]
        if self.anvil is not None:
            commands["node"] += ["--anvil", str(self.anvil)]
        return commands

    def _bring_up(self, *names: str) -> None:
        """Start these side by side; return once each serves."""
        starting = [self._processes[name] for name in names if name in self._processes]
        for process in starting:
            self.progress(f"starting {process.name}")
            process.spawn(_environment(self.settings))
        end = time.monotonic() + _PATIENCE_SECONDS
        for process in starting:
            while not process.is_ready():
                if time.monotonic() > end:
                    raise _failed(process, "does not start")
                self._require_running(process)
                time.sleep(_LOOK_SECONDS)

    def _require_running(self, process: Process) -> None:
        """Start a process again that has ended, unless it does so every time."""
        code = process.exit_code
        if code is None:
            return
        if process.tries >= (_MOST_TRIES_KILLED if code < 0 else _MOST_TRIES):
            raise _failed(process, f"{process.ending()} at its start")
        with self._lock:
            if not self._stopping.is_set() and process.exit_code is not None:
                process.spawn(_environment(self.settings))

    def _watch(self) -> None:
        while not self._stopping.wait(_LOOK_SECONDS):
            for process in self._processes.values():
                with self._lock:
                    if self._stopping.is_set():
                        return
                    # One that ends at once, again and again, gets a pause in between.
                    pause = 0 if process.tries < 5 else 2
                    if process.exit_code is not None and time.monotonic() - process.started > pause:
                        self.progress(_again(process))
                        process.spawn(_environment(self.settings))


def _failed(process: Process, what: str) -> SettingsError:
    said = process.last_words()
    words = f"{process.name} {what}" + ("; it said:" if said else ", without a word")
    error = SettingsError("\n".join([words, *(f"  {line}" for line in said)]))
    error.next_step = f"mend that and start again; the whole log is {process.log}"
    return error


def _again(process: Process) -> str:
    said = process.last_words() if (process.exit_code or 0) > 0 else []
    why = f" ({said[-1]})" if said else ""
    return f"{process.name} {process.ending()}{why} and is started again; see {process.log}"


def _with_ports(settings: Settings) -> Settings:
    """The settings with a real port wherever 0 asks for a free one: every process must know it."""
    api, ledger = settings.api, settings.ledger
    if api.port == 0:
        api = api.model_copy(update={"port": free_port()})
    if ledger.port == 0:
        ledger = ledger.model_copy(update={"port": free_port()})
    return settings.model_copy(update={"api": api, "ledger": ledger})


def _own_door(settings: Settings) -> tuple[str, ssl.SSLContext | None]:
    """Where this machine itself reaches the api, whatever address clients use."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.api.host, settings.api.host)  # noqa: S104 - recognised, not bound
    if settings.api.tls_cert is None:
        return f"http://{host}:{settings.api.port}", None
    context = ssl.create_default_context(cafile=str(settings.api.tls_cert))
    # The certificate names the public address; that it is this very one is what matters here.
    context.check_hostname = False
    return f"https://{host}:{settings.api.port}", context


def _environment(settings: Settings) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ASSENT_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    root = str(Path(__file__).parent.parent.parent)
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, (root, kept.get("PYTHONPATH"))))
    return kept | environment_of(settings)
