import json

import pytest

from ledger.bundle import AuditBundle, LoggedLeaf, shown
from ledger.errors import BundleMalformed
from ledger.leaf import Kind
from tests.evidence import World, edited, honest


@pytest.fixture(scope="module")
def bundle():
    return honest().bundle()


def test_a_bundle_reads_what_it_wrote(bundle):
    again = AuditBundle.from_bytes(bundle.to_bytes())
    assert again == bundle
    assert again.to_bytes() == bundle.to_bytes()
    assert json.loads(bundle.to_bytes())["version"] == "assent.bundle/1"


def test_an_index_without_a_proof_is_not_shown(bundle):
    chain = bundle.subjects[0].consent_chain
    assert LoggedLeaf(chain[0].leaf, 5, None, None).to_json()["index"] is None
    assert chain[-1].to_json()["index"] is not None


@pytest.mark.parametrize("depth", [["checkpoint"], ["access"], ["subjects", 0], ["dataset"]])
def test_every_level_refuses_unknown_and_missing_members(bundle, depth):
    def at(value):
        for step in depth:
            value = value[step]
        return value

    with pytest.raises(BundleMalformed):
        AuditBundle.from_bytes(edited(bundle, lambda v: at(v).update(extra=1)))
    for key in at(json.loads(bundle.to_bytes())):
        with pytest.raises(BundleMalformed):
            AuditBundle.from_bytes(edited(bundle, lambda v, key=key: at(v).pop(key)))
        with pytest.raises(BundleMalformed):
            AuditBundle.from_bytes(edited(bundle, lambda v, key=key: at(v).update({key: "x"})))


def test_only_the_bodies_that_the_proof_needs_are_shown():
    made = World()
    patient = made.enrol()
    first, second = made.consent(patient, purpose=["TREAT"]), made.consent(patient)
    leaves = [LoggedLeaf(entry.leaf, None, entry.body, None) for entry in patient.chain]
    permitted = shown(leaves, permitted=True, because=[second.raw])
    grants = {leaf.leaf.consent_id: leaf.body for leaf in permitted if leaf.leaf.kind == 2}
    assert grants[first.raw] is None
    assert grants[second.raw] is not None
    assert permitted[0].leaf.kind is Kind.SUBJECT_ENROLLED
    assert permitted[0].body is not None
    withheld = shown(leaves, permitted=False, because=[])
    assert all(leaf.body is not None for leaf in withheld)
