"""Opening the store, writing to it and reading from it.

What :meth:`Store.transact` returned is on the disk (D1): on SQLite one writer thread collects the
works that are waiting, runs each within a savepoint of one ``BEGIN IMMEDIATE`` transaction, commits
once with an fsync (WAL, ``synchronous=FULL``), and only then answers all of them. On PostgreSQL
each work is a transaction of its own with ``synchronous_commit=on``; what must not overlap locks
the tree-head row first (``exchange.log.lock_head``). Reads are snapshots and cannot write.

Other processes write to the same SQLite file; a lock file beside it hands the right to write over
within a millisecond, where SQLite's own waiting backs off to a tenth of a second, and it keeps
several starting processes from migrating at once.
"""

from __future__ import annotations

import fcntl
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from exchange.errors import AlreadyExists, StoreError, StoreReadOnly, StoreUnavailable
from exchange.store import migrate as migrations

T = TypeVar("T")

LARGEST_GROUP = 128
"""Works per commit: bounds how long the first of them waits, and how long others cannot write."""

_BUSY_MS = 30_000
_RETRIES = 5
# PostgreSQL: serialization_failure, deadlock_detected (the whole work is repeated).
_REPEATABLE = ("40001", "40P01")
_DISK_FAILURES = tuple(
    "SQLITE_" + name
    for name in ("BUSY", "CANTOPEN", "CORRUPT", "FULL", "INTERRUPT", "IOERR", "NOMEM", "READONLY")
)
_LOCK_POLL_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class _Task:
    work: Callable[[Connection], Any]
    done: Future[Any]


class Store:
    """A database that the exchange keeps its rows in. Open it with :meth:`open`."""

    def __init__(
        self, reader: Engine, writer: Engine | None, lock_path: Path | None, url: URL
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._lock_path = lock_path
        self._url = url
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None
        if writer is not None and lock_path is not None:
            self._thread = threading.Thread(
                target=self._write_forever, name="store-writer", daemon=True
            )
            self._thread.start()

    @classmethod
    def open(cls, url: str, *, read_only: bool = False, migrate: bool = True) -> Store:
        """Open ``sqlite:///FILE`` or ``postgresql://…``; bring its schema up to date first.

        A read-only store neither writes nor migrates: it needs a database of the right version.

        Raises:
            SchemaUnknown: the database was made by another version.
            StoreUnavailable: it cannot be reached or opened.
            StoreError: the address is of an unknown kind.

        """
        parsed = _with_driver(url)
        if parsed.get_backend_name() == "sqlite":
            return cls._open_sqlite(parsed, read_only=read_only, migrate=migrate)
        return cls._open_postgres(parsed, read_only=read_only, migrate=migrate)

    @classmethod
    def _open_sqlite(cls, url: URL, *, read_only: bool, migrate: bool) -> Store:
        if not url.database or url.database == ":memory:":
            raise StoreError("the store needs a file: memory is not durable")
        path = Path(url.database).absolute()
        lock_path = path.with_name(path.name + ".lock")
        plain = url.set(database=str(path))
        reader = _sqlite_engine(plain, write=False)
        if read_only:
            if not path.exists():
                raise StoreUnavailable(
                    "the store does not exist yet", next_step="start the api or the worker first"
                )
            _checked(reader)
            return cls(reader, None, None, plain)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"no place for the store ({type(error).__name__})") from None
        writer = _sqlite_engine(plain, write=True)
        with _exclusive(lock_path):
            _brought_up_to_date(writer, migrate=migrate)
        return cls(reader, writer, lock_path, plain)

    @classmethod
    def _open_postgres(cls, url: URL, *, read_only: bool, migrate: bool) -> Store:
        reader = _postgres_engine(url, write=False)
        if read_only:
            _checked(reader)
            return cls(reader, None, None, url)
        writer = _postgres_engine(url, write=True)
        _brought_up_to_date(writer, migrate=migrate)
        return cls(reader, writer, None, url)

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._url.get_backend_name()

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a transaction and return its result once that is durable.

        If ``work`` raises, its own changes are undone, those of others are not, and the error is
        passed on. ``work`` may be run again on PostgreSQL after a deadlock, so it must change
        nothing but the database. It must not call this method.

        Raises:
            AlreadyExists: a unique value exists already (the database's own check).
            StoreUnavailable: the database or its disk failed; nothing was stored.
            StoreReadOnly: the store was opened for reading.

        """
        if self._writer is None:
            raise StoreReadOnly("this process may only read the store")
        if self._lock_path is None:
            return self._transact_alone(self._writer, work)
        if threading.current_thread() is self._thread:
            raise StoreError("a work must not start another one")
        task = _Task(work, Future())
        with self._closing:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            self._tasks.put(task)
        result: T = task.done.result()
        return result

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one snapshot and cannot write.

        Raises:
            StoreUnavailable: the database failed.

        """
        try:
            with self._reader.connect() as conn, conn.begin():
                yield conn
        except SQLAlchemyError as error:
            raise _translated(error) from None

    def close(self) -> None:
        """Finish the waiting works, then let go of the database. Repeating it does nothing."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._tasks.put(None)
        if self._thread is not None:
            self._thread.join()
        if self._writer is not None:
            self._writer.dispose()
        self._reader.dispose()

    # PostgreSQL ----------------------------------------------------------------------------

    def _transact_alone(self, writer: Engine, work: Callable[[Connection], T]) -> T:
        if self._closed:
            raise StoreUnavailable("the store is closed")
        for attempt in range(1, _RETRIES + 1):
            try:
                with writer.begin() as conn:
                    return work(conn)
            except SQLAlchemyError as error:
                if attempt == _RETRIES or not _is_repeatable(error):
                    raise _translated(error) from None
        raise StoreUnavailable("the database kept refusing")

    # SQLite: the writer thread -------------------------------------------------------------

    def _write_forever(self) -> None:
        ended = False
        while not ended:
            first = self._tasks.get()
            if first is None:
                return
            group = [first]
            while len(group) < LARGEST_GROUP:
                try:
                    task = self._tasks.get_nowait()
                except queue.Empty:
                    break
                if task is None:
                    ended = True
                    break
                group.append(task)
            self._commit(group)

    def _commit(self, group: list[_Task]) -> None:
        """Run a group in one transaction; answer nobody before the commit is on the disk."""
        assert self._writer is not None
        assert self._lock_path is not None
        outcomes: list[tuple[Any, BaseException | None]] = []
        try:
            with _exclusive(self._lock_path), self._writer.connect() as conn, conn.begin():
                outcomes = [self._run(conn, task.work) for task in group]
        except (SQLAlchemyError, OSError) as error:
            # What the connection believes about the disk is not trusted after a failure.
            self._writer.dispose()
            failure = _unavailable(error)
            for task in group:
                task.done.set_exception(failure)
            return
        for task, (result, raised) in zip(group, outcomes, strict=True):
            if raised is not None:
                task.done.set_exception(raised)
            else:
                task.done.set_result(result)

    @staticmethod
    def _run(
        conn: Connection, work: Callable[[Connection], Any]
    ) -> tuple[Any, BaseException | None]:
        savepoint = conn.begin_nested()
        try:
            result = work(conn)
            savepoint.commit()
        except SQLAlchemyError as error:
            if _is_disk_failure(error):
                raise
            savepoint.rollback()
            return None, _translated(error)
        except BaseException as error:  # noqa: BLE001 - handed to the caller that waits for it
            savepoint.rollback()
            return None, error
        return result, None


def _with_driver(url: str) -> URL:
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


def _sqlite_engine(url: URL, *, write: bool) -> Engine:
    engine = sa.create_engine(
        url,
        hide_parameters=True,
        poolclass=sa.pool.QueuePool,
        pool_size=1 if write else 16,
        max_overflow=0 if write else 48,
        connect_args={"check_same_thread": False, "timeout": _BUSY_MS / 1000},
    )

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        # The driver must not begin transactions by itself: see the begin event.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
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


def _postgres_engine(url: URL, *, write: bool) -> Engine:
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


def _checked(engine: Engine) -> None:
    try:
        with engine.connect() as conn:
            migrations.require_current(conn)
    except SQLAlchemyError as error:
        raise _translated(error) from None


def _brought_up_to_date(engine: Engine, *, migrate: bool) -> None:
    try:
        with engine.connect() as conn, conn.begin():
            if migrate:
                migrations.upgrade(conn)
            else:
                migrations.require_current(conn)
    except SQLAlchemyError as error:
        raise _translated(error) from None


@contextmanager
def _exclusive(lock_path: Path) -> Iterator[None]:
    """Hold the lock file for the length of one transaction; the kernel frees it if we die."""
    descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + _BUSY_MS / 1000
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # A writer that hangs must show as an outage, not as a silence.
                if time.monotonic() > deadline:
                    raise
                time.sleep(_LOCK_POLL_SECONDS)
        try:
            yield
        finally:
            # Unlocked by name: a child forked meanwhile would keep a merely closed file locked.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _is_repeatable(error: SQLAlchemyError) -> bool:
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _REPEATABLE


def _is_disk_failure(error: SQLAlchemyError) -> bool:
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


def _unavailable(error: BaseException) -> StoreUnavailable:
    orig = getattr(error, "orig", None)
    name = getattr(orig, "sqlite_errorname", None) or getattr(orig, "sqlstate", None)
    shown = name or type(orig or error).__name__
    return StoreUnavailable(f"the store failed ({shown})", next_step="repeat the request later")


def _translated(error: SQLAlchemyError) -> Exception:
    """Return an error of our own tree; what is a mistake in our own code stays what it is."""
    if isinstance(error, IntegrityError):
        return AlreadyExists(f"already stored or not allowed: {_place(error)}")
    if isinstance(error, sa.exc.ProgrammingError | sa.exc.DataError):
        return error
    if isinstance(error, DBAPIError | sa.exc.TimeoutError):
        return _unavailable(error)
    return error
