"""The ledger on a chain: :class:`ledger.interface.ConsentLedger` over JSON-RPC.

Call data and logs are packed and unpacked by hand. Which chain, genesis and code the endpoint must
show is checked by :meth:`ChainLedger.connect`, since a replaced or wiped node otherwise answers
everything as if nothing were wrong: no logs, no error, and transactions to missing contracts that
succeed. The transport is ``ledger.rpc``, deploying ``ledger.deploy``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from ledger.abi import CONTRACTS, ContractName, selector
from ledger.calldata import pack, pack_items, word
from ledger.deploy import Deployment as Deployment  # noqa: PLC0414 - part of this face
from ledger.deploy import deploy as deploy  # noqa: PLC0414 - part of this face
from ledger.deploy import deployed_at, describe
from ledger.errors import ChainError, ChainUnreachable, MalformedValue, Reorganised, WrongChain
from ledger.eventlog import decode_event, decode_rejections
from ledger.interface import (
    MAX_ITEMS_PER_TRANSACTION,
    ChainEvent,
    ChainStatus,
    GrantItem,
    Head,
    Submission,
    WithdrawItem,
)
from ledger.rpc import Relayer, Rpc, RpcRefused, Transaction, from_hex, to_int
from ledger.signing import Key

_ITEM: Final = "(address,bytes32,uint32,bytes32,bytes32)"
_GRANT_BATCH: Final = selector(f"grantBatch({_ITEM}[])")
_WITHDRAW_BATCH: Final = selector(f"withdrawBatch({_ITEM}[])")
_STATUS_OF: Final = selector("statusOf(bytes32)")
_IN_FORCE: Final = selector("inForce(bytes32,uint32)")
_DEPLOYMENT_ID: Final = selector("deploymentId()")
_ANCHOR: Final = selector("anchor(uint64,bytes32,bytes,bytes[])")
_ADMIT: Final = selector("admit(address,bytes[])")
_ROTATE: Final = selector("rotate(address,address,bytes,bytes)")
_REPLACE: Final = selector("replace(address,address,bytes[],bytes)")
_RETIRE: Final = selector("retire(address,bytes)")
_PAGE_BLOCKS: Final = 2_000


class ChainLedger:
    """The contracts of one deployment, read through any node, written through one relayer key."""

    def __init__(
        self,
        rpc_url: str,
        addresses: Mapping[ContractName, bytes],
        deployment_id: bytes,
        relayer_key: Key | None = None,
        *,
        timeout: tuple[float, float] = (1.0, 5.0),
        wait_seconds: float = 15.0,
        expected: Deployment | None = None,
    ) -> None:
        """``addresses`` by contract name, 20 bytes each. Without a relayer key: read only.

        ``expected``: what :meth:`connect` compares chain id, genesis and code hashes with.
        Sockets are opened by the first call.
        """
        if set(addresses) != set(CONTRACTS) or any(len(a) != 20 for a in addresses.values()):
            raise MalformedValue("three contract addresses of 20 bytes are expected")
        self._rpc = Rpc(rpc_url, timeout=timeout)
        self._at = dict(addresses)
        self._at_hex: dict[ContractName, str] = {
            name: "0x" + address.hex() for name, address in addresses.items()
        }
        self._deployment_id = deployment_id
        self._expected = expected
        self._relayer = (
            Relayer(self._rpc, relayer_key, wait_seconds=wait_seconds) if relayer_key else None
        )

    @classmethod
    def of(
        cls,
        rpc_url: str,
        deployment: Deployment,
        relayer_key: Key | None = None,
        *,
        timeout: tuple[float, float] = (1.0, 5.0),
        wait_seconds: float = 15.0,
    ) -> ChainLedger:
        """Build for a known deployment, whose identity :meth:`connect` then insists on."""
        return cls(
            rpc_url,
            deployment.addresses,
            deployment.deployment_id,
            relayer_key,
            timeout=timeout,
            wait_seconds=wait_seconds,
            expected=deployment,
        )

    def connect(self) -> Deployment:
        """Check the endpoint's identity and return it; call again whenever blocks vanished.

        Raises WrongChain where a contract is missing, belongs to another deployment, or chain id,
        genesis or code differ from the expected ones; ChainUnreachable.
        """
        found = describe(self._rpc, self._deployment_id, self._at)
        for name in CONTRACTS:
            answered = self._rpc.call_contract(self._at[name], _DEPLOYMENT_ID)
            if answered != self._deployment_id:
                raise WrongChain(f"{name} belongs to another deployment")
        wanted = self._expected
        if wanted is not None:
            if found.chain_id != wanted.chain_id:
                raise WrongChain(f"chain id is {found.chain_id}, expected {wanted.chain_id}")
            if found.genesis_hash != wanted.genesis_hash:
                raise WrongChain("the chain has another genesis block")
            if dict(found.code_hashes) != dict(wanted.code_hashes):
                raise WrongChain("the contracts' code differs")
        return found

    def close(self) -> None:
        """Close the connections."""
        self._rpc.close()

    # Writing

    def grant(self, items: Sequence[GrantItem]) -> Submission:
        """See ConsentLedger; up to 200 items a transaction, returns when they are mined."""
        return self.submit(items, ())

    def withdraw(self, items: Sequence[WithdrawItem]) -> Submission:
        """See ConsentLedger; up to 200 items a transaction, returns when they are mined."""
        return self.submit((), items)

    def submit(self, grants: Sequence[GrantItem], ends: Sequence[WithdrawItem]) -> Submission:
        """Grants and withdrawals of different subjects, which may share a block."""
        transactions = [*self._batches(_GRANT_BATCH, grants), *self._batches(_WITHDRAW_BATCH, ends)]
        receipts = self._writer().send(transactions)
        rejected = [
            rejection
            for receipt in receipts
            for rejection in decode_rejections(receipt, self._at_hex["ConsentLedger"])
        ]
        return _submission(receipts, rejected)

    def _batches(
        self, verb: bytes, items: Sequence[GrantItem] | Sequence[WithdrawItem]
    ) -> Iterator[Transaction]:
        for start in range(0, len(items), MAX_ITEMS_PER_TRANSACTION):
            part = items[start : start + MAX_ITEMS_PER_TRANSACTION]
            data = verb + pack_items(part)
            yield Transaction(self._at["ConsentLedger"], data, 60_000 + 36_000 * len(part))

    def anchor(
        self, size: int, root: bytes, log_signature: bytes, cosignatures: Sequence[bytes] = ()
    ) -> Submission:
        """See ConsentLedger."""
        data = _ANCHOR + pack(size, root, (log_signature,), list(cosignatures))
        return self._submit("AuditAnchor", data, 160_000 + 50_000 * len(cosignatures))

    def anchor_all(self, checkpoints: Sequence[tuple[int, bytes, bytes]]) -> dict[int, str]:
        """Anchor (size, root, log signature), ascending; the sizes refused and the error's name."""
        transactions = [
            Transaction(self._at["AuditAnchor"], _ANCHOR + pack(size, root, (signed,), []), 160_000)
            for size, root, signed in checkpoints
        ]
        refused = self._writer().send_accepted(transactions)
        return {checkpoints[index][0]: error.name for index, error in refused.items()}

    def admit(self, participant: bytes, signatures: Sequence[bytes]) -> Submission:
        """See ConsentLedger."""
        data = _ADMIT + pack(participant, list(signatures))
        return self._submit("Participants", data, 120_000 + 20_000 * len(signatures))

    def rotate(
        self, old: bytes, new: bytes, *, old_signature: bytes, new_signature: bytes
    ) -> Submission:
        """See ConsentLedger."""
        data = _ROTATE + pack(old, new, (old_signature,), (new_signature,))
        return self._submit("Participants", data, 180_000)

    def replace(
        self, lost: bytes, new: bytes, signatures: Sequence[bytes], *, new_signature: bytes
    ) -> Submission:
        """See ConsentLedger."""
        data = _REPLACE + pack(lost, new, list(signatures), (new_signature,))
        return self._submit("Participants", data, 180_000 + 20_000 * len(signatures))

    def retire(self, participant: bytes, signature: bytes) -> Submission:
        """See ConsentLedger."""
        data = _RETIRE + pack(participant, (signature,))
        return self._submit("Participants", data, 120_000)

    def _submit(self, contract: ContractName, data: bytes, gas: int) -> Submission:
        # Asked first, so that a refusal costs no transaction and arrives with its name.
        writer = self._writer()
        self._rpc.call_contract(self._at[contract], data)
        return _submission(writer.send([Transaction(self._at[contract], data, gas)]), [])

    def _writer(self) -> Relayer:
        if self._relayer is None:
            raise ChainError("this ledger was opened without a relayer key, for reading")
        return self._relayer

    # Reading

    def status_of(self, consent_id: bytes) -> tuple[ChainStatus, int]:
        """See ConsentLedger."""
        answer = self._ask(_STATUS_OF + word(consent_id), 64)
        return ChainStatus(answer[31]), int.from_bytes(answer[32:], "big")

    def in_force(self, consent_id: bytes, day: int) -> bool:
        """See ConsentLedger."""
        return self._ask(_IN_FORCE + word(consent_id) + word(day), 32)[31] == 1

    def _ask(self, data: bytes, size: int) -> bytes:
        answer = self._rpc.call_contract(self._at["ConsentLedger"], data)
        if len(answer) != size:
            raise WrongChain("there is no ConsentLedger at its address")
        return answer

    def participants(self) -> frozenset[bytes]:
        """See ConsentLedger."""
        members: set[bytes] = set()
        for event in self._events(0, self.head().number, ["Participants"]):
            _apply(members, event)
        return frozenset(members)

    def head(self) -> Head:
        """See ConsentLedger."""
        head = self._block("latest")
        if head is None:
            raise ChainUnreachable("the node has no newest block")
        return head

    def head_at(self, number: int) -> Head | None:
        """See ConsentLedger."""
        return self._block(hex(number))

    def _block(self, tag: str) -> Head | None:
        try:
            block = self._rpc.call("eth_getBlockByNumber", tag, False)
        except RpcRefused:
            # Some nodes refuse a number beyond their head instead of answering null.
            return None
        if block is None:
            return None
        return Head(to_int(block["number"]), from_hex(block["hash"]))

    def events(self, from_block: int, to_block: int) -> Iterable[ChainEvent]:
        """See ConsentLedger. Pages through the range, smaller where the node asks for it."""
        return self._events(from_block, to_block, CONTRACTS)

    def _events(
        self, from_block: int, to_block: int, contracts: Sequence[ContractName]
    ) -> Iterator[ChainEvent]:
        wanted = [self._at_hex[name] for name in contracts]
        times: dict[str, int] = {}
        page, start = _PAGE_BLOCKS, from_block
        while start <= to_block:
            end = min(start + page - 1, to_block)
            asked = {"address": wanted, "fromBlock": hex(start), "toBlock": hex(end)}
            try:
                logs = self._rpc.call("eth_getLogs", asked)
            except (RpcRefused, ChainUnreachable) as problem:
                # Too many logs for the node or for the time limit; a dead node is asked once more.
                if page == 1 or (isinstance(problem, ChainUnreachable) and page < _PAGE_BLOCKS):
                    raise
                page = max(1, page // 8)
                continue
            for log in logs:
                event = decode_event(log, self._at_hex, self._time_of(log, times))
                if event is not None:
                    yield event
            start = end + 1

    def _time_of(self, log: Mapping[str, Any], times: dict[str, int]) -> int:
        if log.get("blockTimestamp"):
            return to_int(log["blockTimestamp"])
        block_hash = str(log.get("blockHash"))
        if block_hash not in times:
            block = self._rpc.call("eth_getBlockByHash", block_hash, False)
            if block is None:
                raise Reorganised("a block vanished while its events were read")
            times[block_hash] = to_int(block["timestamp"])
        return times[block_hash]


def _submission(receipts: Sequence[Mapping[str, Any]], rejected: Sequence[Any]) -> Submission:
    hashes = tuple(from_hex(receipt["transactionHash"]) for receipt in receipts)
    return Submission(hashes, tuple(rejected))


def _apply(members: set[bytes], event: ChainEvent) -> None:
    if event.participant is None:
        return
    if event.change == "admitted":
        members.add(event.participant)
    else:
        members.discard(event.participant)
        if event.successor is not None:
            members.add(event.successor)


def fetch_trust(
    rpc_url: str,
    addresses: Mapping[ContractName, bytes],
    *,
    timeout: tuple[float, float] = (2.0, 30.0),
    progress: Callable[[int], None] = lambda _block: None,
) -> dict[str, Any]:
    """Read from the auditor's own node what a verification trusts; JSON, bytes as 0x-hex.

    ``{"version": "assent.trust/1", "deployment", "chainId", "genesisHash", "addresses",
    "codeHashes", "head": {"number", "hash"}, "exchange": the log key's address, "participants":
    [{"address", "since": block, "until": block or null, "successor": address or null}],
    "checkpoints": [{"size", "root", "block"}], "granted": {id: block}, "withdrawn": {id: block}}``

    Deployment id and log key are the contracts' own constants. Two roots told for one size both
    stand in it, and then nobody can use it. Raises WrongChain where the three contracts do not
    belong together or are not the ones of this package, Reorganised when the chain changed while
    it was read.
    """
    rpc = Rpc(rpc_url, timeout=timeout)
    try:
        deployment_id = rpc.call_contract(addresses["ConsentLedger"], _DEPLOYMENT_ID)
        log_key = rpc.call_contract(addresses["AuditAnchor"], selector("logKey()"))
        pinned = rpc.call_contract(addresses["AuditAnchor"], selector("participants()"))
    finally:
        rpc.close()
    if len(deployment_id) != 32 or len(log_key) != 32:
        raise WrongChain("there is no ledger of ours at these addresses")
    if pinned[12:] != addresses["Participants"]:
        raise WrongChain("the anchor's participants are another contract")
    ledger = ChainLedger(rpc_url, addresses, deployment_id, timeout=timeout)
    try:
        identity = ledger.connect()
        head = ledger.head()
        history, founders = _history(ledger.events(0, head.number), progress)
        where = deployed_at(deployment_id, founders, log_key[12:]) if founders else []
        if dict(addresses) not in where:
            raise WrongChain("the contracts are not the ones that this package deploys")
        trust: dict[str, Any] = {
            "version": "assent.trust/1",
            **{k: v for k, v in identity.to_json().items() if k != "block"},
            "head": {"number": head.number, "hash": "0x" + head.hash.hex()},
            "exchange": "0x" + log_key[12:].hex(),
            **history,
        }
        if ledger.head_at(head.number) != head:
            raise Reorganised("the chain changed while it was read")
        return trust
    finally:
        ledger.close()


def _history(
    events: Iterable[ChainEvent], progress: Callable[[int], None]
) -> tuple[dict[str, Any], list[bytes]]:
    """What the contracts told, as JSON; and the founders: whom the first transaction admitted."""
    founding: list[tuple[bytes, bytes]] = []
    granted: dict[str, int] = {}
    withdrawn: dict[str, int] = {}
    checkpoints: dict[tuple[int | None, bytes], dict[str, Any]] = {}
    spans: dict[bytes, dict[str, Any]] = {}
    for event in events:
        progress(event.block_number)
        if event.kind == "granted":
            granted["0x" + event.id.hex()] = event.block_number
        elif event.kind == "withdrawn":
            withdrawn["0x" + event.id.hex()] = event.block_number
        elif event.kind == "checkpoint" and event.root is not None:
            entry = {"size": event.size, "root": "0x" + event.root.hex()}
            # A checkpoint is told again whenever another co-signer joins it.
            told = (event.size, event.root)
            checkpoints.setdefault(told, {**entry, "block": event.block_number})
        elif event.participant is not None:
            joined = event.participant if event.change == "admitted" else event.successor
            later = None if joined is None else "0x" + joined.hex()
            if event.change != "admitted":
                ended = spans.get(event.participant)
                if ended is None:
                    raise WrongChain("a participant left that had never joined")
                ended["until"], ended["successor"] = event.block_number, later
            if joined is not None:
                founding.append((event.tx_hash, joined))
                spans[joined] = {
                    "address": later,
                    "since": event.block_number,
                    "until": None,
                    "successor": None,
                }
    history = {
        "participants": list(spans.values()),
        "checkpoints": list(checkpoints.values()),
        "granted": granted,
        "withdrawn": withdrawn,
    }
    return history, [joined for transaction, joined in founding if transaction == founding[0][0]]
