"""The contracts below the Python ledger: single calls, replays in any order, addresses, gas."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from ledger.abi import CONTRACTS, ContractName, load_artifact, selector
from ledger.calldata import pack, pack_items, word
from ledger.chain import ChainLedger, deploy, fetch_trust
from ledger.deploy import keyless_factory
from ledger.errors import MalformedValue, Reverted, WrongChain
from ledger.interface import GrantItem, WithdrawItem
from ledger.rpc import Transaction, to_int
from ledger.signing import Admit, Domain
from tests.ledgers import LOG, RELAYER, Chain, Deployed, Signed, a_key, by_address, checkpoint

ITEM = "(address,bytes32,uint32,bytes32,bytes32)"
ROOT = Path(__file__).resolve().parents[2]
GAS = Path(__file__).parent / "gas.json"
GAS_TOLERANCE = 0.01


def single(verb: str, item: GrantItem | WithdrawItem) -> bytes:
    """Call data of ``grant(Item)`` or ``withdraw(Item)``."""
    return selector(f"{verb}({ITEM})") + pack_items([item])[64:]


def call(deployed: Deployed, data: bytes) -> bytes:
    return deployed.rpc.call_contract(deployed.deployment.addresses["ConsentLedger"], data)


def send(deployed: Deployed, data: bytes, contract: ContractName = "ConsentLedger") -> int:
    """Send and return the gas used."""
    address = deployed.deployment.addresses[contract]
    (receipt,) = deployed.relayer().send([Transaction(address, data, 8_000_000)])
    return to_int(receipt["gasUsed"])


def test_single_calls_revert_by_name(deployed: Deployed) -> None:
    consent = deployed.consent()
    with pytest.raises(Reverted) as refused:
        call(deployed, single("grant", replace(consent.grant, consent_key=LOG.address)))
    assert refused.value.name == "NotTheConsentKey"
    send(deployed, single("grant", consent.grant))
    with pytest.raises(Reverted) as refused:
        call(deployed, single("grant", consent.grant))
    assert refused.value.name == "AlreadyActive"
    assert refused.value.args_by_name == {"id": "0x" + consent.id.hex()}
    send(deployed, single("withdraw", consent.withdrawal))
    for verb, item in (("grant", consent.grant), ("withdraw", consent.withdrawal)):
        with pytest.raises(Reverted) as refused:
            call(deployed, single(verb, item))
        assert refused.value.name == "AlreadyWithdrawn"


def test_a_mined_revert_is_reported_with_its_name(deployed: Deployed) -> None:
    consent = deployed.consent()
    send(deployed, single("grant", consent.grant))
    with pytest.raises(Reverted, match="AlreadyActive"):
        send(deployed, single("grant", consent.grant))


def test_many_checkpoints_come_in_order_and_a_smaller_one_is_refused_by_name(
    deployed: Deployed,
) -> None:
    def points(*sizes: int) -> list[tuple[int, bytes, bytes]]:
        roots = [(size, bytes([size]) * 32) for size in sizes]
        return [(n, root, checkpoint(LOG, deployed.domain, n, root)) for n, root in roots]

    assert deployed.ledger.anchor_all(points(*range(3, 20))) == {}
    forged = (30, bytes(32), checkpoint(RELAYER, deployed.domain, 30, bytes(32)))
    refused = deployed.ledger.anchor_all([*points(5, 21), forged])
    assert refused == {5: "SizeShrinks", 30: "NotTheLogKey"}
    told = fetch_trust(deployed.url, deployed.deployment.addresses)["checkpoints"]
    assert [point["size"] for point in told] == [*range(3, 20), 21]


def test_the_contract_counts_the_domain_as_we_do(deployed: Deployed) -> None:
    assert call(deployed, selector("domainSeparator()")) == deployed.domain.separator
    assert call(deployed, selector("deploymentId()")) == deployed.domain.deployment_id


def storage_root(deployed: Deployed) -> str:
    address = "0x" + deployed.deployment.addresses["ConsentLedger"].hex()
    proof = deployed.rpc.call("eth_getProof", address, [], "latest")
    return str(proof["storageHash"])


def test_replaying_in_any_order_and_grouping_gives_the_same_storage(
    chain: Chain, anvil_path: Path, tmp_path: Path
) -> None:
    name = "replayed"
    original = chain.deploy(name)
    consents = [original.consent() for _ in range(12)]
    original.ledger.grant([consent.grant for consent in consents[:8]])
    original.ledger.withdraw([consent.withdrawal for consent in consents[4:10]])
    original.ledger.grant([consents[10].grant])
    ended = consents[4:10]
    messages: list[tuple[str, Signed]] = [("grant", c) for c in (*consents[:8], consents[10])]
    messages += [("withdraw", c) for c in ended]
    random.Random(7).shuffle(messages)
    elsewhere = Chain(tmp_path / "other", anvil_path, chain_id=4_711)
    try:
        copy = elsewhere.deploy(name)
        assert copy.deployment.addresses == original.deployment.addresses
        for verb, consent in messages:
            if verb == "grant":
                copy.ledger.grant([consent.grant])
            else:
                copy.ledger.withdraw([consent.withdrawal])
        for consent in consents:
            assert copy.ledger.status_of(consent.id) == original.ledger.status_of(consent.id)
        assert storage_root(copy) == storage_root(original)
    finally:
        elsewhere.stop()


def test_deploying_again_changes_nothing(chain: Chain) -> None:
    first = chain.deploy("once").deployment
    height = chain.node.head.number
    again = chain.deploy("once").deployment
    assert replace(again, block=0) == replace(first, block=0)
    assert chain.node.head.number == height
    assert chain.deploy("twice").deployment.addresses != first.addresses


@pytest.mark.parametrize(
    ("deployment_id", "founders"),
    [
        (bytes(32), [b"\1" * 20]),
        (b"\1" * 31, [b"\1" * 20]),
        (b"\1" * 32, []),
        (b"\1" * 32, [b"\1" * 20] * 2),
        (b"\1" * 32, [bytes(20)]),
    ],
)
def test_a_deployment_that_makes_no_sense_is_refused(
    chain: Chain, deployment_id: bytes, founders: list[bytes]
) -> None:
    with pytest.raises(MalformedValue):
        deploy(chain.url, deployment_id, founders, LOG.address, RELAYER)


def test_the_keyless_deployer_is_brought_where_there_is_none(deployed: Deployed) -> None:
    """Its transaction costs nothing and comes from nobody's key."""
    raw, address = keyless_factory()
    answer = deployed.rpc.batch([("eth_sendRawTransaction", ["0x" + raw.hex()])])[0]
    # The managed node takes nothing from strangers; its engine brings the usual deployer.
    assert "may not submit" in str(answer)
    assert len(address) == 20


def test_connect_tells_another_deployment_from_ours(chain: Chain, deployed: Deployed) -> None:
    other = chain.deploy("another deployment").deployment
    wrong = ChainLedger(chain.url, other.addresses, deployed.domain.deployment_id)
    with pytest.raises(WrongChain, match="another deployment"):
        wrong.connect()
    wrong.close()
    for change in (
        replace(deployed.deployment, chain_id=1),
        replace(deployed.deployment, genesis_hash=bytes(32)),
        replace(deployed.deployment, code_hashes=other.code_hashes),
    ):
        suspicious = ChainLedger.of(chain.url, change)
        with pytest.raises(WrongChain):
            suspicious.connect()
        suspicious.close()
    nowhere = dict.fromkeys(other.addresses, bytes(20))
    missing = ChainLedger(chain.url, nowhere, deployed.domain.deployment_id)
    with pytest.raises(WrongChain, match="there is no"):
        missing.connect()
    with pytest.raises(WrongChain):
        missing.status_of(bytes(32))
    missing.close()
    assert replace(deployed.ledger.connect(), block=0) == replace(deployed.deployment, block=0)


def test_trust_is_what_the_auditors_own_node_tells(chain: Chain, deployed: Deployed) -> None:
    kept, ended = deployed.consent(), deployed.consent()
    deployed.ledger.grant([kept.grant, ended.grant])
    deployed.ledger.withdraw([ended.withdrawal])
    root = b"r" * 32
    deployed.ledger.anchor(3, root, checkpoint(LOG, deployed.domain, 3, root))
    trust = fetch_trust(chain.url, deployed.deployment.addresses)
    assert json.loads(json.dumps(trust)) == trust
    assert trust["version"] == "assent.trust/1"
    assert trust["deployment"] == "0x" + deployed.domain.deployment_id.hex()
    assert trust["exchange"] == "0x" + LOG.address.hex()
    assert set(trust["granted"]) == {"0x" + kept.id.hex(), "0x" + ended.id.hex()}
    assert set(trust["withdrawn"]) == {"0x" + ended.id.hex()}
    assert [entry["size"] for entry in trust["checkpoints"]] == [3]
    assert {entry["address"] for entry in trust["participants"]} == {
        "0x" + a_key(f"founder {number}").address.hex() for number in range(3)
    }
    assert trust["head"]["number"] == chain.node.head.number


def test_trust_refuses_contracts_that_do_not_belong_together(
    chain: Chain, deployed: Deployed
) -> None:
    other = chain.deploy("another trust").deployment
    mixed = {**deployed.deployment.addresses, "Participants": other.addresses["Participants"]}
    with pytest.raises(WrongChain):
        fetch_trust(chain.url, mixed)


def measure(deployed: Deployed) -> dict[str, int]:
    """Gas of each operation."""
    domain: Domain = deployed.domain
    gas: dict[str, int] = {}
    first = deployed.consent(key=a_key("gas"))
    gas["grant"] = send(deployed, single("grant", first.grant))
    gas["withdraw"] = send(deployed, single("withdraw", first.withdrawal))
    hundred = [Signed(domain, key=a_key(f"gas {number}")) for number in range(100)]
    grants, ends = selector(f"grantBatch({ITEM}[])"), selector(f"withdrawBatch({ITEM}[])")
    granted = grants + pack_items([consent.grant for consent in hundred])
    gas["grant, each of 100"] = send(deployed, granted) // 100
    gas["grant replayed, each of 100"] = send(deployed, granted) // 100
    withdrawn = ends + pack_items([consent.withdrawal for consent in hundred])
    gas["withdraw, each of 100"] = send(deployed, withdrawn) // 100
    stones = [Signed(domain, key=a_key(f"stone {number}")) for number in range(100)]
    buried = ends + pack_items([consent.withdrawal for consent in stones])
    gas["tombstone, each of 100"] = send(deployed, buried) // 100
    founders = by_address(*(a_key(f"founder {number}") for number in range(3)))
    for size, name in ((1, "checkpoint, first"), (2, "checkpoint, next")):
        root = word(size)
        data = selector("anchor(uint64,bytes32,bytes,bytes[])") + pack(
            size,
            root,
            (checkpoint(LOG, domain, size, root),),
            [checkpoint(key, domain, size, root) for key in founders[:2]],
        )
        gas[name] = send(deployed, data, "AuditAnchor")
    newcomer = a_key("newcomer").address
    admission = [key.sign(Admit(newcomer), domain) for key in founders[:2]]
    data = selector("admit(address,bytes[])") + pack(newcomer, admission)
    gas["admit"] = send(deployed, data, "Participants")
    for contract in CONTRACTS:
        gas[f"{contract}, bytes of creation code"] = len(load_artifact(contract).bytecode)
    return gas


def test_gas_is_as_committed(deployed: Deployed) -> None:
    """`contracts/README.md` quotes these; change the file where a change of gas is meant."""
    measured = measure(deployed)
    committed = json.loads(GAS.read_text(encoding="utf-8"))
    assert set(measured) == set(committed)
    for name, gas in measured.items():
        assert gas == pytest.approx(committed[name], rel=GAS_TOLERANCE), name


def test_the_readme_quotes_the_committed_gas() -> None:
    text = (ROOT / "contracts" / "README.md").read_text(encoding="utf-8")
    for name, gas in json.loads(GAS.read_text(encoding="utf-8")).items():
        assert f"| {name} | {gas:,} |" in text


def test_the_readme_names_every_error_and_event() -> None:
    text = (ROOT / "contracts" / "README.md").read_text(encoding="utf-8")
    internal = {"DeploymentIdMissing", "AnchorIncomplete"}
    for name in CONTRACTS:
        for entry in load_artifact(name).abi:
            if entry["type"] == "error" and entry["name"] not in internal:
                assert f"`{entry['name']}" in text, entry["name"]


ONE, TWO = word(b"\1" * 20), word(b"\2" * 20)


@pytest.mark.parametrize(
    ("contract", "arguments", "error"),
    [
        ("ConsentLedger", bytes(32), "DeploymentIdMissing"),
        ("Participants", bytes(32) + word(64) + word(1) + ONE, "DeploymentIdMissing"),
        ("Participants", ONE + word(64) + word(0), "NoMembers"),
        ("Participants", ONE + word(64) + word(1) + word(0), "ZeroParticipant"),
        ("Participants", ONE + word(64) + word(2) + TWO + TWO, "AlreadyKnown"),
        ("AuditAnchor", bytes(32) + ONE + TWO, "DeploymentIdMissing"),
        ("AuditAnchor", ONE + bytes(32) + TWO, "AnchorIncomplete"),
        ("AuditAnchor", ONE + ONE + bytes(32), "AnchorIncomplete"),
    ],
)
def test_constructors_refuse_what_makes_no_sense(
    deployed: Deployed, contract: ContractName, arguments: bytes, error: str
) -> None:
    created = "0x" + (load_artifact(contract).bytecode + arguments).hex()
    with pytest.raises(Reverted) as refused:
        deployed.rpc.call("eth_call", {"data": created}, "latest")
    assert refused.value.name == error
