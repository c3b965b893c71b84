"""What an auditor's own node is asked, and ``python -m ledger trust``, against a real chain."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import ledger.deploy
from ledger.__main__ import main
from ledger.abi import Artifact, ContractName
from ledger.chain import _history, fetch_trust
from ledger.errors import WrongChain
from ledger.ids import OrgId
from ledger.interface import ChainEvent
from ledger.messages import Message
from ledger.signing import Admit, Key, Retire, Rotate
from ledger.trust import parse, parse_bytes
from tests.ledgers import LOG, Chain, Deployed, a_key, by_address, checkpoint


def test_trust_refuses_contracts_of_another_code(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ledger.deploy.load_artifact

    def bent(name: ContractName) -> Artifact:
        """The same behaviour, compiled from a text that is not ours (its metadata's hash)."""
        artifact = real(name)
        at = artifact.bytecode.index(b"dipfs") + 20
        changed = bytes([artifact.bytecode[at] ^ 1])
        code = artifact.bytecode[:at] + changed + artifact.bytecode[at + 1 :]
        return replace(artifact, bytecode=code)

    honest = chain.deploy("honest code").deployment
    monkeypatch.setattr(ledger.deploy, "load_artifact", bent)
    forged = chain.deploy("forged code").deployment
    monkeypatch.undo()
    assert fetch_trust(chain.url, honest.addresses)["version"] == "assent.trust/1"
    with pytest.raises(WrongChain, match="not the ones"):
        fetch_trust(chain.url, forged.addresses)


def test_trust_knows_later_members_and_who_followed_whom(chain: Chain, deployed: Deployed) -> None:
    founders = by_address(*(a_key(f"founder {number}") for number in range(3)))
    newcomer, moved = a_key("newcomer"), a_key("moved")
    held = deployed.ledger

    def sign(message: Message, *keys: Key) -> list[bytes]:
        return [key.sign(message, deployed.domain) for key in keys]

    held.admit(newcomer.address, sign(Admit(newcomer.address), *founders[:2]))
    old, new = founders[0], moved
    by_old, by_new = sign(Rotate(old.address, new.address), old, new)
    held.rotate(old.address, new.address, old_signature=by_old, new_signature=by_new)
    held.retire(newcomer.address, sign(Retire(newcomer.address), newcomer)[0])
    told = fetch_trust(chain.url, deployed.deployment.addresses)["participants"]
    listed = {entry["address"]: entry for entry in told}
    assert len(listed) == len(told) == 5
    assert listed["0x" + old.address.hex()]["successor"] == "0x" + new.address.hex()
    assert listed["0x" + old.address.hex()]["until"] == listed["0x" + new.address.hex()]["since"]
    assert listed["0x" + new.address.hex()]["successor"] is None
    assert listed["0x" + newcomer.address.hex()]["until"] is not None
    assert listed["0x" + newcomer.address.hex()]["successor"] is None
    trust = parse(fetch_trust(chain.url, deployed.deployment.addresses))
    assert trust.keys_of[OrgId.of_address(old.address)] == {old.address, new.address}
    assert OrgId.of_address(new.address) not in trust.keys_of


def told(**changes: Any) -> ChainEvent:
    """One event as a node tells it."""
    usual: dict[str, Any] = {
        "id": b"",
        "block_number": 3,
        "block_hash": b"b" * 32,
        "tx_hash": b"t" * 32,
        "log_index": 0,
    }
    return ChainEvent(**(usual | {"timestamp": 1} | changes))


def test_two_roots_for_one_size_make_the_file_useless() -> None:
    once = told(kind="checkpoint", size=3, root=b"r" * 32)
    history, _ = _history([once, once], lambda _: None)
    assert len(history["checkpoints"]) == 1
    other = told(kind="checkpoint", size=3, root=b"s" * 32)
    history, _ = _history([once, other], lambda _: None)
    assert len(history["checkpoints"]) == 2
    with pytest.raises(WrongChain, match="never joined"):
        _history([told(kind="participant", change="retired", participant=b"p" * 20)], lambda _: 0)


# The command ------------------------------------------------------------------------------


@pytest.fixture
def described(deployed: Deployed, tmp_path: Path) -> Path:
    """What an exchange publishes of itself."""
    path = tmp_path / "deployment.json"
    log = "0x" + LOG.address.hex()
    path.write_text(json.dumps({**deployed.deployment.to_json(), "exchange": log}))
    return path


def anchor(deployed: Deployed, size: int) -> None:
    root = bytes([size]) * 32
    deployed.ledger.anchor(size, root, checkpoint(LOG, deployed.domain, size, root))


def ask(chain: Chain, described: Path, *arguments: object) -> int:
    given = ["--rpc", chain.url, "--deployment", described, *arguments]
    return main(["trust", *(str(one) for one in given)])


def test_the_command_prints_or_writes_what_a_verification_trusts(
    chain: Chain,
    deployed: Deployed,
    described: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    anchor(deployed, 3)
    assert ask(chain, described) == 0
    printed = capsys.readouterr().out
    out = tmp_path / "trust.json"
    assert ask(chain, described, "--out", out) == 0
    assert capsys.readouterr().out == ""
    assert set(tmp_path.iterdir()) == {described, out}
    assert parse_bytes(printed.encode()) == parse_bytes(out.read_bytes())
    assert parse_bytes(out.read_bytes()).checkpoints == {3: bytes([3]) * 32}


def test_the_command_does_not_go_back_behind_an_older_file(
    chain: Chain,
    deployed: Deployed,
    described: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    anchor(deployed, 3)
    out = tmp_path / "trust.json"
    assert ask(chain, described, "--out", out) == 0
    anchor(deployed, 5)
    assert ask(chain, described, "--out", out, "--previous", out) == 0
    kept = out.read_bytes()
    richer = json.loads(kept)
    richer["checkpoints"].append({"size": 9, "root": "0x" + "09" * 32, "block": 1})
    older = tmp_path / "older.json"
    older.write_text(json.dumps(richer))
    assert ask(chain, described, "--out", out, "--previous", older) == 1
    assert "checkpoint of size 9 is gone" in capsys.readouterr().err
    assert out.read_bytes() == kept
    assert ask(chain, described, "--previous", tmp_path / "none.json") == 2
    assert "none.json" in capsys.readouterr().err
    older.write_bytes(kept[:-40])
    assert ask(chain, described, "--previous", older) == 1


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda v: v.update(deployment="0x" + "12" * 32), "deployment is not the described one"),
        (lambda v: v.update(exchange="0x" + "12" * 20), "exchange is not the described one"),
        (lambda v: v.pop("addresses"), "names no contracts"),
        (lambda v: v["addresses"].pop("AuditAnchor"), "names no contracts"),
        (lambda v: v["addresses"].update(ConsentLedger="0x12"), "MalformedValue"),
        (lambda v: v["addresses"].update(ConsentLedger="0x" + "12" * 20), "no ledger of ours"),
        (lambda v: v["addresses"].update(Participants="0x" + "12" * 20), "another contract"),
    ],
)
def test_the_command_refuses_a_description_that_the_chain_does_not_bear_out(
    chain: Chain,
    described: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Any], object],
    what: str,
) -> None:
    assert ask(chain, described) == 0
    value = json.loads(described.read_text())
    change(value)
    described.write_text(json.dumps(value))
    assert ask(chain, described) == 1
    assert what in capsys.readouterr().err


def test_the_command_says_what_is_missing(
    chain: Chain, described: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(chain, tmp_path / "nowhere.json") == 2
    described.write_text("{")
    assert ask(chain, described) == 1
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(["trust"])
    assert caught.value.code == 2
    assert "--rpc" in capsys.readouterr().err


def test_a_node_that_does_not_answer_is_no_source_of_trust(described: Path, tmp_path: Path) -> None:
    out = tmp_path / "trust.json"
    command = [sys.executable, "-m", "ledger", "trust", "--rpc", "http://127.0.0.1:9"]
    found = subprocess.run(
        [*command, "--deployment", str(described), "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (found.returncode, found.stdout) == (1, "")
    assert "ChainUnreachable" in found.stderr
    assert "Traceback" not in found.stderr
    assert not out.exists()
