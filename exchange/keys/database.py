"""The keys process's own database: what it alone writes, and what must survive a rolled-back store.

SQLite by default (WAL, every commit synchronous, deleted rows overwritten), or the schema
``assent_keys`` of a PostgreSQL. Nobody but the keys process opens it. Its enemy's best move is to
bring back an older copy; what it holds against the store (withdrawals seen, signed roots) is a
high-water mark that only grows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import DBAPIError, OperationalError

from exchange.errors import SchemaUnknown, StoreUnavailable

T = TypeVar("T")

SCHEMA_VERSION = "1"
_POSTGRES_SCHEMA = "assent_keys"

metadata = sa.MetaData()

facts = sa.Table(
    "facts",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    comment="schema version, pinned deployment id",
)
secrets = sa.Table(
    "secrets",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
    comment="the exchange key and the HPKE key, wrapped under the root key",
)
keks = sa.Table(
    "keks",
    metadata,
    sa.Column("org", sa.Text, primary_key=True),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
    comment="one key-encryption key per hospital, wrapped under the root key",
)
key_lists = sa.Table(
    "key_lists",
    metadata,
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("digest", sa.Text, nullable=False),
)
wrapped_keys = sa.Table(
    "wrapped_keys",
    metadata,
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
    comment="one data key per dataset version and subject; deleting the row is the erasure",
)
shredded = sa.Table(
    "shredded",
    metadata,
    sa.Column("dataset", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    comment="keys that must not come back, whatever is restored or deposited again",
)
pins = sa.Table(
    "pins",
    metadata,
    sa.Column("org", sa.Text, primary_key=True),
    sa.Column("address", sa.Text, nullable=False, unique=True),
    sa.Column("card", sa.Text, nullable=False),
)
opened = sa.Table(
    "opened",
    metadata,
    sa.Column("access", sa.Text, primary_key=True),
    sa.Column("document", sa.Text, nullable=False, unique=True),
    sa.Column("closed", sa.Boolean, nullable=False),
    comment="releases and jobs whose keys were asked for; a signed document serves one of them",
)
opened_parts = sa.Table(
    "opened_parts",
    metadata,
    sa.Column("access", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    comment="whose key left for which release",
)
intakes = sa.Table(
    "intakes",
    metadata,
    sa.Column("leaf", sa.Integer, primary_key=True),
    sa.Column("child_key", sa.Text, nullable=False),
    comment="an opening for intake serves one child",
)
withdrawals_seen = sa.Table(
    "withdrawals_seen", metadata, sa.Column("consent", sa.Text, primary_key=True)
)
objections_seen = sa.Table(
    "objections_seen",
    metadata,
    sa.Column("consent", sa.Text, primary_key=True),
    sa.Column("handle", sa.Text, nullable=False, index=True),
    sa.Column("lifted", sa.Boolean, nullable=False),
)
proved = sa.Table(
    "proved",
    metadata,
    sa.Column("consent", sa.Text, primary_key=True),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    comment="consents whose every signature was verified, by a digest of what was verified",
)
signed_heads = sa.Table(
    "signed_heads",
    metadata,
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("root", sa.Text, nullable=False),
    sa.Column("frontier", sa.LargeBinary, nullable=False),
)


class KeysDatabase:
    """One writer at a time; every commit is durable before ``transact`` returns.

    Raises StoreUnavailable wherever the database or its disk fails, SchemaUnknown for a database
    of another version.
    """

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self._sqlite = parsed.get_backend_name() == "sqlite"
        if self._sqlite:
            if parsed.database:
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._engine = sa.create_engine(
                parsed, hide_parameters=True, connect_args={"timeout": 30.0}
            )
            sa.event.listen(self._engine, "connect", _sqlite_connected)
            sa.event.listen(self._engine, "begin", _sqlite_began)
        else:
            parsed = parsed.set(drivername="postgresql+psycopg")
            options = f"-csearch_path={_POSTGRES_SCHEMA} -csynchronous_commit=on"
            self._engine = sa.create_engine(
                parsed,
                hide_parameters=True,
                # A server that was started again has closed the connections that wait here.
                pool_pre_ping=True,
                connect_args={
                    "options": options,
                    "connect_timeout": 10,
                    "application_name": "assent-keys",
                },
                isolation_level="READ COMMITTED",
            )
        # The same connections, but a read of more than one statement sees one state of them all.
        self._reader = (
            self._engine
            if self._sqlite
            else self._engine.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        )
        self._lock = threading.Lock()
        try:
            self.transact(self._prepare)
        except BaseException:
            self._engine.dispose()
            raise
        if self._sqlite and parsed.database:
            Path(parsed.database).chmod(0o600)

    def _prepare(self, conn: Connection) -> None:
        if not self._sqlite:
            conn.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {_POSTGRES_SCHEMA}")
        metadata.create_all(conn)
        version = conn.execute(
            sa.select(facts.c.value).where(facts.c.name == "schema")
        ).scalar_one_or_none()
        if version is None:
            conn.execute(sa.insert(facts).values(name="schema", value=SCHEMA_VERSION))
        elif version != SCHEMA_VERSION:
            raise SchemaUnknown("the keys database was made by another version of the exchange")

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in one transaction, durable on return, undone if it raises."""
        try:
            with (
                self._lock,
                self._engine.connect().execution_options(keys_writes=True) as conn,
                conn.begin(),
            ):
                return work(conn)
        except DBAPIError as error:
            raise StoreUnavailable(
                f"the keys database failed ({type(error.orig).__name__})"
            ) from None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees one state of the database."""
        try:
            with self._reader.connect() as conn, conn.begin():
                yield conn
        except OperationalError as error:
            raise StoreUnavailable(
                f"the keys database failed ({type(error.orig).__name__})"
            ) from None

    def close(self) -> None:
        """Give every connection back."""
        self._engine.dispose()


def insert_once(conn: Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows, leaving alone those whose key is there already."""
    if not rows:
        return
    # Each brings many modules along: only the one in use is loaded.
    if conn.dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        conn.execute(sqlite.insert(table).on_conflict_do_nothing(), rows)
    else:
        from sqlalchemy.dialects import postgresql

        conn.execute(postgresql.insert(table).on_conflict_do_nothing(), rows)


def _sqlite_connected(connection: Any, _: Any) -> None:
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_began(conn: Connection) -> None:
    writes = conn.get_execution_options().get("keys_writes")
    conn.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
