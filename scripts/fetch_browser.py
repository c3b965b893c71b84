"""Puts a Chromium for the page tests into .cache/browser; needs no root and no display.

    .venv/bin/python scripts/fetch_browser.py

npm's `@sparticuz/chromium` (locked in tests/browser/package-lock.json, which npm checks by
sha512) brings a headless build, which its own `executablePath()` unpacks. The path of the
executable is left in `.cache/browser/path`. Linux on x86-64 only; elsewhere, name an installed
Chromium in ASSENT_BROWSER.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".cache" / "browser"
NODE = ROOT / ".venv" / "bin" / "node"
NPM = ROOT / ".venv" / "bin" / "npm"
UNPACK = """
const { default: chromium } = await import(process.argv[1]);
console.log(await chromium.executablePath());
"""


def main() -> int:
    """Install the locked package and unpack its browser."""
    HOME.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy2(ROOT / "tests" / "browser" / name, HOME / name)
    npm = [str(NPM), "ci", "--silent", "--ignore-scripts"]
    done = subprocess.run(npm, cwd=HOME, check=False)
    if done.returncode != 0:
        print("npm could not install the browser's package", file=sys.stderr)
        return 1
    unpacked = HOME / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    entry = HOME / "node_modules" / "@sparticuz" / "chromium" / "build" / "index.js"
    found = subprocess.run(
        [str(NODE), "--input-type=module", "-e", UNPACK, entry.as_uri()],
        cwd=HOME,
        env={**os.environ, "TMPDIR": str(unpacked)},
        capture_output=True,
        text=True,
        check=False,
    )
    executable = Path(found.stdout.strip() or "/nonexistent")
    if found.returncode != 0 or not executable.is_file():
        print(f"the browser could not be unpacked: {found.stderr.strip()[-400:]}", file=sys.stderr)
        return 1
    (HOME / "path").write_text(f"{executable}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
