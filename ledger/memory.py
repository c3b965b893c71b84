"""A ledger without a chain: the contracts' behaviour in a dictionary.

It forgets everything at exit, so it warns, and production refuses it. Each submission is a block of
its own; block hashes are chained, so that a follower can tell a lost tail (:meth:`MemoryLedger.
lose_tail`) as it can on a chain.
"""

from __future__ import annotations

import hashlib
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from ledger.commitment import consent_id
from ledger.errors import InsecureLedgerWarning, MalformedValue, Reverted, SignatureInvalid
from ledger.interface import (
    ChainEvent,
    ChainStatus,
    EventKind,
    GrantItem,
    Head,
    ParticipantChange,
    Rejection,
    Submission,
    WithdrawItem,
)
from ledger.signing import (
    Admit,
    Checkpoint,
    Domain,
    Grant,
    Message,
    Replace,
    Retire,
    Rotate,
    Withdraw,
    recover,
)


@dataclass(frozen=True)
class _State:
    """Everything the contracts store; replaced as a whole, so a refused message leaves no trace."""

    slots: dict[bytes, tuple[ChainStatus, int]] = field(default_factory=dict)
    members: frozenset[bytes] = frozenset()
    retired: frozenset[bytes] = frozenset()
    size: int = 0
    root: bytes = b""
    cosigned: dict[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Block:
    head: Head
    events: tuple[ChainEvent, ...]
    state: _State


class MemoryLedger:
    """The same promises as ChainLedger, but for durability."""

    def __init__(self, deployment_id: bytes, founders: Sequence[bytes], log_key: bytes) -> None:
        """``founders`` and ``log_key`` are addresses. Warns InsecureLedgerWarning."""
        if not founders or len(set(founders)) != len(founders):
            raise MalformedValue("founders are at least one address, each once")
        warnings.warn(
            "MemoryLedger forgets every consent at exit", InsecureLedgerWarning, stacklevel=2
        )
        self._domain = Domain(deployment_id)
        self._log_key = log_key
        self._lock = threading.RLock()
        genesis = hashlib.sha256(b"assent.memory/1" + deployment_id).digest()
        self._blocks = [_Block(Head(0, genesis), (), _State())]
        admitted = [_participant("admitted", founder) for founder in founders]
        self._seal(_State(members=frozenset(founders)), admitted)

    # Writing

    def grant(self, items: Sequence[GrantItem]) -> Submission:
        """See ConsentLedger."""
        return self._submit(items, Grant)

    def withdraw(self, items: Sequence[WithdrawItem]) -> Submission:
        """See ConsentLedger."""
        return self._submit(items, Withdraw)

    def _submit(
        self,
        items: Sequence[GrantItem] | Sequence[WithdrawItem],
        message: type[Grant | Withdraw],
    ) -> Submission:
        if not items:
            return Submission(())
        with self._lock:
            slots = dict(self._state.slots)
            events, rejected = [], []
            for item in items:
                key = consent_id(item.consent_key, item.commitment, item.until_day).raw
                problem = self._problem(item, message, slots.get(key, (ChainStatus.NONE, 0))[0])
                if problem is not None:
                    rejected.append(Rejection(key, problem))
                elif message is Grant:
                    slots[key] = (ChainStatus.ACTIVE, item.until_day)
                    events.append(_event("granted", key))
                else:
                    slots[key] = (ChainStatus.WITHDRAWN, 0)
                    events.append(_event("withdrawn", key))
            return self._seal(replace(self._state, slots=slots), events, rejected)

    def _problem(
        self,
        item: GrantItem | WithdrawItem,
        message: type[Grant | Withdraw],
        status: ChainStatus,
    ) -> str | None:
        signer = self._signer(message(item.commitment, item.until_day), item.signature)
        if signer is None or signer != item.consent_key:
            return "NotTheConsentKey"
        if status is ChainStatus.WITHDRAWN:
            return "AlreadyWithdrawn"
        if status is ChainStatus.ACTIVE and message is Grant:
            return "AlreadyActive"
        return None

    def anchor(
        self, size: int, root: bytes, log_signature: bytes, cosignatures: Sequence[bytes] = ()
    ) -> Submission:
        """See ConsentLedger."""
        with self._lock:
            state = self._state
            message = Checkpoint(size, root)
            if self._signer(message, log_signature) != self._log_key:
                raise Reverted("NotTheLogKey")
            if size == 0:
                raise Reverted("SizeZero")
            if size < state.size:
                raise Reverted("SizeShrinks", {"size": size, "latest": state.size})
            if size == state.size and root != state.root:
                raise Reverted("SecondRoot", {"size": size, "anchored": "0x" + state.root.hex()})
            signers = self._members_signing(message, cosignatures, state.members)
            gained = [signer for signer in signers if state.cosigned.get(signer, 0) < size]
            if size == state.size and not gained:
                return self._seal(state, [])
            cosigned = {**state.cosigned, **dict.fromkeys(gained, size)}
            event = replace(
                _event("checkpoint", b""), size=size, root=root, cosignatures=len(signers)
            )
            return self._seal(replace(state, size=size, root=root, cosigned=cosigned), [event])

    def admit(self, participant: bytes, signatures: Sequence[bytes]) -> Submission:
        """See ConsentLedger."""
        with self._lock:
            members = self._state.members
            if not members:
                raise Reverted("NoMembers")
            self._require_enough(signatures, min(2, len(members)))
            self._members_signing(Admit(participant), signatures, members)
            return self._change("admitted", participant, None, joins=participant, leaves=None)

    def rotate(
        self, old: bytes, new: bytes, *, old_signature: bytes, new_signature: bytes
    ) -> Submission:
        """See ConsentLedger."""
        with self._lock:
            self._require_signed(old, Rotate(old, new), old_signature)
            self._require_signed(new, Rotate(old, new), new_signature)
            return self._change("rotated", old, new, joins=new, leaves=old)

    def replace(
        self, lost: bytes, new: bytes, signatures: Sequence[bytes], *, new_signature: bytes
    ) -> Submission:
        """See ConsentLedger."""
        with self._lock:
            self._require_signed(new, Replace(lost, new), new_signature)
            self._require_member(lost)
            others = self._state.members - {lost}
            self._require_enough(signatures, max(2, len(others) // 2 + 1))
            self._members_signing(Replace(lost, new), signatures, others)
            return self._change("replaced", lost, new, joins=new, leaves=lost)

    def retire(self, participant: bytes, signature: bytes) -> Submission:
        """See ConsentLedger."""
        with self._lock:
            self._require_signed(participant, Retire(participant), signature)
            return self._change("retired", participant, None, joins=None, leaves=participant)

    def _change(
        self,
        change: ParticipantChange,
        participant: bytes,
        successor: bytes | None,
        *,
        joins: bytes | None,
        leaves: bytes | None,
    ) -> Submission:
        members, retired = self._state.members, self._state.retired
        if leaves is not None:
            self._require_member(leaves)
            members, retired = members - {leaves}, retired | {leaves}
        if joins is not None:
            if not any(joins):
                raise Reverted("ZeroParticipant")
            if joins in members or joins in retired:
                raise Reverted("AlreadyKnown", {"participant": "0x" + joins.hex()})
            members = members | {joins}
        state = replace(self._state, members=members, retired=retired)
        return self._seal(state, [_participant(change, participant, successor)])

    def _signer(self, message: Message, signature: bytes) -> bytes | None:
        try:
            return recover(message, signature, self._domain)
        except SignatureInvalid:
            return None

    def _require_signed(self, participant: bytes, message: Message, signature: bytes) -> None:
        if self._signer(message, signature) != participant:
            raise Reverted("NotSignedBy", {"participant": "0x" + participant.hex()})

    def _require_member(self, participant: bytes) -> None:
        if participant not in self._state.members:
            raise Reverted("NotAMember", {"participant": "0x" + participant.hex()})

    @staticmethod
    def _require_enough(signatures: Sequence[bytes], needed: int) -> None:
        if len(signatures) < needed:
            raise Reverted("TooFewSignatures", {"given": len(signatures), "needed": needed})

    def _members_signing(
        self, message: Message, signatures: Sequence[bytes], members: frozenset[bytes]
    ) -> list[bytes]:
        signers: list[bytes] = []
        for signature in signatures:
            signer = self._signer(message, signature)
            if signer is None or signer not in members:
                shown = (signer or bytes(20)).hex()
                raise Reverted("NotAMember", {"participant": "0x" + shown})
            if signers and signer <= signers[-1]:
                raise Reverted("SignersNotAscending")
            signers.append(signer)
        return signers

    # Reading

    def status_of(self, consent_id: bytes) -> tuple[ChainStatus, int]:
        """See ConsentLedger."""
        with self._lock:
            return self._state.slots.get(consent_id, (ChainStatus.NONE, 0))

    def in_force(self, consent_id: bytes, day: int) -> bool:
        """See ConsentLedger."""
        status, until_day = self.status_of(consent_id)
        return status is ChainStatus.ACTIVE and day <= until_day

    def participants(self) -> frozenset[bytes]:
        """See ConsentLedger."""
        with self._lock:
            return self._state.members

    def head(self) -> Head:
        """See ConsentLedger."""
        with self._lock:
            return self._blocks[-1].head

    def head_at(self, number: int) -> Head | None:
        """See ConsentLedger."""
        with self._lock:
            return self._blocks[number].head if 0 <= number < len(self._blocks) else None

    def events(self, from_block: int, to_block: int) -> Iterable[ChainEvent]:
        """See ConsentLedger."""
        with self._lock:
            blocks = self._blocks[max(0, from_block) : to_block + 1]
        return _flatten(blocks)

    # What a chain may do to its followers

    def lose_tail(self, number: int) -> None:
        """Forget every block above ``number``, as a chain does that lost its tail."""
        with self._lock:
            del self._blocks[number + 1 :]

    @property
    def _state(self) -> _State:
        return self._blocks[-1].state

    def _seal(
        self, state: _State, events: Sequence[ChainEvent], rejected: Sequence[Rejection] = ()
    ) -> Submission:
        parent = self.head()
        now = time.time_ns()
        digest = hashlib.sha256(parent.hash + now.to_bytes(16, "big"))
        for event in events:
            digest.update(event.kind.encode() + event.id + (event.root or b""))
        head = Head(parent.number + 1, digest.digest())
        tx_hash = hashlib.sha256(b"transaction" + head.hash).digest()
        placed = tuple(
            replace(
                event,
                block_number=head.number,
                block_hash=head.hash,
                log_index=index,
                tx_hash=tx_hash,
                timestamp=now // 1_000_000_000,
            )
            for index, event in enumerate(events)
        )
        self._blocks.append(_Block(head, placed, state))
        return Submission((tx_hash,), tuple(rejected))


def _event(kind: EventKind, event_id: bytes) -> ChainEvent:
    """An event without a place yet."""
    return ChainEvent(kind, event_id, 0, b"", 0, b"", 0)


def _participant(
    change: ParticipantChange, participant: bytes, successor: bytes | None = None
) -> ChainEvent:
    return ChainEvent(
        kind="participant",
        id=b"",
        block_number=0,
        block_hash=b"",
        log_index=0,
        tx_hash=b"",
        timestamp=0,
        change=change,
        participant=participant,
        successor=successor,
    )


def _flatten(blocks: Sequence[_Block]) -> Iterator[ChainEvent]:
    for block in blocks:
        yield from block.events
