"""Publishing and finding: what a hospital may hand in, what is kept of it, and what others see."""

from __future__ import annotations

import json
import uuid
from hashlib import sha256

import pytest
import sqlalchemy as sa

from exchange.catalogue import rounded
from exchange.claims import Once
from exchange.documents import MANIFEST_KIND
from exchange.errors import (
    BlobMissing,
    BodyTooLarge,
    Conflict,
    ContentMismatch,
    DocumentMalformed,
    IdempotencyMismatch,
    KeysRefused,
    NotFound,
)
from exchange.store import schema
from exchange.vault import content_path
from ledger.commitment import canonical
from ledger.errors import SignatureInvalid
from ledger.ids import DatasetId, SubjectId
from ledger.signing import Key, sign_document, to_hex
from tests.worked import Worked, a_column, a_note, a_row, lines


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    worked = Worked(tmp_path_factory.mktemp("catalogue"))
    worked.people = worked.enrol(30)
    yield worked
    worked.close()


def some(house, count=2, text="fever"):
    return {one.subject: lines([a_note(text)]) for one in house.people[:count]}


def stored(house, dataset, version=1):
    with house.store.reading() as conn:
        return house.catalogue._version(conn, dataset, version)


@pytest.mark.parametrize(
    ("count", "shown"), [(0, None), (10, None), (11, "10-19"), (19, "10-19"), (20, "20-29")]
)
def test_counts_are_shown_as_decades(count, shown):
    assert rounded(count) == shown


def create(house, key, *, digest=bytes(32), **changes):
    actor = house.publisher.actor
    given = {"title": "Notes", "description": "", "form": "notes", "categories": ["notes"]}
    once = Once(actor.id, key, "datasets", digest, 1)
    return house.catalogue.create(actor, once, **(given | changes))


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"title": " "}, "/title"),
        ({"title": "x" * 201}, "/title"),
        ({"description": "x" * 4001}, "/description"),
        ({"form": "images"}, "/kind"),
        ({"categories": []}, "/categories"),
        ({"categories": ["notes", "secrets"]}, "/categories"),
    ],
)
def test_an_announcement_that_says_nothing_is_refused(house, changes, pointer):
    with pytest.raises(DocumentMalformed) as refused:
        create(house, uuid.uuid4().hex, **changes)
    assert refused.value.pointer == pointer


def test_an_announcement_repeated_under_its_key_is_one_dataset(house):
    key = uuid.uuid4().hex
    assert create(house, key) == create(house, key)
    assert create(house, uuid.uuid4().hex) != create(house, key)
    with pytest.raises(IdempotencyMismatch):
        create(house, key, digest=b"\1" * 32, title="Another")


def test_a_version_goes_from_draft_to_received_when_all_bytes_are_there(house):
    version = house.draft(some(house))
    assert stored(house, house.dataset)["status"] == "draft"
    house.catalogue.receive(house.publisher.actor, house.dataset, version, [house.blob])
    assert stored(house, house.dataset)["status"] == "received"
    assert house.vault.read(content_path(house.dataset, 1)) == house.blob
    house.catalogue.receive(house.publisher.actor, house.dataset, version, [b"anything else"])
    assert house.vault.read(content_path(house.dataset, 1)) == house.blob


def test_bytes_that_the_manifest_does_not_name_are_not_kept(house):
    house.draft(some(house))
    wrong = [
        (ContentMismatch, house.blob[:-1]),
        (ContentMismatch, house.blob[:-1] + b"\0"),
        (ContentMismatch, b""),
        (BodyTooLarge, house.blob + b"\0"),
    ]
    for error, body in wrong:
        with pytest.raises(error):
            house.catalogue.receive(house.publisher.actor, house.dataset, 1, [body])
        assert stored(house, house.dataset)["status"] == "draft"
        with pytest.raises(BlobMissing):
            house.vault.read(content_path(house.dataset, 1))
    house.catalogue.receive(house.publisher.actor, house.dataset, 1, [house.blob])
    assert stored(house, house.dataset)["status"] == "received"


def test_an_upload_that_breaks_off_leaves_nothing(house):
    house.draft(some(house))

    def breaking():
        yield house.blob[:10]
        raise RuntimeError("gone")

    with pytest.raises(RuntimeError):
        house.catalogue.receive(house.publisher.actor, house.dataset, 1, breaking())
    with pytest.raises(BlobMissing):
        house.vault.read(content_path(house.dataset, 1))
    folder = house.settings.data_dir
    assert not [one for one in folder.rglob("staging/*") if one.is_file()]


def test_another_hospitals_dataset_is_not_there(house):
    house.draft(some(house))
    other = house.requester.actor
    for verb in (
        lambda: house.catalogue.receive(other, house.dataset, 1, [house.blob]),
        lambda: house.catalogue.status(other, house.dataset, 1),
        lambda: house.catalogue.expects_keys(other, house.dataset, 1),
    ):
        with pytest.raises(NotFound):
            verb()
    assert house.dataset.hex not in str(house.catalogue.own(other))
    assert house.dataset.hex in str(house.catalogue.own(house.publisher.actor))
    with pytest.raises(NotFound):
        house.catalogue.status(house.publisher.actor, house.dataset, 2)


def test_versions_follow_each_other_and_the_same_manifest_is_one_version(house):
    house.draft(some(house))
    row = stored(house, house.dataset)
    again = house.catalogue.draft(
        house.publisher.actor,
        house.dataset,
        json.loads(row["manifest"]),
        bytes.fromhex(row["manifest_signature"][2:]),
        json.loads(row["report"]),
    )
    assert again == row["version"] == 1
    with pytest.raises(Conflict, match="next version of this dataset is 2"):
        house.draft(some(house), dataset_id=house.dataset, version=3)
    with pytest.raises(Conflict):
        house.draft(some(house, 1), dataset_id=house.dataset, version=1)
    assert house.draft(some(house), dataset_id=house.dataset, version=2) == 2


def hand_in(house, changes, *, key=None, form="notes", columns=None, report=None):
    """A manifest with something changed, signed by the publisher or another."""
    subjects = sorted(one.subject for one in house.people[:2])
    house.records = dict.fromkeys(subjects, 1)
    dataset = house.announce(form)
    given = report or {}
    blobs = dict.fromkeys(subjects, b"x" * 10)
    house.dataset = dataset
    manifest = house.manifest(blobs, bytes(32), format=form, columns=columns, reportDigest=to_hex(sha256(canonical({})).digest()), categories={"notes": ["notes"], "table": ["tables"]}[form])  # fmt: skip
    manifest |= changes(manifest) if callable(changes) else changes
    signature = sign_document(key or house.publisher.key, MANIFEST_KIND, manifest, house.domain)
    return house.catalogue.draft(house.publisher.actor, dataset, manifest, signature, given)


def part(index, **changes):
    def change(manifest):
        parts = [dict(one) for one in manifest["parts"]]
        parts[index] |= changes
        return {"parts": parts}

    return change


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"org": "0x" + "11" * 8}, "/parts/0/subject"),
        ({"dataset": DatasetId.new().hex}, "/dataset"),
        ({"dataset": "../x"}, "/dataset"),
        ({"version": 0}, "/version"),
        ({"format": "table"}, "/columns"),
        ({"format": "pdf"}, "/format"),
        ({"categories": ["clinical"]}, "/categories"),
        ({"columns": []}, "/columns"),
        ({"records": 3}, "/records"),
        ({"size": 21}, "/size"),
        ({"sha256": "0x"}, "/sha256"),
        ({"keysDigest": None}, "/keysDigest"),
        ({"reportDigest": "0x" + "00" * 32}, "/reportDigest"),
        ({"made": "now"}, "/made"),
        ({"parts": []}, "/parts"),
        ({"more": 1}, "/more"),
        (part(0, subject="0x00"), "/parts/0/subject"),
        (part(1, offset=11), "/parts/1/offset"),
        (part(0, length=0), "/parts/0/length"),
        (part(0, records=0), "/parts/0/records"),
        (part(0, digest="0x11"), "/parts/0/digest"),
        (part(0, more=1), "/parts/0"),
        (lambda m: {"parts": m["parts"][::-1]}, "/parts/0/offset"),
        (lambda m: {"parts": [m["parts"][0]] * 2}, "/parts/1/subject"),
    ],
)
def test_a_malformed_manifest_is_refused_with_its_place(house, changes, pointer):
    with pytest.raises(DocumentMalformed) as refused:
        hand_in(house, changes)
    assert refused.value.pointer == pointer
    with pytest.raises(NotFound):
        stored(house, house.dataset)


@pytest.mark.parametrize(
    ("columns", "pointer"),
    [
        (None, "/columns"),
        ([7], "/columns"),
        ([a_column("a"), a_column("a")], "/columns/1/name"),
        ([a_column("a", "float")], "/columns/0/type"),
    ],
)
def test_a_tables_columns_are_described(house, columns, pointer):
    with pytest.raises(DocumentMalformed) as refused:
        hand_in(house, {}, form="table", columns=columns)
    assert refused.value.pointer == pointer


def test_only_the_publisher_signs_and_the_report_is_the_one_committed_to(house):
    assert hand_in(house, {}) == 1
    with pytest.raises(SignatureInvalid):
        hand_in(house, {}, key=Key.new())
    with pytest.raises(SignatureInvalid):
        hand_in(house, {}, key=house.requester.key)
    with pytest.raises(DocumentMalformed, match="reportDigest"):
        hand_in(house, {}, report={"other": 1})


def test_keys_that_the_manifest_does_not_name_are_not_taken(house):
    house.draft(some(house))
    expected = house.catalogue.expects_keys(house.publisher.actor, house.dataset, 1)
    assert len(expected) == 32
    with pytest.raises(KeysRefused):
        house.client.deposit(house.dataset, 1, b"something else")


def test_only_what_is_published_is_found_with_rounded_counts(house):
    house.hand_in(some(house, 12))
    with pytest.raises(NotFound):
        house.catalogue.describe(house.dataset)
    house.publish()
    found = house.catalogue.describe(house.dataset)
    assert (found["subjects"], found["records"]) == ("10-19", "10-19")
    assert found["publisher"] == "North"
    house.publish_parts(some(house, 2))
    assert house.catalogue.describe(house.dataset)["subjects"] is None
    with pytest.raises(NotFound):
        house.catalogue.describe(DatasetId.new())


def test_search_by_text_form_and_category(house):
    house.publish_parts(
        {house.people[0].subject: lines([a_row(0, age="7")])},
        form="table",
        columns=[a_column("age")],
    )
    table = house.dataset.hex
    ids = lambda **given: {one["dataset"] for one in house.catalogue.search(**given).items}  # noqa: E731
    assert ids(form="table") == ids(category="tables") == {table}
    assert table in ids(text="DATAset")
    assert ids(text="nothing like it") == set()
    assert table not in ids(form="notes")
    assert ids(category="genomics") == set()


def test_pages_follow_each_other_without_gap_or_repetition(house):
    known = {one["dataset"] for one in every(house)}
    table, versions = schema.datasets, schema.dataset_versions
    house.hand_in(some(house, 1))
    house.publish()
    with house.store.reading() as conn:
        row = dict(conn.execute(
            sa.select(table).where(table.c.dataset_id == house.dataset.hex)
        ).mappings().one())  # fmt: skip
        version = dict(conn.execute(
            sa.select(versions).where(versions.c.dataset_id == house.dataset.hex)
        ).mappings().one())  # fmt: skip
    more = [DatasetId.new().hex for _ in range(120)]
    house.edit(sa.insert(table).values([row | {"dataset_id": one} for one in more]))
    house.edit(sa.insert(versions).values([version | {"dataset_id": one} for one in more]))
    found = [one["dataset"] for one in every(house)]
    assert len(found) == len(set(found))
    assert set(found) == known | set(more) | {house.dataset.hex}


def every(house):
    cursor, items = None, []
    while True:
        page = house.catalogue.search(cursor=cursor)
        assert len(page.items) <= 100
        items += page.items
        if page.next is None:
            return items
        cursor = page.next


def test_somebody_elses_patient_is_no_part(house):
    stranger = SubjectId.new(house.requester.org)
    with pytest.raises(DocumentMalformed, match="another hospital's subject"):
        hand_in(house, lambda m: {"parts": [m["parts"][0] | {"subject": stranger.hex}]})
