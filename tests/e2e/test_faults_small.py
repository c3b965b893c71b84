"""A few kills of every process under load: nothing acknowledged is lost, nothing leaves unrecorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.trial import Report, trial

KILLS = {"api": 1, "keys": 1, "worker": 1, "node": 1, "everything": 1}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, anvil_path: Path) -> Report:
    lines: list[str] = []
    folder = tmp_path_factory.mktemp("faults") / "world"
    return trial(folder, KILLS, seed=20_260, patients=12, gap=(0.3, 1.0), say=lines.append)


def test_nothing_acknowledged_is_lost_and_nothing_leaves_unrecorded(report):
    assert report.broken == []
    assert sum(report.acks.values()) > 10
    assert report.releases > 0


def test_a_node_that_lost_everything_is_whole_again(report):
    assert [what for what, _, _ in report.whole if what == "everything"]
    assert not [line for line in report.broken if line.startswith("chain")]


def test_every_check_notices_what_it_is_for(report):
    assert [what for what, line in report.selftest if line is None] == []
    assert len(report.selftest) > 15
