import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.errors import InclusionInvalid
from ledger.merkle import (
    CompactRange,
    Tree,
    consistency_proof,
    leaf_hash,
    node_hash,
    root,
    verify_consistency,
    verify_inclusion,
)

logs = st.integers(1, 70).map(lambda n: [leaf_hash(str(i).encode()) for i in range(n)])


def reference(hashes: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return node_hash(reference(hashes[:split]), reference(hashes[split:]))


@given(logs)
def test_tree_and_frontier_give_the_rfcs_root(hashes):
    frontier = CompactRange()
    frontier.extend(hashes)
    assert root(hashes) == reference(hashes) == frontier.root()
    again = CompactRange.from_bytes(frontier.to_bytes())
    again.append(hashes[0])
    assert again.root() == reference([*hashes, hashes[0]])


@given(logs, st.data())
def test_every_leaf_is_included_and_no_changed_proof_is(hashes, data):
    tree = Tree(hashes)
    index = data.draw(st.integers(0, len(hashes) - 1))
    proof = tree.inclusion_proof(index)
    verify_inclusion(hashes[index], index, len(hashes), proof, tree.root)
    wrong = [
        (leaf_hash(b"x"), index, len(hashes), proof),
        (hashes[index], index, len(hashes), [*proof, bytes(32)]),
        (hashes[index], len(hashes), len(hashes), proof),
    ]
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        changed = list(proof)
        changed[place] = bytes([changed[place][0] ^ 1]) + changed[place][1:]
        wrong += [
            (hashes[index], index, len(hashes), changed),
            (hashes[index], index, len(hashes), proof[1:]),
            (hashes[index], index ^ 1, len(hashes), proof),
        ]
    for leaf, at, size, nodes in wrong:
        with pytest.raises(InclusionInvalid):
            verify_inclusion(leaf, at, size, nodes, tree.root)


@given(logs, st.data())
def test_every_prefix_is_consistent_and_no_other_log_is(hashes, data):
    first = data.draw(st.integers(1, len(hashes)))
    proof = consistency_proof(first, hashes)
    old, new = root(hashes[:first]), root(hashes)
    verify_consistency(first, len(hashes), old, new, proof)
    with pytest.raises(InclusionInvalid):
        verify_consistency(first, len(hashes), leaf_hash(b"x"), new, proof)
    with pytest.raises(InclusionInvalid):
        verify_consistency(first, len(hashes), old, new, [*proof, bytes(32)])
