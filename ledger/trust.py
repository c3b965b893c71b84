"""What an auditor takes on trust: the contracts' events as a node of the auditor's choice gave them.

File ``assent.trust/1`` (JSON; block numbers are ints, ``until`` and ``successor`` may be null)::

    {"version": "assent.trust/1", "deployment": "0x<32>", "chainId": 1, "genesisHash": "0x<32>",
     "addresses": {"ConsentLedger": "0x<20>", "Participants": "0x<20>", "AuditAnchor": "0x<20>"},
     "codeHashes": {<the same names>: "0x<32>"}, "head": {"number": 9, "hash": "0x<32>"},
     "exchange": "0x<20, the log key>",
     "participants": [{"address": "0x<20>", "since": 1, "until": null, "successor": null}],
     "checkpoints": [{"size": 9, "root": "0x<32>", "block": 5}],
     "granted": {"0x<consent id>": 3}, "withdrawn": {"0x<consent id>": 4}}

``successor`` (optional) is the key after a rotation or replacement, by which an organisation's id,
derived from its first address, is found for later keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ledger.commitment import require_shallow
from ledger.errors import LedgerError, MalformedValue, TrustInvalid
from ledger.ids import ConsentId, OrgId
from ledger.messages import Domain, from_hex

VERSION = "assent.trust/1"
CONTRACTS = ("ConsentLedger", "Participants", "AuditAnchor")
_STEP = 0
_KEYS = frozenset(
    {
        "version",
        "deployment",
        "chainId",
        "genesisHash",
        "addresses",
        "codeHashes",
        "head",
        "exchange",
        "participants",
        "checkpoints",
        "granted",
        "withdrawn",
    }
)


@dataclass(frozen=True)
class Trust:
    """The parsed trust file. Addresses are 20 bytes, hashes and roots 32."""

    deployment: bytes
    chain_id: int
    genesis_hash: bytes
    addresses: Mapping[str, bytes]
    code_hashes: Mapping[str, bytes]
    head_number: int
    head_hash: bytes
    exchange: bytes
    successors: Mapping[bytes, bytes | None]
    """Every address that is or was a participant, with the key that followed it."""
    checkpoints: Mapping[int, bytes]
    granted: frozenset[ConsentId]
    withdrawn: frozenset[ConsentId]

    @property
    def domain(self) -> Domain:
        """The EIP-712 domain of this deployment."""
        return Domain(self.deployment)

    @cached_property
    def keys_of(self) -> Mapping[OrgId, frozenset[bytes]]:
        """Each organisation's addresses: the first one and those it was moved to."""
        followers = {later for later in self.successors.values() if later is not None}
        found: dict[OrgId, frozenset[bytes]] = {}
        for first in self.successors:
            if first in followers:
                continue
            keys = [first]
            while (later := self.successors.get(keys[-1])) is not None and later not in keys:
                keys.append(later)
            found[OrgId.of_address(first)] = frozenset(keys)
        return found


def _number(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError
    return value


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise TypeError
    return value


def _list(value: object) -> list[Mapping[str, object]]:
    if not isinstance(value, list):
        raise TypeError
    return [_mapping(item) for item in value]


def _checkpoints(value: object) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for item in _list(value):
        size, root = _number(item["size"]), from_hex(item["root"], 32)
        _number(item["block"])
        if found.setdefault(size, root) != root:
            raise TrustInvalid(f"two roots are anchored for size {size}", step=_STEP)
    return found


def _ids(value: object) -> frozenset[ConsentId]:
    blocks = _mapping(value)
    for block in blocks.values():
        _number(block)
    return frozenset(ConsentId.parse(text) for text in blocks)


def _contracts(value: object, size: int) -> dict[str, bytes]:
    named = _mapping(value)
    return {name: from_hex(named[name], size) for name in CONTRACTS}


def _successors(value: object) -> dict[bytes, bytes | None]:
    found: dict[bytes, bytes | None] = {}
    for item in _list(value):
        _number(item["since"])
        if item["until"] is not None:
            _number(item["until"])
        later = item.get("successor")
        found[from_hex(item["address"], 20)] = None if later is None else from_hex(later, 20)
    return found


def parse(value: object) -> Trust:
    """Read a trust file's JSON value. Raises TrustInvalid (step 0)."""
    try:
        file = _mapping(value)
        if file.get("version") != VERSION:
            raise TrustInvalid(f"the trust file's version is not {VERSION}", step=_STEP)
        missing = sorted(_KEYS.difference(file))
        if missing:
            raise TrustInvalid(f"the trust file lacks {missing[0]}", step=_STEP)
        head = _mapping(file["head"])
        trust = Trust(
            deployment=from_hex(file["deployment"], 32),
            chain_id=_number(file["chainId"]),
            genesis_hash=from_hex(file["genesisHash"], 32),
            addresses=_contracts(file["addresses"], 20),
            code_hashes=_contracts(file["codeHashes"], 32),
            head_number=_number(head["number"]),
            head_hash=from_hex(head["hash"], 32),
            exchange=from_hex(file["exchange"], 20),
            successors=_successors(file["participants"]),
            checkpoints=_checkpoints(file["checkpoints"]),
            granted=_ids(file["granted"]),
            withdrawn=_ids(file["withdrawn"]),
        )
    except TrustInvalid:
        raise
    except (LedgerError, LookupError, TypeError, ValueError):
        raise TrustInvalid("a member of the trust file has the wrong form", step=_STEP) from None
    if not any(trust.deployment) or not any(trust.exchange):
        raise TrustInvalid("the trust file names no deployment or no log key", step=_STEP)
    return trust


def parse_bytes(data: bytes) -> Trust:
    """Read a trust file. Raises TrustInvalid (step 0)."""
    try:
        require_shallow(data)
        value = json.loads(data.decode("utf-8"))
    except (ValueError, MalformedValue):
        raise TrustInvalid("the trust file is not JSON", step=_STEP) from None
    return parse(value)


def require_not_behind(newer: Trust, older: Trust) -> None:
    """Raise TrustInvalid unless ``newer`` keeps everything that ``older`` had seen.

    Compared are identity and contents, not block numbers: a chain that lost its tail is refilled
    in other blocks (D1), but no checkpoint, grant, withdrawal or participant may be missing.
    """
    for name, mine, theirs in (
        ("deployment", newer.deployment, older.deployment),
        ("chain id", newer.chain_id, older.chain_id),
        ("genesis", newer.genesis_hash, older.genesis_hash),
        ("log key", newer.exchange, older.exchange),
    ):
        if mine != theirs:
            raise TrustInvalid(f"another {name} than before", step=_STEP)
    if dict(newer.addresses) != dict(older.addresses):
        raise TrustInvalid("other contracts than before", step=_STEP)
    if dict(newer.code_hashes) != dict(older.code_hashes):
        raise TrustInvalid("other contract code than before", step=_STEP)
    for size, root in older.checkpoints.items():
        if newer.checkpoints.get(size) != root:
            raise TrustInvalid(f"the checkpoint of size {size} is gone or changed", step=_STEP)
    for what, mine_ids, their_ids in (
        ("grants", newer.granted, older.granted),
        ("withdrawals", newer.withdrawn, older.withdrawn),
    ):
        lost = len(their_ids - mine_ids)
        if lost:
            raise TrustInvalid(f"{lost} {what} that were recorded are gone", step=_STEP)
    for address, later in older.successors.items():
        if address not in newer.successors:
            raise TrustInvalid("a participant that was recorded is gone", step=_STEP)
        if later is not None and newer.successors[address] != later:
            raise TrustInvalid("a participant was moved to another key than before", step=_STEP)
