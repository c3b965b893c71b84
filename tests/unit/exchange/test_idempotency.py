from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from exchange import idempotency
from exchange.errors import (
    Conflict,
    IdempotencyInFlight,
    IdempotencyKeyMalformed,
    IdempotencyKeyMissing,
    IdempotencyMismatch,
)
from exchange.idempotency import ABANDONED_MS, KEPT_MS, Stored
from exchange.store.database import Store
from exchange.store.schema import jtis

NOW = 1_800_000_000_000
DIGEST = hashlib.sha256(b"payload").digest()
CLAIM = {"actor": "hospital:0x01", "key": "k", "route": "POST /v1/x", "request_digest": DIGEST}


def begin(store: Store, at_ms: int = NOW, **changes) -> Stored | None:
    wanted = {**CLAIM, **changes}
    return store.transact(lambda conn: idempotency.begin(conn, at_ms=at_ms, **wanted))


def finish(store: Store, stored: Stored, claimed_ms: int | None = None) -> None:
    store.transact(
        lambda conn: idempotency.finish(
            conn, actor=CLAIM["actor"], key="k", stored=stored, claimed_ms=claimed_ms
        )
    )


def effects(store: Store) -> int:
    with store.reading() as conn:
        return int(conn.execute(sa.select(sa.func.count()).select_from(jtis)).scalar_one())


def effect(conn: sa.Connection) -> Stored:
    count = conn.execute(sa.select(sa.func.count()).select_from(jtis)).scalar_one()
    conn.execute(sa.insert(jtis), {"client_id": "c", "jti": str(count), "expires": 1})
    return Stored(201, f'{{"effect":{count}}}', {"location": "/v1/x/1"})


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_key_is_refused(value: str | None) -> None:
    with pytest.raises(IdempotencyKeyMissing):
        idempotency.require_key(value)


@pytest.mark.parametrize("value", [" ", "a b", "ä", "x" * 256, "a\n", "\x00"])
def test_a_malformed_key_is_refused(value: str) -> None:
    with pytest.raises(IdempotencyKeyMalformed):
        idempotency.require_key(value)


@pytest.mark.parametrize("value", ["x", "x" * 255, "0f8fad5b-d9cb-469f-a165-70867728950e"])
def test_a_key_is_taken(value: str) -> None:
    assert idempotency.require_key(value) == value


def test_a_repetition_gets_the_first_answer(store: Store) -> None:
    answers = [idempotency.once(store, effect, at_ms=NOW + number, **CLAIM) for number in range(3)]
    assert answers == [Stored(201, '{"effect":0}', {"location": "/v1/x/1"})] * 3
    assert effects(store) == 1


def test_simultaneous_repetitions_have_one_effect(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: idempotency.once(store, effect, at_ms=NOW, **CLAIM), range(24))
        )
    assert {answer.body for answer in answers} == {'{"effect":0}'}
    assert effects(store) == 1


@pytest.mark.parametrize(
    "changes", [{"request_digest": bytes(32)}, {"route": "POST /v1/y"}], ids=["payload", "route"]
)
def test_another_request_under_the_key_is_refused(store: Store, changes: dict[str, object]) -> None:
    idempotency.once(store, effect, at_ms=NOW, **CLAIM)
    with pytest.raises(IdempotencyMismatch):
        idempotency.once(store, effect, at_ms=NOW, **{**CLAIM, **changes})
    assert effects(store) == 1


def test_the_key_of_another_actor_is_another_key(store: Store) -> None:
    idempotency.once(store, effect, at_ms=NOW, **CLAIM)
    idempotency.once(store, effect, at_ms=NOW, **{**CLAIM, "actor": "hospital:0x02"})
    assert effects(store) == 2


def test_while_the_first_is_running_others_wait(store: Store) -> None:
    assert begin(store) is None
    with pytest.raises(IdempotencyInFlight):
        begin(store, NOW + ABANDONED_MS - 1)
    with pytest.raises(IdempotencyMismatch):
        begin(store, request_digest=bytes(32))
    finish(store, Stored(200, "{}"), claimed_ms=NOW)
    assert begin(store) == Stored(200, "{}", {})


def test_a_dead_request_is_taken_up_again_and_cannot_finish_any_more(store: Store) -> None:
    assert begin(store) is None
    later = NOW + ABANDONED_MS
    assert begin(store, later) is None
    with pytest.raises(Conflict):
        finish(store, Stored(200, "old"), claimed_ms=NOW)
    finish(store, Stored(200, "new"), claimed_ms=later)
    with pytest.raises(Conflict):
        finish(store, Stored(200, "twice"))
    assert begin(store) == Stored(200, "new", {})


def test_a_failed_work_does_not_spend_the_key(store: Store) -> None:
    def fails(conn: sa.Connection) -> Stored:
        effect(conn)
        raise LookupError

    with pytest.raises(LookupError):
        idempotency.once(store, fails, at_ms=NOW, **CLAIM)
    assert effects(store) == 0
    assert idempotency.once(store, effect, at_ms=NOW, **CLAIM).status == 201


def test_a_released_key_is_free_and_a_finished_one_is_not(store: Store) -> None:
    def release() -> None:
        store.transact(
            lambda conn: idempotency.release(conn, actor=CLAIM["actor"], key="k", claimed_ms=NOW)
        )

    assert begin(store) is None
    release()
    assert begin(store) is None
    finish(store, Stored(200, "{}"))
    release()
    assert begin(store) == Stored(200, "{}", {})


def test_old_answers_are_forgotten(store: Store) -> None:
    idempotency.once(store, effect, at_ms=NOW, **CLAIM)
    assert store.transact(lambda conn: idempotency.forget(conn, now_ms=NOW + KEPT_MS)) == 0
    assert store.transact(lambda conn: idempotency.forget(conn, now_ms=NOW + KEPT_MS + 1)) == 1
    idempotency.once(store, effect, at_ms=NOW, **CLAIM)
    assert effects(store) == 2
