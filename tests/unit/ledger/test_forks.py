"""What a reader of every leaf sees beyond one bundle."""

import pytest

from ledger.errors import (
    BundleMalformed,
    CheckpointInvalid,
    NotInForce,
    VerificationError,
)
from ledger.forks import read_log
from ledger.leaf import Leaf
from ledger.merkle import Tree
from ledger.signing import Key, to_hex
from ledger.trust import parse
from ledger.verify import verify_bundle
from tests.evidence import World, honest, seeded
from tests.whole_log import leaves_of, page, receipt


@pytest.fixture(scope="module")
def world():
    made = honest()
    return made, made.bundle()


def proved(made, bundle, pages, receipts=(), trust=None):
    return verify_bundle(bundle.to_bytes(), trust or made.trust(bundle), read_log(pages, receipts))


def fails(kind, step, *given, **named):
    with pytest.raises(VerificationError) as caught:
        proved(*given, **named)
    assert (type(caught.value), caught.value.step) == (kind, step), caught.value
    return caught.value


def test_an_honest_log_agrees_with_its_bundle_and_receipts(world):
    made, bundle = world
    every = leaves_of(made)
    receipts = [receipt(made, index) for index in (0, 3, len(every) - 1)]
    assert proved(made, bundle, [page(every)], receipts).permitted == 4
    pages = [page(every, 20), page(every, 0, 7), page(every, 7, 20)]
    assert proved(made, bundle, pages, receipts).permitted == 4
    joined = b"[" + b",".join(receipts) + b"]"
    assert len(read_log(pages, [joined]).receipts) == 3


def test_a_ruling_on_a_stale_head_fails_at_step_6():
    made = World()
    patient = made.enrol()
    made.withdraw(patient, made.consent(patient))
    bundle = made.bundle(heads_at={patient.subject: 3})
    assert verify_bundle(bundle.to_bytes(), made.trust(bundle)).permitted == 1
    error = fails(NotInForce, 6, made, bundle, [page(leaves_of(made))])
    assert "stale head" in error.what


def test_a_subject_shown_without_its_chain_fails_at_step_6():
    made = World()
    patient = made.enrol()
    made.consent(patient)
    bundle = made.bundle(heads_at={patient.subject: 0})
    assert verify_bundle(bundle.to_bytes(), made.trust(bundle)).withheld == 1
    fails(NotInForce, 6, made, bundle, [page(leaves_of(made))])


def test_a_forked_chain_fails_at_step_6():
    made = World()
    patient = made.enrol()
    consent = made.consent(patient)
    kept = dict(made.heads)
    made.withdraw(patient, consent)
    # The operator goes on as if the withdrawal had not been taken, for this subject alone.
    made.heads = kept
    patient.chain.pop()
    made.consent(patient)
    bundle = made.bundle()
    assert verify_bundle(bundle.to_bytes(), made.trust(bundle)).permitted == 1
    error = fails(CheckpointInvalid, 6, made, bundle, [page(leaves_of(made))])
    assert "forks" in error.what


@pytest.mark.parametrize(("back_ms", "dated_back"), [(590_000, False), (610_000, True)])
def test_a_leaf_dated_back_fails_at_step_6(back_ms, dated_back):
    made = World()
    patient, other = made.enrol(), made.enrol()
    made.consent(patient, at_ms=made.at_ms - back_ms)
    made.consent(other)
    bundle = made.bundle()
    assert verify_bundle(bundle.to_bytes(), made.trust(bundle)).permitted == 2
    pages = [page(leaves_of(made))]
    if dated_back:
        error = fails(NotInForce, 6, made, bundle, pages)
        assert f"leaf {patient.chain[1].index} is dated back" in error.what
    else:
        assert proved(made, bundle, pages).permitted == 2


def test_another_subjects_dates_are_another_bundles_matter():
    made = World()
    made.consent(made.enrol())
    stranger = made.enrol()
    made.consent(stranger, at_ms=made.at_ms - 700_000)
    made.patients.remove(stranger)
    bundle = made.bundle()
    assert proved(made, bundle, [page(leaves_of(made))]).permitted == 1


def test_other_fewer_and_reordered_leaves_fail_at_step_6(world):
    made, bundle = world
    every = leaves_of(made)
    other = honest()
    other.pin()
    other.bundle()
    for wrong in (
        every[:-1],
        [*every[:-2], every[-1], every[-2]],
        leaves_of(other)[: len(every)],
    ):
        fails(CheckpointInvalid, 6, made, bundle, [page(wrong)])


def test_leaves_are_held_against_every_anchored_checkpoint(world):
    made, bundle = world
    every = leaves_of(made)
    early = Tree([leaf.hash for leaf in every[:5]])
    value = made.trust_json(bundle)
    point = {"size": 5, "root": to_hex(early.root), "block": 3}
    agreeing = parse(value | {"checkpoints": [point, *value["checkpoints"]]})
    assert proved(made, bundle, [page(every)], trust=agreeing).permitted == 4
    point["root"] = "0x" + "12" * 32
    forked = parse(value | {"checkpoints": [point, *value["checkpoints"]]})
    fails(CheckpointInvalid, 6, made, bundle, [page(every)], trust=forked)
    longer = {"size": len(every) + 9, "root": "0x" + "12" * 32, "block": 9}
    later = parse(value | {"checkpoints": [*value["checkpoints"], longer]})
    assert verify_bundle(bundle.to_bytes(), later).permitted == 4
    fails(CheckpointInvalid, 6, made, bundle, [page(every)], trust=later)


@pytest.mark.parametrize(
    "change",
    [
        {"index": 3, "leaf": seeded("withdrawal that is gone")},
        {"index": 10_000, "leaf": seeded("withdrawal that is gone")},
        {"index": 3, "signer": Key.from_bytes(seeded("stranger"))},
    ],
)
def test_a_receipt_that_the_log_does_not_keep_fails_at_step_6(world, change):
    made, bundle = world
    fails(CheckpointInvalid, 6, made, bundle, [page(leaves_of(made))], [receipt(made, **change)])


@pytest.mark.parametrize(
    ("pages", "receipts"),
    [
        ([b"{"], []),
        ([b"7"], []),
        ([b"\xff"], []),
        ([b"[" * 5_000], []),
        ([b'{"from":0}'], []),
        ([b'{"from":0,"skeletons":"0x"}'], []),
        ([b'{"from":-1,"skeletons":[]}'], []),
        ([b'{"from":true,"skeletons":[]}'], []),
        ([b'{"from":1,"skeletons":[]}'], []),
        ([b'{"from":0,"skeletons":["0x12"]}'], []),
        ([], [b'{"index":0,"leafHash":"0x12","signature":"0x12"}']),
        ([], [b"{}"]),
    ],
)
def test_malformed_files_fail_at_step_1(pages, receipts):
    with pytest.raises(BundleMalformed) as caught:
        read_log(pages, receipts)
    assert caught.value.step == 1


def test_a_gap_between_pages_is_told(world):
    every = leaves_of(world[0])
    with pytest.raises(BundleMalformed, match="from 4 on"):
        read_log([page(every, 0, 4), page(every, 5)])


def test_a_chain_that_begins_twice_is_a_fork():
    made = World()
    patient = made.enrol()
    made.consent(patient)
    bundle = made.bundle()
    first = patient.chain[0].leaf
    again = Leaf(
        first.kind, first.at_ms, first.handle, 0, first.prev, first.consent_id, seeded("x")
    )
    every = [*leaves_of(made), again]
    tree = Tree([leaf.hash for leaf in every])
    value = made.trust_json(bundle)
    point = {"size": tree.size, "root": to_hex(tree.root), "block": 9}
    trust = parse(value | {"checkpoints": [*value["checkpoints"], point]})
    error = fails(CheckpointInvalid, 6, made, bundle, [page(every)], trust=trust)
    assert f"leaf {len(every) - 1}" in error.what
