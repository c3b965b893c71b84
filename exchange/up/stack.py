"""Node, keys, api and worker as child processes (decision D5).

Order: node and keys side by side, then the deployment, then api and worker. A process that ends while it
should run is started again; whoever kills one on purpose (the fault trials) sees it return.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import ssl
import subprocess
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

NAMES = ("node", "keys", "api", "worker")
_PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_GRACE_SECONDS = 8.0
_PR_SET_PDEATHSIG = 1

Progress = Callable[[str], None]


def free_port() -> int:
    """A TCP port on the loopback that nobody holds at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class _Process:
    command: list[str]
    log: Path
    child: subprocess.Popen[bytes] | None = None
    starts: int = 0
    logged: int = 0
    """Where this start's lines begin in the log, which earlier starts filled."""
    started: float = 0.0


@dataclass
class Stack:
    """The processes of one data folder. ``founders`` and ``auditors`` are files for the first start."""

    settings: Settings
    founders: list[Path] = field(default_factory=list)
    auditors: list[Path] = field(default_factory=list)
    anvil: Path | None = None
    progress: Progress = lambda _line: None
    deployment: Deployment | None = None
    _processes: dict[str, _Process] = field(default_factory=dict)
    _watching: threading.Event = field(default_factory=threading.Event)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _watcher: threading.Thread | None = None

    def start(self) -> Deployment:
        """Start everything and return once the api answers and the worker runs.

        Raises:
            SettingsError: a process ended at once; its log says why.
        """
        from exchange.deploying import deploy_once

        settings = self.settings = _with_ports(self.settings)
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        python = [sys.executable, "-m", "exchange"]
        node = [*python, "node", "--data", str(settings.data_dir / "node"), "--port",
                str(settings.ledger.port), "--sender",
                "0x" + relayer_key(settings).address.hex()]  # fmt: skip
        if self.anvil is not None:
            node += ["--anvil", str(self.anvil)]
        commands = {
            "keys": [*python, "keys"],
            "api": [*python, "api"],
            "worker": [*python, "worker"],
        }
        if settings.ledger.rpc_url is None:
            commands = {"node": node} | commands
        logs = settings.data_dir / "logs"
        logs.mkdir(exist_ok=True, mode=0o700)
        for name, command in commands.items():
            self._processes[name] = _Process(command, logs / f"{name}.log")
        for name in ("node", "keys"):
            if name in self._processes:
                self.progress(f"starting {name}")
                self._spawn(name)
        self.deployment = deploy_once(settings, self.founders, self.auditors)
        for name in ("api", "worker"):
            self.progress(f"starting {name}")
            self._spawn(name)
        self.wait_for_api()
        self._wait_for_worker()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self.deployment

    def stop(self) -> None:
        """Stop everything that was started here, in reverse order."""
        self._watching.set()
        with self._lock:
            for name in reversed(self._processes):
                child = self._processes[name].child
                if child is not None and child.poll() is None:
                    child.terminate()
            end = time.monotonic() + _GRACE_SECONDS
            for process in self._processes.values():
                if process.child is None:
                    continue
                try:
                    process.child.wait(max(0.1, end - time.monotonic()))
                except subprocess.TimeoutExpired:
                    process.child.kill()
                    process.child.wait()

    def kill(self, name: str) -> int:
        """Kill one process as if the machine had failed it (SIGKILL); its pid."""
        with self._lock:
            child = self._processes[name].child
            if child is None:
                return 0
            child.send_signal(signal.SIGKILL)
            child.wait()
            return child.pid

    def pid(self, name: str) -> int:
        """The pid of a process, 0 if it does not run."""
        child = self._processes[name].child
        return child.pid if child is not None and child.poll() is None else 0

    def wait_for_api(self) -> None:
        """Return once the api answers.

        Raises:
            SettingsError: it does not, for a minute, or has ended.
        """
        end = time.monotonic() + _PATIENCE_SECONDS
        address, context = _own_door(self.settings)
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"{address}/livez", timeout=1, context=context):  # noqa: S310 - our own address
                    return
            except (urllib.error.URLError, OSError):
                self._require_running("api")
                time.sleep(_LOOK_SECONDS)
        raise SettingsError("the api does not answer", next_step=self._hint("api"))

    def _wait_for_worker(self) -> None:
        end = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < end:
            worker = self._processes["worker"]
            if b'"ready"' in worker.log.read_bytes()[worker.logged :]:
                return
            self._require_running("worker")
            time.sleep(_LOOK_SECONDS)
        raise SettingsError("the worker does not start", next_step=self._hint("worker"))

    def _require_running(self, name: str) -> None:
        process = self._processes[name]
        if process.child is not None and process.child.poll() is not None and process.starts > 3:
            raise SettingsError(f"{name} ended at its start", next_step=self._hint(name))
        if process.child is not None and process.child.poll() is not None:
            self._spawn(name)

    def _hint(self, name: str) -> str:
        return f"read {self._processes[name].log}"

    def _spawn(self, name: str) -> None:
        process = self._processes[name]
        with process.log.open("ab") as log:
            process.logged = log.tell()
            process.child = subprocess.Popen(
                process.command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=_environment(self.settings),
                # Ctrl-C is for whoever watches: it stops the others, and does not start them again.
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - prctl only, before exec
            )
        process.starts += 1
        process.started = time.monotonic()

    def _watch(self) -> None:
        while not self._watching.wait(_LOOK_SECONDS):
            for name, process in self._processes.items():
                with self._lock:
                    if self._watching.is_set():
                        return
                    ended = process.child is not None and process.child.poll() is not None
                    # One that ends at once, again and again, gets a pause in between.
                    patient = time.monotonic() - process.started > (0 if process.starts < 5 else 2)
                    if ended and patient:
                        self.progress(f"{name} ended and is started again; see {process.log}")
                        self._spawn(name)


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


def _die_with_parent() -> None:
    """On Linux no process outlives whoever started it, not even one that was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
