"""The parent's half of a child: start it, feed it, answer what it asks, stop it.

The parent never opens a part: it hands over sealed bytes and sealed keys. A child that is stopped is
killed; what it had not sealed is gone with it.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from exchange.errors import JobCancelled, JobFailed, SandboxLost
from exchange.worker import frames

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
    try:
        return _converse(child, feed, limits)
    except BrokenPipeError:
        raise SandboxLost("the child ended before it was given everything") from None
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                _close(pipe)


def _converse(
    child: subprocess.Popen[bytes], feed: Feed, limits: Limits
) -> tuple[dict[str, Any], bytes]:
    end = time.monotonic() + limits.seconds
    stdin, stdout = child.stdin, child.stdout
    if stdin is None or stdout is None:
        raise SandboxLost("a child without pipes")
    said: queue.Queue[tuple[bytes, bytes] | None] = queue.Queue()
    threading.Thread(target=_listen, args=(stdout, said), daemon=True).start()
    task = {
        **feed.task,
        "cpuSeconds": int(limits.seconds) + 1,
        "memoryBytes": limits.memory_bytes,
    }
    frames.send_json(stdin, frames.TASK, task)
    hello = _next(said, feed, end)
    if hello[0] != frames.HELLO:
        raise _failed(hello)
    child_key = bytes.fromhex(json.loads(hello[1])["childKey"][2:])
    for name, blob in feed.blobs.items():
        frames.send_json(stdin, frames.BLOB, {"name": name}, blob)
    frames.send(stdin, frames.KEYS, feed.keys(child_key))
    looked = time.monotonic()
    for subject, sealed in feed.parts:
        frames.send_json(stdin, frames.PART, {"subject": subject}, sealed)
        if time.monotonic() - looked > LOOK_SECONDS:
            looked = time.monotonic()
            _look(feed)
    frames.send(stdin, frames.END)
    while True:
        kind, payload = _next(said, feed, end)
        match kind:
            case frames.PROGRESS:
                told = json.loads(payload)
                feed.progress(int(told["done"]), int(told["total"]))
            case frames.ASK:
                covered = feed.covered(json.loads(payload))
                frames.send_json(stdin, frames.COVERED, sorted(covered))
            case frames.RESULT:
                head, blob = frames.split(payload)
                return head, blob
            case _:
                raise _failed((kind, payload))


def _next(
    said: queue.Queue[tuple[bytes, bytes] | None], feed: Feed, end: float
) -> tuple[bytes, bytes]:
    while True:
        _look(feed)
        if time.monotonic() > end:
            raise JobFailed("time")
        try:
            frame = said.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            continue
        if frame is None:
            raise SandboxLost("the child ended without an answer")
        return frame


def _look(feed: Feed) -> None:
    reason = feed.stop()
    if reason is not None:
        raise JobCancelled(reason)


def _failed(frame: tuple[bytes, bytes]) -> JobFailed | SandboxLost:
    kind, payload = frame
    if kind == frames.ERROR:
        return JobFailed(str(json.loads(payload)["reason"]))
    return SandboxLost("the child said something unexpected")


def _listen(stdout: Any, said: queue.Queue[tuple[bytes, bytes] | None]) -> None:
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
