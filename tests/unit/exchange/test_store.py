from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from exchange import log
from exchange.errors import (
    AlreadyExists,
    SchemaUnknown,
    StoreError,
    StoreReadOnly,
    StoreUnavailable,
)
from exchange.store import migrate
from exchange.store.database import Store
from exchange.store.schema import jtis, leaves, metadata, tree_nodes
from ledger.leaf import Kind

ROOT = Path(__file__).resolve().parents[3]


def row(jti: str) -> dict[str, object]:
    return {"client_id": "c", "jti": jti, "expires": 1}


def put(store: Store, jti: str) -> None:
    store.transact(lambda conn: conn.execute(sa.insert(jtis), row(jti)))


def kept(store: Store) -> set[str]:
    with store.reading() as conn:
        return set(conn.execute(sa.select(jtis.c.jti)).scalars())


def test_what_was_returned_is_there_after_reopening(store_url: str) -> None:
    first = Store.open(store_url)
    put(first, "a")
    first.close()
    second = Store.open(store_url)
    assert kept(second) == {"a"}
    second.close()


def test_a_failed_work_leaves_nothing_and_others_stay(store: Store) -> None:
    def work(conn: sa.Connection) -> None:
        conn.execute(sa.insert(jtis), row("half"))
        raise LookupError("stop")

    put(store, "whole")
    with pytest.raises(LookupError):
        store.transact(work)
    put(store, "after")
    assert kept(store) == {"whole", "after"}


def test_failures_within_a_group_undo_only_themselves(store: Store) -> None:
    gate = threading.Event()
    failed = []

    def work(number: int) -> None:
        def inner(conn: sa.Connection) -> None:
            gate.wait(10)
            conn.execute(sa.insert(jtis), row(str(number)))
            if number % 3 == 0:
                raise LookupError(str(number))

        try:
            store.transact(inner)
        except LookupError:
            failed.append(number)

    with ThreadPoolExecutor(16) as pool:
        futures = [pool.submit(work, number) for number in range(60)]
        gate.set()
        for future in futures:
            future.result()
    assert sorted(failed) == [n for n in range(60) if n % 3 == 0]
    assert kept(store) == {str(n) for n in range(60) if n % 3}


def test_a_taken_value_is_a_conflict_without_its_contents(store: Store) -> None:
    put(store, "canary-value")
    with pytest.raises(AlreadyExists) as caught:
        put(store, "canary-value")
    assert "canary-value" not in str(caught.value)


def test_a_read_is_one_snapshot(store: Store) -> None:
    put(store, "a")
    with store.reading() as conn:
        query = sa.select(sa.func.count()).select_from(jtis)
        before = conn.execute(query).scalar_one()
        put(store, "b")
        assert conn.execute(query).scalar_one() == before
    assert kept(store) == {"a", "b"}


def test_reading_cannot_write(store: Store) -> None:
    with pytest.raises((StoreUnavailable, sa.exc.DBAPIError)), store.reading() as conn:
        conn.execute(sa.insert(jtis), row("sneaked"))
    assert kept(store) == set()


def test_a_read_only_store_refuses_to_write(store: Store, store_url: str) -> None:
    put(store, "a")
    reader = Store.open(store_url, read_only=True)
    assert kept(reader) == {"a"}
    with pytest.raises(StoreReadOnly):
        put(reader, "b")
    reader.close()


def test_a_read_only_store_needs_a_database(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        Store.open(f"sqlite:///{tmp_path / 'none.sqlite'}", read_only=True)


def test_a_database_of_another_version_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    Store.open(url).close()
    with sqlite3.connect(tmp_path / "store.sqlite") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    for options in ({}, {"migrate": False}, {"read_only": True}):
        with pytest.raises(SchemaUnknown):
            Store.open(url, **options)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://h/d", "nonsense"])
def test_an_address_that_cannot_be_durable_is_refused(url: str) -> None:
    with pytest.raises(StoreError):
        Store.open(url)


def test_a_work_cannot_start_another(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}")
    with pytest.raises(StoreError):
        store.transact(lambda conn: put(store, "inner"))
    store.close()


def test_a_closed_store_acknowledges_nothing(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable):
        put(store, "late")


def test_sqlite_syncs_every_commit(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}")

    def pragmas(conn: sa.Connection) -> tuple[object, object]:
        return (
            conn.exec_driver_sql("PRAGMA journal_mode").scalar(),
            conn.exec_driver_sql("PRAGMA synchronous").scalar(),
        )

    assert store.transact(pragmas) == ("wal", 2)
    store.close()


def test_a_full_disk_acknowledges_nobody_of_the_group(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'store.sqlite'}")
    put(store, "before")

    def too_much(conn: sa.Connection) -> None:
        pages = conn.exec_driver_sql("PRAGMA page_count").scalar()
        conn.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        for number in range(2_000):
            conn.execute(sa.insert(jtis), row(f"{number}-" + "x" * 500))

    with pytest.raises(StoreUnavailable, match="SQLITE_FULL"):
        store.transact(too_much)
    assert kept(store) == {"before"}
    put(store, "after")
    assert kept(store) == {"before", "after"}
    store.close()


def test_the_migrated_tables_are_those_of_the_schema(store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with store.reading() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []
        assert migrate.current(conn) == migrate.HEAD


def test_head_is_the_newest_revision() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(migrate.FOLDER))
    assert ScriptDirectory.from_config(config).get_current_head() == migrate.HEAD


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_every_revision_can_be_undone_and_applied_again(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str
) -> None:
    from alembic import command
    from alembic.config import Config

    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    if backend == "postgresql":
        url = request.getfixturevalue("postgres_url")
    Store.open(url).close()
    engine = sa.create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(migrate.FOLDER))
    with engine.begin() as conn:
        config.attributes["connection"] = conn
        command.downgrade(config, "base")
        assert set(sa.inspect(conn).get_table_names()) == {"alembic_version"}
        with pytest.raises(SchemaUnknown, match="at revision none"):
            migrate.require_current(conn)
    engine.dispose()
    again = Store.open(url)
    put(again, "a")
    assert kept(again) == {"a"}
    again.close()


@pytest.fixture
def a_role(postgres_url: str) -> Iterator[str]:
    """The same database, as a role that owns it and is no superuser."""
    database = sa.make_url(postgres_url)
    name = f"r{database.database}"
    admin = sa.create_engine(database, isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.execute(sa.text(f"CREATE ROLE {name} LOGIN"))
        conn.execute(sa.text(f"ALTER DATABASE {database.database} OWNER TO {name}"))
        conn.execute(sa.text(f"GRANT ALL ON SCHEMA public TO {name}"))
    yield database.set(username=name).render_as_string(hide_password=False)
    with admin.connect() as conn:
        conn.execute(sa.text(f"REASSIGN OWNED BY {name} TO CURRENT_USER"))
        conn.execute(sa.text(f"DROP OWNED BY {name}"))
        conn.execute(sa.text(f"DROP ROLE {name}"))
    admin.dispose()


def run(store: Store, statement: sa.Executable) -> None:
    store.transact(lambda conn: conn.execute(statement))


def test_the_role_that_owns_the_log_can_only_let_it_grow(a_role: str) -> None:
    store = Store.open(a_role)
    draft = log.Draft(Kind.INTAKE_OPENED, {"number": 1})
    store.transact(lambda conn: log.append_many(conn, [draft] * 600, 1))
    for statement in (
        sa.update(leaves).values(hash="0x00"),
        sa.update(leaves).values(skeleton=b""),
        sa.delete(leaves),
        sa.text("TRUNCATE leaves"),
        sa.update(tree_nodes).values(hash=b""),
        sa.delete(tree_nodes),
    ):
        with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
            run(store, statement)
    store.transact(lambda conn: conn.execute(sa.update(leaves).values(body=None)))
    store.transact(lambda conn: log.append_many(conn, [draft], 2))
    with store.reading() as conn:
        assert log.head(conn)[0] == 601
        assert conn.execute(sa.select(sa.func.count()).select_from(tree_nodes)).scalar_one() > 0
    store.close()


def test_processes_that_start_at_once_do_not_race(tmp_path: Path, postgres_url: str) -> None:
    code = "import sys; from exchange.store.database import Store; Store.open(sys.argv[1]).close()"
    for url in (f"sqlite:///{tmp_path / 'store.sqlite'}", postgres_url):
        children = [
            subprocess.Popen([sys.executable, "-c", code, url], cwd=ROOT, env=_environment())
            for _ in range(3)
        ]
        assert [child.wait(60) for child in children] == [0, 0, 0]


CHILD = """
import sys, threading
import sqlalchemy as sa
from exchange.store.database import Store
from exchange.store.schema import jtis
store = Store.open(sys.argv[1])
lock = threading.Lock()
def work(name):
    for number in range(100_000):
        jti = f"{name}-{number}"
        row = {"client_id": "c", "jti": jti, "expires": 1}
        store.transact(lambda conn: conn.execute(sa.insert(jtis), row))
        with lock:
            sys.stdout.write(jti + "\\n")
            sys.stdout.flush()
for name in range(8):
    threading.Thread(target=work, args=(name,)).start()
"""


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("acknowledged", [1, 40, 151])
def test_kill_in_the_middle_of_group_commits_loses_nothing(
    tmp_path: Path, acknowledged: int
) -> None:
    url = f"sqlite:///{tmp_path / 'store.sqlite'}"
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, url],
        cwd=ROOT,
        env=_environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        seen = {child.stdout.readline().strip() for _ in range(acknowledged)}
        child.send_signal(signal.SIGKILL)
        seen |= {line.strip() for line in child.stdout if line.endswith("\n")}
    store = Store.open(url)
    assert seen <= kept(store)
    assert len(seen) >= acknowledged
    with store.reading() as conn:
        assert conn.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    store.close()
