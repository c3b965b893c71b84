"""Keys, signed messages and ledgers for tests: valid by default, one change per test."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ledger.chain import ChainLedger, Deployment, deploy
from ledger.commitment import consent_id
from ledger.errors import ChainUnreachable
from ledger.interface import GrantItem, WithdrawItem
from ledger.managed import ManagedNode
from ledger.node import NodeServer
from ledger.rpc import Relayer, Rpc
from ledger.signing import Checkpoint, Domain, Grant, Key, Withdraw

RELAYER = Key.from_bytes(hashlib.sha256(b"relayer").digest())
LOG = Key.from_bytes(hashlib.sha256(b"log").digest())


def a_key(name: str) -> Key:
    """A key that follows from its name."""
    return Key.from_bytes(hashlib.sha256(name.encode()).digest())


def by_address(*keys: Key) -> list[Key]:
    """Keys in ascending order of their addresses, as the contracts want signers."""
    return sorted(keys, key=lambda key: key.address)


@dataclass(frozen=True)
class Signed:
    """One consent with both of its signed messages."""

    domain: Domain
    key: Key = field(default_factory=Key.new)
    commitment: bytes = field(default_factory=lambda: hashlib.sha256(b"terms").digest())
    until_day: int = 20_800

    @property
    def id(self) -> bytes:
        """Id on the chain."""
        return consent_id(self.key.address, self.commitment, self.until_day).raw

    @property
    def grant(self) -> GrantItem:
        """The signed grant."""
        signature = self.key.sign(Grant(self.commitment, self.until_day), self.domain)
        return GrantItem(self.key.address, self.commitment, self.until_day, signature)

    @property
    def withdrawal(self) -> WithdrawItem:
        """The signed withdrawal."""
        signature = self.key.sign(Withdraw(self.commitment, self.until_day), self.domain)
        return WithdrawItem(self.key.address, self.commitment, self.until_day, signature)


def malleated(signature: bytes) -> bytes:
    """The other form of a signature: s replaced by order - s, which ERC-2098 cannot even hold."""
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    vs = int.from_bytes(signature[32:], "big")
    s, parity = vs & (2**255 - 1), vs >> 255
    return signature[:32] + ((order - s) | ((1 - parity) << 255)).to_bytes(32, "big")


def checkpoint(key: Key, domain: Domain, size: int, root: bytes) -> bytes:
    """A signature over a checkpoint."""
    return key.sign(Checkpoint(size, root), domain)


class Chain:
    """A managed node in this process, on which any number of deployments live side by side."""

    def __init__(self, folder: Path, anvil: Path, **changes: Any) -> None:
        settings: dict[str, Any] = {
            "senders": [RELAYER.address],
            "collect_seconds": (0.0, 0.0),
            **changes,
        }
        self.node = ManagedNode(folder, anvil_path=anvil, **settings)
        self.server = NodeServer(self.node)
        self.server.start()
        self.url = self.server.url
        self._open: list[Rpc | ChainLedger] = []

    def deploy(self, name: str, *founders: Key, log: Key = LOG) -> Deployed:
        """Deploy under an id that follows from the name."""
        domain = Domain(hashlib.sha256(name.encode()).digest())
        members = founders or (a_key("founder"),)
        deployment = deploy(
            self.url, domain.deployment_id, [key.address for key in members], log.address, RELAYER
        )
        ledger = ChainLedger.of(self.url, deployment, RELAYER)
        rpc = Rpc(self.url)
        self._open += [ledger, rpc]
        return Deployed(self.url, domain, deployment, ledger, rpc)

    def stop(self) -> None:
        """Close every connection, stop node and engine."""
        for connection in self._open:
            connection.close()
        self.server.stop()


@dataclass(frozen=True)
class Deployed:
    """One deployment and the ways to it."""

    url: str
    domain: Domain
    deployment: Deployment
    ledger: ChainLedger
    rpc: Rpc

    def relayer(self) -> Relayer:
        """The same relayer below the ledger."""
        return Relayer(self.rpc, RELAYER)

    def consent(self, **changes: Any) -> Signed:
        """A new consent with a fresh key."""
        return Signed(self.domain, **changes)


class OpenAnvil:
    """An anvil that mines at once and refuses nothing: some network that is not ours."""

    def __init__(self, anvil: Path, *, genesis: int = 1_700_000_000) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        free = ["--accounts", "0", "--balance", "0", "--base-fee", "0", "--gas-price", "0"]
        self.process = subprocess.Popen(
            [
                str(anvil),
                "--port",
                str(port),
                "--timestamp",
                str(genesis),
                "--quiet",
                *free,
                "--gas-limit",
                "120000000",
                "--disable-min-priority-fee",
                "--no-cors",
            ],
            stdout=subprocess.DEVNULL,
        )
        self.rpc = Rpc(self.url)
        for _ in range(500):
            try:
                self.rpc.call("eth_chainId")
            except ChainUnreachable:
                time.sleep(0.02)
            else:
                break

    def stop(self) -> None:
        """Kill it."""
        self.rpc.close()
        self.process.kill()
        self.process.wait()
