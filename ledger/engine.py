"""The managed node's engine: one anvil process without keys, money or a mind of its own.

It listens on a random loopback port, mines only when told, and dies with its parent. Its RPC has
no authentication and can rewrite state, so nobody but the managed node is told the port.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from ledger.errors import NodeError, NodeUnavailable

GENESIS_TIMESTAMP: Final = 1_700_000_000
BLOCK_GAS_LIMIT: Final = 120_000_000
TRANSACTION_GAS_CAP: Final = 16_777_216
"""EIP-7825."""

# Started through a launcher instead of a function between fork and exec, which is not safe in a
# process with threads. The signal outlives exec; the second check closes the gap in which the
# parent died before it was set. PR_SET_PDEATHSIG is 1 and SIGKILL 9 on every Linux.
_LAUNCHER: Final = """
import os, sys
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None, use_errno=True).prctl(1, 9, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class EngineLost(NodeUnavailable):
    """The engine does not answer any more."""


class EngineRefused(NodeError):
    """The engine answered with a JSON-RPC error."""


def find_anvil(given: str | Path | None = None) -> Path:
    """Find the binary: the given path, the environment's own, ``.cache`` of a checkout, PATH.

    Raises NodeUnavailable where there is none.
    """
    checkout = Path(__file__).resolve().parent.parent / ".cache" / "anvil" / "anvil"
    on_path = shutil.which("anvil")
    own = Path(sys.prefix) / "bin" / "anvil"
    usual = [own, checkout, *([Path(on_path)] if on_path else [])]
    candidates = [Path(given)] if given else usual
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate.resolve()
    raise NodeUnavailable("anvil was not found: run scripts/fetch_anvil.py or name it by --anvil")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Engine:
    """A running anvil. Start it from a thread that lives as long as the engine is to live."""

    def __init__(self, anvil: Path, *, chain_id: int, log: Path, state: Path | None = None) -> None:
        """Start and wait for the first answer. Raises NodeUnavailable when none comes."""
        self._idle: queue.SimpleQueue[http.client.HTTPConnection] = queue.SimpleQueue()
        self._port = _free_port()
        arguments = [
            *("--host", "127.0.0.1", "--port", str(self._port), "--chain-id", str(chain_id)),
            *("--no-mining", "--order", "fifo", "--hardfork", "osaka"),
            *("--timestamp", str(GENESIS_TIMESTAMP), "--gas-limit", str(BLOCK_GAS_LIMIT)),
            *("--enable-tx-gas-limit", "--prune-history", "64", "--accounts", "0"),
            *("--balance", "0", "--base-fee", "0", "--gas-price", "0"),
            *("--disable-min-priority-fee", "--no-cors", "--no-request-size-limit", "--quiet"),
        ]
        if state is not None:
            arguments += ["--load-state", str(state)]
        command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), str(anvil)]
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )
        self._await_answer()

    @property
    def pid(self) -> int:
        """Process id of anvil."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def _await_answer(self, limit_seconds: float = 60.0) -> None:
        deadline = time.monotonic() + limit_seconds
        while time.monotonic() < deadline and self.alive:
            try:
                self.call("eth_chainId")
            except EngineLost:
                time.sleep(0.01)
            else:
                return
        self.stop()
        raise NodeUnavailable("anvil did not start; its own words are in anvil.log")

    def post(self, body: bytes) -> bytes:
        """Hand a JSON-RPC request to anvil and return its answer. Raises EngineLost."""
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
        try:
            connection.request("POST", "/", body, {"Content-Type": "application/json"})
            answer: bytes = connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise EngineLost("anvil does not answer") from error
        self._idle.put(connection)
        return answer

    def call(self, method: str, *params: object) -> Any:
        """Call one method and return its result. Raises EngineLost, EngineRefused."""
        return self.batch([(method, params)])[0]

    def batch(self, calls: Sequence[tuple[str, Sequence[object]]]) -> list[Any]:
        """Call methods in order, in one request. Raises EngineLost, EngineRefused."""
        answers = self.try_batch(calls)
        for (method, _), answer in zip(calls, answers, strict=True):
            if isinstance(answer, EngineRefused):
                raise EngineRefused(f"{method}: {answer}") from answer
        return answers

    def try_batch(self, calls: Sequence[tuple[str, Sequence[object]]]) -> list[Any]:
        """Like :meth:`batch`, with a refusal as an EngineRefused in its place of the list."""
        if not calls:
            return []
        request = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}
            for number, (method, params) in enumerate(calls)
        ]
        answer = json.loads(self.post(json.dumps(request).encode()))
        if not isinstance(answer, list) or len(answer) != len(request):
            raise EngineRefused("anvil did not answer every call of a batch")
        by_id = {entry["id"]: entry for entry in answer}
        results: list[Any] = []
        for number in range(len(request)):
            entry = by_id[number]
            if "error" in entry:
                results.append(EngineRefused(str(entry["error"].get("message", ""))[:200]))
            else:
                results.append(entry["result"])
        return results

    def block(self, tag: int | str) -> dict[str, Any] | None:
        """A block with its transactions' hashes, or None where there is none."""
        wanted = hex(tag) if isinstance(tag, int) else tag
        found: dict[str, Any] | None = self.call("eth_getBlockByNumber", wanted, False)
        return found

    def mine(self, raws: Sequence[bytes], timestamp: int) -> dict[str, Any]:
        """Mine one block of these transactions in their order and return it.

        A transaction that anvil refuses is left out; the caller compares. Raises EngineLost.
        """
        calls = [("eth_sendRawTransaction", ["0x" + raw.hex()]) for raw in raws]
        self.try_batch(calls)
        self.call("evm_setNextBlockTimestamp", timestamp)
        self.call("evm_mine")
        block = self.block("latest")
        if block is None:
            raise EngineLost("anvil lost the block that it mined")
        return block

    def drop_pending(self) -> None:
        """Empty the pool, so that nothing left over slips into a later block."""
        self.call("anvil_dropAllTransactions")

    def dump(self) -> bytes:
        """The whole state as ``--load-state`` reads it."""
        packed = self.call("anvil_dumpState")
        return gzip.decompress(bytes.fromhex(packed[2:]))

    def stop(self) -> None:
        """Kill the process and wait for its end. Nothing of value is in it."""
        self._process.kill()
        self._process.wait()
        while not self._idle.empty():
            self._idle.get().close()
