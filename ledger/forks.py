"""What a reader of every leaf sees, and one bundle does not: forks, gaps, and what a receipt misses.

Every leaf's skeleton, in order, is the log itself: its root must be each anchored one. In it a
subject's chain that was forked shows, as does a ruling on a stale head, and a leaf that the log key
once signed a receipt for and that is no longer there (decision D15). Files as the exchange hands
them out: pages ``{"from", "to", "size", "skeletons": ["0x<142>", ...]}``, receipts ``{"index",
"leafHash", "signature"}``, each alone or in a list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ledger.bundle import AuditBundle
from ledger.commitment import require_shallow
from ledger.errors import BundleMalformed, CheckpointInvalid, LedgerError, NotInForce
from ledger.leaf import ZEROS, Chain, Leaf, chain_of
from ledger.merkle import CompactRange
from ledger.messages import Receipt, from_hex
from ledger.signing import verify
from ledger.trust import Trust

_READING = 1
_CLOCK_MS = 600_000
"""How far an honest clock may be set back: the log's order decides, times only bound it."""


@dataclass(frozen=True)
class SignedReceipt:
    """The log key's word that the leaf ``index`` is this one."""

    index: int
    leaf_hash: bytes
    signature: bytes


@dataclass(frozen=True)
class WholeLog:
    """Every leaf from the first one on, and the receipts that somebody holds."""

    leaves: tuple[Leaf, ...]
    receipts: tuple[SignedReceipt, ...] = ()

    def require_agrees(self, bundle: AuditBundle, trust: Trust) -> None:
        """Raise unless this is the bundle's log, unforked, and every receipt is kept (step 6).

        Raises CheckpointInvalid for another, a shorter or a forked log and for a broken receipt,
        SignatureInvalid for a receipt that the log key did not sign, NotInForce for a ruling on a
        stale head and for a leaf of the bundle's subjects that was dated back.
        """
        self._require_roots(bundle, trust)
        heads = self._require_chains(bundle)
        for number, evidence in enumerate(bundle.subjects):
            chain = evidence.consent_chain
            shown = chain[-1].leaf.hash if chain else ZEROS
            if shown != heads.get(evidence.handle, ZEROS):
                raise NotInForce(f"the ruling of subject {number} stands on a stale head")
        for receipt in self.receipts:
            message = Receipt(receipt.index, receipt.leaf_hash)
            verify(message, receipt.signature, trust.exchange, trust.domain)
            if receipt.index >= len(self.leaves):
                raise CheckpointInvalid(f"the log ends before leaf {receipt.index}, receipted")
            if self.leaves[receipt.index].hash != receipt.leaf_hash:
                raise CheckpointInvalid(f"leaf {receipt.index} is not the one receipted")

    def _require_roots(self, bundle: AuditBundle, trust: Trust) -> None:
        anchored = dict(trust.checkpoints) | {bundle.checkpoint.size: bundle.checkpoint.root}
        if len(self.leaves) < max(anchored):
            raise CheckpointInvalid(
                f"there are {len(self.leaves)} leaves, and {max(anchored)} anchored"
            )
        tree = CompactRange()
        for size, leaf in enumerate(self.leaves, start=1):
            tree.append(leaf.hash)
            if size in anchored and tree.root() != anchored[size]:
                raise CheckpointInvalid(f"the leaves given are not those anchored as {size}")

    def _require_chains(self, bundle: AuditBundle) -> dict[bytes, bytes]:
        """Return each shown subject's consent head just before its ruling."""
        rulings = {one.decided.index: one.handle for one in bundle.subjects}
        shown = {one.handle for one in bundle.subjects}
        latest = 0
        last: dict[tuple[bytes, Chain], Leaf] = {}
        heads: dict[bytes, bytes] = {}
        for index, leaf in enumerate(self.leaves):
            if index in rulings and (head := last.get((rulings[index], "consent"))) is not None:
                heads[rulings[index]] = head.hash
            latest = max(latest, leaf.at_ms)
            chain = chain_of(leaf.kind)
            if chain is None:
                continue
            before = last.get((leaf.handle, chain))
            seq, prev = (0, ZEROS) if before is None else (before.seq + 1, before.hash)
            if (leaf.seq, leaf.prev) != (seq, prev):
                raise CheckpointInvalid(f"leaf {index} forks its subject's chain")
            if leaf.handle in shown and leaf.at_ms < latest - _CLOCK_MS:
                raise NotInForce(f"leaf {index} is dated back behind leaves before it")
            last[leaf.handle, chain] = leaf
        return heads


def read_log(pages: Sequence[bytes], receipts: Sequence[bytes] = ()) -> WholeLog:
    """Read pages of leaves, in any order, and receipts. Raises BundleMalformed (step 1)."""
    try:
        found = sorted((one for data in pages for one in _objects(data)), key=_start)
        leaves: list[Leaf] = []
        for page in found:
            if _start(page) != len(leaves):
                raise BundleMalformed(
                    f"there is no page of leaves from {len(leaves)} on", step=_READING
                )
            skeletons = page["skeletons"]
            if not isinstance(skeletons, list):
                raise TypeError
            leaves += [Leaf.unpack(from_hex(text)) for text in skeletons]
        signed = tuple(_receipt(one) for data in receipts for one in _objects(data))
    except BundleMalformed:
        raise
    except (LedgerError, LookupError, TypeError, ValueError):
        what = "a file of leaves or receipts has the wrong form"
        raise BundleMalformed(what, step=_READING) from None
    return WholeLog(tuple(leaves), signed)


def _objects(data: bytes) -> list[Mapping[str, object]]:
    require_shallow(data)
    value = json.loads(data.decode("utf-8"))
    found = value if isinstance(value, list) else [value]
    if not all(isinstance(one, dict) for one in found):
        raise TypeError
    return found


def _start(page: Mapping[str, object]) -> int:
    return _whole(page["from"])


def _receipt(value: Mapping[str, object]) -> SignedReceipt:
    return SignedReceipt(
        _whole(value["index"]),
        from_hex(value["leafHash"], 32),
        from_hex(value["signature"], 64),
    )


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError
    return value
