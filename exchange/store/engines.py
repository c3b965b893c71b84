"""Engines of the two databases that a store may be, and what their failures mean.

SQLite: the driver begins no transaction by itself, a writer's is ``BEGIN IMMEDIATE``, and every commit
reaches the disk (WAL, ``synchronous=FULL``). PostgreSQL: ``synchronous_commit=on``; readers see one
snapshot and cannot write.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from exchange.errors import AlreadyExists, StoreError, StoreUnavailable

BUSY_MS = 30_000
"""How long one waits for another's transaction to end."""

# PostgreSQL: serialization_failure, deadlock_detected (the whole work is repeated).
_REPEATABLE = ("40001", "40P01")
_DISK_FAILURES = tuple(
    "SQLITE_" + name
    for name in ("BUSY", "CANTOPEN", "CORRUPT", "FULL", "INTERRUPT", "IOERR", "NOMEM", "READONLY")
)


def with_driver(url: str) -> URL:
    """The address with the driver that is used here. Raises StoreError for another database."""
    try:
        parsed = make_url(url)
    except SQLAlchemyError:
        raise StoreError("not the address of a database") from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return parsed.set(drivername="sqlite")
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    raise StoreError(f"{backend} is not a database of the store: use sqlite or postgresql")


def sqlite_engine(url: URL, *, write: bool) -> Engine:
    """One writing connection, or many that cannot write."""
    engine = sa.create_engine(
        url,
        hide_parameters=True,
        poolclass=sa.pool.QueuePool,
        pool_size=1 if write else 16,
        max_overflow=0 if write else 48,
        connect_args={"check_same_thread": False, "timeout": BUSY_MS / 1000},
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        # The driver must not begin transactions by itself: see the begin event.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        if write:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute("PRAGMA synchronous=FULL")
        else:
            cursor.execute("PRAGMA query_only=ON")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA trusted_schema=OFF")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begun(conn: Connection) -> None:
        conn.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def postgres_engine(url: URL, *, write: bool) -> Engine:
    """Connections that write, or that read one snapshot each."""
    engine = sa.create_engine(
        url,
        hide_parameters=True,
        pool_size=8,
        max_overflow=24,
        pool_pre_ping=True,
        isolation_level="READ COMMITTED" if write else "REPEATABLE READ",
        connect_args={"connect_timeout": 10, "application_name": "assent"},
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        connection.execute(
            "SET synchronous_commit = on" if write else "SET default_transaction_read_only = on"
        )
        connection.commit()

    return engine


def is_repeatable(error: SQLAlchemyError) -> bool:
    """Whether the same work may succeed at the next attempt (a deadlock was resolved)."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _REPEATABLE


def is_disk_failure(error: SQLAlchemyError) -> bool:
    """Whether SQLite may have undone the whole transaction by itself (ENOSPC, EIO, corruption).

    https://www.sqlite.org/lang_transaction.html §3: FULL, IOERR, NOMEM, BUSY and INTERRUPT may.
    """
    if isinstance(error, IntegrityError) or not isinstance(error, DBAPIError):
        return False
    return str(getattr(error.orig, "sqlite_errorname", "")).startswith(_DISK_FAILURES)


def _place(error: IntegrityError) -> str:
    """Name the columns or the constraint, never the values."""
    diagnosis = getattr(error.orig, "diag", None)
    if diagnosis is not None:
        return str(diagnosis.constraint_name or diagnosis.column_name or diagnosis.table_name)
    return str(error.orig).rpartition(": ")[2]


def unavailable(error: BaseException) -> StoreUnavailable:
    """The database or its disk failed: the driver's own code, without any value."""
    orig = getattr(error, "orig", None)
    name = getattr(orig, "sqlite_errorname", None) or getattr(orig, "sqlstate", None)
    shown = name or type(orig or error).__name__
    return StoreUnavailable(f"the store failed ({shown})", next_step="repeat the request later")


def translated(error: SQLAlchemyError) -> Exception:
    """Return an error of our own tree; what is a mistake in our own code stays what it is."""
    if isinstance(error, IntegrityError):
        return AlreadyExists(f"already stored or not allowed: {_place(error)}")
    if isinstance(error, sa.exc.ProgrammingError | sa.exc.DataError):
        return error
    if isinstance(error, DBAPIError | sa.exc.TimeoutError):
        return unavailable(error)
    return error
