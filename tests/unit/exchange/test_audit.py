from __future__ import annotations

import json

import pytest

from ledger.verify import verify_bundle
from tests.audited import AUDITOR, Audited, failing_step
from tests.ledgers import Chain


@pytest.fixture(scope="module")
def chain(tmp_path_factory, anvil_path):
    running = Chain(tmp_path_factory.mktemp("node"), anvil_path)
    yield running
    running.stop()


@pytest.fixture
def house(tmp_path, chain):
    deployed = Audited(tmp_path / "a", chain)
    yield deployed
    deployed.close()


def test_a_release_is_proved_from_its_bundle_alone(house):
    patients = house.enrol(4)
    for patient in patients[:3]:
        house.grant(patient)
    house.withdraw(patients[2])
    house.publish_for(patients)
    release = house.ask()
    house.stream(release)
    house.anchor()
    found = house.verify(release)
    assert (found.kind, found.id) == ("release", release.hex)
    assert (found.permitted, found.withheld, found.delivered, found.stopped) == (2, 2, 2, 0)
