"""Copies what the pages load from npm into exchange/web/vendor, with licences and hashes.

    .venv/bin/python scripts/vendor_web.py           # write the files anew
    .venv/bin/python scripts/vendor_web.py --check   # only compare what lies there with its hashes

Versions and sha512 stand in `exchange/web/vendor/package-lock.json`, which npm checks. The pages run
under a policy that allows no inline script, so that no import map can be used: bare names (`@noble/…`)
become relative paths here, and nothing else in a file changes. `hashes.json` names for every file its
package and version, the SHA-256 of the package's own file and of what was written.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
VENDOR = ROOT / "exchange" / "web" / "vendor"
NPM = ROOT / ".venv" / "bin" / "npm"
LOCKS = ("package.json", "package-lock.json")

#: Package and file to be loaded by the pages, and where it goes; their imports follow by themselves.
ENTRIES = {
    ("htm", "preact/standalone.module.js"): "preact.js",
    ("@noble/curves", "abstract/weierstrass.js"): "noble-curves/abstract/weierstrass.js",
    ("@noble/hashes", "sha2.js"): "noble-hashes/sha2.js",
    ("@noble/hashes", "sha3.js"): "noble-hashes/sha3.js",
    ("@noble/hashes", "hkdf.js"): "noble-hashes/hkdf.js",
}
FOLDERS = {"@noble/curves": "noble-curves", "@noble/hashes": "noble-hashes"}
#: `htm`'s standalone module contains Preact, so that its licence belongs here as well.
LICENCES = ("htm", "preact", "@noble/curves", "@noble/hashes")

_IMPORT = re.compile(r"""((?:^|\n)(?:import|export)\b[^;'"]*?\bfrom\s*)(["'])([^"']+)\2""")


class Refused(Exception):
    """The files cannot be written, or are not what was locked."""


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def resolve(package: str, path: str, wanted: str) -> tuple[str, str]:
    """The package and file that an import in `path` of `package` means."""
    if wanted.startswith("."):
        return package, posixpath.normpath(posixpath.join(posixpath.dirname(path), wanted))
    for name in FOLDERS:
        if wanted.startswith(f"{name}/"):
            return name, wanted.removeprefix(f"{name}/")
    raise Refused(f"{package}/{path} imports {wanted}, which is not vendored")


def rewrite(text: str, package: str, path: str, target: str) -> tuple[str, list[tuple[str, str]]]:
    """The module with relative imports, and what it imports."""
    found: list[tuple[str, str]] = []

    def relative(match: re.Match[str]) -> str:
        imported = resolve(package, path, match[3])
        found.append(imported)
        here = posixpath.dirname(target)
        place = posixpath.relpath(place_of(*imported), here or ".")
        return f"{match[1]}{match[2]}{place if place.startswith('.') else './' + place}{match[2]}"

    return _IMPORT.sub(relative, text), found


def place_of(package: str, path: str) -> str:
    """Where a package's file lies below the vendor folder."""
    return ENTRIES.get((package, path)) or f"{FOLDERS[package]}/{path}"


def collect(modules: Path) -> dict[str, dict[str, Any]]:
    """Every file to be written: its bytes, and its row in `hashes.json`."""
    written: dict[str, dict[str, Any]] = {}
    waiting = list(ENTRIES)
    while waiting:
        package, path = waiting.pop()
        target = place_of(package, path)
        if target in written:
            continue
        source = (modules / package / path).read_bytes()
        text, imports = rewrite(source.decode(), package, path, target)
        written[target] = row(modules, package, path, source, text.encode())
        waiting += imports
    for package in LICENCES:
        source = (modules / package / "LICENSE").read_bytes()
        name = package.replace("@", "").replace("/", "-")
        written[f"licences/{name}.txt"] = row(modules, package, "LICENSE", source, source)
    return written


def row(modules: Path, package: str, path: str, source: bytes, data: bytes) -> dict[str, Any]:
    """What is written of a file, and what is noted of it."""
    about = json.loads((modules / package / "package.json").read_text())
    return {
        "data": data,
        "package": f"{package}@{about['version']}",
        "licence": about["license"],
        "file": path,
        "source_sha256": digest(source),
        "sha256": digest(data),
    }


def write() -> None:
    """Install the locked packages aside, and copy what the pages need."""
    with tempfile.TemporaryDirectory() as folder:
        for name in LOCKS:
            shutil.copy2(VENDOR / name, folder)
        command = [str(NPM), "ci", "--silent", "--ignore-scripts"]
        if subprocess.run(command, cwd=folder, check=False).returncode != 0:
            raise Refused("npm could not install the locked packages")
        written = collect(Path(folder) / "node_modules")
    for old in VENDOR.iterdir():
        if old.is_dir():
            shutil.rmtree(old)
        elif old.name not in LOCKS:
            old.unlink()
    notes = {}
    for target, found in sorted(written.items()):
        (VENDOR / target).parent.mkdir(parents=True, exist_ok=True)
        (VENDOR / target).write_bytes(found.pop("data"))
        notes[target] = found
    (VENDOR / "hashes.json").write_text(json.dumps(notes, indent=1, sort_keys=True) + "\n")


def check(vendor: Path = VENDOR) -> None:
    """Raise `Refused` unless exactly the noted files lie there, unchanged and self-contained."""
    notes = json.loads((vendor / "hashes.json").read_text())
    lying = {
        PurePosixPath(path.relative_to(vendor)).as_posix()
        for path in vendor.rglob("*")
        if path.is_file() and path.name not in (*LOCKS, "hashes.json")
    }
    if lying != set(notes):
        raise Refused(f"not as noted: {', '.join(sorted(lying ^ set(notes)))}")
    for name, noted in notes.items():
        data = (vendor / name).read_bytes()
        if digest(data) != noted["sha256"]:
            raise Refused(f"{name} was changed")
        for match in _IMPORT.finditer(data.decode()):
            if not match[3].startswith("."):
                raise Refused(f"{name} imports {match[3]} by a bare name")


def main() -> int:
    """Write or check; 0 when all is well."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    try:
        if not parser.parse_args().check:
            write()
        check()
    except Refused as error:
        print(f"{error}; next: run scripts/vendor_web.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
