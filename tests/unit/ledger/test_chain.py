"""Faults on the way to a chain, as our errors; and a network that is not the managed node."""

from __future__ import annotations

import http.server
import inspect
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import web3.exceptions

from ledger.abi import CONTRACTS, decode_revert, load_artifact
from ledger.chain import ChainLedger, deploy
from ledger.deploy import USUAL_FACTORY, Deployment, keyless_factory
from ledger.errors import (
    ChainError,
    ChainUnreachable,
    MalformedValue,
    NotMined,
    Reverted,
    WrongChain,
)
from ledger.interface import ChainStatus
from ledger.rpc import Relayer, Rpc, Transaction, map_error
from ledger.signing import Domain
from tests.ledgers import LOG, RELAYER, OpenAnvil, Signed, a_key

ADDRESSES = {name: bytes([number]) * 20 for number, name in enumerate(CONTRACTS, 1)}
DOMAIN = Domain(b"d" * 32)


@pytest.fixture
def network(anvil_path: Path) -> Iterator[OpenAnvil]:
    running = OpenAnvil(anvil_path)
    yield running
    running.stop()


@pytest.fixture
def answering() -> Iterator[tuple[str, list[bytes]]]:
    """An HTTP server that answers with the given bodies, one after the other."""
    bodies: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = bodies.pop(0)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", bodies
    server.shutdown()
    server.server_close()
    thread.join()


def all_exceptions(module: object) -> list[type[Exception]]:
    return [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception)
    ]


@pytest.mark.parametrize("kind", all_exceptions(requests.exceptions))
def test_every_exception_of_requests_becomes_ours(kind: type[Exception]) -> None:
    assert isinstance(map_error(kind.__new__(kind)), ChainError)


@pytest.mark.parametrize("kind", all_exceptions(web3.exceptions))
def test_every_exception_of_web3_becomes_ours(kind: type[Exception]) -> None:
    assert isinstance(map_error(kind.__new__(kind)), ChainError)


def test_nobody_there_is_unreachable() -> None:
    ledger = ChainLedger("http://127.0.0.1:9", ADDRESSES, b"d" * 32, RELAYER)
    for ask in (ledger.head, ledger.connect, lambda: ledger.status_of(bytes(32))):
        with pytest.raises(ChainUnreachable):
            ask()
    with pytest.raises(ChainUnreachable):
        ledger.grant([Signed(DOMAIN).grant])
    ledger.close()


@pytest.mark.parametrize(
    "body",
    [b"", b"not json", b"null", b"[]", b"{}", b'{"jsonrpc":"2.0","id":1}', b'{"result":7}'],
)
def test_an_answer_that_makes_no_sense_is_an_error(
    answering: tuple[str, list[bytes]], body: bytes
) -> None:
    url, bodies = answering
    rpc = Rpc(url)
    bodies.append(body)
    with pytest.raises(ChainError):
        rpc.code_at(bytes(20))
    rpc.close()


def test_a_log_without_its_parts_is_an_error(answering: tuple[str, list[bytes]]) -> None:
    url, bodies = answering
    bodies.append(b'{"jsonrpc":"2.0","id":0,"result":[{"blockTimestamp":"0x1","topics":[]}]}')
    ledger = ChainLedger(url, ADDRESSES, b"d" * 32)
    with pytest.raises(ChainError, match="lacks"):
        list(ledger.events(0, 1))
    ledger.close()


def test_reading_needs_no_key_and_writing_does(network: OpenAnvil) -> None:
    deployment = deploy(network.url, b"d" * 32, [a_key("f").address], LOG.address, RELAYER)
    reader = ChainLedger.of(network.url, deployment)
    assert reader.status_of(bytes(32)) == (ChainStatus.NONE, 0)
    with pytest.raises(ChainError, match="for reading"):
        reader.grant([Signed(DOMAIN).grant])
    reader.close()


def test_a_network_without_the_deployer_gets_one_for_nothing(network: OpenAnvil) -> None:
    network.rpc.call("anvil_setCode", "0x" + USUAL_FACTORY.hex(), "0x")
    deployment = deploy(network.url, b"d" * 32, [a_key("f").address], LOG.address, RELAYER)
    _, factory = keyless_factory()
    assert network.rpc.code_at(factory)
    assert not network.rpc.code_at(USUAL_FACTORY)
    ledger = ChainLedger.of(network.url, deployment, RELAYER)
    consent = Signed(DOMAIN)
    ledger.grant([consent.grant])
    assert ledger.in_force(consent.id, consent.until_day)
    again = deploy(network.url, b"d" * 32, [a_key("f").address], LOG.address, RELAYER)
    assert again.addresses == deployment.addresses
    ledger.close()


def test_a_replaced_network_is_recognised(network: OpenAnvil, anvil_path: Path) -> None:
    deployment = deploy(network.url, b"d" * 32, [a_key("f").address], LOG.address, RELAYER)
    other = OpenAnvil(anvil_path, genesis=1_700_000_001)
    try:
        ledger = ChainLedger.of(other.url, deployment)
        with pytest.raises(WrongChain, match="there is no"):
            ledger.connect()
        deploy(other.url, b"d" * 32, [a_key("f").address], LOG.address, RELAYER)
        with pytest.raises(WrongChain, match="genesis"):
            ledger.connect()
        ledger.close()
    finally:
        other.stop()


def test_a_transaction_that_no_block_takes_is_not_mined(network: OpenAnvil) -> None:
    network.rpc.call("evm_setAutomine", False)
    relayer = Relayer(network.rpc, RELAYER, wait_seconds=0.2)
    with pytest.raises(NotMined, match="1 of 1"):
        relayer.send([Transaction(b"\1" * 20, b"", 30_000)])
    network.rpc.call("evm_setAutomine", True)
    network.rpc.call("evm_mine")
    # The same again is the same transaction: its nonce is used up, and its receipt is there.
    assert relayer.send([Transaction(b"\1" * 20, b"", 30_000)])


def test_reverts_are_decoded_by_name() -> None:
    found = decode_revert(bytes.fromhex("deadbeef"))
    assert (found.name, found.args_by_name) == ("Unknown", {"selector": "0xdeadbeef"})
    assert decode_revert(b"").name == "Unknown"
    cut = Reverted("NotTheLogKey")
    assert str(cut) == "NotTheLogKey()"


def test_every_contract_error_can_be_decoded() -> None:
    for name in CONTRACTS:
        for entry in load_artifact(name).abi:
            if entry["type"] == "error":
                assert all(i["type"] in WORDS for i in entry["inputs"]), entry


WORDS = {"address", "bytes32", "uint64", "uint256"}


def test_a_deployment_reads_what_it_wrote() -> None:
    hashes = {name: bytes([number]) * 32 for number, name in enumerate(CONTRACTS)}
    deployment = Deployment(b"d" * 32, 1, b"g" * 32, ADDRESSES, hashes, 9)
    assert Deployment.from_json(deployment.to_json()) == deployment
    for broken in ({}, {**deployment.to_json(), "genesisHash": "0x12"}):
        with pytest.raises(MalformedValue):
            Deployment.from_json(broken)
    with pytest.raises(MalformedValue):
        ChainLedger("http://127.0.0.1:9", {"ConsentLedger": bytes(20)}, b"d" * 32)
