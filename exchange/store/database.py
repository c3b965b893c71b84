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

from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from exchange.errors import StoreError, StoreReadOnly, StoreUnavailable
from exchange.store import migrate as migrations
from exchange.store.engines import (
    BUSY_MS,
    is_disk_failure,
    is_repeatable,
    postgres_engine,
    sqlite_engine,
    translated,
    unavailable,
    with_driver,
)

T = TypeVar("T")

LARGEST_GROUP = 128
"""Works per commit: bounds how long the first of them waits, and how long others cannot write."""

_RETRIES = 5
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
        parsed = with_driver(url)
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
        reader = sqlite_engine(plain, write=False)
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
        writer = sqlite_engine(plain, write=True)
        with _exclusive(lock_path):
            _brought_up_to_date(writer, migrate=migrate)
        return cls(reader, writer, lock_path, plain)

    @classmethod
    def _open_postgres(cls, url: URL, *, read_only: bool, migrate: bool) -> Store:
        reader = postgres_engine(url, write=False)
        if read_only:
            _checked(reader)
            return cls(reader, None, None, url)
        writer = postgres_engine(url, write=True)
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
            raise translated(error) from None

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
                if attempt == _RETRIES or not is_repeatable(error):
                    raise translated(error) from None
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
            failure = unavailable(error)
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
            if is_disk_failure(error):
                raise
            savepoint.rollback()
            return None, translated(error)
        except BaseException as error:  # noqa: BLE001 - handed to the caller that waits for it
            savepoint.rollback()
            return None, error
        return result, None


def _checked(engine: Engine) -> None:
    try:
        with engine.connect() as conn:
            migrations.require_current(conn)
    except SQLAlchemyError as error:
        raise translated(error) from None


def _brought_up_to_date(engine: Engine, *, migrate: bool) -> None:
    try:
        with engine.connect() as conn, conn.begin():
            if migrate:
                migrations.upgrade(conn)
            else:
                migrations.require_current(conn)
    except SQLAlchemyError as error:
        raise translated(error) from None


@contextmanager
def _exclusive(lock_path: Path) -> Iterator[None]:
    """Hold the lock file for the length of one transaction; the kernel frees it if we die."""
    descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + BUSY_MS / 1000
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
