"""Keeps readers out while a block is mined and not yet recorded: it might still be lost."""

from __future__ import annotations

import threading


class ReadGate:
    """Many readers, or the one that changes the chain; who changes goes first."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._readers = 0
        self._closed = False

    def enter(self) -> None:
        """Begin to read; waits while the chain is being changed."""
        with self._condition:
            self._condition.wait_for(lambda: not self._closed)
            self._readers += 1

    def leave(self) -> None:
        """End a reading."""
        with self._condition:
            self._readers -= 1
            self._condition.notify_all()

    def close(self) -> None:
        """Let no reader in and wait until the last one left."""
        with self._condition:
            self._closed = True
            self._condition.wait_for(lambda: self._readers == 0)

    def open(self) -> None:
        """Let readers in again."""
        with self._condition:
            self._closed = False
            self._condition.notify_all()
