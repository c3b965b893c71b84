"""Intake: what is published, what is quarantined, what is refused; each with its report, none with contents."""

from __future__ import annotations

import dataclasses
import json
import os
import signal

import pytest
import sqlalchemy as sa

from exchange.access import published_subjects
from exchange.errors import KeysUnavailable, NotFound
from exchange.keys.client import KeysClient
from exchange.store import schema
from exchange.worker import intake, sandbox
from exchange.worker.sandbox import Limits
from ledger.ids import DatasetId
from ledger.leaf import Kind
from tests.worked import Worked, a_column, a_note, a_row, children, lines

GOOD = "The patient was treated for pneumonia and recovered well."
NAME, PHONE = "Katherine Wellington", "(617) 555-0142"
LEAK = f"Patient name: {NAME}. Call {PHONE} to arrange a visit."


@pytest.fixture
def house(tmp_path):
    worked = Worked(tmp_path / "a")
    yield worked
    worked.close()


def notes(house, *texts):
    """A received version: a subject for each list of texts."""
    patients = house.enrol(len(texts))
    parts = {
        patient.subject: lines([a_note(text, number) for number, text in enumerate(group)])
        for patient, group in zip(patients, texts, strict=True)
    }
    house.hand_in(parts)
    return [patient.subject for patient in patients]


def inspect(house):
    return house.intake.inspect(house.dataset, 1)


def published(house):
    with house.store.reading() as conn:
        return published_subjects(conn, house.dataset, 1)


def test_the_good_part_is_published_and_the_rest_is_set_aside_with_its_reasons(house):
    unfit = [
        [LEAK],  # an identifier
        [GOOD, "  "],  # an empty record
        [GOOD, GOOD],  # a record twice
    ]
    good = [[f"{GOOD} Day {number}.", "No complaints."] for number in range(5)]
    subjects = notes(house, *good, *unfit)
    assert inspect(house) == "published"
    quality = house.version()["quality"]
    assert quality["quarantined"] == {"duplicate": 1, "empty": 1, "leak": 1}
    assert quality["unfit"] == {"duplicate": 1, "empty": 1}
    assert quality["refused"] is None
    assert quality["leaks"]["NAME"] >= 1
    assert published(house) == sorted(subjects[:5])
    assert inspect(house) == "published"
    assert len(house.bodies(Kind.INTAKE_OPENED)) == 1
    assert len(house.bodies(Kind.DATASET_PUBLISHED)) == 1
    told = json.dumps(house.version()) + json.dumps(house.bodies(Kind.DATASET_PUBLISHED))
    for content in (NAME, "Wellington", "0142", "pneumonia"):
        assert content not in told
    # Nobody is asked about who was set aside.
    asked = sorted(one.hex for one in subjects[:5])
    assert sorted(house.states(house.count())) == asked
    release = house.ask()
    table = schema.release_subjects
    with house.store.reading() as conn:
        of = conn.execute(sa.select(table.c.subject).where(table.c.release_id == release.hex))
        assert sorted(of.scalars()) == asked


def test_a_version_where_most_is_wrong_is_refused_whole(house):
    notes(house, [GOOD], [LEAK], ["Name: Peter Smith, phone 555-012-3456"])
    assert inspect(house) == "refused"
    assert house.version()["quality"]["refused"] == "too-many-quarantined-parts"
    (leaf,) = house.bodies(Kind.DATASET_REFUSED)
    assert leaf["reasons"] == ["too-many-quarantined-parts"]
    assert house.bodies(Kind.DATASET_PUBLISHED) == []
    with pytest.raises(NotFound):
        house.catalogue.describe(house.dataset)


COLUMNS = [
    a_column("age", "integer", unit="years", min="0", max="120"),
    a_column("pressure", unit="mm[Hg]", min="40"),
    a_column("city", "text"),
]


def test_a_table_is_held_to_its_schema_its_types_and_its_ranges(house):
    fit = {"age": "70", "pressure": "120.5", "city": "x"}
    rows = {
        "fit": fit,
        "generalised": {**fit, "age": "90+"},
        "a cell missing": {**fit, "pressure": None},
        "another": {**fit, "city": "y"},
        "and another": {**fit, "city": "z"},
        "type": {**fit, "age": "old"},
        "fraction": {**fit, "age": "70.5"},
        "range": {**fit, "age": "700"},
        "below": {**fit, "pressure": "-1"},
        "columns": {"age": "70", "pressure": "120"},
        "too many": {**fit, "weight": "70"},
        "empty": {"age": None, "pressure": "", "city": None},
    }
    patients = house.enrol(len(rows) + 4)
    parts = {
        patient.subject: lines([a_row(0, **cells)])
        for patient, cells in zip(patients, [*rows.values(), *[fit] * 4], strict=True)
    }
    house.hand_in(parts, form="table", columns=COLUMNS)
    assert inspect(house) == "published"
    quality = house.version()["quality"]
    assert quality["quarantined"] == {"columns": 2, "empty": 1, "range": 2, "type": 2}
    assert quality["passed"] == 9
    assert published(house) == sorted(one.subject for one in [*patients[:5], *patients[12:]])


def test_what_a_part_holds_must_be_what_the_manifest_counts_and_of_its_form(house):
    patients = house.enrol(5)
    parts = {one.subject: lines([a_note(GOOD)]) for one in patients}
    parts[patients[0].subject] = lines([a_note(GOOD), a_note("Another day.", 1)])
    resource = {"resourceType": "Basic", "id": "0"}
    parts[patients[1].subject] = lines([{"id": "0", "kind": "fhir", "content": resource}])
    records = {one.subject: 1 for one in patients}
    house.hand_in(parts, records=records)
    assert inspect(house) == "published"
    assert house.version()["quality"]["quarantined"] == {"count": 1, "kind": 1}
    assert published(house) == sorted(one.subject for one in patients[2:])


def test_what_is_not_there_is_not_inspected(house):
    with pytest.raises(NotFound):
        house.intake.inspect(DatasetId.new(), 1)
    (patient,) = house.enrol(1)
    house.draft({patient.subject: lines([a_note(GOOD)])})
    assert inspect(house) == "draft"
    with pytest.raises(NotFound):
        house.intake.inspect(house.dataset, 2)


@pytest.mark.parametrize(
    ("change", "reason"), [("bit", "part-corrupt"), ("gone", "content-missing")]
)
def test_content_that_changed_or_went_after_its_arrival_is_refused(house, change, reason):
    notes(house, [GOOD])
    with house.store.reading() as conn:
        path = conn.execute(sa.select(schema.dataset_versions.c.blob)).scalar_one()
    stored = bytearray(house.vault.read(path))
    stored[-1] ^= 1
    house.vault.delete(path)
    if change == "bit":
        house.vault.put_bytes(path, bytes(stored))
    assert inspect(house) == "refused"
    assert house.version()["quality"] == {"refused": reason}


def unreadable(house, plain=b"not json\n"):
    (patient,) = house.enrol(1)
    house.hand_in({patient.subject: plain}, records={patient.subject: 1})


@pytest.mark.parametrize("plain", [b"not json\n", b'["a list"]\n', b'{"id":"0"}'])
def test_a_part_that_cannot_be_read_is_refused(house, plain):
    unreadable(house, plain)
    assert inspect(house) == "refused"
    assert house.version()["quality"] == {"refused": "part-unreadable"}


def test_a_keys_process_that_is_away_judges_nothing(house):
    unreadable(house)
    house.stop_keys()
    with pytest.raises(KeysUnavailable):
        inspect(house)
    assert house.version()["status"] == "received"
    assert house.bodies(Kind.INTAKE_OPENED) == []
    house.start_keys()
    house.client = KeysClient(house.settings.keys_socket, timeout_seconds=20)
    again = dataclasses.replace(house.intake, keys=house.client)
    assert again.inspect(house.dataset, 1) == "refused"
    assert house.version()["quality"] == {"refused": "part-unreadable"}


@pytest.mark.parametrize(("times", "reason"), [(1, "part-unreadable"), (3, "sandbox-lost")])
def test_a_lost_child_is_followed_by_another_with_a_leaf_of_its_own(
    house, monkeypatch, times, reason
):
    unreadable(house)
    lost = []

    def losing(feed, limits):
        parts = feed.parts

        def killing():
            for child in children():
                os.kill(child, signal.SIGKILL)
            yield from parts

        if len(lost) < times:
            lost.append(1)
            feed = dataclasses.replace(feed, parts=killing())
        return sandbox.run_child(feed, limits)

    monkeypatch.setattr(intake, "run_child", losing)
    assert inspect(house) == "refused"
    assert len(house.bodies(Kind.INTAKE_OPENED)) == min(times + 1, sandbox.MOST_LOSSES)
    assert house.version()["quality"] == {"refused": reason}


def test_an_inspection_beyond_its_time_is_refused(house):
    notes(house, [GOOD])
    brief = dataclasses.replace(house.intake, limits=Limits(0.0, 2 << 30))
    assert brief.inspect(house.dataset, 1) == "refused"
    assert house.version()["quality"] == {"refused": "time"}
