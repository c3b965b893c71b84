"""The Merkle tree of RFC 6962 section 2.1: root, inclusion, consistency, and a growing frontier.

Pure bytes; every hash is 32 bytes. ``hashes`` are always leaf hashes, in log order. Verification
follows RFC 9162 sections 2.1.3.2 and 2.1.4.2.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence

from ledger.errors import InclusionInvalid, MalformedValue

HASH_SIZE = 32
_SIZE = struct.Struct(">Q")
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Return SHA-256(0x00 || data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A whole tree in memory: O(n) to build, O(log n) per proof."""

    def __init__(self, hashes: Sequence[bytes]) -> None:
        # A node without a sibling moves up unchanged, which is RFC 6962's tree for any size.
        level = list(hashes)
        self._levels = [level]
        while len(level) > 1:
            upper = [node_hash(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
            if len(level) % 2:
                upper.append(level[-1])
            self._levels.append(upper)
            level = upper

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0])

    @property
    def root(self) -> bytes:
        """MTH of all leaves."""
        return self._levels[-1][0] if self.size else EMPTY_ROOT

    def inclusion_proof(self, index: int) -> list[bytes]:
        """Return PATH(index), lowest sibling first. Raises MalformedValue."""
        if not 0 <= index < self.size:
            raise MalformedValue("no such leaf")
        proof = []
        for level in self._levels[:-1]:
            sibling = index ^ 1
            if sibling < len(level):
                proof.append(level[sibling])
            index >>= 1
        return proof


def root(hashes: Sequence[bytes]) -> bytes:
    """Return the Merkle tree hash of the leaves; SHA-256 of nothing for none."""
    return Tree(hashes).root


def inclusion_proof(index: int, hashes: Sequence[bytes]) -> list[bytes]:
    """Return the audit path of one leaf. For many leaves of one tree use :class:`Tree`."""
    return Tree(hashes).inclusion_proof(index)


def consistency_proof(first: int, hashes: Sequence[bytes]) -> list[bytes]:
    """Return PROOF(first, hashes): that the tree of ``first`` leaves is a prefix.

    Empty for ``first`` = 0 or all. Raises MalformedValue when there are fewer leaves.
    """
    if not 0 <= first <= len(hashes):
        raise MalformedValue("the older tree is larger")
    if first in (0, len(hashes)):
        return []
    return _subproof(first, hashes, complete=True)


def _subproof(first: int, hashes: Sequence[bytes], *, complete: bool) -> list[bytes]:
    size = len(hashes)
    if first == size:
        return [] if complete else [root(hashes)]
    split = 1 << (size - 1).bit_length() - 1
    if first <= split:
        return [*_subproof(first, hashes[:split], complete=complete), root(hashes[split:])]
    return [*_subproof(first - split, hashes[split:], complete=False), root(hashes[:split])]


def verify_inclusion(
    leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Raise InclusionInvalid unless the leaf is at ``index`` of the tree (size, root)."""
    if not 0 <= index < size:
        raise InclusionInvalid("the leaf lies outside the tree")
    at, last, found = index, size - 1, leaf_hash
    for sibling in proof:
        if len(sibling) != HASH_SIZE:
            raise InclusionInvalid("a proof's node is not 32 bytes")
        if last == 0:
            raise InclusionInvalid("the proof is too long")
        if at & 1 or at == last:
            found = node_hash(sibling, found)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            found = node_hash(found, sibling)
        at >>= 1
        last >>= 1
    if last != 0 or found != root:
        raise InclusionInvalid("the proof does not lead to the root")


def verify_consistency(
    first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> None:
    """Raise InclusionInvalid unless the first tree is a prefix of the second.

    An empty first tree proves nothing and is refused.
    """
    if not 0 < first <= second or any(len(node) != HASH_SIZE for node in proof):
        raise InclusionInvalid("sizes or nodes of the consistency proof are out of range")
    if first == second:
        if proof or first_root != second_root:
            raise InclusionInvalid("two roots for one size")
        return
    path = list(proof)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    if not path:
        raise InclusionInvalid("the consistency proof is empty")
    at, last = first - 1, second - 1
    while at & 1:
        at >>= 1
        last >>= 1
    found_first = found_second = path[0]
    for node in path[1:]:
        if last == 0:
            raise InclusionInvalid("the consistency proof is too long")
        if at & 1 or at == last:
            found_first = node_hash(node, found_first)
            found_second = node_hash(node, found_second)
            while not at & 1 and at:
                at >>= 1
                last >>= 1
        else:
            found_second = node_hash(found_second, node)
        at >>= 1
        last >>= 1
    if last != 0 or found_first != first_root or found_second != second_root:
        raise InclusionInvalid("the consistency proof does not lead to the roots")


class CompactRange:
    """The frontier of a growing tree: the roots of its complete subtrees, largest first.

    Appends in O(log n). Bytes: size u64 big-endian, then 32 bytes per set bit of the size.
    """

    def __init__(self) -> None:
        self.size = 0
        self._nodes: list[bytes] = []

    def append(self, leaf_hash: bytes) -> None:
        """Add one leaf hash. Raises MalformedValue."""
        if len(leaf_hash) != HASH_SIZE:
            raise MalformedValue("a leaf hash is 32 bytes")
        node = leaf_hash
        size = self.size
        while size & 1:
            node = node_hash(self._nodes.pop(), node)
            size >>= 1
        self._nodes.append(node)
        self.size += 1

    def extend(self, hashes: Iterable[bytes]) -> None:
        """Add leaf hashes in order."""
        for one in hashes:
            self.append(one)

    def root(self) -> bytes:
        """Return the tree's root now."""
        if not self._nodes:
            return EMPTY_ROOT
        found = self._nodes[-1]
        for node in reversed(self._nodes[:-1]):
            found = node_hash(node, found)
        return found

    def to_bytes(self) -> bytes:
        """Return size and nodes."""
        return _SIZE.pack(self.size) + b"".join(self._nodes)

    @classmethod
    def from_bytes(cls, data: bytes) -> CompactRange:
        """Read what :meth:`to_bytes` wrote. Raises MalformedValue."""
        if len(data) < _SIZE.size:
            raise MalformedValue("a frontier is at least 8 bytes")
        made = cls()
        (made.size,) = _SIZE.unpack_from(data)
        if len(data) != _SIZE.size + HASH_SIZE * made.size.bit_count():
            raise MalformedValue("a frontier has one node per set bit of its size")
        made._nodes = [data[i : i + HASH_SIZE] for i in range(_SIZE.size, len(data), HASH_SIZE)]
        return made
