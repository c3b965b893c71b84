"""One process of ours: started, looked at, ended; and what it said last, for whoever waited for it.

Every process prints one JSON line that begins with ``ready`` once it serves. What it writes holds ids
and counts alone (``exchange.logs``), so its last lines may be shown to whoever started it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_READY = re.compile(rb'^\{"ready"', re.MULTILINE)
_MOST_LINES = 6
_LONGEST_LINE = 300
_LAST_BYTES = 16 << 10
#: A log that grew beyond this is put aside at the next start, and the one before it is dropped.
LARGEST_LOG = 16 << 20

# A launcher and no function between fork and exec, which is not safe in a process with threads. On
# Linux no process outlives whoever started it, not even one that was killed: PR_SET_PDEATHSIG is 1;
# the second check closes the gap in which the parent died before it was set.
_LAUNCHER = f"""
import os, sys
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, {int(signal.SIGTERM)}, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass
class Process:
    """A command, the log that it fills, and its present child."""

    name: str
    command: list[str]
    log: Path
    child: subprocess.Popen[bytes] | None = None
    starts: int = 0
    tries: int = 0
    """Starts since it served last, this one included."""
    logged: int = 0
    """Where this start's lines begin in the log, which earlier starts filled."""
    started: float = 0.0

    def spawn(self, environment: dict[str, str]) -> None:
        """Start it, once more."""
        self.tries = 1 if self.is_ready() else self.tries + 1
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self.logged = log.tell()
            self.child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *self.command],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                # Ctrl-C is for whoever watches: it stops the others, and does not start them again.
                start_new_session=True,
            )
        self.starts += 1
        self.started = time.monotonic()

    @property
    def pid(self) -> int:
        """Its process id, 0 if it does not run."""
        return self.child.pid if self.child is not None and self.child.poll() is None else 0

    @property
    def exit_code(self) -> int | None:
        """How it ended (negative: by that signal); None while it runs or before its start."""
        return None if self.child is None else self.child.poll()

    def is_ready(self) -> bool:
        """Whether this start has come so far that it serves."""
        return self.starts > 0 and _READY.search(self._said()) is not None

    def last_words(self) -> list[str]:
        """The last lines of this start, for people."""
        lines = self._said(_LAST_BYTES).decode(errors="replace").splitlines()
        told = [
            readable(line) for line in lines if line.strip() and not line.startswith('{"ready"')
        ]
        return told[-_MOST_LINES:]

    def ending(self) -> str:
        """How it ended, in words."""
        code = self.exit_code
        if code is None:
            return "runs"
        return f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def kill(self) -> int:
        """End it as if the machine had failed it (SIGKILL); its pid, 0 if there was none."""
        if self.child is None:
            return 0
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()
        return self.child.pid

    def terminate(self) -> None:
        """Ask it to end."""
        if self.child is not None and self.child.poll() is None:
            self.child.terminate()

    def await_end(self, seconds: float) -> None:
        """Return once it has ended; after ``seconds`` it is killed, with what it started itself."""
        if self.child is None:
            return
        try:
            self.child.wait(max(0.1, seconds))
        except subprocess.TimeoutExpired:
            # It is not reaped yet, so the group is its own and no later process's.
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()

    def _said(self, most: int | None = None) -> bytes:
        try:
            with self.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self.logged, size - most) if most else self.logged)
                return log.read()
        except FileNotFoundError:
            return b""


def readable(line: str) -> str:
    """A line of a log for people: of our own JSON the event, why, and where; others as they are."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line[:_LONGEST_LINE]
    if not isinstance(entry, dict) or "event" not in entry:
        return line[:_LONGEST_LINE]
    words = str(entry["event"])
    why = entry.get("detail") or entry.get("error")
    places = entry.get("places")
    if why:
        words += f": {why}"
    if isinstance(places, list) and places:
        words += f" (at {places[-1]})"
    return f"{entry.get('level', 'info')}: {words}"[:_LONGEST_LINE]
