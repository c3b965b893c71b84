"""Lists in pages: the next page begins after the last item shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Page:
    """One page of items, and the cursor of the next page (None: this was the last)."""

    items: list[dict[str, Any]]
    next: str | None

    def to_json(self) -> dict[str, Any]:
        """The page on the wire."""
        return {"items": self.items, "next": self.next}


def page_of(
    found: Sequence[dict[str, Any]], limit: int, cursor_of: Callable[[dict[str, Any]], str]
) -> Page:
    """Cut ``limit + 1`` found items to a page of ``limit``."""
    items = list(found[:limit])
    return Page(items, cursor_of(items[-1]) if len(found) > limit else None)
