"""Typed filters over records: which are well formed, and which record they find. Pure.

A filter is ``{"field", "op", "value"}``; a field is a column of a table or a dotted path through FHIR
elements (``code.coding.code``; lists are walked). Values are text; for ordering, decimal numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

_Test = Callable[[Any, Any], bool]
_MOST_FILTERS: Final = 50


def check(parameters: Mapping[str, Any]) -> str | None:
    """Why these parameters are no query, with the place; None when they are one."""
    if set(parameters) - {"filters", "columns", "want"}:
        return "/parameters holds filters, columns and want, nothing else"
    if parameters.get("want") not in ("rows", "count"):
        return "/parameters/want is rows or count"
    columns = parameters.get("columns", [])
    if not isinstance(columns, list) or not all(isinstance(one, str) and one for one in columns):
        return "/parameters/columns is a list of fields"
    filters = parameters.get("filters")
    if not isinstance(filters, list) or len(filters) > _MOST_FILTERS:
        return f"/parameters/filters is a list of at most {_MOST_FILTERS} filters"
    for index, one in enumerate(filters):
        where = f"/parameters/filters/{index}"
        if not isinstance(one, dict) or set(one) != {"field", "op", "value"}:
            return f"{where} has exactly field, op and value"
        if not isinstance(one["field"], str) or not one["field"]:
            return f"{where}/field is a column or a path"
        if not isinstance(one["op"], str) or one["op"] not in _OPERATIONS:
            return f"{where}/op is one of " + ", ".join(sorted(_OPERATIONS))
        if one["op"] in ("<", "<=", ">", ">=") and _number(one["value"]) is None:
            return f"{where}/value is a decimal number in quotes"
        if not isinstance(one["value"], str):
            return f"{where}/value is text or a decimal number, in quotes"
    return None


def matcher(one: Mapping[str, str]) -> Callable[[Any], bool]:
    """The test that a checked filter stands for; a note has no fields, and meets none."""
    test, field, value = _OPERATIONS[one["op"]], one["field"], one["value"]
    return lambda content: any(test(found, value) for found in _walk(content, field))


def _walk(content: Any, field: str) -> Iterator[Any]:
    if isinstance(content, dict) and field in content:
        # A table's column may itself hold a dot.
        yield from _leaves(content[field])
        return
    head, _, rest = field.partition(".")
    if isinstance(content, list):
        for item in content:
            yield from _walk(item, field)
    elif isinstance(content, dict) and rest and head in content:
        yield from _walk(content[head], rest)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    elif not isinstance(value, dict):
        yield value


def first(content: Any, field: str) -> Any:
    """The first value of a field, or None."""
    return next(_walk(content, field), None)


def _number(value: Any) -> Decimal | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _equal(found: Any, value: str) -> bool:
    if found is None:
        # A missing cell equals nothing, whatever its name would be in Python.
        return False
    left, right = _number(found), _number(value)
    if left is not None and right is not None:
        return left == right
    if isinstance(found, bool):
        # As JSON writes it, which is how the person who asks knows it.
        return value == ("true" if found else "false")
    return str(found) == value


def _ordered(test: Callable[[Decimal, Decimal], bool]) -> _Test:
    def ordered(found: Any, value: str) -> bool:
        left, right = _number(found), _number(value)
        return left is not None and right is not None and test(left, right)

    return ordered


_OPERATIONS: Final[Mapping[str, _Test]] = {
    "=": _equal,
    "!=": lambda found, value: found is not None and not _equal(found, value),
    "<": _ordered(lambda left, right: left < right),
    "<=": _ordered(lambda left, right: left <= right),
    ">": _ordered(lambda left, right: left > right),
    ">=": _ordered(lambda left, right: left >= right),
    "contains": lambda found, value: (
        isinstance(found, str) and value.casefold() in found.casefold()
    ),
}
