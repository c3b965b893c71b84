"""Installs what a verb of the Makefile needs, into .uv, .venv and .cache of this checkout alone.

    python3 scripts/bootstrap.py demo     # to run: everything but torch, which comes in the background
    python3 scripts/bootstrap.py test     # to test: all of it, and node packages and a browser too
    python3 scripts/bootstrap.py STEP...  # single steps, by name

Plain Python >= 3.11 and nothing else runs this file. Every step is stamped with a digest of what
it depends on, so that a second run has nothing to do; a step that fails prints what failed, the
end of its log and what to try next, and leaves no stamp. Nothing here compiles bytecode or reads
uv's user configuration, and nothing needs root.

torch is apart because it is large and because its registries differ in what they call by one
version: see `install_torch`. `.venv/.torch-ready` appears when it can be imported,
`.venv/.torch-failed` (what failed, what to do) when it cannot.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV = ROOT / ".uv" / "bin" / "uv"
CACHE = ROOT / ".cache"
STAMPS = VENV / ".stamps"
LOGS = CACHE / "logs"
TORCH_READY = VENV / ".torch-ready"
TORCH_FAILED = VENV / ".torch-failed"

UV_VERSION = "0.13.9"
OLDEST, NEWEST = (3, 11), (3, 13)
TORCH_BUILDS = ("auto", "cpu", "cuda")
LOG_LINES_SHOWN = 15


class StepFailed(Exception):
    """A step of the installation did not succeed; the text says which, why and what next."""


def environment() -> dict[str, str]:
    """What child processes see: the caller's environment, less what would slow or redirect them."""
    kept = {
        name: value
        for name, value in os.environ.items()
        # Bytecode is written on first import, so that every later start takes half the time.
        if name not in {"PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "VIRTUAL_ENV", "PIP_TARGET"}
        and not name.startswith("UV_PROJECT")
    }
    kept.update(UV_NO_CONFIG="1", UV_NO_PROGRESS="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
    kept.update(NPM_CONFIG_UPDATE_NOTIFIER="false", NPM_CONFIG_FUND="false")
    kept.update(NPM_CONFIG_AUDIT="false", NPM_CONFIG_OMIT_LOCKFILE_REGISTRY_RESOLVED="true")
    if not os.access(kept.get("HOME", ""), os.W_OK):
        kept["HOME"] = str(CACHE / "home")
        Path(kept["HOME"]).mkdir(parents=True, exist_ok=True)
    return kept


def execute(step: str, command: Sequence[str | Path], *, hint: str, cwd: Path = ROOT) -> None:
    """Run one command with its output in a log; raise `StepFailed` with the log's end and `hint`."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{step}.log"
    with log.open("ab") as sink:
        sink.write(f"$ {' '.join(map(str, command))}\n".encode())
        sink.flush()
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        lines = log.read_text(errors="replace").splitlines()
        end = "\n".join("    " + line for line in lines[-LOG_LINES_SHOWN:])
        raise StepFailed(
            f"{step}: failed (exit {done.returncode}); its log ends:\n{end}\n"
            f"  whole log: {log.relative_to(ROOT)}\n  next: {hint}"
        )


def digest(*parts: Path | str) -> str:
    """A digest of files (by content; absent ones count as empty) and words."""
    made = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else b""
        if isinstance(part, Path) and part.exists():
            content = part.read_bytes()
        made.update(len(content).to_bytes(8, "big") + content)
    return made.hexdigest()


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Two commands started together install one after the other; the second finds the stamp."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def stamped(name: str, wanted: str, work: Callable[[], None], *, say: str) -> None:
    """Do `work` unless the stamp `name` already holds `wanted`."""
    stamp = STAMPS / name
    with only_one(name):
        if stamp.exists() and stamp.read_text() == wanted:
            return
        print(f"  {say} ...", flush=True)
        started = time.monotonic()
        (LOGS / f"{name}.log").unlink(missing_ok=True)
        work()
        STAMPS.mkdir(parents=True, exist_ok=True)
        stamp.write_text(wanted)
        print(f"  {say}: {time.monotonic() - started:.1f} s", flush=True)


NETWORK_HINT = "check that the package registry can be reached (proxy, certificates), then repeat"


def install_venv() -> None:
    """uv beside the checkout, and an empty .venv with pip in it."""

    def make() -> None:
        if not UV.exists():
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile"]
            target = ["--upgrade", "--target", str(ROOT / ".uv"), f"uv=={UV_VERSION}"]
            hint = f"{NETWORK_HINT}; `{sys.executable} -m pip --version` must work"
            execute("venv", [*pip, *target], hint=hint)
        if not PYTHON.exists():
            command = [UV, "venv", "--quiet", "--python", sys.executable, "--seed", VENV]
            execute("venv", command, hint=f"remove {VENV.name} and repeat; {NETWORK_HINT}")

    if not (UV.exists() and PYTHON.exists()):
        shutil.rmtree(STAMPS, ignore_errors=True)
    stamped("venv", digest(UV_VERSION), make, say="preparing .venv")


def install_locked(name: str, lock: Path, *, say: str) -> None:
    """Everything in one lock file, by hash; no resolver runs, so nothing unlocked can come in."""

    def make() -> None:
        options = ["--quiet", "--no-deps", "--require-hashes", "--python", PYTHON]
        hint = f"{NETWORK_HINT}; Python 3.11 to 3.13 have packages, others may not"
        execute(name, [UV, "pip", "install", *options, "-r", lock], hint=hint)

    stamped(name, digest(lock), make, say=say)


def install_project() -> None:
    """The four packages and the command `assent`, editable."""

    def make() -> None:
        command = [UV, "pip", "install", "--quiet", "--no-deps", "--python", PYTHON, "-e", ROOT]
        execute("project", command, hint="read pyproject.toml's first lines: the build backend")

    stamped("project", digest(ROOT / "pyproject.toml"), make, say="installing the command assent")


def install_core() -> None:
    """What `assent` runs with, torch excepted."""
    install_locked("core", ROOT / "requirements.lock", say="installing the core")
    install_project()


def install_dev() -> None:
    """What the tests add."""
    install_locked("dev", ROOT / "requirements-dev.lock", say="installing the test tools")


def install_anvil() -> None:
    """The EVM node's binary, checked against the locked sha512."""

    def make() -> None:
        hint = "read the message above; `anvil` of the locked version on PATH is used as well"
        execute("anvil", [sys.executable, ROOT / "scripts" / "fetch_anvil.py"], hint=hint)

    lock = ROOT / "scripts" / "anvil.lock.json"
    wanted = digest(lock, ROOT / "scripts" / "fetch_anvil.py")
    if not (VENV / "bin" / "anvil").exists():
        (STAMPS / "anvil").unlink(missing_ok=True)
    stamped("anvil", wanted, make, say="fetching the EVM node (anvil)")


def install_npm() -> None:
    """Node packages: the compiler and library of the contracts (only to rebuild and compare them)."""

    def make() -> None:
        command = [VENV / "bin" / "npm", "ci", "--silent", "--ignore-scripts"]
        execute("npm", command, hint=NETWORK_HINT, cwd=ROOT / "contracts")

    lock = ROOT / "contracts" / "package-lock.json"
    if not (ROOT / "contracts" / "node_modules").exists():
        (STAMPS / "npm").unlink(missing_ok=True)
    if lock.exists():
        stamped("npm", digest(lock), make, say="installing the contracts' compiler")


def install_browser() -> None:
    """A Chromium for the page tests, without root."""

    def make() -> None:
        command = [PYTHON, ROOT / "scripts" / "fetch_browser.py"]
        execute("browser", command, hint=f"{NETWORK_HINT}; only the page tests need it")

    lock = ROOT / "tests" / "browser" / "package-lock.json"
    if not (CACHE / "browser" / "path").exists():
        (STAMPS / "browser").unlink(missing_ok=True)
    stamped("browser", digest(lock), make, say="fetching a browser for the page tests")


def torch_version() -> str:
    """The exact version, from the one place that names it: the extra `compute`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins: list[str] = project["optional-dependencies"]["compute"]
    return next(pin.removeprefix("torch==") for pin in pins if pin.startswith("torch=="))


def pip_choice(requirement: str) -> str:
    """The address of the file that pip, as configured on this machine, would take; "" if none."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = ["--quiet", "--no-deps", "--dry-run", "--ignore-installed", "--report", report]
        command = [PYTHON, "-m", "pip", "install", *options, requirement]
        try:
            execute("torch", command, hint="")
        except StepFailed:
            return ""
        chosen: str = json.loads(report.read_text())["install"][0]["download_info"]["url"]
    return chosen


def torch_imports() -> bool:
    """Whether torch can be imported and multiply."""
    code = "import torch; raise SystemExit(int((torch.ones(2) @ torch.ones(2)).item() != 2))"
    done = subprocess.run([PYTHON, "-c", code], env=environment(), capture_output=True, check=False)
    return done.returncode == 0


def install_torch(build: str) -> None:
    """torch, without the CUDA packages unless they are asked for.

    `auto`: the file that pip finds, where it is a CPU build (a local wheel, a mirror of CPU
    builds, macOS); else as `cpu`. `cpu`: the CPU build (about 200 MB) from torch's own index.
    `cuda`: the build for this machine's GPU driver with its libraries (several GB), from there.
    """
    version = torch_version()
    requirement = f"torch=={version}"
    hint = (
        "`make setup TORCH=cpu` takes the CPU build from torch's own index, `TORCH=cuda` the GPU's"
    )
    uv_install = [UV, "pip", "install", "--quiet", "--python", PYTHON]
    if build == "auto":
        chosen = pip_choice(requirement)
        cpu_build = "%2Bcpu" in chosen or "+cpu" in chosen or platform.system() == "Darwin"
        if chosen and cpu_build:
            # The same file, unpacked by uv: a fifth of pip's time.
            execute("torch", [*uv_install, "--no-deps", f"torch @ {chosen}"], hint=hint)
        else:
            build = "cpu"
    if build == "cpu":
        command = [*uv_install, "--no-deps", "--torch-backend=cpu", requirement]
        execute("torch", command, hint=f"{NETWORK_HINT}: torch's own index among them; {hint}")
    elif build == "cuda":
        command = [*uv_install, "--torch-backend=auto", "-c", ROOT / "requirements.lock"]
        execute("torch", [*command, requirement], hint=hint)
    if not torch_imports():
        raise StepFailed(
            f"torch: {requirement} is installed and cannot be imported\n  next: {hint}"
        )


def torch_step(build: str) -> None:
    """Install torch once and leave the marker that says how it went."""

    def make() -> None:
        TORCH_READY.unlink(missing_ok=True)
        TORCH_FAILED.unlink(missing_ok=True)
        try:
            install_torch(build)
        except StepFailed as failure:
            TORCH_FAILED.write_text(f"{failure}\n")
            raise
        TORCH_READY.write_text(f"{torch_version()}\n")

    if not TORCH_READY.exists():
        (STAMPS / "torch").unlink(missing_ok=True)
    stamped("torch", digest(torch_version(), build), make, say="installing torch")


def torch_wanted(build: str) -> bool:
    """Whether the torch step has anything to do."""
    stamp = STAMPS / "torch"
    fresh = stamp.exists() and stamp.read_text() == digest(torch_version(), build)
    return not (fresh and TORCH_READY.exists())


def torch_in_background(build: str) -> None:
    """Start the torch step and return; it ends with this terminal's process group."""
    if not torch_wanted(build):
        return
    TORCH_READY.unlink(missing_ok=True)
    TORCH_FAILED.unlink(missing_ok=True)
    LOGS.mkdir(parents=True, exist_ok=True)
    print("  installing torch in the background", flush=True)
    with (LOGS / "torch-step.log").open("wb") as sink:
        subprocess.Popen(
            [sys.executable, __file__, "torch"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )


def together(*steps: Callable[[], None]) -> None:
    """Run steps side by side; the first failure is raised after all have ended."""
    with ThreadPoolExecutor(len(steps)) as pool:
        for running in [pool.submit(step) for step in steps]:
            running.result()


def interpreter() -> None:
    """Refuse a Python that has no packages."""
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        found = ".".join(map(str, sys.version_info[:2]))
        raise StepFailed(
            f"Python {found} found; 3.11, 3.12 or 3.13 is needed\n"
            "  next: make PYTHON=/path/to/python3.11 ..."
        )


def main(wanted: Sequence[str]) -> int:
    """Run the named sets or steps; 0 when all are in place."""
    build = os.environ.get("TORCH") or "auto"
    steps: dict[str, Callable[[], None]] = {
        "venv": install_venv,
        "core": install_core,
        "dev": install_dev,
        "anvil": install_anvil,
        "npm": install_npm,
        "browser": install_browser,
        "torch": lambda: torch_step(build),
    }
    try:
        interpreter()
        if build not in TORCH_BUILDS:
            raise StepFailed(f"TORCH={build} is unknown\n  next: one of {', '.join(TORCH_BUILDS)}")
        for name in wanted:
            if name == "demo":
                install_venv()
                together(install_core, install_anvil)
                torch_in_background(build)
            elif name == "test":
                install_venv()
                together(install_core, install_anvil)
                install_dev()
                together(steps["torch"], install_npm, install_browser)
            elif name in steps:
                steps[name]()
            else:
                raise StepFailed(f"no step {name}\n  next: one of demo, test, {', '.join(steps)}")
    except StepFailed as failure:
        print(f"\n{failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
