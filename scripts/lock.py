"""Writes requirements.lock and requirements-dev.lock from pyproject.toml.

    .venv/bin/python scripts/lock.py [--upgrade]

Two files, hashes only, no addresses, one for Python 3.11, 3.12 and 3.13 together: what `assent`
needs to run, and what the tests add to it. torch stands in neither (its own dependencies do):
which build is wanted depends on the machine, see scripts/bootstrap.py. Without `--upgrade` the
versions that are already locked stay as they are.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "requirements.lock"
DEV = ROOT / "requirements-dev.lock"


def compile_extra(extra: str, target: Path, *options: str) -> None:
    """Resolve `pyproject.toml` with one extra into `target`; what `target` pins already is kept."""
    command = [
        str(ROOT / ".uv" / "bin" / "uv"),
        *("pip", "compile", "--quiet", "--universal", "--python-version", "3.11"),
        *("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-package", "torch"),
        *("--extra", extra, "pyproject.toml", "--output-file", str(target)),
        *options,
    ]
    # pyproject.toml's [tool.uv] counts (it switches torch's CUDA packages off), the user's does not.
    with tempfile.TemporaryDirectory() as nothing:
        environment = {**os.environ, "XDG_CONFIG_HOME": nothing, "XDG_CONFIG_DIRS": nothing}
        subprocess.run(command, cwd=ROOT, env=environment, check=True)


def blocks(text: str) -> dict[str, str]:
    """One entry per requirement: its first line's name -> the requirement with its hashes."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines(keepends=True):
        if line.strip() and not line.startswith((" ", "#")):
            name = line.split("==")[0].strip()
            found[name] = ""
        if name:
            found[name] += line
    # What an override switched off is still listed, under a marker that no machine has.
    return {name: text for name, text in found.items() if "'never'" not in text}


def main() -> int:
    """Resolve both sets; the second file holds only what the first does not."""
    options = ["--upgrade"] if "--upgrade" in sys.argv[1:] else []
    compile_extra("all", RUN, *options)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.lock"
        if DEV.exists() and not options:
            whole.write_text(RUN.read_text() + DEV.read_text())
        compile_extra("dev", whole, "--constraint", str(RUN), *options)
        run, everything = blocks(RUN.read_text()), blocks(whole.read_text())
    RUN.write_text("".join(run.values()))
    DEV.write_text("".join(text for name, text in everything.items() if name not in run))
    print(f"{RUN.name}: {len(run)} packages; {DEV.name}: {len(everything) - len(run)} more")
    return 0


if __name__ == "__main__":
    sys.exit(main())
