"""The scenario of ``make demo`` over HTTP on real processes, and every invariant after it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from exchange.demo.auditing import audit, forge
from exchange.demo.command import populate
from exchange.demo.modelling import encrypted, plain
from exchange.demo.scenario import Scenario
from exchange.demo.world import build
from exchange.store import schema
from exchange.store.database import Store
from ledger.leaf import Kind
from tests.canaries import born, find
from tests.invariants import check_house

PATIENTS = 64


@dataclass
class Played:
    """What was played, and what was found afterwards."""

    scenario: Scenario
    lines: list[str]
    breaches: list[str]

    @property
    def report(self) -> dict[str, Any]:
        return self.scenario.report

    def check(self) -> list[str]:
        wishes = [wish for group in self.scenario.wishes for wish in group]
        return check_house(self.scenario.world, self.scenario.crowd, wishes)

    def store(self) -> Store:
        return Store.open(self.scenario.world.stack.settings.database_url)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory, anvil_path: Path) -> Iterator[Played]:
    """Every journey but the forgery, once; the processes stay up for the tests below."""
    lines: list[str] = []
    world = build(tmp_path_factory.mktemp("world"), ["A", "B"], progress=lines.append)
    scenario = populate(world, PATIENTS, time.time(), say=lines.append)
    world.start()
    try:
        scenario.enrol()
        scenario.publish()
        scenario.release()
        scenario.query()
        encrypted(scenario)
        plain(scenario)
        scenario.withdraw()
        scenario.report |= audit(scenario)
        scenario.history()
        done = Played(scenario, lines, [])
        done.breaches = done.check()
        yield done
    finally:
        scenario.crowd.close()
        world.stop()


def test_every_invariant_holds_after_the_whole_scenario(played):
    assert played.breaches == []


def test_no_planted_identifier_got_out_of_its_hospital(played):
    """Not in the released records either; `test_canaries` shows that a planted one is found."""
    scenario = played.scenario
    people = {
        wish.subject.hex: person
        for wishes, group in zip(scenario.wishes, scenario.people, strict=True)
        for wish, person in zip(wishes, group, strict=True)
    }
    assert find(scenario.world, scenario.people) == []
    assert born(scenario.world.folder / "received", people) == []


def test_exactly_the_consenting_patients_were_released_and_the_rest_counted_by_reason(played):
    wishes = played.scenario.wishes[0]
    released, withheld = played.report["released"], played.report["withheld"]
    assert released["subjects"] + sum(withheld.values()) == len(wishes)
    assert set(withheld) == {"expired", "no-consent", "objection", "purpose"}


def test_computing_agrees_with_plain_arithmetic(played):
    assert played.report["encrypted_agreement"]["decisions"] == 1
    assert played.report["plain_model"]["agreement"] == 1


def test_who_withdraws_leaves_the_running_job_and_the_next_ruling(played):
    assert played.report["job_after_withdrawal"]["dropped"] >= 1
    assert played.report["withdrawal_to_denial_ms"]["trials"] >= 5


def test_a_changed_byte_fails_at_a_named_step(played):
    assert played.report["bundle_verified"] is True
    assert 1 <= played.report["tampered_bundle_failed_at"] <= 10


def test_a_patient_sees_releases_queries_and_jobs(played):
    assert {"release", "query", "plain-inference"} <= set(played.report["history"])


def test_the_check_notices_a_consent_whose_state_does_not_follow_from_the_log(played):
    store = played.store()
    try:
        with store.reading() as conn:
            row = conn.execute(
                sa.select(schema.consents.c.consent_id).where(schema.consents.c.status == "active")
            ).first()

        def status(value: str) -> None:
            store.transact(
                lambda conn: conn.execute(
                    sa.update(schema.consents)
                    .where(schema.consents.c.consent_id == row.consent_id)
                    .values(status=value)
                )
            )

        status("inactive")
        try:
            assert any(row.consent_id in breach for breach in played.check())
        finally:
            status("active")
    finally:
        store.close()


def test_the_check_notices_a_leaf_that_was_rewritten(played):
    store = played.store()
    try:
        with store.reading() as conn:
            row = conn.execute(
                sa.select(schema.leaves.c.idx, schema.leaves.c.skeleton).where(
                    schema.leaves.c.kind == int(Kind.CONSENT_GRANTED)
                )
            ).first()

        def write(skeleton: bytes) -> None:
            change = sa.update(schema.leaves).where(schema.leaves.c.idx == row.idx)
            store.transact(lambda conn: conn.execute(change.values(skeleton=skeleton)))

        whole = bytes(row.skeleton)
        write(whole[:-1] + bytes([whole[-1] ^ 1]))
        try:
            breaches = played.check()
        finally:
            write(whole)
        assert any("another root" in breach for breach in breaches)
        assert any("predecessor" in breach for breach in breaches)
    finally:
        store.close()


def test_the_check_notices_bytes_that_nobody_asked_for(played):
    stray = played.scenario.world.stack.settings.data_dir / "vault" / "staging" / "half"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"half")
    try:
        assert any("staging/half" in breach for breach in played.check())
    finally:
        stray.unlink()


def test_a_forged_consent_releases_nothing_and_breaks_the_house_for_all_to_see(played):
    found = forge(played.scenario)
    assert found == {"forged_consent_released": False, "forged_consent_failed_at": 2}
    assert any("fails" in breach for breach in played.check())
