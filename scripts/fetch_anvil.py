"""Puts the EVM node's binary at .venv/bin/anvil, after its sha512 was checked.

    python3 scripts/fetch_anvil.py                   # for this machine
    python3 scripts/fetch_anvil.py --lock PLATFORM   # a maintainer adds a platform's digest

The package comes from npm (`@foundry-rs/anvil-PLATFORM`) through the npm that ships in a Python
wheel, so that no node has to be installed. A platform without a locked digest is refused, and so
is a file that differs from it: what runs the chain is never a guess. An `anvil` of the locked
version that is already on PATH is taken instead where no digest is locked.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "scripts" / "anvil.lock.json"
TARGET = ROOT / ".venv" / "bin" / "anvil"
UV = ROOT / ".uv" / "bin" / "uv"
MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
MEMBER = "package/bin/anvil"


class Refused(Exception):
    """The binary cannot be had, or is not the one that was locked."""


def platform_name() -> str:
    """This machine as the packages call it: linux-amd64, darwin-arm64, ..."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}-{MACHINES.get(machine, machine)}"


def integrity(data: bytes) -> str:
    """npm's subresource integrity of `data`: sha512 in base64."""
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


def check(data: bytes, wanted: str) -> None:
    """Raise `Refused` unless `data` is what was locked."""
    if integrity(data) != wanted:
        raise Refused("the package's sha512 is not the locked one; nothing was installed")


def pack(name: str, version: str, npm: str) -> bytes:
    """The package as npm packs it."""
    with tempfile.TemporaryDirectory() as folder:
        runner = [str(UV), "tool", "run", "--quiet", "--python", sys.executable, "--from", npm]
        command = [*runner, "npm", "pack", "--silent", f"@foundry-rs/anvil-{name}@{version}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        found = list(Path(folder).glob("*.tgz"))
        if done.returncode != 0 or len(found) != 1:
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            raise Refused(f"npm could not fetch anvil {version} for {name}: {last}")
        return found[0].read_bytes()


def unpack(data: bytes, target: Path) -> None:
    """Write the binary of a checked package to `target`, complete or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        packed, binary = Path(folder) / "anvil.tgz", Path(folder) / "anvil"
        packed.write_bytes(data)
        with tarfile.open(packed) as archive:
            member = archive.extractfile(MEMBER)
            if member is None:
                raise Refused(f"the package has no {MEMBER}")
            with binary.open("wb") as sink:
                shutil.copyfileobj(member, sink)
        binary.chmod(0o755)
        os.replace(binary, target)  # noqa: PTH105  replaces atomically, also while an old one runs


def installed(version: str) -> Path | None:
    """An anvil of exactly this version on PATH."""
    found = shutil.which("anvil")
    if found is None or Path(found).resolve() == TARGET.resolve():
        return None
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    return Path(found) if f" {version}" in said.replace("-", " ") else None


def fetch(name: str) -> None:
    """Install anvil for the platform `name`."""
    lock = json.loads(LOCK.read_text())
    wanted = lock["integrity"].get(name)
    if wanted is None:
        own = installed(lock["version"])
        if own is None:
            raise Refused(
                f"no digest is locked for {name}; install Foundry {lock['version']} so that `anvil`"
                f" is on PATH, or let a maintainer run: scripts/fetch_anvil.py --lock {name}"
            )
        shutil.copy2(own, TARGET)
        return
    data = pack(name, lock["version"], lock["npm"])
    check(data, wanted)
    unpack(data, TARGET)


def add_to_lock(name: str) -> None:
    """Record the digest of a platform's package; the change is to be reviewed like any other."""
    lock = json.loads(LOCK.read_text())
    lock["integrity"][name] = integrity(pack(name, lock["version"], lock["npm"]))
    LOCK.write_text(json.dumps(lock, indent=2) + "\n")


def main(arguments: list[str]) -> int:
    """0 when the binary is in place, or the digest recorded."""
    try:
        if arguments[:1] == ["--lock"] and len(arguments) == 2:
            add_to_lock(arguments[1])
        else:
            fetch(platform_name())
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
