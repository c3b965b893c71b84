"""The other end of the keys process's socket, used by api and worker.

Every verb may be repeated, so a connection that broke is opened anew once before giving up.
Every method raises KeysRefused (the keys process verified, and says no; ``reasons`` are stable
words) or KeysUnavailable (no answer; safe to repeat).
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exchange.errors import KeysRefused, KeysUnavailable
from exchange.keys.wire import FrameInvalid, reachable, receive, send
from ledger.ids import DatasetId, JobId, ReleaseId, SubjectId
from ledger.signing import from_hex, to_hex

_IDLE = 16


@dataclass(frozen=True, slots=True)
class KeysStatus:
    """Who answers. ``deployment`` and ``keys_key_signature`` are None before the deployment."""

    pid: int
    exchange: bytes
    deployment: bytes | None
    keys_key: bytes
    keys_key_signature: bytes | None
    pinned: int


@dataclass(frozen=True, slots=True)
class SignedReceipt:
    """A leaf's index and hash (32 bytes), and the exchange key's signature (64)."""

    index: int
    leaf_hash: bytes
    signature: bytes

    def to_json(self) -> dict[str, Any]:
        """The receipt on the wire."""
        return {
            "index": self.index,
            "leafHash": to_hex(self.leaf_hash),
            "signature": to_hex(self.signature),
        }


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """Size and root (32 bytes) of the log, and the exchange key's signature (64)."""

    size: int
    root: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class OpenedRelease:
    """``release_key`` is sealed to the requester; ids and digest as the signed documents have them."""

    release_key: bytes
    org: str
    dataset: str
    version: int
    requester: str
    manifest_digest: bytes


@dataclass(frozen=True, slots=True)
class OpenedPart:
    """A wrapped key, or the reasons why there is none. ``expires`` in epoch seconds."""

    subject: SubjectId
    wrapped: bytes | None
    expires: int | None
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenedParts:
    """``size`` is the log's size as the rulings saw it."""

    size: int
    parts: tuple[OpenedPart, ...]


class KeysClient:
    """Asks the keys process; safe to share between threads."""

    def __init__(self, path: Path, *, timeout_seconds: float = 60.0) -> None:
        self._path = path
        self._timeout = timeout_seconds
        self._idle: list[socket.socket] = []
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def status(self) -> KeysStatus:
        """Who answers, and under which keys."""
        found = self._ask("status")
        key = found["keysKey"]
        return KeysStatus(
            pid=found["pid"],
            exchange=from_hex(found["exchange"], 20),
            deployment=None if found["deployment"] is None else from_hex(found["deployment"], 32),
            keys_key=from_hex(key["publicKey"], 32),
            keys_key_signature=(
                None if key["signature"] is None else from_hex(key["signature"], 64)
            ),
            pinned=found["pinned"],
        )

    def sign_receipts(self, indexes: Sequence[int]) -> list[SignedReceipt]:
        """Receipts for 1 to 1,000 durable leaves, in the order asked."""
        return [
            SignedReceipt(
                one["index"], from_hex(one["leafHash"], 32), from_hex(one["signature"], 64)
            )
            for one in self._ask("sign_receipts", indexes=list(indexes))["receipts"]
        ]

    def sign_checkpoint(self, size: int, root: bytes | None = None) -> SignedCheckpoint:
        """A checkpoint over the first ``size`` leaves; refused unless its root is ``root``."""
        found = self._ask("sign_checkpoint", size=size, root=None if root is None else to_hex(root))
        return SignedCheckpoint(
            found["size"], from_hex(found["root"], 32), from_hex(found["signature"], 64)
        )

    def deposit(self, dataset: DatasetId, version: int, sealed: bytes) -> int:
        """Hand a publisher's sealed key list over; return how many keys lie there."""
        found = self._ask("deposit", dataset=dataset.hex, version=version, sealed=to_hex(sealed))
        return int(found["keys"])

    def open_intake(
        self, dataset: DatasetId, version: int, child_key: bytes, *, leaf: int | None = None
    ) -> bytes:
        """The keys of a version under inspection, as ``pack_keys`` sealed to ``child_key``."""
        found = self._ask(
            "open_intake",
            dataset=dataset.hex,
            version=version,
            childKey=to_hex(child_key),
            leaf=leaf,
        )
        return from_hex(found["sealed"])

    def open_release(self, release: ReleaseId) -> OpenedRelease:
        """Begin a release; from now on its parts can be opened."""
        found = self._ask("open_release", release=release.hex)
        return OpenedRelease(
            release_key=from_hex(found["releaseKey"]),
            org=found["org"],
            dataset=found["dataset"],
            version=found["version"],
            requester=found["requester"],
            manifest_digest=from_hex(found["manifestDigest"], 32),
        )

    def open_parts(self, release: ReleaseId, subjects: Sequence[SubjectId]) -> OpenedParts:
        """Rule on 1 to 32 subjects now, and get the keys of those who still permit."""
        return self.begin_parts(release, subjects).result()

    def begin_parts(self, release: ReleaseId, subjects: Sequence[SubjectId]) -> PendingParts:
        """Ask as :meth:`open_parts` does, and go on with something else meanwhile."""
        question = {
            "verb": "open_parts",
            "release": release.hex,
            "subjects": [subject.hex for subject in subjects],
        }
        for connection in self._connections():
            try:
                send(connection, question)
            except (OSError, FrameInvalid):
                connection.close()
                continue
            return PendingParts(self, question, connection)
        return PendingParts(self, question, None)

    def open_part(self, release: ReleaseId, subject: SubjectId) -> OpenedPart:
        """Rule on one subject now."""
        return self.open_parts(release, (subject,)).parts[0]

    def opened(self, release: ReleaseId) -> list[SubjectId]:
        """The subjects whose key left for this release."""
        found = self._ask("opened", release=release.hex)
        return [SubjectId.parse(text) for text in found["subjects"]]

    def sign_trailer(self, release: ReleaseId) -> tuple[dict[str, Any], bytes]:
        """The signed account of a release whose closing leaf is durable: (trailer, signature)."""
        found = self._ask("sign_trailer", release=release.hex)
        return found["trailer"], from_hex(found["signature"], 64)

    def open_job(
        self, job: JobId, subjects: Sequence[SubjectId], child_key: bytes
    ) -> tuple[bytes, dict[SubjectId, tuple[str, ...]]]:
        """The keys of the subjects who cover the job now, sealed to ``child_key``; and the others."""
        found = self._ask(
            "open_job",
            job=job.hex,
            subjects=[subject.hex for subject in subjects],
            childKey=to_hex(child_key),
        )
        refused = {
            SubjectId.parse(text): tuple(reasons) for text, reasons in found["refused"].items()
        }
        return from_hex(found["sealed"]), refused

    def pin(self, card: Mapping[str, Any], signatures: Sequence[bytes]) -> str:
        """Pin a newcomer by its signed card and members' ``Admit`` signatures; return its id."""
        found = self._ask("pin", card=dict(card), signatures=[to_hex(one) for one in signatures])
        return str(found["org"])

    def shred(self, dataset: DatasetId, version: int, subject: SubjectId) -> bool:
        """Destroy one data key for good; whether it was there."""
        found = self._ask("shred", dataset=dataset.hex, version=version, subject=subject.hex)
        return bool(found["shredded"])

    def _ask(self, verb: str, **fields: Any) -> dict[str, Any]:
        return self._settle({"verb": verb, **fields}, None)

    def _settle(self, question: dict[str, Any], begun: socket.socket | None) -> dict[str, Any]:
        """Return the answer; ``begun`` is a connection that the question was already sent on."""
        answer = None if begun is None else self._received(begun)
        if answer is None:
            answer = self._exchange(question)
        if "refused" in answer:
            raise KeysRefused(tuple(str(reason) for reason in answer["refused"]))
        found = answer.get("ok")
        if not isinstance(found, dict):
            raise KeysUnavailable(f"the keys process could not answer {question['verb']}")
        return found

    def _received(self, connection: socket.socket) -> dict[str, Any] | None:
        """Take an answer and keep the connection; None, and it is closed, where none came."""
        try:
            answer = receive(connection)
        except (OSError, FrameInvalid):
            answer = None
        with self._lock:
            if answer is not None and len(self._idle) < _IDLE:
                self._idle.append(connection)
                return answer
        connection.close()
        return answer

    def _exchange(self, question: dict[str, Any]) -> dict[str, Any]:
        for connection in self._connections():
            try:
                send(connection, question)
            except (OSError, FrameInvalid):
                connection.close()
                continue
            answer = self._received(connection)
            if answer is not None:
                return answer
        raise KeysUnavailable(
            "the keys process does not answer", next_step="check that `assent keys` is running"
        )

    def _connections(self) -> Iterator[socket.socket]:
        """An idle connection if there is one, then a fresh one: the idle may have died unseen."""
        with self._lock:
            idle = self._idle.pop() if self._idle else None
        if idle is not None:
            yield idle
            with self._lock:
                stale, self._idle = self._idle, []
            for one in stale:
                one.close()
        fresh = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        fresh.settimeout(self._timeout)
        with contextlib.suppress(OSError), reachable(self._path) as name:
            fresh.connect(name)
        yield fresh


class PendingParts:
    """A question about parts that is on its way; take its :meth:`result`, or :meth:`abandon` it."""

    def __init__(
        self, client: KeysClient, question: dict[str, Any], connection: socket.socket | None
    ) -> None:
        self._client = client
        self._question = question
        self._connection = connection

    def result(self) -> OpenedParts:
        """Wait for the answer; asked once more where the connection broke. Once is enough."""
        connection, self._connection = self._connection, None
        found = self._client._settle(self._question, connection)  # noqa: SLF001 - its other half
        return OpenedParts(found["size"], tuple(_part(one) for one in found["parts"]))

    def abandon(self) -> None:
        """Let the answer be; repeating it does nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _part(found: Mapping[str, Any]) -> OpenedPart:
    wrapped = found.get("wrapped")
    return OpenedPart(
        subject=SubjectId.parse(found["subject"]),
        wrapped=None if wrapped is None else from_hex(wrapped),
        expires=found.get("expires"),
        refused=tuple(found.get("refused", ())),
    )
