"""One line of JSON per event, holding only what an allow-list names.

A log line is read by people who may not read records. So the formatter renders no arguments into
the message: the event is the constant text of the call, and values travel as ``extra`` under one
of the names of :data:`ALLOWED`. Everything else is dropped. Of an exception the class and the
places are written; its text only where it is of our own trees, whose messages name ids and counts.

Example: ``log.info("release closed", extra={"release": str(release_id), "delivered": 12})``
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from pathlib import PurePath
from types import TracebackType
from typing import Any, TextIO

from exchange.errors import ExchangeError
from ledger.errors import LedgerError

ALLOWED = frozenset(
    {
        "actor_role",
        "attempt",
        "block",
        "bytes",
        "consent",
        "count",
        "covered",
        "dataset",
        "delivered",
        "duration_ms",
        "error_code",
        "event_id",
        "handle",
        "host",
        "job",
        "job_kind",
        "leaf",
        "limit",
        "method",
        "model",
        "next_step",
        "org",
        "outcome",
        "path_template",
        "permitted",
        "pid",
        "port",
        "reasons",
        "release",
        "retry_after_seconds",
        "root",
        "size",
        "state",
        "status",
        "stopped",
        "trace_id",
        "transaction",
        "url_scheme",
        "variable",
        "verb",
        "version",
        "withheld",
    }
)
"""The only names under which a value may be logged: ids, counts, states and stable words."""

_OURS = ("exchange", "ledger", "compute", "anonymize")
_LONGEST_VALUE = 200
_INSTALLED = "_assent_json"


class Redacted:
    """Carries a value through code that might print it; shows nothing of it.

    ``reveal()`` is the one way out.
    """

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def reveal(self) -> Any:
        """Return the carried value."""
        return self._value

    def __repr__(self) -> str:
        return "<redacted>"

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return "<redacted>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a redacted value is not serialised")


def _shown(value: object) -> object:
    """Return a value as it may stand in a line: numbers, short text, lists of those."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_VALUE else value[:_LONGEST_VALUE] + "…"
    if isinstance(value, list | tuple | set | frozenset) and len(value) <= _LONGEST_VALUE:
        return [_shown(item) for item in value]
    return f"<{type(value).__name__}>"


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON with allow-listed fields only."""

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; never raises for odd values and never renders arguments."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": self._event(record),
        }
        if self._process:
            line["process"] = self._process
        for name, value in record.__dict__.items():
            if name in ALLOWED and name not in logging_fields():
                line[name] = _shown(value)
        if record.exc_info and record.exc_info[1] is not None:
            line.update(_exception(record.exc_info[1]))
        return json.dumps(line, ensure_ascii=True, separators=(",", ":"))

    @staticmethod
    def _event(record: logging.LogRecord) -> str:
        if record.name.split(".", 1)[0] in _OURS:
            return str(_shown(str(record.msg)))
        # Another library's message may hold anything, and so may its template where it was
        # composed beforehand. Where it happened is enough to look it up.
        return f"{record.module}:{record.lineno}"


def logging_fields() -> frozenset[str]:
    """Return the attributes that every record has of its own, whatever was passed as extra."""
    return _RECORD_FIELDS


_RECORD_FIELDS = frozenset(logging.makeLogRecord({}).__dict__)


def _exception(error: BaseException) -> dict[str, object]:
    places = [
        f"{PurePath(frame.filename).name}:{frame.lineno}:{frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)[-12:]
    ]
    found: dict[str, object] = {
        "error": f"{type(error).__module__}.{type(error).__qualname__}",
        "places": places,
    }
    if isinstance(error, ExchangeError | LedgerError):
        found["detail"] = _shown(str(error))
    return found


def set_up(process: str, *, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send every logger's records through :class:`JsonFormatter` to ``stream`` (stderr).

    Handlers that libraries installed on the root are replaced; calling again replaces ours. What
    nobody catches is such a record too: a traceback would show the error's text, whatever it holds.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(process))
    handler.set_name(_INSTALLED)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "dbos", "alembic"):
        quiet = logging.getLogger(name)
        quiet.handlers.clear()
        quiet.propagate = True
        # Their lines carry no event of ours; only what goes wrong is worth a place.
        quiet.setLevel(logging.WARNING)
    sys.excepthook = _uncaught


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger(__name__).critical("not caught", exc_info=(kind, error, trace))
