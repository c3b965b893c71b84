"""What clients were told and what they received: the side of the story that must hold after any kill."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Ack:
    """A consent, objection, withdrawal or lifting that the exchange acknowledged.

    ``index`` is the leaf's, where the answer carried a receipt; ``at_ms`` when the answer was here.
    """

    verb: str
    consent: str
    subject: str
    at_ms: int
    index: int | None
    leaf: str | None


@dataclass(frozen=True)
class Delivery:
    """What a receiver got of one release: whose bytes it could open, and when the first came."""

    release: str
    requester: str
    asked_ms: int
    first_ms: int
    subjects: tuple[str, ...]
    whole: bool
    records: int = 0


@dataclass(frozen=True)
class JobEnd:
    """How an accepted job ended, and whose rows its answer holds."""

    job: str
    asked_ms: int
    status: str
    subjects: tuple[str, ...]


@dataclass
class Book:
    """Everything that was acknowledged or received, from all threads.

    ``begun`` says when a verb about a consent was first sent, acknowledged or not; ``decided`` when a
    release was asked for.
    """

    acks: list[Ack] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    jobs: list[JobEnd] = field(default_factory=list)
    decided: dict[str, int] = field(default_factory=dict)
    begun: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    repeated: int = 0
    differing: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def copy(self):
        with self.lock:
            return Book(
                list(self.acks),
                list(self.deliveries),
                list(self.jobs),
                dict(self.decided),
                dict(self.begun),
                self.repeated,
                list(self.differing),
                list(self.errors),
            )


def now_ms():
    return time.time_ns() // 1_000_000
