"""Put the contracts on a chain, at addresses that follow from the deployment alone.

CREATE2 through the keyless deterministic deployer (github.com/Arachnid's): the deployment id stands
in the init code and is the salt, so that a wiped chain gets the same contracts at the same
addresses, whoever relays. A chain without the deployer gets one by a keyless transaction of gas
price 0, whose own address differs from the usual one (another transaction, another sender).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ledger.abi import CONTRACTS, ContractName, load_artifact
from ledger.commitment import keccak256
from ledger.errors import ChainError, MalformedValue, WrongChain
from ledger.rawtx import parse_raw_transaction, rlp_encode
from ledger.rpc import Relayer, Rpc, Transaction, from_hex, to_int
from ledger.signing import Key

USUAL_FACTORY: Final = bytes.fromhex("4e59b44847b379578588920ca78fbf26c0b4956c")
_FACTORY_INIT: Final = bytes.fromhex(
    "604580600e600039806000f350fe7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe0"
    "3601600081602082378035828234f58015156039578182fd5b8082525050506014600cf3"
)
_KEYLESS: Final = bytes.fromhex("22" * 32)


@dataclass(frozen=True)
class Deployment:
    """Where the contracts are, and what must be found there.

    ``addresses`` (20 bytes) and ``code_hashes`` (keccak-256 of the runtime code, 32 bytes) by
    contract name; ``block`` is the head when the deployment was seen complete.
    """

    deployment_id: bytes
    chain_id: int
    genesis_hash: bytes
    addresses: Mapping[ContractName, bytes]
    code_hashes: Mapping[ContractName, bytes]
    block: int

    def to_json(self) -> dict[str, Any]:
        """``{deployment, chainId, genesisHash, addresses, codeHashes, block}``, bytes as 0x-hex."""
        return {
            "deployment": "0x" + self.deployment_id.hex(),
            "chainId": self.chain_id,
            "genesisHash": "0x" + self.genesis_hash.hex(),
            "addresses": {name: "0x" + self.addresses[name].hex() for name in CONTRACTS},
            "codeHashes": {name: "0x" + self.code_hashes[name].hex() for name in CONTRACTS},
            "block": self.block,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Deployment:
        """Read :meth:`to_json`'s form; other members are left alone. Raises MalformedValue."""
        try:
            return cls(
                deployment_id=_hex(value["deployment"], 32),
                chain_id=int(value["chainId"]),
                genesis_hash=_hex(value["genesisHash"], 32),
                addresses={name: _hex(value["addresses"][name], 20) for name in CONTRACTS},
                code_hashes={name: _hex(value["codeHashes"][name], 32) for name in CONTRACTS},
                block=int(value.get("block", 0)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise MalformedValue("the description of a deployment is malformed") from error


def _hex(text: str, size: int) -> bytes:
    raw = bytes.fromhex(text.removeprefix("0x"))
    if len(raw) != size:
        raise ValueError(size)
    return raw


def create2_address(factory: bytes, salt: bytes, init_code: bytes) -> bytes:
    """EIP-1014."""
    return keccak256(b"\xff" + factory + salt + keccak256(init_code))[12:]


def init_codes(
    factory: bytes, deployment_id: bytes, founders: Sequence[bytes], log_key: bytes
) -> dict[ContractName, bytes]:
    """Creation code with constructor arguments, by contract. Raises MalformedValue."""
    if len(deployment_id) != 32 or not any(deployment_id):
        raise MalformedValue("a deployment id is 32 bytes and not zero")
    if not founders or len(set(founders)) != len(founders):
        raise MalformedValue("founders are at least one address, each once")
    for address in (*founders, log_key):
        if len(address) != 20 or not any(address):
            raise MalformedValue("a founder's or log key's address is 20 bytes and not zero")
    listed = b"".join(_word(address) for address in founders)
    participants = (
        load_artifact("Participants").bytecode
        + deployment_id
        + _word(64)
        + _word(len(founders))
        + listed
    )
    at = create2_address(factory, deployment_id, participants)
    anchor = load_artifact("AuditAnchor").bytecode + deployment_id + _word(log_key) + _word(at)
    return {
        "ConsentLedger": load_artifact("ConsentLedger").bytecode + deployment_id,
        "Participants": participants,
        "AuditAnchor": anchor,
    }


def deployed_at(
    deployment_id: bytes, founders: Sequence[bytes], log_key: bytes
) -> list[dict[ContractName, bytes]]:
    """Where our contracts stand with these arguments: addresses by contract, for each deployer.

    An address follows from the creation code and its arguments (EIP-1014), so that other code, other
    founders or another log key stand elsewhere. Raises MalformedValue.
    """
    found = []
    for factory in (USUAL_FACTORY, keyless_factory()[1]):
        codes = init_codes(factory, deployment_id, founders, log_key)
        found.append(
            {name: create2_address(factory, deployment_id, code) for name, code in codes.items()}
        )
    return found


def _word(value: bytes | int) -> bytes:
    return value.to_bytes(32, "big") if isinstance(value, int) else value.rjust(32, b"\0")


def keyless_factory() -> tuple[bytes, bytes]:
    """The deployer's transaction of gas price 0, and the address that it creates."""
    raw = rlp_encode(
        [b"", b"", b"\x01\x86\xa0", b"", b"", _FACTORY_INIT, b"\x1b", _KEYLESS, _KEYLESS]
    )
    sender = parse_raw_transaction(raw).sender
    return raw, keccak256(rlp_encode([sender, b""]))[12:]


def ensure_factory(rpc: Rpc, relayer: Relayer) -> bytes:
    """Find the deterministic deployer, or bring one. Raises ChainError where neither works."""
    raw, free = keyless_factory()
    for address in (USUAL_FACTORY, free):
        if rpc.code_at(address):
            return address
    rpc.call("eth_sendRawTransaction", "0x" + raw.hex())
    relayer.wait_for(keccak256(raw))
    if not rpc.code_at(free):
        raise ChainError("the deterministic deployer could not be brought to this chain")
    return free


def deploy(
    rpc_url: str,
    deployment_id: bytes,
    founders: Sequence[bytes],
    log_key: bytes,
    relayer_key: Key,
    *,
    timeout: tuple[float, float] = (1.0, 5.0),
    wait_seconds: float = 30.0,
) -> Deployment:
    """Deploy whatever is not there yet, and describe what is. Safe to repeat.

    ``founders`` and ``log_key`` are addresses (20 bytes). Raises MalformedValue, ChainError.
    """
    rpc = Rpc(rpc_url, timeout=timeout)
    try:
        relayer = Relayer(rpc, relayer_key, wait_seconds=wait_seconds)
        factory = ensure_factory(rpc, relayer)
        codes = init_codes(factory, deployment_id, founders, log_key)
        addresses = {
            name: create2_address(factory, deployment_id, code) for name, code in codes.items()
        }
        missing = [name for name in CONTRACTS if not rpc.code_at(addresses[name])]
        calls = [deployment_id + codes[name] for name in missing]
        relayer.send([Transaction(factory, data, _gas(rpc, factory, data)) for data in calls])
        return describe(rpc, deployment_id, addresses)
    finally:
        rpc.close()


def _gas(rpc: Rpc, factory: bytes, data: bytes) -> int:
    asked = {"to": "0x" + factory.hex(), "data": "0x" + data.hex()}
    return to_int(rpc.call("eth_estimateGas", asked)) * 6 // 5


def describe(rpc: Rpc, deployment_id: bytes, addresses: Mapping[ContractName, bytes]) -> Deployment:
    """Read identity and code of a deployment. Raises WrongChain where a contract is missing."""
    hashes: dict[ContractName, bytes] = {}
    for name in CONTRACTS:
        code = rpc.code_at(addresses[name])
        if not code:
            raise WrongChain(f"there is no {name} at 0x{addresses[name].hex()}")
        hashes[name] = keccak256(code)
    genesis = rpc.call("eth_getBlockByNumber", "0x0", False)
    return Deployment(
        deployment_id=deployment_id,
        chain_id=to_int(rpc.call("eth_chainId")),
        genesis_hash=from_hex(genesis["hash"]),
        addresses=dict(addresses),
        code_hashes=hashes,
        block=to_int(rpc.call("eth_blockNumber")),
    )
