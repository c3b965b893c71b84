"""The managed node: an ordinary JSON-RPC endpoint whose chain survives kill -9.

Anvil executes, this process remembers. A signed transaction is durable in the journal before its
sender hears of it; waiting transactions are collected for a moment, mined as one block at a chosen
timestamp, and number, timestamp and hash are recorded before anybody can read the block. At start
the newest usable snapshot is loaded, the journal's tail replayed and every hash compared, so that
the chain comes back bit for bit or not at all.

From outside only reading methods and ``eth_sendRawTransaction`` exist, the latter for the relayers
on the allow-list: gas is free here, so anybody else could fill slots. Block timestamps order, they
do not date: under load they may run ahead of the clock, since each is above the one before.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Final

from ledger.engine import (
    BLOCK_GAS_LIMIT,
    TRANSACTION_GAS_CAP,
    Engine,
    EngineLost,
    EngineRefused,
    find_anvil,
)
from ledger.errors import (
    JournalNotReproduced,
    LedgerError,
    MalformedValue,
    NodeError,
    NodeUnavailable,
)
from ledger.journal import Journal, JournalledBlock, JournalledTx
from ledger.rawtx import RawTransaction, parse_raw_transaction
from ledger.readgate import ReadGate

CHAIN_ID: Final = 31_337
READ_METHODS: Final = frozenset(
    {
        *("web3_clientVersion", "net_version", "eth_chainId", "eth_syncing", "eth_blockNumber"),
        *("eth_getBlockByNumber", "eth_getBlockByHash", "eth_getTransactionByHash"),
        *("eth_getTransactionReceipt", "eth_getTransactionCount", "eth_getBalance"),
        *("eth_getCode", "eth_getStorageAt", "eth_getProof", "eth_getLogs", "eth_call"),
        *("eth_estimateGas", "eth_gasPrice", "eth_maxPriorityFeePerGas", "eth_feeHistory"),
    }
)


class TransactionRefused(NodeError):
    """The node does not take this transaction; the text is meant for its sender."""


class ManagedNode:
    """Owns one anvil and its journal in ``data_dir``. Serve it by ``ledger.node``."""

    def __init__(
        self,
        data_dir: Path,
        *,
        anvil_path: Path | None = None,
        chain_id: int = CHAIN_ID,
        senders: Collection[bytes] | None = None,
        snapshot_every: int = 500,
        collect_seconds: tuple[float, float] = (0.05, 0.25),
    ) -> None:
        """``senders``: relayers' addresses (20 bytes); without a list nobody may send.

        ``collect_seconds``: a block waits the first span for company, and the second at most.
        """
        self._dir = data_dir
        self._anvil = find_anvil(anvil_path)
        self._chain_id = chain_id
        self._senders = frozenset(senders or ())
        self._snapshot_every = snapshot_every
        self._collect = collect_seconds
        self._gate = ReadGate()
        self._work = threading.Condition()
        self._pending: list[JournalledTx] = []
        self._nonces: dict[bytes, int] = {}
        self._engine: Engine | None = None
        self._head = JournalledBlock(0, 0, b"")
        self._stopping = False
        self._ready = threading.Event()
        self._failure: LedgerError | None = None
        self._thread = threading.Thread(target=self._run, name="node-engine", daemon=True)
        self.on_failure: Callable[[], None] = lambda: None

    @property
    def chain_id(self) -> int:
        """The chain's id."""
        return self._chain_id

    @property
    def head(self) -> JournalledBlock:
        """The newest recorded block."""
        return self._head

    @property
    def engine_pid(self) -> int:
        """Process id of anvil, 0 while there is none."""
        return self._engine.pid if self._engine is not None else 0

    @property
    def failure(self) -> LedgerError | None:
        """Why the node gave up, or None."""
        return self._failure

    def start(self) -> None:
        """Open the journal, rebuild the chain, begin to mine.

        Raises JournalNotReproduced, NodeUnavailable, NodeError (also when another node has the
        folder).
        """
        self._dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(self._dir / "node.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise NodeError("another node keeps this folder") from error
        self._journal = Journal(self._dir / "journal.sqlite")
        bound = self._journal.bind("chain_id", str(self._chain_id))
        if bound != str(self._chain_id):
            raise NodeError(f"this journal belongs to chain {bound}")
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            failure = self._failure
            self.stop()
            raise failure

    def stop(self) -> None:
        """Stop mining and end anvil; what was accepted stays in the journal."""
        with self._work:
            self._stopping = True
            self._work.notify_all()
        self._thread.join()
        self._journal.close()
        os.close(self._lock)

    # Accepting

    def submit(self, raws: Sequence[bytes]) -> list[bytes | TransactionRefused]:
        """Accept transactions in order: hash or refusal for each, durable on return."""
        parsed: list[RawTransaction | TransactionRefused] = []
        for raw in raws:
            try:
                parsed.append(parse_raw_transaction(raw))
            except MalformedValue as error:
                parsed.append(TransactionRefused(str(error)))
        answers: list[bytes | TransactionRefused] = []
        accepted: list[JournalledTx] = []
        with self._work:
            for tx in parsed:
                if isinstance(tx, TransactionRefused):
                    answers.append(tx)
                    continue
                known = any(tx.hash == other.hash for other in accepted)
                if known or self._journal.holds(tx.hash):
                    answers.append(tx.hash)
                    continue
                try:
                    self._check(tx)
                except TransactionRefused as refusal:
                    answers.append(refusal)
                    continue
                self._nonces[tx.sender] = tx.nonce + 1
                accepted.append(JournalledTx(tx.hash, tx.raw, tx.sender, tx.nonce, tx.gas))
                answers.append(tx.hash)
            if accepted:
                for taken in accepted:
                    self._journal.forget_dropped(taken.hash)
                self._journal.add(accepted)
                self._pending.extend(accepted)
                self._work.notify_all()
        return answers

    def _check(self, tx: RawTransaction) -> None:
        """Refuse whatever the engine would refuse, queue or drop without a word."""
        if tx.sender not in self._senders:
            raise TransactionRefused("this sender may not submit to this node")
        if tx.chain_id != self._chain_id:
            raise TransactionRefused("invalid chain id for signer")
        if tx.fee_per_gas or tx.value:
            raise TransactionRefused("gas is free and there is no money on this chain")
        if not tx.intrinsic_gas <= tx.gas <= TRANSACTION_GAS_CAP:
            raise TransactionRefused("gas limit is below the intrinsic cost or above 16777216")
        expected = self._expected_nonce(tx.sender)
        if tx.nonce != expected:
            side = "low" if tx.nonce < expected else "high"
            raise TransactionRefused(f"nonce too {side}: next is {expected}")

    def next_nonce(self, sender: bytes) -> int:
        """The sender's next nonce, with everything accepted counted."""
        with self._work:
            return self._expected_nonce(sender)

    def _expected_nonce(self, sender: bytes) -> int:
        if sender not in self._nonces:
            self._nonces[sender] = self._journal.next_nonce(sender)
        return self._nonces[sender]

    # Reading

    def read(self, body: bytes, *, patience_seconds: float = 10.0) -> bytes:
        """Pass a checked JSON-RPC request on to the engine and return its answer.

        Raises NodeUnavailable when the engine does not come back in time.
        """
        deadline = time.monotonic() + patience_seconds
        while True:
            self._gate.enter()
            try:
                return self._require_engine().post(body)
            except EngineLost:
                if time.monotonic() > deadline or self._failure is not None:
                    raise
            finally:
                self._gate.leave()
            with self._work:
                self._work.notify_all()
            time.sleep(0.05)

    def _require_engine(self) -> Engine:
        if self._engine is None:
            raise EngineLost("the node is recovering")
        return self._engine

    # The engine's thread: the only one that starts anvil and changes the chain

    def _run(self) -> None:
        try:
            self._recover()
            self._ready.set()
            while not self._stopping:
                self._turn()
        except LedgerError as error:
            self._failure = error
        finally:
            self._gate.open()
            if self._engine is not None:
                self._engine.stop()
            self._ready.set()
            if self._failure is not None:
                self.on_failure()

    def _turn(self) -> None:
        with self._work:
            if not self._pending and not self._stopping and self._require_engine().alive:
                self._work.wait(0.2)
        if not self._require_engine().alive:
            self._recover()
        if not self._pending or self._stopping:
            return
        self._wait_for_company()
        try:
            self._mine()
            if self._head.number % self._snapshot_every == 0:
                self._snapshot()
        except (EngineLost, EngineRefused):
            self._require_engine().stop()
            self._recover()

    def _wait_for_company(self) -> None:
        least, most = self._collect
        deadline = time.monotonic() + most
        with self._work:
            waiting = 0
            while len(self._pending) > waiting and time.monotonic() < deadline:
                waiting = len(self._pending)
                self._work.wait_for(
                    lambda: self._stopping, min(least, max(0.0, deadline - time.monotonic()))
                )

    def _mine(self) -> None:
        with self._work:
            batch = _fitting(self._pending)
        self._gate.close()
        try:
            timestamp = max(int(time.time()), self._head.timestamp + 1)
            engine = self._require_engine()
            mined = engine.mine([tx.raw for tx in batch], timestamp)
            block = _block_of(mined)
            if block.number != self._head.number + 1 or block.timestamp != timestamp:
                raise EngineLost("anvil mined another block than it was told to")
            hashes = [bytes.fromhex(tx_hash[2:]) for tx_hash in mined["transactions"]]
            left_out = {tx.hash for tx in batch} - set(hashes)
            self._journal.record(block, hashes, sorted(left_out))
            if left_out:
                engine.drop_pending()
            with self._work:
                self._head = block
                del self._pending[: len(batch)]
                if left_out:
                    self._nonces.clear()
        finally:
            self._gate.open()

    # Coming back

    def _recover(self) -> None:
        self._gate.close()
        try:
            if self._engine is not None:
                self._engine.stop()
            for snapshot in self._snapshots():
                if self._try_from(snapshot):
                    break
                snapshot.unlink(missing_ok=True)
            else:
                self._rebuild(None)
            with self._work:
                self._pending = self._journal.pending()
                self._nonces.clear()
        finally:
            self._gate.open()

    def _try_from(self, snapshot: Path) -> bool:
        try:
            self._rebuild(snapshot)
        except (NodeUnavailable, EngineRefused, JournalNotReproduced):
            if self._engine is not None:
                self._engine.stop()
            return False
        return True

    def _rebuild(self, snapshot: Path | None) -> None:
        """Start anvil and replay. Raises JournalNotReproduced, NodeUnavailable."""
        self._engine = None
        engine = Engine(
            self._anvil, chain_id=self._chain_id, log=self._dir / "anvil.log", state=snapshot
        )
        self._engine = engine
        genesis = _block_of(engine.block(0))
        if self._journal.bind("genesis", genesis.hash.hex()) != genesis.hash.hex():
            raise JournalNotReproduced(0)
        head = _block_of(engine.block("latest"))
        if head.number and self._journal.block(head.number) != head:
            raise JournalNotReproduced(head.number)
        for wanted, raws in self._journal.blocks_after(head.number):
            if wanted.number != head.number + 1:
                raise JournalNotReproduced(head.number + 1)
            head = _block_of(engine.mine(raws, wanted.timestamp))
            if head != wanted:
                raise JournalNotReproduced(wanted.number)
        self._head = head

    def _snapshots(self) -> list[Path]:
        """Finished snapshots, newest first."""
        return sorted(self._dir.glob("snapshot-*.json"), reverse=True)

    def _snapshot(self) -> None:
        """Write the state beside the journal: temporary file, fsync, rename, fsync."""
        state = self._require_engine().dump()
        target = self._dir / f"snapshot-{self._head.number:012d}.json"
        draft = target.with_suffix(".draft")
        with draft.open("wb") as file:
            file.write(state)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
        folder = os.open(self._dir, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        for old in self._snapshots()[2:]:
            old.unlink(missing_ok=True)


def _fitting(pending: Sequence[JournalledTx]) -> list[JournalledTx]:
    """Take what fits into one block; what does not would stay in the pool without a word."""
    taken: list[JournalledTx] = []
    gas = 0
    for tx in pending:
        gas += tx.gas
        if gas > BLOCK_GAS_LIMIT:
            break
        taken.append(tx)
    return taken


def _block_of(answer: dict[str, Any] | None) -> JournalledBlock:
    if answer is None:
        raise EngineLost("anvil does not know a block that it must have")
    return JournalledBlock(
        int(answer["number"], 16),
        int(answer["timestamp"], 16),
        bytes.fromhex(answer["hash"][2:]),
    )
