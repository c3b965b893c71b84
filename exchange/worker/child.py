"""The child's half: confine itself, make a key of its own, do one task, end.

Data keys reach it sealed to a key pair that exists only here; sealed parts are opened in memory; what it
says to its parent is counts, ids, and results sealed to the requester.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from exchange.errors import ExchangeError, SandboxLost
from exchange.sealing import PartContext, new_receive_key, open_part, open_sealed, unpack_keys
from exchange.worker import frames
from exchange.worker.confine import confine
from exchange.worker.refusal import Refused
from ledger.ids import DatasetId, OrgId, SubjectId


@dataclass
class Lines:
    """The pipes to the parent."""

    reader: BinaryIO
    writer: BinaryIO

    def progress(self, done: int, total: int) -> None:
        """Tell how far the task is."""
        frames.send_json(self.writer, frames.PROGRESS, {"done": done, "total": total})

    def covered(self, subjects: Sequence[str]) -> Collection[str]:
        """Ask which of these subjects (``0x`` hex) the gate still permits, now."""
        frames.send_json(self.writer, frames.ASK, list(subjects))
        kind, payload = frames.receive(self.reader)
        if kind != frames.COVERED:
            raise SandboxLost("an answer was expected")
        return frozenset(json.loads(payload))


@dataclass
class Input:
    """What the parent handed over for one task."""

    task: dict[str, Any]
    private: bytes
    sealed_keys: bytes
    lines: Lines
    blobs: dict[str, bytes]
    unopened: list[SubjectId] = field(default_factory=list)

    def parts(self) -> Iterator[tuple[SubjectId, list[dict[str, Any]]]]:
        """Each subject's records, opened one subject at a time, as the parent sends them.

        A part without a key stays closed; its subject is then in ``unopened``.

        Raises:
            Refused: a part cannot be opened, or holds something else than records, a line each.
        """
        dataset = DatasetId.parse(self.task["dataset"])
        version = int(self.task["version"])
        packed = open_sealed(self.private, self.sealed_keys, info=self.info)
        keys = unpack_keys(packed, dataset=dataset, version=version)
        while True:
            kind, payload = frames.receive(self.lines.reader)
            if kind == frames.END:
                return
            if kind != frames.PART:
                raise SandboxLost("a part was expected")
            head, sealed = frames.split(payload)
            subject = SubjectId.parse(head["subject"])
            if subject not in keys:
                self.unopened.append(subject)
                continue
            context = PartContext(OrgId.parse(self.task["org"]), dataset, version, subject)
            try:
                plain = open_part(keys[subject], context, sealed)
                records = _records(plain)
            except ExchangeError:
                raise Refused("part-corrupt") from None
            except ValueError:
                raise Refused("part-unreadable") from None
            yield subject, records

    def no_parts(self) -> None:
        """Take the end of the input, where a task has none but its blobs."""
        kind, _ = frames.receive(self.lines.reader)
        if kind != frames.END:
            raise SandboxLost("the end of the input was expected")

    @property
    def info(self) -> bytes:
        """What the key list is bound to."""
        return bytes.fromhex(self.task["info"])


def _records(plain: bytes) -> list[dict[str, Any]]:
    """The records of a part, exactly as a receiver will read its lines.

    Raises:
        ValueError: not a JSON object on every line, or the last line has no end.
    """
    *lines, rest = plain.split(b"\n")
    if rest or not lines or any(line[:1] != b"{" for line in lines):
        raise ValueError("not one record a line")
    return [json.loads(line, parse_constant=_no_constant) for line in lines]


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def main() -> int:
    """Run one task; the parent reads the outcome from the pipe."""
    lines = Lines(sys.stdin.buffer, sys.stdout.buffer)
    # Whatever a library prints must not be taken for a frame.
    sys.stdout = sys.stderr
    try:
        task = _first(lines)
        closed = confine(cpu_seconds=int(task["cpuSeconds"]), memory_bytes=int(task["memoryBytes"]))
        private, public = new_receive_key()
        hello = {"childKey": "0x" + public.hex(), "filesClosed": closed}
        frames.send_json(lines.writer, frames.HELLO, hello)
        sealed_keys, blobs = _prelude(lines)
        from exchange.worker.tasks.choice import TASKS

        head, blob = TASKS[task["task"]](Input(task, private, sealed_keys, lines, blobs))
        frames.send_json(lines.writer, frames.RESULT, head, blob)
    except Refused as refused:
        frames.send_json(lines.writer, frames.ERROR, {"reason": refused.reason})
    except (SandboxLost, BrokenPipeError):
        return 2
    except MemoryError:
        frames.send_json(lines.writer, frames.ERROR, {"reason": "memory"})
    except Exception as error:  # noqa: BLE001 - whatever it is, it ends as a word
        # The kind of the error only: its text may hold what was being read.
        frames.send_json(lines.writer, frames.ERROR, {"reason": f"failed-{type(error).__name__}"})
    return 0


def _first(lines: Lines) -> dict[str, Any]:
    kind, payload = frames.receive(lines.reader)
    if kind != frames.TASK:
        raise SandboxLost("a task was expected")
    task: dict[str, Any] = json.loads(payload)
    return task


def _prelude(lines: Lines) -> tuple[bytes, dict[str, bytes]]:
    """Blobs, then the sealed keys (empty where a task needs none); parts follow."""
    blobs: dict[str, bytes] = {}
    while True:
        kind, payload = frames.receive(lines.reader)
        if kind == frames.KEYS:
            return payload, blobs
        if kind != frames.BLOB:
            raise SandboxLost("keys or a blob were expected")
        head, blob = frames.split(payload)
        blobs[str(head["name"])] = blob


if __name__ == "__main__":
    sys.exit(main())
