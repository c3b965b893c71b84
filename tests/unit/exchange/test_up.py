"""``assent up`` on real processes: started in order, watched, stopped together, nothing left."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from exchange.errors import Conflict, SettingsError
from exchange.hospital.identity import Identity
from exchange.settings import Settings, load_settings
from exchange.up import process as process_module
from exchange.up.command import alone, masked, shown
from exchange.up.command import up as run_up
from exchange.up.ports import is_free, require_ports
from exchange.up.process import Process, readable
from exchange.up.stack import NAMES, Stack, free_port

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_SECONDS = 60

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")


def left(folder: Path) -> list[int]:
    """The pids of processes that were started for this data folder and still run."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            environment = (place / "environ").read_bytes().split(b"\0")
            state = (place / "stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if f"ASSENT_DATA_DIR={folder}".encode() in environment and state != "Z":
            found.append(int(place.name))
    return found


def until(true: Callable[[], object]) -> bool:
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return False


def settings_in(folder: Path, **changes: str) -> Settings:
    return load_settings(
        {
            "ASSENT_DATA_DIR": str(folder / "data"),
            "ASSENT_API__PORT": "0",
            "ASSENT_LEDGER__PORT": "0",
            **changes,
        }
    )


@pytest.fixture
def card(tmp_path: Path) -> Path:
    Identity.make(tmp_path / "hospital", "North")
    return tmp_path / "hospital" / "card.json"


@on_linux
@pytest.mark.slow
def test_everything_runs_returns_when_killed_and_is_gone_afterwards(
    tmp_path: Path, card: Path, anvil_path: Path
) -> None:
    told: list[str] = []
    stack = Stack(settings_in(tmp_path), [card], anvil=anvil_path, progress=told.append)
    data = stack.settings.data_dir
    stack.settings.run_dir.mkdir(parents=True, mode=0o700)

    # A worker that cannot run says why, and the others, which could, are not left behind.
    with (stack.settings.run_dir / "worker.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SettingsError, match="another worker runs on this data folder") as seen:
            stack.start()
        assert "worker ended with exit code 1 at its start" in str(seen.value)
        assert str(data / "logs" / "worker.log") in seen.value.next_step
    assert left(data) == []

    # What has begun is taken up where it was left.
    before = (data / "deployment.json").read_bytes()
    stack = Stack(stack.settings, anvil=anvil_path, progress=told.append)
    try:
        deployment = stack.start()
        assert (data / "deployment.json").read_bytes() == before
        assert deployment.founders
        pids = {name: stack.pid(name) for name in NAMES}
        assert all(pids.values())
        # Beside the four, anvil.
        assert set(pids.values()) < set(left(data))
        with urllib.request.urlopen(f"{stack.settings.base_url}/v1/deployment") as answer:
            assert answer.status == 200

        for name in ("keys", "node"):
            assert stack.kill(name) == pids[name]
            killed = (0, pids[name])
            assert until(lambda: stack.pid(name) not in killed)  # noqa: B023 - called here
        assert any(line.startswith("keys was ended by signal 9 and is started") for line in told)
    finally:
        stack.stop()
    assert left(data) == []
    assert all(stack.pid(name) == 0 for name in NAMES)
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{stack.settings.base_url}/livez")


@on_linux
def test_a_process_that_dies_at_its_start_shows_the_reason(tmp_path: Path, card: Path) -> None:
    stack = Stack(settings_in(tmp_path), [card], anvil=tmp_path / "no-anvil")
    with pytest.raises(SettingsError) as seen:
        stack.start()
    assert "node ended with exit code 1 at its start; it said:" in str(seen.value)
    assert "anvil was not found" in str(seen.value)
    assert str(stack.settings.data_dir / "logs" / "node.log") in seen.value.next_step
    assert left(stack.settings.data_dir) == []


@pytest.mark.parametrize("variable", ["ASSENT_API__PORT", "ASSENT_LEDGER__PORT"])
def test_a_taken_port_is_named_before_anything_starts(tmp_path: Path, variable: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert not is_free("127.0.0.1", port)
        stack = Stack(settings_in(tmp_path, **{variable: str(port)}))
        with pytest.raises(SettingsError, match=f"names port {port}") as seen:
            stack.start()
        assert seen.value.variable == variable
    assert not stack.settings.data_dir.exists()
    require_ports(stack.settings)


def test_a_network_of_others_needs_no_port_for_a_node(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        ours = {"ASSENT_LEDGER__PORT": str(other.getsockname()[1])}
        theirs = ours | {"ASSENT_LEDGER__RPC_URL": "http://127.0.0.1:1"}
        require_ports(settings_in(tmp_path, **theirs))
        with pytest.raises(SettingsError):
            require_ports(settings_in(tmp_path, **ours))


class Up:
    """``assent up`` as it is typed."""

    def __init__(self, folder: Path, card: Path) -> None:
        self.data = folder / "data"
        self.said = folder / "said"
        self.url = f"http://127.0.0.1:{free_port()}"
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "ASSENT_DATA_DIR": str(self.data),
            "ASSENT_API__PORT": self.url.rpartition(":")[2],
            "ASSENT_LEDGER__PORT": "0",
        }
        with self.said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-m", "exchange", "up", "--founder", card],
                env=environment,
                cwd=folder,
                stdout=said,
                stderr=said,
            )

    def says(self, words: str) -> bool:
        def looked() -> bool:
            return words in self.said.read_text() or self.process.poll() is not None

        return until(looked) and words in self.said.read_text()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@on_linux
@pytest.mark.slow
@pytest.mark.parametrize("moment", ["starting keys", "starting worker"])
def test_ctrl_c_stops_what_has_started(
    tmp_path: Path, card: Path, anvil_path: Path, moment: str
) -> None:
    up = Up(tmp_path, card)
    try:
        assert up.says(moment), up.said.read_text()
        # Whoever presses it twice must not leave anything behind either.
        up.process.send_signal(signal.SIGINT)
        up.process.send_signal(signal.SIGINT)
        assert up.process.wait(PATIENCE_SECONDS) == 0
        assert "stopping" in up.said.read_text()
        assert up.said.read_text().endswith("stopped\n")
        # One that was just being started hears of its parent's end from the kernel.
        assert until(lambda: not left(up.data))
    finally:
        up.end()


@on_linux
@pytest.mark.slow
def test_what_is_killed_leaves_nothing_behind_and_starts_again(
    tmp_path: Path, card: Path, anvil_path: Path
) -> None:
    up = Up(tmp_path, card)
    try:
        assert up.says("Ctrl-C stops everything"), up.said.read_text()
        up.process.kill()
        up.process.wait()
        assert until(lambda: not left(up.data))
    finally:
        up.end()
    again = Up(tmp_path, card)
    try:
        assert again.says("Ctrl-C stops everything"), again.said.read_text()
        assert f"ready: {again.url}" in again.said.read_text()
        assert f"assent hospital join --exchange {again.url}" in again.said.read_text()
        again.process.send_signal(signal.SIGINT)
        assert again.process.wait(PATIENCE_SECONDS) == 0
    finally:
        again.end()
    assert left(up.data) == []


def test_a_first_start_needs_founders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSENT_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(SettingsError, match="needs founding hospitals") as seen:
        run_up(demo=False, founders=[], auditors=[])
    assert "assent hospital init" in seen.value.next_step
    assert not (tmp_path / "data").exists()


def test_a_data_folder_serves_one_at_a_time(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(Conflict, match="another `assent up`"), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


# One process ---------------------------------------------------------------------------------


def a_process(folder: Path, program: str) -> Process:
    return Process("one", [sys.executable, "-c", program], folder / "one.log")


def ended(process: Process) -> Process:
    process.spawn({"PATH": os.environ["PATH"]})
    assert process.child is not None
    process.child.wait(PATIENCE_SECONDS)
    return process


def test_a_process_tells_its_end_and_its_last_words(tmp_path: Path) -> None:
    program = (
        "import sys; print('{\"ready\": true}'); [print('line', n) for n in range(9)]; sys.exit(3)"
    )
    process = a_process(tmp_path, program)
    assert (process.pid, process.exit_code, process.is_ready()) == (0, None, False)
    ended(process)
    assert process.ending() == "ended with exit code 3"
    assert process.last_words() == [f"line {number}" for number in range(3, 9)]
    assert process.is_ready()
    # It served, so this is the first of a new count; what follows never serves.
    process.command = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    assert ended(process).tries == 1
    assert process.ending() == "was ended by signal 9"
    assert process.last_words() == []
    assert not process.is_ready()
    assert (ended(process).tries, process.starts) == (2, 3)


def test_a_long_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "LARGEST_LOG", 8)
    process = a_process(tmp_path, "print('short')")
    ended(ended(process))
    assert not (tmp_path / "one.log.1").exists()
    process.command = [sys.executable, "-c", "print('rather long')"]
    ended(process)
    assert (tmp_path / "one.log.1").read_text() == "short\nshort\n"
    assert process.last_words() == ["rather long"]


@on_linux
def test_one_that_does_not_obey_is_killed_with_what_it_started(tmp_path: Path) -> None:
    program = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "os.fork()\n"
        "print('{\"ready\": true}', flush=True)\n"
        "time.sleep(600)\n"
    )
    process = a_process(tmp_path, program)
    process.spawn({"PATH": os.environ["PATH"], "ASSENT_DATA_DIR": str(tmp_path)})
    assert until(process.is_ready)
    assert until(lambda: len(left(tmp_path)) == 2)
    process.terminate()
    process.await_end(0.2)
    assert process.exit_code == -signal.SIGKILL
    assert until(lambda: not left(tmp_path))


@pytest.mark.parametrize(
    ("line", "shown_as"),
    [
        ("error: no such setting", "error: no such setting"),
        ("x" * 400, "x" * 300),
        ("[1]", "[1]"),
        (
            '{"level":"critical","event":"not caught","error":"builtins.KeyError","places":["a","b"]}',
            "critical: not caught: builtins.KeyError (at b)",
        ),
        (
            '{"level":"warning","event":"no answer","error":"exchange.E","detail":"told","places":[]}',
            "warning: no answer: told",
        ),
    ],
)
def test_a_log_line_is_shown_for_people(line: str, shown_as: str) -> None:
    assert readable(line) == shown_as


# Settings shown ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown_as"),
    [
        ("postgresql://a:secret@db/x?sslkey=k", "postgresql://a:***@db/x?***"),
        ("https://rpc.example/v3/secret", "https://rpc.example/***"),
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
        ("sqlite:////data/store.sqlite", "sqlite:////data/store.sqlite"),
        ("900", "900"),
    ],
)
def test_no_secret_of_an_address_is_shown(value: str, shown_as: str) -> None:
    assert masked(value) == shown_as


def test_every_setting_is_shown_once(tmp_path: Path) -> None:
    lines = shown(settings_in(tmp_path))
    assert f"ASSENT_DATA_DIR={tmp_path / 'data'}" in lines
    assert "# ASSENT_API__TLS_CERT is unset" in lines
    assert len(lines) == len(set(lines))
