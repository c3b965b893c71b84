"""The worker's side of the chain: promises handed in, events followed, checkpoints anchored.

Three things, each safe to repeat at any moment (walk A of the house, step 5):

1. *hand in*: the outbox's promises, never two of one subject in one block; what the contract skips because
   it holds it already is settled, what it will never take is reported;
2. *follow*: what the chain recorded becomes a leaf and makes a permit active, in the transaction that
   moves the cursor;
3. *anchor*: the log's head, signed by ``keys``, becomes a promise like the others.

Blocks that were seen and are gone mean that the chain lost its tail or everything: the contracts are
brought back to the same addresses and what it no longer holds is handed in again (decision D1), before
anything new: a checkpoint that came after a newer one could never come back.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange import checkpoints, outbox
from exchange import log as merkle
from exchange.clock import Clock
from exchange.deployment import Deployment
from exchange.errors import ExchangeError
from exchange.keys.client import KeysClient
from exchange.outbox import Promise
from exchange.store import schema
from exchange.store.database import Store
from exchange.worker.recording import make_member, record
from ledger.chain import ChainLedger
from ledger.deploy import Deployment as OnChain
from ledger.deploy import deploy
from ledger.errors import LedgerError, Reverted, WrongChain
from ledger.follow import Cursor, Follower
from ledger.ids import ConsentId
from ledger.interface import GrantItem, Head, WithdrawItem
from ledger.messages import from_hex
from ledger.signing import Key

_log = logging.getLogger(__name__)

_BATCH = 1000
_LOOK_SECONDS = 0.1
#: How often an unchanged head is noted, so that the gate knows that the node answers.
_ANSWERED_SECONDS = 2.0
_PATIENCE_SECONDS = 0.5
#: A promise handed in this long ago and not recorded is handed in again.
_AGAIN_MS = 20_000
_NEVER = "NotTheConsentKey"


class ChainSide:
    """One worker's chain. ``relayer`` holds no authority over consents: it pays for the carriage."""

    def __init__(
        self,
        *,
        store: Store,
        keys: KeysClient,
        clock: Clock,
        deployment: Deployment,
        rpc_url: str,
        relayer: Key,
        anchor_seconds: float,
        confirmations: int,
    ) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._deployment = deployment
        self._rpc_url = rpc_url
        self._relayer = relayer
        self._anchor_seconds = anchor_seconds
        self._expected = OnChain.from_json(
            {
                "deployment": "0x" + deployment.id.hex(),
                "chainId": deployment.chain_id,
                "genesisHash": deployment.genesis_hash,
                "addresses": deployment.addresses,
                "codeHashes": deployment.code_hashes,
                "block": 0,
            }
        )
        self._ledger = ChainLedger.of(rpc_url, self._expected, relayer)
        self._follower = Follower(self._ledger, self._cursor, confirmations=confirmations)
        self._writing = threading.Lock()
        self._checked = False
        self._refills = 0
        self._noted = 0.0

    def close(self) -> None:
        """Close the connections to the node."""
        self._ledger.close()

    def hand_in_loop(self, stopping: threading.Event) -> None:
        """Hand promises in until ``stopping`` is set."""
        self._loop(stopping, self.hand_in, "handing in failed")

    def follow_loop(self, stopping: threading.Event) -> None:
        """Follow the chain until ``stopping`` is set."""
        self._loop(stopping, self.follow, "following failed")

    def anchor_loop(self, stopping: threading.Event) -> None:
        """Sign and promise checkpoints until ``stopping`` is set."""
        while not stopping.wait(self._anchor_seconds):
            try:
                self.checkpoint()
            except (ExchangeError, LedgerError) as error:
                _log.warning("no checkpoint", extra={"error": type(error).__name__})

    def _loop(self, stopping: threading.Event, step: Any, what: str) -> None:
        while not stopping.wait(_LOOK_SECONDS):
            try:
                while step() and not stopping.is_set():
                    pass
            except (ExchangeError, LedgerError, sa.exc.SQLAlchemyError) as error:
                _log.warning(what, extra={"error": type(error).__name__})
                stopping.wait(_PATIENCE_SECONDS)

    # Handing in ----------------------------------------------------------------------------

    def hand_in(self) -> bool:
        """Hand in what waits; whether there may be more.

        Raises:
            ChainError: the node did not answer, or not as expected; nothing is lost.
        """
        now = self._clock.now_ms()
        refills = self._refills
        with self._store.reading() as conn:
            rounds = outbox.rounds(conn, _BATCH)
            stuck = conn.execute(
                sa.select(sa.func.count())
                .select_from(schema.outbox)
                .where(schema.outbox.c.status == "sent", schema.outbox.c.sent_ms < now - _AGAIN_MS)
            ).scalar_one()
        if stuck:
            self._store.transact(lambda conn: outbox.retry(conn, sent_before_ms=now - _AGAIN_MS))
        for promises in rounds:
            with self._writing:
                self._require_identity()
                # What was lost comes first: the chain takes no checkpoint behind a newer one.
                if not self._knows_what_was_seen():
                    return False
                if refills != self._refills:
                    return True
                self._hand_in(promises)
        return sum(map(len, rounds)) == _BATCH

    def _knows_what_was_seen(self) -> bool:
        """Whether the chain still has the block up to which it was followed."""
        cursor = self._cursor()
        if cursor is None or cursor.number < 0:
            return True
        return self._ledger.head_at(cursor.number) == Head(cursor.number, cursor.hash)

    def _hand_in(self, promises: Sequence[Promise]) -> None:
        """Hand in one round and return when it is mined, so that the next comes in later blocks."""
        grants = [one for one in promises if one.verb == "grant"]
        withdrawals = [one for one in promises if one.verb == "withdraw"]
        anchors = [one for one in promises if one.verb == "anchor"]
        if grants or withdrawals:
            submission = self._ledger.submit(
                [_item(one, GrantItem) for one in grants],
                [_item(one, WithdrawItem) for one in withdrawals],
            )
            self._batch([*grants, *withdrawals], submission)
        for promise in promises:
            if promise.verb not in ("grant", "withdraw", "anchor"):
                self._single(promise)
        if anchors:
            self._anchors(anchors)

    def _batch(self, promises: Sequence[Promise], submission: Any) -> None:
        """Note what was handed in; settle what the contract skipped."""
        by_id = {one.consent.raw: one for one in promises if one.consent is not None}
        never = [by_id[one.id] for one in submission.rejected if one.reason == _NEVER]
        held = [
            by_id[one.id] for one in submission.rejected
            if one.reason != _NEVER and one.id in by_id
        ]  # fmt: skip
        now = self._clock.now_ms()

        def work(conn: Connection) -> None:
            outbox.mark_sent(conn, [one.id for one in promises], at_ms=now)
            for one in held:
                verb: Literal["grant", "withdraw"] = "grant" if one.verb == "grant" else "withdraw"
                if one.consent is not None and self._seen(conn, one.consent, verb):
                    outbox.mark_recorded(conn, [one.consent], verb=verb)
            outbox.mark_kept(conn, [one.id for one in never])

        self._store.transact(work)
        for promise in never:
            # The door verified this signature: only a changed row or another contract explains it.
            _log.error("the chain refused a consent key", extra={"outbox": promise.id})

    @staticmethod
    def _seen(conn: Connection, consent: ConsentId, verb: str) -> bool:
        """Whether the follower has seen the chain hold it; if not, its event is still to come."""
        row = conn.execute(
            sa.select(schema.consents.c.recorded_leaf, schema.consents.c.ended_leaf).where(
                schema.consents.c.consent_id == consent.hex
            )
        ).one_or_none()
        if row is None:
            return False
        return row.recorded_leaf is not None if verb == "grant" else row.ended_leaf is not None

    def _anchors(self, promises: Sequence[Promise]) -> None:
        refused = self._ledger.anchor_all(
            [
                (
                    int(one.payload["size"]),
                    from_hex(one.payload["root"], 32),
                    from_hex(one.payload["signature"], 64),
                )
                for one in promises
            ]
        )
        # A smaller checkpoint than the chain's: moot, not lost.
        moot = [one for one in promises if int(one.payload["size"]) in refused]
        for promise in moot:
            reason = refused[int(promise.payload["size"])]
            _log.info("moot", extra={"outbox": promise.id, "reason": reason})
        now = self._clock.now_ms()

        def work(conn: Connection) -> None:
            outbox.mark_sent(conn, [one.id for one in promises], at_ms=now)
            outbox.mark_kept(conn, [one.id for one in moot])

        self._store.transact(work)

    def _single(self, promise: Promise) -> None:
        if promise.verb != "admit":
            _log.error("a promise of an unknown kind", extra={"outbox": promise.id})
            return
        newcomer = from_hex(promise.payload["participant"], 20)
        signatures = [from_hex(one, 64) for one in promise.payload["signatures"]]
        try:
            self._ledger.admit(newcomer, signatures)
        except Reverted as reverted:
            _log.info("moot", extra={"outbox": promise.id, "reason": reverted.name})
            if reverted.name == "AlreadyKnown":
                # Anybody may hand an admission in; a member that left stays outside.
                stays = newcomer in self._ledger.participants()
                self._store.transact(lambda conn: self._settle(conn, promise, member=stays))
                return
            # Perhaps a signer's own admission is not back yet: it is tried again.
        now = self._clock.now_ms()
        self._store.transact(lambda conn: outbox.mark_sent(conn, [promise.id], at_ms=now))

    @staticmethod
    def _settle(conn: Connection, promise: Promise, *, member: bool) -> None:
        outbox.mark_kept(conn, [promise.id])
        if member:
            make_member(conn, promise.payload["participant"])

    # Following -----------------------------------------------------------------------------

    def follow(self) -> bool:
        """Look at the chain once; whether there is more to see.

        Raises:
            ChainError: the node did not answer, or it is another chain.
        """
        result = self._follower.poll()
        if result.rewound_to is not None:
            self._refill(result.rewound_to)
        noted = time.monotonic()
        if (
            not result.events
            and result.rewound_to is None
            and noted - self._noted < _ANSWERED_SECONDS
            and result.cursor == self._cursor()
        ):
            return False
        self._store.transact(lambda conn: record(conn, result, self._clock))
        self._noted = noted
        return result.more

    def _refill(self, rewound_to: int) -> None:
        """The chain lost blocks: bring the contracts back and hand in again what was in them."""
        _log.warning("the chain lost blocks", extra={"block": rewound_to})
        with self._writing:
            self._checked = False
            self._require_identity()
            held = self._held()
            self._store.transact(lambda conn: outbox.reset_lost(conn, held))
            self._refills += 1

    def _held(self) -> outbox.Held:
        """What the chain holds now, read from its first block on."""
        events = list(self._ledger.events(0, self._ledger.head().number))
        return outbox.Held(
            frozenset("0x" + one.id.hex() for one in events if one.kind == "granted"),
            frozenset("0x" + one.id.hex() for one in events if one.kind == "withdrawn"),
            frozenset(one.size for one in events if one.size is not None),
            frozenset(
                (one.change, "0x" + one.participant.hex())
                for one in events
                if one.change is not None and one.participant is not None
            ),
        )

    def _require_identity(self) -> None:
        """The right chain with our contracts on it; contracts that are gone are deployed again.

        Raises:
            WrongChain: another chain, or other code at our addresses: nothing is handed in there.
        """
        if self._checked:
            return
        try:
            self._ledger.connect()
        except WrongChain:
            self._redeploy()
        self._checked = True

    def _redeploy(self) -> None:
        genesis = self._ledger.head_at(0)
        if genesis is None or genesis.hash != self._expected.genesis_hash:
            raise WrongChain("the node's genesis block is not this deployment's")
        founders = [from_hex(one["card"]["address"], 20) for one in self._deployment.founders]
        found = deploy(
            self._rpc_url,
            self._deployment.id,
            founders,
            self._deployment.exchange,
            self._relayer,
        )
        if dict(found.addresses) != dict(self._expected.addresses):
            raise WrongChain("the contracts came to other addresses")
        self._ledger.connect()

    def _cursor(self) -> Cursor | None:
        with self._store.reading() as conn:
            row = conn.execute(sa.select(schema.chain_cursor)).mappings().one_or_none()
        if row is None:
            return None
        history = json.loads(row["history"])
        return Cursor(
            row["number"],
            bytes.fromhex(row["hash"][2:]),
            tuple(Head(number, bytes.fromhex(text[2:])) for number, text in history),
        )

    # Anchoring -----------------------------------------------------------------------------

    def checkpoint(self) -> bool:
        """Sign the log's head and promise to anchor it; whether there was anything new.

        Raises:
            KeysUnavailable, KeysRefused: no signature, no checkpoint.
        """
        with self._store.reading() as conn:
            size, root = merkle.head(conn)
            newest = checkpoints.list_checkpoints(conn, limit=1)
        if size == 0 or (newest and newest[0].size >= size):
            return False
        signed = self._keys.sign_checkpoint(size, root)
        now = self._clock.now_ms()

        def work(conn: Connection) -> None:
            known = checkpoints.list_checkpoints(conn, limit=1)
            if known and known[0].size >= size:
                return
            checkpoints.add_checkpoint(
                conn, size=size, root=root, signature=signed.signature, at_ms=now
            )
            outbox.promise_anchor(conn, size=size, root=root, signature=signed.signature, at_ms=now)

        self._store.transact(work)
        return True


def _item(promise: Promise, kind: type[GrantItem | WithdrawItem]) -> Any:
    payload = promise.payload
    return kind(
        from_hex(payload["consentKey"], 20),
        from_hex(payload["commitment"], 32),
        int(payload["untilDay"]),
        from_hex(payload["signature"], 64),
    )
