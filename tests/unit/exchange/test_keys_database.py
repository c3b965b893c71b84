"""The keys process's own database, on SQLite and in a schema of a PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from exchange.errors import SchemaUnknown, StoreUnavailable
from exchange.keys.database import KeysDatabase, facts, insert_once, withdrawals_seen
from exchange.keys.process import KeysProcess
from exchange.store.database import Store
from ledger.signing import to_hex
from tests.deployed import Deployed


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'keys.sqlite'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def own(url: str) -> Iterator[KeysDatabase]:
    opened = KeysDatabase(url)
    yield opened
    opened.close()


def seen(own: KeysDatabase) -> set[str]:
    with own.reading() as conn:
        return set(conn.execute(sa.select(withdrawals_seen.c.consent)).scalars())


def see(*consents: str) -> Any:
    rows = [{"consent": consent} for consent in consents]
    return lambda conn: insert_once(conn, withdrawals_seen, rows)


def test_what_was_written_is_there_after_reopening(url: str, own: KeysDatabase) -> None:
    own.transact(see("a"))
    own.transact(see("a", "b"))
    own.transact(see())
    again = KeysDatabase(url)
    try:
        assert seen(again) == {"a", "b"}
    finally:
        again.close()


def test_a_work_that_fails_leaves_nothing(own: KeysDatabase) -> None:
    def works(conn: sa.Connection) -> None:
        see("a")(conn)
        raise KeyError

    with pytest.raises(KeyError):
        own.transact(works)
    row = {"consent": "canary"}
    with pytest.raises(StoreUnavailable) as told:
        own.transact(lambda conn: conn.execute(sa.insert(withdrawals_seen), [row, row]))
    assert "canary" not in str(told.value)
    assert seen(own) == set()


def test_a_read_sees_one_state(own: KeysDatabase) -> None:
    with own.reading() as conn:
        count = sa.select(sa.func.count()).select_from(withdrawals_seen)
        assert conn.execute(count).scalar_one() == 0
        own.transact(see("a"))
        assert conn.execute(count).scalar_one() == 0
    assert seen(own) == {"a"}


def test_a_database_of_another_version_is_refused(url: str, own: KeysDatabase) -> None:
    own.transact(lambda conn: conn.execute(sa.update(facts).values(value="0")))
    with pytest.raises(SchemaUnknown):
        KeysDatabase(url)


def test_a_server_that_is_away_is_an_outage() -> None:
    with pytest.raises(StoreUnavailable) as told:
        KeysDatabase("postgresql://canary:canary@127.0.0.1:1/keys")
    assert "canary" not in str(told.value)


def test_connections_that_the_server_closed_are_made_again(postgres_url: str) -> None:
    own = KeysDatabase(postgres_url)
    try:
        own.transact(see("a"))
        assert seen(own) == {"a"}
        admin = sa.create_engine(postgres_url)
        with admin.begin() as conn:
            ended = conn.execute(
                sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'assent-keys'"
                )
            ).all()
        admin.dispose()
        assert ended
        own.transact(see("b"))
        assert seen(own) == {"a", "b"}
    finally:
        own.close()


def test_it_keeps_to_its_schema_also_beside_the_store(postgres_url: str) -> None:
    KeysDatabase(postgres_url).close()
    Store.open(postgres_url).close()
    KeysDatabase(postgres_url).close()
    engine = sa.create_engine(postgres_url)
    inspected = sa.inspect(engine)
    assert {"secrets", "keks", "wrapped_keys"} <= set(inspected.get_table_names("assent_keys"))
    assert "secrets" not in inspected.get_table_names("public")
    assert "leaves" in inspected.get_table_names("public")
    assert "leaves" not in inspected.get_table_names("assent_keys")
    engine.dispose()


def test_keys_are_lent_refused_and_remembered(url: str, tmp_path: Path) -> None:
    """The process on this database: what it holds against the store survives its restart."""
    postgres = url.startswith("postgresql")
    house = Deployed(tmp_path / "house", url=url if postgres else None, keys_url=url)
    process = KeysProcess(house.settings)
    house.deploy(process.exchange_address)

    def asked(verb: str, **fields: Any) -> Any:
        return process.answer({"verb": verb, **fields})

    staying, leaving = house.enrol(2)
    for patient in (staying, leaving):
        house.grant(patient)
    keys_key = bytes.fromhex(asked("status")["ok"]["keysKey"]["publicKey"][2:])
    sealed = house.seal([staying, leaving], keys_key, records=1, size=64)
    given = {"dataset": house.dataset.hex, "version": 1, "sealed": to_hex(sealed)}
    assert asked("deposit", **given) == {"ok": {"keys": 2}}
    house.publish()
    release = house.ask()
    assert "ok" in asked("open_release", release=release.hex)

    def parts() -> list[str]:
        subjects = [staying.subject.hex, leaving.subject.hex]
        answer = asked("open_parts", release=release.hex, subjects=subjects)["ok"]
        return ["refused" if "refused" in part else "lent" for part in answer["parts"]]

    assert parts() == ["lent", "lent"]
    house.withdraw(leaving)
    assert parts() == ["lent", "refused"]
    with house.store.reading() as conn:
        size = conn.execute(sa.text("SELECT size FROM tree_head")).scalar_one()
    signed = asked("sign_checkpoint", size=size)
    assert "ok" in signed
    process.close()

    process = KeysProcess(house.settings)
    assert asked("status")["ok"]["keysKey"]["publicKey"] == to_hex(keys_key)
    assert asked("sign_checkpoint", size=size)["ok"]["root"] == signed["ok"]["root"]
    assert "ok" in asked("open_release", release=release.hex)
    assert parts() == ["lent", "refused"]
    both = sorted([staying.subject.hex, leaving.subject.hex])
    assert asked("opened", release=release.hex)["ok"]["subjects"] == both
    process.close()
    house.close()
