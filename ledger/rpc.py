"""JSON-RPC over web3's HTTP provider, with our time limits, our errors and one careful sender.

web3's own session reads proxy variables, its default middleware asks for the chain id with every
call, and its provider repeats failed submissions by itself. All three are off: identity is checked
by ``ledger.chain``, and repeating is the caller's decision.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests
from web3 import HTTPProvider
from web3.exceptions import Web3Exception
from web3.types import RPCEndpoint

from ledger.abi import decode_revert
from ledger.errors import ChainError, ChainUnreachable, NotMined, Reverted, WrongChain
from ledger.rawtx import sign_transaction, transaction_hash
from ledger.signing import Key

MAX_GAS_IN_FLIGHT = 75_000_000
"""Ten batches of 200 grants, or hundreds of checkpoints, fit into one block of 120 M gas."""


class RpcRefused(ChainError):
    """The node answered with a JSON-RPC error that is not a revert."""


def from_hex(text: object) -> bytes:
    """0x-hex of an answer as bytes. Raises ChainError for anything else."""
    if not isinstance(text, str) or not text.startswith("0x"):
        raise ChainError("the node answered with something that is not hex")
    try:
        return bytes.fromhex(text[2:])
    except ValueError as error:
        raise ChainError("the node answered with something that is not hex") from error


def to_int(text: object) -> int:
    """0x-hex of an answer as a number. Raises ChainError for anything else."""
    if not isinstance(text, str) or not text.startswith("0x"):
        raise ChainError("the node answered with something that is not a number")
    try:
        return int(text, 16)
    except ValueError as error:
        raise ChainError("the node answered with something that is not a number") from error


def map_error(error: Exception) -> ChainError:
    """Turn an exception of requests or web3 into one of ours."""
    if isinstance(error, requests.RequestException | OSError):
        return ChainUnreachable(f"no answer from the node ({type(error).__name__})")
    if isinstance(error, ValueError):
        return ChainUnreachable("the node did not answer with JSON-RPC")
    return ChainError(f"the node's answer makes no sense ({type(error).__name__})")


class Rpc:
    """One endpoint. Safe to use from several threads."""

    def __init__(self, url: str, *, timeout: tuple[float, float] = (1.0, 5.0)) -> None:
        """``timeout``: seconds to connect and to wait for an answer."""
        self._session = requests.Session()
        self._session.trust_env = False
        self._provider = HTTPProvider(
            url,
            request_kwargs={"timeout": timeout},
            session=self._session,
            exception_retry_configuration=None,
        )
        self._provider.global_ccip_read_enabled = False

    def call(self, method: str, *params: object) -> Any:
        """Call a method. Raises ChainUnreachable, Reverted, RpcRefused."""
        try:
            answer = self._provider.make_request(RPCEndpoint(method), list(params))
        except (requests.RequestException, Web3Exception, OSError, ValueError) as error:
            raise map_error(error) from error
        return _result_of(answer)

    def batch(self, calls: Sequence[tuple[str, Sequence[object]]]) -> list[Any]:
        """Call methods in order in one request; a refusal stands as an exception in its place."""
        if not calls:
            return []
        try:
            answers = self._provider.make_batch_request(
                [(RPCEndpoint(method), list(params)) for method, params in calls]
            )
        except (requests.RequestException, Web3Exception, OSError, ValueError) as error:
            raise map_error(error) from error
        if not isinstance(answers, list):
            _result_of(answers)
        if not isinstance(answers, list) or len(answers) != len(calls):
            raise ChainError("the node did not answer every call of a batch")
        results: list[Any] = []
        for answer in answers:
            try:
                results.append(_result_of(answer))
            except (Reverted, RpcRefused) as refusal:
                results.append(refusal)
        return results

    def call_contract(self, to: bytes, data: bytes, *, block: str = "latest") -> bytes:
        """``eth_call``. Raises Reverted with the contract error's name and arguments."""
        return from_hex(
            self.call("eth_call", {"to": "0x" + to.hex(), "data": "0x" + data.hex()}, block)
        )

    def code_at(self, address: bytes) -> bytes:
        """Code of a contract, empty where there is none."""
        return from_hex(self.call("eth_getCode", "0x" + address.hex(), "latest"))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def _result_of(answer: object) -> Any:
    if not isinstance(answer, Mapping):
        raise ChainUnreachable("the node did not answer with JSON-RPC")
    problem = answer.get("error")
    if problem is None:
        if "result" not in answer:
            raise ChainUnreachable("the node did not answer with JSON-RPC")
        return answer["result"]
    if not isinstance(problem, Mapping):
        raise RpcRefused("the node refused without a reason")
    data = problem.get("data")
    message = str(problem.get("message", ""))[:200]
    if isinstance(data, str) and data.startswith("0x"):
        raise decode_revert(from_hex(data))
    if "revert" in message.lower():
        raise Reverted("Unknown")
    if "recovering" in message:
        raise ChainUnreachable("the node is recovering")
    raise RpcRefused(message)


@dataclass(frozen=True, slots=True)
class Transaction:
    """What a relayer is asked to send: receiver (20 bytes), call data, gas limit."""

    to: bytes
    data: bytes
    gas: int


class Relayer:
    """The one writer of one key: signs, sends, and waits until the blocks hold it.

    The nonce is the chain's (``latest``) and never a guess: nothing is in flight when a call
    begins. A second process with the same key breaks that; each relayer has its own.
    """

    def __init__(self, rpc: Rpc, key: Key, *, wait_seconds: float = 15.0) -> None:
        """``wait_seconds``: how long a transaction may take until it is mined."""
        self._rpc = rpc
        self._key = key
        self._wait_seconds = wait_seconds
        self._lock = threading.Lock()
        self._chain_id: int | None = None

    @property
    def address(self) -> bytes:
        """Address that the transactions come from."""
        return self._key.address

    def send(self, transactions: Sequence[Transaction]) -> list[dict[str, Any]]:
        """Send in order and return the receipts in the same order.

        Raises ChainUnreachable or NotMined when it is unknown what became of them: every
        message of ours may be submitted again. Raises Reverted and RpcRefused otherwise.
        """
        receipts: list[dict[str, Any]] = []
        with self._lock:
            for some in _in_flight(transactions):
                receipts += self._send(some)
        return receipts

    def send_accepted(self, transactions: Sequence[Transaction]) -> dict[int, Reverted]:
        """Send in order those that the contract would take now; the others by their index.

        Asked first, so that a refusal costs no transaction and arrives with its name. Raises as
        :meth:`send` does.
        """
        refused: dict[int, Reverted] = {}
        for index, transaction in enumerate(transactions):
            try:
                self._rpc.call_contract(transaction.to, transaction.data)
            except Reverted as reverted:
                refused[index] = reverted
        self.send([one for index, one in enumerate(transactions) if index not in refused])
        return refused

    def wait_for(self, tx_hash: bytes) -> dict[str, Any]:
        """Wait for a transaction of anybody's and return its receipt. Raises NotMined."""
        return self._await([tx_hash])[0]

    def _send(self, transactions: Sequence[Transaction]) -> list[dict[str, Any]]:
        nonce, price, chain_id = self._rpc.batch(
            [
                ("eth_getTransactionCount", ["0x" + self.address.hex(), "latest"]),
                ("eth_gasPrice", []),
                ("eth_chainId", []),
            ]
        )
        for answer in (nonce, price, chain_id):
            if isinstance(answer, ChainError):
                raise answer
        if self._chain_id not in (None, to_int(chain_id)):
            raise WrongChain("the endpoint leads to another chain than before")
        self._chain_id = to_int(chain_id)
        raws = [
            sign_transaction(
                self._key,
                chain_id=self._chain_id,
                nonce=to_int(nonce) + offset,
                gas_price=to_int(price),
                gas=transaction.gas,
                to=transaction.to,
                data=transaction.data,
            )
            for offset, transaction in enumerate(transactions)
        ]
        answers = self._rpc.batch([("eth_sendRawTransaction", ["0x" + raw.hex()]) for raw in raws])
        hashes = [transaction_hash(raw) for raw in raws]
        for answer in answers:
            if isinstance(answer, ChainError) and not _may_have_arrived(answer):
                raise answer
        receipts = self._await(hashes)
        for transaction, receipt in zip(transactions, receipts, strict=True):
            if receipt.get("status") != "0x1":
                # The receipt does not say why; asking again does, unless the state moved on.
                self._rpc.call_contract(transaction.to, transaction.data)
                raise Reverted("Unknown")
        return receipts

    def _await(self, hashes: Sequence[bytes]) -> list[dict[str, Any]]:
        deadline = time.monotonic() + self._wait_seconds
        pause = 0.01
        while True:
            found = self._rpc.batch(
                [("eth_getTransactionReceipt", ["0x" + tx_hash.hex()]) for tx_hash in hashes]
            )
            for answer in found:
                if isinstance(answer, ChainError):
                    raise answer
            if all(found):
                return found
            if time.monotonic() > deadline:
                missing = sum(1 for answer in found if not answer)
                raise NotMined(f"{missing} of {len(hashes)} transactions are in no block yet")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.25)


def _in_flight(transactions: Sequence[Transaction]) -> Iterator[list[Transaction]]:
    """In order, as many at a time as one block certainly holds; at least one."""
    some: list[Transaction] = []
    for transaction in transactions:
        if some and sum(one.gas for one in some) + transaction.gas > MAX_GAS_IN_FLIGHT:
            yield some
            some = []
        some.append(transaction)
    if some:
        yield some


def _may_have_arrived(refusal: ChainError) -> bool:
    """Answers that mean "look the hash up", not "no"."""
    text = str(refusal).lower()
    return isinstance(refusal, RpcRefused) and ("already" in text or "nonce too low" in text)
