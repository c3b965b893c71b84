"""Which task a name means: input in, a JSON head and sealed bytes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from exchange.worker.child import Input

Task = Callable[["Input"], tuple[dict[str, Any], bytes]]


def _inspect(given: Input) -> tuple[dict[str, Any], bytes]:
    from exchange.worker.tasks.inspecting import inspect

    return inspect(given)


def _query(given: Input) -> tuple[dict[str, Any], bytes]:
    from exchange.worker.tasks.querying import query

    return query(given)


def _compute(given: Input) -> tuple[dict[str, Any], bytes]:
    from exchange.worker.tasks.computing import compute

    return compute(given)


# A child loads only what its own task needs: an inspection never wakes torch, a query neither.
TASKS: Final[Mapping[str, Task]] = {"inspect": _inspect, "query": _query, "compute": _compute}
