"""One store per test, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from exchange.store.database import Store
from exchange.store.schema import metadata, tree_head
from tests import factories


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: str) -> str:
    """A PostgreSQL database with the tables, migrated once for the whole session."""
    server = sa.engine.make_url(postgres_server)
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        conn.execute(sa.text("CREATE DATABASE room"))
    engine.dispose()
    url = server.set(database="room").render_as_string(hide_password=False)
    Store.open(url).close()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a store without rows."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.sqlite'}"
    url = str(request.getfixturevalue("migrated_postgres"))
    engine = sa.create_engine(url)
    with engine.begin() as conn:
        conn.execute(sa.text("TRUNCATE " + ", ".join(metadata.tables) + " RESTART IDENTITY"))
        conn.execute(sa.insert(tree_head).values(id=1, size=0, frontier=bytes(8)))
    engine.dispose()
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = Store.open(store_url)
    yield opened
    opened.close()


@pytest.fixture
def clock() -> factories.FixedClock:
    return factories.FixedClock()
