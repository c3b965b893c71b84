"""The demonstration's own parts: wishes, real files, waiting for torch, and what it refuses."""

from __future__ import annotations

import gzip
import json
import math
import sys
from collections import Counter

import pytest

from exchange.demo import command
from exchange.demo.command import await_torch, demo
from exchange.demo.patients import generate, write_files
from exchange.demo.people import RESEARCH, TREATMENT, Wish, deal
from exchange.demo.real import CLEVELAND, FEATURES, read_real, rows_of
from exchange.errors import SettingsError
from exchange.hospital.subjects import Enrolled
from ledger.ids import OrgId, SubjectId

HERE, PARTNER, OTHER = (OrgId(bytes([n]) * 8) for n in (1, 2, 3))


def entries(count):
    return [Enrolled(f"R-{n}", SubjectId.new(HERE), bytes(16), 0, True) for n in range(count)]


def test_every_twenty_patients_hold_all_kinds_of_wishes():
    dealt = Counter(wish.kind for wish in deal(entries(20)))
    assert dealt == {
        "purpose": 8, "requester": 5, "treatment": 2, "none": 3, "object": 1, "expire": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "requester", "purpose", "allowed"),
    [
        ("purpose", PARTNER, RESEARCH, True),
        ("purpose", OTHER, RESEARCH, True),
        ("purpose", PARTNER, TREATMENT, False),
        ("requester", PARTNER, RESEARCH, True),
        ("requester", OTHER, RESEARCH, False),
        ("treatment", PARTNER, TREATMENT, True),
        ("treatment", PARTNER, RESEARCH, False),
        ("none", PARTNER, RESEARCH, False),
        ("object", PARTNER, RESEARCH, False),
        ("withdrawn", PARTNER, RESEARCH, False),
    ],
)
def test_what_a_wish_covers(kind, requester, purpose, allowed):
    wish = Wish(entries(1)[0], kind)
    assert wish.allows(requester, PARTNER, purpose, 0.0) is allowed


def test_a_wish_that_ends_covers_only_until_then():
    wish = Wish(entries(1)[0], "expire", ends=100)
    assert wish.allows(PARTNER, PARTNER, RESEARCH, 99.0)
    assert not wish.allows(PARTNER, PARTNER, RESEARCH, 100.0)


def test_generated_patients_are_the_same_for_the_same_seed(tmp_path):
    one, two, other = (generate(5, prefix="A", seed=seed) for seed in (1, 1, 2))
    assert one == two
    assert one != other
    files = write_files(one, tmp_path)
    assert set(files) >= {"notes", "fhir", "table", "patients"}
    assert all(path.stat().st_size for path in files.values())


def test_absent_files_are_named_and_skipped(tmp_path):
    said = []
    (tmp_path / "data").mkdir()
    cast = read_real(tmp_path / "data", tmp_path / "files", say=said.append)
    assert cast.records == [[], [], [], [], []]
    assert sum("absent: skipped" in line for line in said) == 6


def test_real_files_go_to_the_hospitals_that_the_scenario_names(tmp_path):
    data = tmp_path / "data"
    (data / "fhir").mkdir(parents=True)
    (data / "tabular" / "heart_uci").mkdir(parents=True)
    bundles = [
        {"entry": [{"resource": {"resourceType": "Patient", "id": name}}]}
        for name in ("c", "a", "b")
    ]
    with gzip.open(data / "fhir" / "synthea_r4_bundles_dev.ndjson.gz", "wt") as out:
        out.writelines(json.dumps(bundle) + "\n" for bundle in bundles)
    (data / "tabular" / "heart_uci" / "processed.cleveland.data").write_text(
        "63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0\n"
        "67.0,1.0,4.0,160.0,?,0.0,2.0,108.0,1.0,1.5,2.0,3.0,3.0,2\n"
        "ragged,row\n"
    )
    cast = read_real(data, tmp_path / "files", say=lambda _line: None)
    assert cast.records[:3] == [["a", "c"], ["b"], ["CL-0001", "CL-0002"]]
    assert cast.structured == {"a", "c"}
    assert math.isnan(cast.rows["CL-0002"][FEATURES.index("chol")])
    rows, labels = rows_of(cast, CLEVELAND)
    assert (len(rows), labels) == (1, [0])


@pytest.fixture
def installing(tmp_path, monkeypatch):
    (tmp_path / ".stamps").mkdir()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return tmp_path


def test_a_failed_installation_of_torch_is_told_with_its_next_step(installing):
    (installing / ".torch-failed").write_text("run `make setup` again")
    with pytest.raises(SettingsError, match="could not be installed") as caught:
        await_torch()
    assert caught.value.next_step == "run `make setup` again"


def test_an_installation_that_goes_on_for_too_long_is_not_waited_for(installing, monkeypatch):
    monkeypatch.setattr(command, "_TORCH_SECONDS", 0.0)
    monkeypatch.setattr(command.PathFinder, "find_spec", lambda _name: None)
    with pytest.raises(SettingsError, match="torch is missing"):
        await_torch()


def test_an_installed_torch_is_not_waited_for(installing):
    (installing / ".torch-ready").touch()
    await_torch()


def test_a_data_folder_that_is_none_is_refused_before_anything_starts(tmp_path):
    report = tmp_path / "report.json"
    with pytest.raises(SettingsError, match="is not a folder"):
        demo(data=tmp_path / "nothing", patients=8, report=report)
    assert not report.exists()
