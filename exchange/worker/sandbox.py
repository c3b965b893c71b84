"""The parent's half of a child: start it, feed it, answer what it asks, stop it.

The parent never opens a part: it hands over sealed bytes and sealed keys. A child that is stopped is
killed; what it had not sealed is gone with it.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import IO, Any

from exchange.errors import JobCancelled, JobFailed, SandboxLost
from exchange.worker import frames
from ledger.commitment import require_shallow
from ledger.errors import MalformedValue
from ledger.messages import from_hex

_log = logging.getLogger(__name__)
#: So many children of one task may be lost before it is given up: something in it ends them.
MOST_LOSSES = 3
#: How often a running child's reason to stop is looked for (seconds).
LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Feed:
    """What a child is given.

    ``keys`` gets the child's public key (32 bytes) and returns the data keys sealed to it; ``parts`` are
    ``(subject hex, sealed part)``; ``covered`` answers the child's question; ``stop`` returns a stable
    reason once the child must end.
    """

    task: Mapping[str, Any]
    keys: Callable[[bytes], bytes]
    parts: Iterable[tuple[str, bytes]] = ()
    blobs: Mapping[str, bytes] = field(default_factory=dict)
    covered: Callable[[Sequence[str]], Collection[str]] = lambda subjects: subjects
    stop: Callable[[], str | None] = lambda: None
    progress: Callable[[int, int], None] = lambda _done, _total: None


@dataclass(frozen=True)
class Limits:
    """What a child may use: wall-clock and CPU seconds, bytes of memory."""

    seconds: float
    memory_bytes: int


def run_child(feed: Feed, limits: Limits) -> tuple[dict[str, Any], bytes]:
    """Run one child to its end; its JSON head and its bytes.

    Raises:
        JobFailed: the task ended without a result, for a stable reason.
        JobCancelled: ``stop`` said so.
        SandboxLost: the child ended without an answer; safe to repeat.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "exchange.worker.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        close_fds=True,
    )
    watch = _Watch(child, feed.stop, limits.seconds)
    try:
        return _converse(child, feed, limits)
    except SandboxLost:
        watch.raise_reason()
        raise
    finally:
        watch.end()
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                _close(pipe)


class _Watch:
    """Kills a child whose time is over, or that has a reason to stop, whatever its parent waits for.

    A thread of its own: the parent may hang in a pipe that the child does not read.
    """

    def __init__(
        self, child: subprocess.Popen[bytes], stop: Callable[[], str | None], seconds: float
    ) -> None:
        self._child = child
        self._stop = stop
        self._end = time.monotonic() + seconds
        self._over = threading.Event()
        self._reason: Exception | None = None
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def raise_reason(self) -> None:
        """Raise why the child was killed, if it was.

        Raises:
            JobFailed: ``time``.
            JobCancelled: ``stop`` said so.
        """
        if self._reason is not None:
            raise self._reason

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            try:
                self._reason = self._found()
            except Exception as error:  # noqa: BLE001 - handed on to the parent, which raises it
                self._reason = error
            if self._reason is not None:
                self._child.kill()
                return
            self._over.wait(LOOK_SECONDS)

    def _found(self) -> Exception | None:
        if time.monotonic() > self._end:
            return JobFailed("time")
        reason = self._stop()
        return None if reason is None else JobCancelled(reason)


def _converse(
    child: subprocess.Popen[bytes], feed: Feed, limits: Limits
) -> tuple[dict[str, Any], bytes]:
    stdin, stdout = child.stdin, child.stdout
    if stdin is None or stdout is None:
        raise SandboxLost("a child without pipes")
    said: queue.SimpleQueue[tuple[bytes, bytes] | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(stdout, said), daemon=True).start()
    try:
        return _talk(stdin, said, feed, limits)
    except BrokenPipeError:
        # It ended before it was given everything; it may have said why.
        while (frame := said.get()) is not None:
            if frame[0] == frames.ERROR:
                raise _failed(frame) from None
        raise SandboxLost("the child ended before it was given everything") from None


def _talk(
    stdin: IO[bytes],
    said: queue.SimpleQueue[tuple[bytes, bytes] | None],
    feed: Feed,
    limits: Limits,
) -> tuple[dict[str, Any], bytes]:
    task = {
        **feed.task,
        "cpuSeconds": int(limits.seconds) + 1,
        "memoryBytes": limits.memory_bytes,
    }
    frames.send_json(stdin, frames.TASK, task)
    hello = _next(said)
    if hello[0] != frames.HELLO:
        raise _failed(hello)
    told = _told(hello[1])
    child_key = _child_key(told)
    if told.get("filesClosed") is not True:
        _warn_of_open_files()
    for name, blob in feed.blobs.items():
        frames.send_json(stdin, frames.BLOB, {"name": name}, blob)
    frames.send(stdin, frames.KEYS, feed.keys(child_key))
    for subject, sealed in feed.parts:
        frames.send_json(stdin, frames.PART, {"subject": subject}, sealed)
    frames.send(stdin, frames.END)
    while True:
        kind, payload = _next(said)
        match kind:
            case frames.PROGRESS:
                feed.progress(*_counts(_told(payload)))
            case frames.ASK:
                frames.send_json(stdin, frames.COVERED, sorted(feed.covered(_names(payload))))
            case frames.RESULT:
                head, _, blob = payload.partition(b"\0")
                return _told(head), blob
            case _:
                raise _failed((kind, payload))


@cache
def _warn_of_open_files() -> None:
    """Once for each process: an operator reads it, and knows what this kernel lacks."""
    _log.warning("this kernel has no Landlock: a job's child can read its user's files")


def _next(said: queue.SimpleQueue[tuple[bytes, bytes] | None]) -> tuple[bytes, bytes]:
    frame = said.get()
    if frame is None:
        raise SandboxLost("the child ended without an answer")
    return frame


def _failed(frame: tuple[bytes, bytes]) -> JobFailed | SandboxLost:
    kind, payload = frame
    if kind == frames.ERROR:
        return JobFailed(str(_told(payload).get("reason"))[:200])
    return SandboxLost("the child said something unexpected")


# A child that read what a stranger wrote is no longer trusted with the form of what it says.


def _read(payload: bytes) -> Any:
    """JSON, or None for what is none; libraries raise the decoder's own limit, so depth is counted."""
    try:
        require_shallow(payload)
        return json.loads(payload)
    except (MalformedValue, ValueError, RecursionError):
        return None


def _told(payload: bytes) -> dict[str, Any]:
    value = _read(payload)
    if not isinstance(value, dict):
        raise SandboxLost("the child said something unexpected")
    return value


def _names(payload: bytes) -> list[str]:
    value = _read(payload)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise SandboxLost("the child asked for something unexpected")
    return value


def _counts(told: Mapping[str, Any]) -> tuple[int, int]:
    done, total = told.get("done"), told.get("total")
    if not isinstance(done, int) or not isinstance(total, int):
        raise SandboxLost("the child said something unexpected")
    return done, total


def _child_key(told: Mapping[str, Any]) -> bytes:
    try:
        return from_hex(told.get("childKey"), 32)
    except MalformedValue:
        raise SandboxLost("the child said something unexpected") from None


def _listen(stdout: IO[bytes], said: queue.SimpleQueue[tuple[bytes, bytes] | None]) -> None:
    try:
        while True:
            said.put(frames.receive(stdout))
    except (SandboxLost, OSError, ValueError):
        said.put(None)


def _environment() -> dict[str, str]:
    """Nothing of ours: no database, no key, no address can be read from the child's environment."""
    kept = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR", "CUDA_VISIBLE_DEVICES")
    given = {name: os.environ[name] for name in kept if name in os.environ}
    given.setdefault("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    return given | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def _close(pipe: Any) -> None:
    try:
        pipe.close()
    except OSError:
        # The child is gone and with it whatever was still in the pipe.
        return
