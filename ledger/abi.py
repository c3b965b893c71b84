"""Read the committed artifacts of the contracts and decode what contracts say in errors.

The files are package data, written by ``python -m ledger build`` (see ``ledger.build`` for their
form). Nothing here needs web3.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal, get_args

from ledger.commitment import keccak256
from ledger.errors import BuildError, Reverted

ContractName = Literal["ConsentLedger", "Participants", "AuditAnchor"]
CONTRACTS: Final[tuple[ContractName, ...]] = get_args(ContractName)


@dataclass(frozen=True, slots=True)
class Artifact:
    """One compiled contract: its ABI, creation code and a digest of its sources."""

    name: ContractName
    abi: tuple[dict[str, Any], ...]
    bytecode: bytes
    compiler: str
    sources: dict[str, str]
    source_hash: str


@cache
def load_artifact(name: ContractName) -> Artifact:
    """Read one artifact. Raises BuildError where the file is missing or unreadable."""
    try:
        text = files("ledger").joinpath("artifacts", f"{name}.json").read_text(encoding="utf-8")
        raw = json.loads(text)
        return Artifact(
            name=name,
            abi=tuple(raw["abi"]),
            bytecode=bytes.fromhex(raw["bytecode"][2:]),
            compiler=raw["compiler"],
            sources=dict(raw["sources"]),
            source_hash=raw["sourceHash"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BuildError(f"the artifact of {name} is missing or unreadable") from error


def selector(signature: str) -> bytes:
    """First four bytes of the keccak-256 of ``name(type,type)``."""
    return keccak256(signature.encode())[:4]


def topic(signature: str) -> bytes:
    """Keccak-256 of an event's ``name(type,type)``."""
    return keccak256(signature.encode())


@cache
def _errors() -> dict[bytes, tuple[str, tuple[tuple[str, str], ...]]]:
    known: dict[bytes, tuple[str, tuple[tuple[str, str], ...]]] = {
        selector("Error(string)"): ("Error", ()),
        selector("Panic(uint256)"): ("Panic", (("code", "uint256"),)),
    }
    for name in CONTRACTS:
        for entry in load_artifact(name).abi:
            if entry["type"] == "error":
                inputs = tuple((i["name"], i["type"]) for i in entry["inputs"])
                signature = f"{entry['name']}({','.join(kind for _, kind in inputs)})"
                known[selector(signature)] = (entry["name"], inputs)
    return known


def error_name(error_selector: bytes) -> str:
    """Name of one of our contracts' errors, ``"Unknown"`` for any other selector."""
    name, _ = _errors().get(error_selector, ("Unknown", ()))
    return name


def decode_revert(data: bytes) -> Reverted:
    """Turn revert data into ``Reverted(name, args)``; every argument of ours is one word."""
    name, inputs = _errors().get(data[:4], ("Unknown", ()))
    if name == "Unknown":
        return Reverted(name, {"selector": "0x" + data[:4].hex()})
    words = [data[4 + 32 * i : 36 + 32 * i] for i in range(len(inputs))]
    if any(len(word) != 32 for word in words):
        return Reverted(name)
    return Reverted(
        name, {key: _shown(kind, word) for (key, kind), word in zip(inputs, words, strict=True)}
    )


def _shown(kind: str, word: bytes) -> object:
    if kind.startswith("uint"):
        return int.from_bytes(word, "big")
    if kind == "address":
        return "0x" + word[12:].hex()
    return "0x" + word.hex()
