"""Every leaf and receipts of a synthetic exchange, in the files that an exchange hands out."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ledger.leaf import Leaf
from ledger.signing import Key, Receipt, to_hex
from tests.evidence import World


def page(leaves: Sequence[Leaf], start: int = 0, stop: int | None = None) -> bytes:
    """A page as the exchange hands it out."""
    shown = leaves[start:stop]
    return json.dumps(
        {
            "from": start,
            "to": start + len(shown),
            "size": len(leaves),
            "skeletons": [to_hex(leaf.pack()) for leaf in shown],
        }
    ).encode()


def receipt(made: World, index: int, leaf: bytes | None = None, signer: Key | None = None) -> bytes:
    """The log key's receipt for a leaf, or a signed lie about it."""
    found = made.entries[index].leaf.hash if leaf is None else leaf
    signature = (signer or made.exchange).sign(Receipt(index, found), made.domain)
    return json.dumps(
        {"index": index, "leafHash": to_hex(found), "signature": to_hex(signature)}
    ).encode()


def leaves_of(made: World) -> list[Leaf]:
    """Every leaf of the world's log."""
    return [entry.leaf for entry in made.entries]
