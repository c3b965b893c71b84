import hashlib

import pytest

from ledger.errors import MalformedValue, VersionUnknown
from ledger.leaf import SIZE, ZEROS, Kind, Leaf, chain_of
from ledger.merkle import leaf_hash

ONE, TWO = b"\x01" * 32, b"\x02" * 32


def a_leaf(**changes) -> Leaf:
    values = {
        "kind": Kind.CONSENT_GRANTED,
        "at_ms": 1_790_000_000_123,
        "handle": ONE,
        "seq": 3,
        "prev": TWO,
        "consent_id": b"\x03" * 32,
        "body_hash": b"\x04" * 32,
    }
    return Leaf(**(values | changes))


def test_a_skeleton_is_142_bytes_and_reads_back():
    leaf = a_leaf()
    assert len(leaf.pack()) == SIZE == 142
    assert Leaf.unpack(leaf.pack()) == leaf
    assert leaf.pack()[:2] == b"\x01\x02"
    assert leaf.pack()[2:10] == (1_790_000_000_123).to_bytes(8, "big")
    assert leaf.hash == hashlib.sha256(b"\x00" + leaf.pack()).digest() == leaf_hash(leaf.pack())


def test_unknown_versions_and_kinds_are_refused():
    packed = a_leaf().pack()
    for bad in (b"\x02" + packed[1:], packed[:1] + b"\xff" + packed[2:]):
        with pytest.raises(VersionUnknown):
            Leaf.unpack(bad)
    for bad in (packed[:-1], packed + b"\x00", b""):
        with pytest.raises(MalformedValue):
            Leaf.unpack(bad)


@pytest.mark.parametrize(
    "changes",
    [
        {"handle": ZEROS},
        {"handle": b"\x01"},
        {"seq": 0},
        {"prev": ZEROS},
        {"seq": 2**32},
        {"at_ms": -1},
        {"at_ms": 2**53},
        {"body_hash": b""},
        {"kind": Kind.RELEASE_DECIDED},
        {"kind": Kind.RELEASE_DECIDED, "handle": ZEROS, "prev": ZEROS},
    ],
)
def test_the_rules_of_chains_hold_for_every_leaf(changes):
    with pytest.raises(MalformedValue):
        a_leaf(**changes)


def test_each_kind_has_its_chain():
    assert a_leaf(seq=0, prev=ZEROS).seq == 0
    assert a_leaf(kind=Kind.MODEL_REGISTERED, handle=ZEROS, seq=0, prev=ZEROS).prev == ZEROS
    assert [chain_of(kind) for kind in Kind] == ["consent"] * 6 + ["access"] + [None] * 9
