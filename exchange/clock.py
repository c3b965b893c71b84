"""The time, as a thing that is handed in, so that tests can stop it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the exchange asks for the time."""

    def now_ms(self) -> int:
        """Return Unix time in milliseconds, UTC."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        """Return Unix time in milliseconds, UTC."""
        return time.time_ns() // 1_000_000


def decided_at(at_ms: int) -> datetime:
    """Return the aware time with which a ruling made at ``at_ms`` is decided: whole seconds.

    The auditor's re-run floors the leaf's time in the same way.
    """
    return datetime.fromtimestamp(at_ms // 1000, tz=UTC)
