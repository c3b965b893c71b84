import hashlib

import pytest

from ledger.errors import IdMalformed, LedgerError
from ledger.ids import (
    ConsentId,
    DatasetId,
    JobId,
    ModelDigest,
    OrgId,
    ReleaseId,
    SubjectId,
    handle,
)

SIZES = {
    OrgId: 8,
    SubjectId: 32,
    ConsentId: 32,
    DatasetId: 16,
    ReleaseId: 16,
    JobId: 16,
    ModelDigest: 32,
}


@pytest.mark.parametrize(("kind", "size"), SIZES.items())
def test_an_id_reads_what_it_shows_and_nothing_else(kind, size):
    made = kind(bytes(range(size)))
    assert kind.parse(made.hex) == made
    assert str(made) == made.hex == "0x" + bytes(range(size)).hex()
    wrong = [
        made.hex[2:],
        made.hex.upper(),
        made.hex + "00",
        made.hex[:-1],
        "0x" + "g" * (2 * size),
        "../" * size,
        "",
        None,
        7,
        made.raw,
    ]
    for text in wrong:
        with pytest.raises(IdMalformed, match=kind.__name__):
            kind.parse(text)
    with pytest.raises(LedgerError):
        kind(bytes(size + 1))


def test_a_malformed_id_echoes_at_most_twelve_characters():
    with pytest.raises(IdMalformed) as caught:
        OrgId.parse("a-patients-name-and-more")
    assert "a-patients-n" in str(caught.value)
    assert "name" not in str(caught.value)


def test_kinds_of_ids_are_not_each_other_but_order_among_themselves():
    assert DatasetId(bytes(16)) != ReleaseId(bytes(16))
    assert min([JobId(b"\x02" * 16), JobId(b"\x01" * 16)]).raw[0] == 1
    assert len({OrgId(bytes(8)), OrgId(bytes(8))}) == 1
    with pytest.raises(TypeError):
        sorted([DatasetId(bytes(16)), ReleaseId(bytes(16))])


@pytest.mark.parametrize("kind", [DatasetId, ReleaseId, JobId])
def test_new_ids_are_random(kind):
    assert kind.new() != kind.new()


def test_a_subject_id_begins_with_its_hospital():
    # keccak-256 of twenty zero bytes begins so.
    org = OrgId.of_address(bytes(20))
    assert org.hex == "0x5380c7b7ae81a58e"
    subject = SubjectId.new(org)
    assert subject.org == org
    assert subject != SubjectId.new(org)
    assert handle(subject) == hashlib.sha256(b"assent.subject/1" + subject.raw).digest()
    with pytest.raises(IdMalformed):
        OrgId.of_address(bytes(19))
