"""How a task says no.

A module of its own: the child's entry runs as ``__main__``, and a class defined there would be another one
than the class that tasks import.
"""

from __future__ import annotations


class Refused(Exception):
    """The task cannot be done; ``reason`` is a stable word for the record."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
