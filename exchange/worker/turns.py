"""Turns: of everything that has one id, one thing at a time in this process.

One worker holds the lock of a data folder, so a turn in this process is a turn everywhere.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """Who waits for whom, by key."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._known: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def of(self, key: str) -> Iterator[None]:
        """Wait until nobody else has the turn of ``key``, then have it."""
        with self._guard:
            lock, count = self._known.get(key, (threading.Lock(), 0))
            self._known[key] = (lock, count + 1)
        try:
            with lock:
                yield
        finally:
            with self._guard:
                lock, count = self._known.pop(key)
                if count > 1:
                    self._known[key] = (lock, count - 1)
