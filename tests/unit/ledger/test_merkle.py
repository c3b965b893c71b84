import base64
import json
from pathlib import Path

import pytest

from ledger.errors import InclusionInvalid, MalformedValue
from ledger.merkle import (
    EMPTY_ROOT,
    CompactRange,
    Tree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root,
    verify_consistency,
    verify_inclusion,
)

VECTORS = (
    Path(__file__).resolve().parents[4]
    / "shared"
    / "data"
    / "vectors"
    / "rfc6962_proof_vectors.json"
)


def test_the_vectors_of_the_field():
    if not VECTORS.is_file():
        pytest.skip("../shared/data is absent")

    def raw(text):
        return base64.b64decode(text or "")

    seen = set()
    for case in json.loads(VECTORS.read_text(encoding="utf-8")):
        proof = [raw(node) for node in case["proof"] or []]
        seen.add((case["kind"], case["wantErr"]))

        def check(case=case, proof=proof):
            if case["kind"] == "inclusion":
                verify_inclusion(
                    raw(case["leafHash"]),
                    case["leafIdx"],
                    case["treeSize"],
                    proof,
                    raw(case["root"]),
                )
            else:
                verify_consistency(
                    case["size1"], case["size2"], raw(case["root1"]), raw(case["root2"]), proof
                )

        if case["wantErr"]:
            with pytest.raises(InclusionInvalid):
                check()
        else:
            check()
    assert len(seen) == 4


def test_empty_and_single():
    one = leaf_hash(b"")
    assert root([]) == EMPTY_ROOT == CompactRange().root()
    assert root([one]) == one
    assert inclusion_proof(0, [one]) == []
    verify_inclusion(one, 0, 1, [], one)


def test_bounds():
    hashes = [leaf_hash(b"%d" % n) for n in range(5)]
    for index in (-1, 5):
        with pytest.raises(MalformedValue):
            inclusion_proof(index, hashes)
    for first in (-1, 6):
        with pytest.raises(MalformedValue):
            consistency_proof(first, hashes)
    assert consistency_proof(0, hashes) == consistency_proof(5, hashes) == []
    with pytest.raises(InclusionInvalid):
        verify_consistency(0, 5, EMPTY_ROOT, root(hashes), [])
    with pytest.raises(InclusionInvalid):
        verify_consistency(5, 5, root(hashes), hashes[0], [])
    with pytest.raises(InclusionInvalid):
        verify_consistency(3, 5, root(hashes[:3]), root(hashes), [])
    with pytest.raises(InclusionInvalid):
        verify_inclusion(hashes[0], 0, 5, [b"short"], root(hashes))


def test_a_frontier_reads_only_its_own_bytes():
    frontier = CompactRange()
    frontier.extend(leaf_hash(b"%d" % n) for n in range(11))
    assert len(frontier.to_bytes()) == 8 + 3 * 32
    for bad in (b"", frontier.to_bytes()[:-1], frontier.to_bytes() + bytes(32)):
        with pytest.raises(MalformedValue):
            CompactRange.from_bytes(bad)
    with pytest.raises(MalformedValue):
        frontier.append(b"short")
    assert Tree([]).size == 0
