"""What a job's child gives up, tried in real processes; each attempt has a twin that is not confined."""

from __future__ import annotations

import json
import os
import platform
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from exchange.worker import confine
from tests import architecture

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="jobs run on Linux alone")

ROOT = Path(architecture.__file__).resolve().parent.parent

#: The attempts are compiled before the child is confined; each prints what came of it.
CHILD = """
import ctypes, errno, json, mmap, os, socket, subprocess, sys, tempfile
from pathlib import Path
folder, confined = Path(sys.argv[1]), sys.argv[2] == "confined"
libc = ctypes.CDLL(None, use_errno=True)
opened = (folder / "opened").open("ab", buffering=0)
secret = folder / "secret"

def call(number, *arguments):
    ctypes.set_errno(0)
    if libc.syscall(number, *[ctypes.c_long(one) for one in arguments]) < 0:
        raise OSError(ctypes.get_errno(), "")

def sent(kind, where):
    with socket.socket(kind, socket.SOCK_STREAM) as one:
        one.connect(where)

def traced():
    # In a fork: who is traced stops at its next signal.
    child = os.fork()
    if child == 0:
        os._exit(libc.syscall(numbers["ptrace"], 0, 0, 0, 0) != 0)
    if os.waitpid(child, 0)[1]:
        raise OSError

buffer = ctypes.create_string_buffer(8)
vector = (ctypes.c_ulong * 2)(ctypes.addressof(buffer), 8)
at = ctypes.addressof(vector)
numbers = {
    "x86_64": {"ptrace": 101, "read": 310, "write": 311, "ring": 425, "getfd": 438},
    "aarch64": {"ptrace": 117, "read": 270, "write": 271, "ring": 425, "getfd": 438},
}[os.uname().machine]
me = os.getpid()
attempts = {
    "internet": lambda: sent(socket.AF_INET, ("127.0.0.1", int(sys.argv[3]))),
    "internet6": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close(),
    "unix": lambda: sent(socket.AF_UNIX, str(folder / "keys.sock")),
    "pair": lambda: socket.socketpair(),
    "read memory": lambda: call(numbers["read"], me, at, 1, at, 1, 0),
    "write memory": lambda: call(numbers["write"], me, at, 1, at, 1, 0),
    "trace me": traced,
    "read": lambda: secret.read_bytes(),
    "list": lambda: os.listdir(folder),
    "create": lambda: (folder / "made").write_bytes(b""),
    "write": lambda: secret.write_bytes(b"x"),
    "rename": lambda: (folder / "opened").rename(folder / "renamed"),
    "remove": lambda: (folder / "removed").unlink(),
    "mkdir": lambda: (folder / "dir").mkdir(),
    "append": lambda: opened.write(b"x"),
    "temporary": lambda: tempfile.TemporaryFile().close(),
    "run": lambda: subprocess.run(["/bin/true"], check=True),
    "password file": lambda: Path("/etc/passwd").read_bytes(),
    "parent": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    "core": lambda: None if __import__("resource").getrlimit(4)[1] else call(-1),
    "dump": lambda: None if libc.prctl(3, 0, 0, 0, 0) == 1 else call(-1),
}
closed = None
if confined:
    from exchange.worker.confine import confine
    closed = confine(cpu_seconds=60, memory_bytes=1 << 30)
told = {"closed": closed, "failed": []}
for name, attempt in attempts.items():
    try:
        attempt()
    except OSError:
        told["failed"].append(name)
print(json.dumps(told))
"""

FILES = {
    "read", "list", "create", "write", "rename", "remove", "mkdir", "temporary", "run",
    "password file", "parent",
}  # fmt: skip
ALWAYS = {
    "internet", "internet6", "unix", "pair", "read memory", "write memory", "trace me", "append",
    "core", "dump",
}  # fmt: skip


def run(code, *arguments, **given):
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=60, check=False, **given,
    )  # fmt: skip


@pytest.fixture
def attempted(tmp_path):
    """What fails for a process in a folder with a secret, a socket that listens, and a port."""
    import socket

    def tried(how):
        folder = tmp_path / how
        folder.mkdir()
        for name in ("secret", "opened", "removed"):
            (folder / name).write_bytes(b"s")
        with socket.socket() as port, socket.socket(socket.AF_UNIX) as keys:
            port.bind(("127.0.0.1", 0))
            port.listen()
            before = Path.cwd()
            os.chdir(folder)
            keys.bind("keys.sock")
            os.chdir(before)
            keys.listen()
            # Core dumps are allowed to the twin, so that taking them away is seen.
            hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
            done = run(CHILD, folder, how, port.getsockname()[1])
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        failed = set(told["failed"]) - ({"core"} if hard == 0 and how == "free" else set())
        return told["closed"], failed, folder

    return tried


def test_a_confined_child_reaches_neither_network_nor_memory_nor_files(attempted):
    closed, failed, folder = attempted("confined")
    assert failed >= ALWAYS
    if not closed:
        pytest.skip("this kernel has no Landlock: files stay open, as the log says")
    assert failed == ALWAYS | FILES
    assert sorted(one.name for one in folder.iterdir()) == [
        "keys.sock", "opened", "removed", "secret",
    ]  # fmt: skip
    assert (folder / "opened").read_bytes() == (folder / "secret").read_bytes() == b"s"


def test_the_same_attempts_succeed_in_a_child_that_is_not_confined(attempted):
    _, failed, folder = attempted("free")
    # A container may forbid some of it by itself; what a child is kept from must not be among it.
    assert failed <= {"trace me", "read memory", "write memory", "internet6", "parent"}
    assert (folder / "made").exists()


LIMITED = """
import sys
from exchange.worker.confine import confine
confine(cpu_seconds=1, memory_bytes=int(sys.argv[1]) << 20)
if sys.argv[2] == "spin":
    while True:
        pass
held = bytearray(int(sys.argv[2]) << 20)
print(len(held))
"""


def test_memory_ends_at_its_limit():
    assert run(LIMITED, 64, 256).stderr.strip().endswith("MemoryError")
    assert run(LIMITED, 512, 256).returncode == 0


def test_processor_time_ends_at_its_limit():
    assert run(LIMITED, 256, "spin").returncode == -signal.SIGXCPU


ORPHAN = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", '''
import sys, time
if sys.argv[1] == "confined":
    from exchange.worker.confine import confine
    confine(cpu_seconds=60, memory_bytes=1 << 30)
print("ready", flush=True)
time.sleep(60)
''', sys.argv[1]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("how", "ends"), [("confined", True), ("free", False)])
def test_a_child_ends_with_its_parent(how, ends):
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, how],
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + (20 if ends else 0.3)
    while is_alive(child) and time.monotonic() < end:
        time.sleep(0.02)
    assert is_alive(child) is not ends
    if not ends:
        os.kill(child, signal.SIGKILL)


def is_alive(process: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1][:3]
    except FileNotFoundError:
        return False


SECOND_TABLE = """
import ctypes
from exchange.worker.confine import confine
confine(cpu_seconds=60, memory_bytes=1 << 30)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.syscall(0x40000000 + 41, 2, 1, 0) < 0
print(ctypes.get_errno())
"""


@pytest.mark.skipif(
    platform.machine() != "x86_64", reason="only x86-64 has a second table of calls"
)
def test_the_second_table_of_calls_is_no_way_around():
    assert run(SECOND_TABLE).stdout.strip() == "1"


OTHERWISE = """
import platform, sys
from exchange.errors import SandboxLost
from exchange.worker import confine, fence
match sys.argv[1]:
    case "system":
        platform.system = lambda: "Darwin"
    case "machine":
        platform.machine = lambda: "riscv64"
    case "filter":
        confine._filter = lambda arch, calls: b""
    case "hole":
        real = confine._filter
        confine._filter = lambda arch, calls: real(arch, calls[1:])
    case "landlock":
        fence._HANDLED = {1: 1 << 60}
try:
    confine.confine(cpu_seconds=60, memory_bytes=1 << 30)
except SandboxLost as lost:
    print("lost", lost)
"""


@pytest.mark.parametrize("what", ["system", "machine", "filter", "hole", "landlock"])
def test_a_child_that_cannot_be_confined_refuses_to_run(what):
    done = run(OTHERWISE, what)
    if what == "landlock" and not done.stdout:
        pytest.skip("this kernel has no Landlock")
    assert done.stdout.startswith("lost"), done.stderr
    assert ("does not hold" in done.stdout) == (what == "hole")


def test_this_process_is_not_confined():
    assert not confine.is_confined()
