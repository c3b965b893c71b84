"""Every error of the four packages as an RFC 9457 problem: one table, class -> status, slug, next step.

HTTP appears here and nowhere else: domain errors know no status. A class that the table does not name
is answered by its nearest ancestor that it does; a test walks the four trees and fails on a leaf
without a row of its own. Classes stand in the table by name, so that reading it imports no room.

A body never repeats what the caller sent: details are our own messages (ids, counts, positions), the
pointers of unknown members end at their parent, and 5xx details are fixed texts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from anonymize.errors import AnonymizeError
from compute.errors import ComputeError
from exchange.api.problem_table import OPERATOR, TABLE, Row
from exchange.errors import ExchangeError, NotEntitled, NotFound, RateLimited
from ledger.errors import IdMalformed, LedgerError

_log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "/problems/"

trace_id: ContextVar[str] = ContextVar("trace_id", default="")
"""The id of the request in hand; the door sets it."""


#: Statuses that frameworks raise by themselves.
_PLAIN: Final[dict[int, Row]] = {
    400: Row(400, "malformed", "correct the request and repeat"),
    401: Row(401, "not-authenticated", "log in and send the bearer token"),
    404: TABLE["exchange.NotFound"],
    405: Row(405, "method-not-allowed", "see the allowed methods in Allow"),
    413: TABLE["exchange.BodyTooLarge"],
    415: TABLE["exchange.UnsupportedMediaType"],
}
_INTERNAL: Final = TABLE["exchange.ExchangeError"]
_NOWHERE: Final = "there is no such thing here, or it is not for this account"


def row_of(error: type[BaseException]) -> Row:
    """The row of the nearest class in the error's ancestry that the table names."""
    for kind in error.__mro__:
        package = kind.__module__.partition(".")[0]
        if (row := TABLE.get(f"{package}.{kind.__name__}")) is not None:
            return row
    return _INTERNAL


def response(
    status: int,
    slug: str,
    detail: str,
    *,
    next_step: str,
    errors: Iterable[Mapping[str, Any]] = (),
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """One problem as a response. ``extra`` members are added; they replace none of the fixed ones."""
    body: dict[str, Any] = {
        **(extra or {}),
        "type": TYPE_PREFIX + slug,
        "title": slug.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        "next": next_step,
        "trace_id": trace_id.get(),
    }
    if listed := [dict(item) for item in errors]:
        body["errors"] = listed
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def describe(error: Exception) -> dict[str, Any]:
    """Slug, detail, next step and position of an error of ours, for one item of a batch."""
    row = row_of(type(error))
    found: dict[str, Any] = {
        "type": TYPE_PREFIX + row.slug,
        "status": row.status,
        "detail": _detail(error, row),
        "next": getattr(error, "next_step", "") or row.next_step,
    }
    if pointer := _pointer(error):
        found["errors"] = [{"pointer": pointer, "detail": found["detail"]}]
    return found


def of(error: Exception) -> Response:
    """The response to an error of the four trees."""
    row = row_of(type(error))
    described = describe(error)
    headers: dict[str, str] = {}
    if row.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RateLimited):
        headers["Retry-After"] = str(error.retry_after_seconds)
    elif row.status == 503:
        headers["Retry-After"] = "1"
    extra: dict[str, Any] = {}
    if reasons := getattr(error, "reasons", ()):
        extra["reasons"] = list(reasons)
    if slots := getattr(error, "slots", ()):
        extra["slots"] = list(slots)
    if isinstance(reason := getattr(error, "reason", None), str):
        extra["reason"] = reason
    return response(
        row.status,
        row.slug,
        described["detail"],
        next_step=described["next"],
        errors=described.get("errors", ()),
        extra=extra,
        headers=headers,
    )


def denied(answer: Mapping[str, Any]) -> Response:
    """The response to a request that nobody's consent covers: recorded, and no reasons per person."""
    return response(
        403,
        "denied",
        "no consent covers this request",
        next_step="ask for another purpose, or wait until patients have consented",
        extra=answer,
    )


def unexpected(error: BaseException) -> Response:
    """The response to an error that nobody foresaw: its text stays inside."""
    _log.error("unexpected error", exc_info=error, extra={"trace_id": trace_id.get()})
    return response(
        500, _INTERNAL.slug, "something failed that should not have", next_step=OPERATOR
    )


def _detail(error: Exception, row: Row) -> str:
    if isinstance(error, NotEntitled) or (row.slug == "not-found" and isinstance(error, Exception)):
        return _NOWHERE
    if isinstance(error, IdMalformed):
        # Its own message shows the beginning of what was sent: good on a terminal, not in a body.
        return f"not a {error.type_name}"
    if row.status >= 500:
        return row.slug.replace("-", " ")
    return str(error)


def _pointer(error: Exception) -> str:
    pointer = getattr(error, "pointer", "")
    return pointer if isinstance(pointer, str) else ""


def _on_ours(_request: Request, error: Exception) -> Response:
    row = row_of(type(error))
    if row.status >= 500:
        _log.warning(
            "request failed",
            exc_info=error,
            extra={"trace_id": trace_id.get(), "error_code": row.slug, "status": row.status},
        )
    return of(error)


def _on_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    cause = error.__cause__
    if isinstance(cause, ExchangeError):
        return of(cause)
    row = _PLAIN.get(error.status_code)
    if row is None:
        row = Row(error.status_code, "http", "see the documentation of this address")
    detail = _NOWHERE if error.status_code == 404 else row.slug.replace("-", " ")
    return response(
        row.status, row.slug, detail, next_step=row.next_step, headers=error.headers or {}
    )


def _on_validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = []
    for item in error.errors()[:20]:
        location = list(item["loc"])
        where = str(location[0]) if location else "body"
        path = location[1:]
        if item["type"] == "extra_forbidden":
            # The last step is a name that the caller chose.
            path = path[:-1]
        pointer = "".join("/" + _step(step) for step in path)
        found.append(
            {"pointer": pointer, "in": where, "detail": _WORDS.get(item["type"], "is not valid")}
        )
    malformed = TABLE["exchange.Malformed"]
    return response(
        malformed.status,
        malformed.slug,
        f"{len(error.errors())} member(s) of the request are not valid",
        next_step=malformed.next_step,
        errors=found,
    )


def _step(step: object) -> str:
    return str(step).replace("~", "~0").replace("/", "~1")


#: Pydantic's own messages may quote a limit, a pattern or the input; these quote nothing.
_WORDS: Final = {
    "missing": "is missing",
    "extra_forbidden": "has a member that is not known here",
    "string_type": "must be a string",
    "string_too_short": "is too short",
    "string_too_long": "is too long",
    "string_pattern_mismatch": "has not the documented form",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "greater_than_equal": "is too small",
    "greater_than": "is too small",
    "less_than_equal": "is too large",
    "less_than": "is too large",
    "too_long": "has too many members",
    "too_short": "has too few members",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "bool_type": "must be true or false",
    "literal_error": "is not one of the known words",
    "enum": "is not one of the known words",
}


def install(app: FastAPI) -> None:
    """Answer every error of the four trees, of validation and of the framework with a problem."""
    for root in (ExchangeError, LedgerError, ComputeError, AnonymizeError):
        app.add_exception_handler(root, _on_ours)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)


__all__ = [
    "MEDIA_TYPE",
    "TABLE",
    "NotFound",
    "describe",
    "install",
    "of",
    "response",
    "row_of",
    "trace_id",
    "unexpected",
]
