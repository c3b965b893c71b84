"""The managed node: what it takes, what it refuses, and what it still knows after kill -9."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.chain import ChainLedger, deploy
from ledger.errors import ChainError, JournalNotReproduced, NodeError
from ledger.follow import Cursor, Follower
from ledger.interface import ChainStatus
from ledger.managed import ManagedNode
from ledger.node import answer_rpc, build_parser, main
from ledger.rawtx import sign_transaction, transaction_hash
from ledger.signing import Domain, Key
from tests.ledgers import LOG, RELAYER, Chain, Deployed, Signed, a_key

FOUNDER = a_key("founder")
DOMAIN = Domain(b"n" * 32)


@pytest.fixture
def chain(anvil_path: Path, tmp_path: Path) -> Iterator[Chain]:
    running = Chain(tmp_path / "node", anvil_path)
    yield running
    running.stop()


def raw(nonce: int, *, key: Key = RELAYER, **changes: Any) -> bytes:
    """A signed transaction to nobody in particular."""
    fields: dict[str, Any] = {"chain_id": 31_337, "gas_price": 0, "gas": 30_000, "data": b""}
    return sign_transaction(key, nonce=nonce, to=b"\7" * 20, **{**fields, **changes})


def ask(chain: Chain, *calls: tuple[str, list[Any]]) -> list[dict[str, Any]]:
    body = [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        for number, (method, params) in enumerate(calls)
    ]
    answers = json.loads(answer_rpc(chain.node, json.dumps(body).encode()))
    assert [answer["id"] for answer in answers] == list(range(len(calls)))
    return answers


def wait_for_block(chain: Chain, number: int) -> None:
    deadline = time.monotonic() + 20
    while chain.node.head.number < number and time.monotonic() < deadline:
        time.sleep(0.01)
    assert chain.node.head.number >= number


def post(chain: Chain, body: bytes, **headers: str) -> tuple[int, bytes]:
    door = http.client.HTTPConnection(chain.url.removeprefix("http://"), timeout=10)
    door.request("POST", "/", body, {"Content-Type": "application/json", **headers})
    response = door.getresponse()
    answer = response.status, response.read()
    door.close()
    return answer


@pytest.mark.parametrize(
    "method",
    ["anvil_setBalance", "evm_mine", "debug_traceCall", "eth_sendTransaction", "anvil_dumpState"],
)
def test_methods_that_change_or_expose_are_not_offered(chain: Chain, method: str) -> None:
    (answer,) = ask(chain, (method, []))
    assert answer["error"]["code"] == -32601
    single = json.loads(
        answer_rpc(chain.node, json.dumps({"id": 1, "method": method, "params": []}).encode())
    )
    assert single["error"]["code"] == -32601


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"{", -32700), (b"[]", -32600), (b"7", -32600), (b"[7]", -32600), (b'{"id":1}', -32600)],
)
def test_what_is_not_json_rpc_is_refused(chain: Chain, body: bytes, code: int) -> None:
    answer = json.loads(answer_rpc(chain.node, body))
    answer = answer[0] if isinstance(answer, list) else answer
    assert answer["error"]["code"] == code


def test_pages_and_odd_requests_stay_outside(chain: Chain) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}'
    assert post(chain, body)[0] == 200
    assert post(chain, body, Origin="http://127.0.0.1")[0] == 403
    assert post(chain, body, **{"Content-Type": "text/plain"})[0] == 415
    assert post(chain, b"", **{"Content-Length": "99999999"})[0] == 413
    door = http.client.HTTPConnection(chain.url.removeprefix("http://"), timeout=10)
    door.request("GET", "/")
    assert json.loads(door.getresponse().read()) == {"ready": True, "block": 0}
    door.close()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (raw(0, key=a_key("stranger")), "may not submit"),
        (raw(0, chain_id=1), "chain id"),
        (raw(0, gas_price=1), "gas is free"),
        (raw(0, gas=20_999), "gas limit"),
        (raw(0, gas=20_000_000), "gas limit"),
        (raw(1), "nonce too high"),
        (b"", "131072 bytes"),
        (b"\x03\x01", "kind"),
        (raw(0)[:-1], "cut short"),
        (raw(0) + b"\0", "canonical"),
    ],
)
def test_what_the_engine_would_drop_is_refused_with_a_reason(
    chain: Chain, wrong: bytes, why: str
) -> None:
    good = raw(0)
    bad, taken = ask(
        chain,
        ("eth_sendRawTransaction", ["0x" + wrong.hex()]),
        ("eth_sendRawTransaction", ["0x" + good.hex()]),
    )
    assert why in bad["error"]["message"]
    assert taken["result"] == "0x" + transaction_hash(good).hex()
    wait_for_block(chain, 1)


def test_the_same_transaction_again_is_the_same(chain: Chain) -> None:
    twice = ("eth_sendRawTransaction", ["0x" + raw(0).hex()])
    first, second = ask(chain, twice, twice)
    assert first["result"] == second["result"]
    wait_for_block(chain, 1)
    (third,) = ask(chain, twice)
    assert third["result"] == first["result"]
    (low,) = ask(chain, ("eth_sendRawTransaction", ["0x" + raw(0, gas=40_000).hex()]))
    assert "nonce too low" in low["error"]["message"]
    pending, latest = ask(
        chain,
        ("eth_getTransactionCount", ["0x" + RELAYER.address.hex(), "pending"]),
        ("eth_getTransactionCount", ["0x" + RELAYER.address.hex(), "latest"]),
    )
    assert pending["result"] == latest["result"] == "0x1"


def test_without_a_list_nobody_may_send(anvil_path: Path, tmp_path: Path) -> None:
    chain = Chain(tmp_path / "node", anvil_path, senders=None)
    try:
        with pytest.raises(ChainError, match="may not submit"):
            chain.deploy("refused")
    finally:
        chain.stop()


def test_more_than_a_block_holds_is_split(chain: Chain) -> None:
    sends = [
        ("eth_sendRawTransaction", ["0x" + raw(nonce, gas=16_000_000).hex()]) for nonce in range(9)
    ]
    assert all("result" in answer for answer in ask(chain, *sends))
    wait_for_block(chain, 2)
    counts = ask(chain, *(("eth_getBlockByNumber", [hex(number), False]) for number in (1, 2)))
    assert [len(answer["result"]["transactions"]) for answer in counts] == [7, 2]


def test_one_folder_one_node(chain: Chain, anvil_path: Path, tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="another node"):
        ManagedNode(tmp_path / "node", anvil_path=anvil_path).start()


def fill(chain: Chain, blocks: int) -> tuple[Deployed, list[Signed]]:
    deployed = chain.deploy("kept")
    consents = [deployed.consent() for _ in range(blocks)]
    for consent in consents:
        deployed.ledger.grant([consent.grant])
    return deployed, consents


@pytest.mark.parametrize("snapshot_every", [3, 1_000])
def test_a_restart_gives_the_same_chain(
    anvil_path: Path, tmp_path: Path, snapshot_every: int
) -> None:
    chain = Chain(tmp_path, anvil_path, snapshot_every=snapshot_every)
    deployed, consents = fill(chain, 7)
    head = chain.node.head
    chain.stop()
    assert bool(list(tmp_path.glob("snapshot-*"))) == (snapshot_every == 3)
    chain = Chain(tmp_path, anvil_path)
    assert chain.node.head == head
    ledger = ChainLedger.of(chain.url, deployed.deployment, RELAYER)
    ledger.connect()
    assert all(ledger.in_force(consent.id, 0) for consent in consents)
    last = Signed(deployed.domain)
    ledger.grant([last.grant])
    assert ledger.in_force(last.id, 0)
    ledger.close()
    chain.stop()


def test_a_broken_snapshot_is_replaced_by_the_journal(anvil_path: Path, tmp_path: Path) -> None:
    chain = Chain(tmp_path, anvil_path, snapshot_every=3)
    fill(chain, 4)
    head = chain.node.head
    chain.stop()
    for snapshot in tmp_path.glob("snapshot-*"):
        snapshot.write_bytes(snapshot.read_bytes()[:1000])
    chain = Chain(tmp_path, anvil_path)
    assert chain.node.head == head
    assert not list(tmp_path.glob("snapshot-*"))
    chain.stop()


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE blocks SET timestamp = timestamp + 1 WHERE number = 3",
        "UPDATE blocks SET hash = zeroblob(32) WHERE number = 3",
        "DELETE FROM blocks WHERE number = 3",
        "DELETE FROM txs WHERE block = 3",
    ],
)
def test_a_journal_that_was_changed_names_the_block(
    anvil_path: Path, tmp_path: Path, tampering: str
) -> None:
    chain = Chain(tmp_path, anvil_path)
    fill(chain, 4)
    chain.stop()
    with sqlite3.connect(tmp_path / "journal.sqlite") as journal:
        journal.execute(tampering)
    journal.close()
    with pytest.raises(JournalNotReproduced, match="block 3"):
        ManagedNode(tmp_path, anvil_path=anvil_path).start()


def test_a_journal_of_another_chain_is_refused(anvil_path: Path, tmp_path: Path) -> None:
    Chain(tmp_path, anvil_path).stop()
    with pytest.raises(NodeError, match="belongs to chain 31337"):
        ManagedNode(tmp_path, anvil_path=anvil_path, chain_id=5).start()


def test_a_killed_engine_comes_back_by_itself(chain: Chain) -> None:
    deployed, consents = fill(chain, 3)
    before = chain.node.head
    os.kill(chain.node.engine_pid, signal.SIGKILL)
    assert deployed.ledger.in_force(consents[0].id, 0)
    assert deployed.ledger.head().hash == before.hash
    last = deployed.consent()
    deployed.ledger.grant([last.grant])
    assert deployed.ledger.in_force(last.id, 0)


class Process:
    """`assent node` in a process of its own."""

    def __init__(self, data: Path, anvil: Path) -> None:
        command = [sys.executable, "-m", "ledger.node", "--data", str(data), "--port", "0"]
        command += ["--anvil", str(anvil), "--sender", "0x" + RELAYER.address.hex()]
        self.running = subprocess.Popen(
            [*command, "--snapshot-every", "5"], stdout=subprocess.PIPE, text=True
        )
        assert self.running.stdout is not None
        self.ready = json.loads(self.running.stdout.readline())
        self.url = self.ready["rpc"]

    def end(self, number: signal.Signals) -> None:
        self.running.send_signal(number)
        self.running.wait()
        assert self.running.stdout is not None
        self.running.stdout.close()


def gone(pid: int) -> bool:
    """Whether a process has ended (or waits, dead, for whoever inherited it)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def test_nothing_acknowledged_is_lost_when_the_node_is_killed(
    anvil_path: Path, tmp_path: Path
) -> None:
    """Node or engine is killed under load; what was acknowledged is there, with its hashes."""
    chance = random.Random(3)
    acknowledged: list[Signed] = []
    blocks: dict[int, bytes] = {}
    deployment = None
    for turn in range(4):
        process = Process(tmp_path, anvil_path)
        if deployment is None:
            deployment = deploy(
                process.url, DOMAIN.deployment_id, [FOUNDER.address], LOG.address, RELAYER
            )
        ledger = ChainLedger.of(process.url, deployment, RELAYER, wait_seconds=5)
        for number, block_hash in blocks.items():
            head = ledger.head_at(number)
            assert head is not None
            assert head.hash == block_hash
        victim = process.running.pid if turn % 2 else process.ready["anvil"]
        timer = threading.Timer(0.2 + chance.random() / 2, os.kill, (victim, signal.SIGKILL))
        timer.start()
        deadline = time.monotonic() + 1.0
        while time.monotonic() < deadline:
            consents = [Signed(DOMAIN) for _ in range(20)]
            try:
                ledger.grant([consent.grant for consent in consents])
                head = ledger.head()
            except ChainError:
                break
            acknowledged += consents
            blocks[head.number] = head.hash
        timer.join()
        process.end(signal.SIGKILL)
        deadline = time.monotonic() + 5
        while not gone(process.ready["anvil"]) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert gone(process.ready["anvil"])
        ledger.close()
    process = Process(tmp_path, anvil_path)
    assert deployment is not None
    ledger = ChainLedger.of(process.url, deployment)
    granted = {e.id for e in ledger.events(0, ledger.head().number) if e.kind == "granted"}
    assert {consent.id for consent in acknowledged} <= granted
    assert len(acknowledged) >= 20
    ledger.close()
    process.end(signal.SIGTERM)
    assert process.running.returncode == 0


def test_a_wiped_node_is_noticed_and_refilled(anvil_path: Path, tmp_path: Path) -> None:
    chain = Chain(tmp_path / "before", anvil_path)
    deployed, consents = fill(chain, 3)
    cursor: Cursor | None = None
    cursor = Follower(deployed.ledger, lambda: cursor).poll().cursor
    chain.stop()
    chain = Chain(tmp_path / "after", anvil_path)
    again = deploy(
        chain.url, deployed.domain.deployment_id, [FOUNDER.address], LOG.address, RELAYER
    )
    assert again.addresses == deployed.deployment.addresses
    ledger = ChainLedger.of(chain.url, deployed.deployment, RELAYER)
    result = Follower(ledger, lambda: cursor).poll()
    # Deployed again within the same second, the first block even is the same block.
    assert result.rewound_to in (0, 1)
    assert ledger.status_of(consents[0].id)[0] is ChainStatus.NONE
    ledger.grant([consent.grant for consent in reversed(consents)])
    assert all(ledger.in_force(consent.id, 0) for consent in consents)
    ledger.close()
    chain.stop()


def test_the_command_explains_itself(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = build_parser().format_help()
    for option in ("--data", "--port", "--host", "--anvil", "--sender", "--senders-file"):
        assert option in text
    broken = tmp_path / "senders"
    broken.write_text("0x12\n")
    with pytest.raises(SystemExit):
        main(["--data", str(tmp_path), "--senders-file", str(broken)])
    assert "40 hex digits" in capsys.readouterr().err
    missing = ["--data", str(tmp_path), "--port", "0", "--anvil", str(tmp_path / "no")]
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    assert main(missing) == 1
    for number, handler in kept.items():
        signal.signal(number, handler)
    assert "anvil was not found" in capsys.readouterr().err
