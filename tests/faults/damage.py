"""What a killed node may come back without: its tail, its recent past, or everything."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
import urllib.error
import urllib.request
from contextlib import closing

import sqlalchemy as sa

from exchange.store import schema
from ledger.chain import fetch_trust
from ledger.errors import LedgerError
from ledger.messages import from_hex

LOSSES = {
    "node": "nothing",
    "tail": "its tail",
    "past": "its recent past",
    "everything": "everything",
}
_PATIENCE_SECONDS = 90.0


class Node:
    """The managed node of a stack: to be killed, damaged while it is dead, and looked at again."""

    def __init__(self, stack, store):
        self._stack = stack
        self._store = store
        self.folder = stack.settings.data_dir / "node"
        self._kept = stack.settings.data_dir.parent / "node-before"

    def keep(self):
        """Keep a copy of the node as it is now, for a later return to it."""
        shutil.rmtree(self._kept, ignore_errors=True)
        self._kept.mkdir()
        with (
            closing(sqlite3.connect(self.folder / "journal.sqlite")) as source,
            closing(sqlite3.connect(self._kept / "journal.sqlite")) as target,
        ):
            source.backup(target)

    def kill(self, loss, draw):
        """Kill the node; take from it what ``loss`` says before it is started again.

        Returns what the chain held (:meth:`held`) and how many blocks it lost.
        """
        held = self.held()
        # The watcher must not start it before the damage is done.
        with self._stack._lock:
            self._stack.kill("node")
            before = self._blocks()
            if loss == "tail":
                self._cut(max(1, draw.randrange(max(1, before // 2))))
            elif loss == "past":
                self._restore()
            elif loss == "everything":
                shutil.rmtree(self.folder)
            blocks = before - self._blocks()
        return held, blocks

    def held(self):
        """What the store knows to be on the chain: granted, withdrawn, newest checkpoint."""
        consents, checkpoints = schema.consents, schema.checkpoints
        with self._store.reading() as conn:
            recorded = set(
                conn.execute(
                    sa.select(consents.c.consent_id).where(consents.c.recorded_leaf.is_not(None))
                ).scalars()
            )
            withdrawn = set(
                conn.execute(
                    sa.select(schema.outbox.c.consent_id).where(
                        schema.outbox.c.verb == "withdraw", schema.outbox.c.status == "recorded"
                    )
                ).scalars()
            )
            anchored = set(
                conn.execute(
                    sa.select(checkpoints.c.size).where(checkpoints.c.status == "anchored")
                ).scalars()
            )
        return {"granted": recorded - withdrawn, "withdrawn": withdrawn, "anchored": anchored}

    def missing(self, held):
        """How much of ``held`` the chain lacks now; None while it does not answer as ours."""
        deployment = self._stack.deployment
        addresses = {name: from_hex(at, 20) for name, at in deployment.addresses.items()}
        try:
            trust = fetch_trust(self._stack.settings.rpc_url, addresses)
        except LedgerError:
            return None
        granted, withdrawn = set(trust["granted"]), set(trust["withdrawn"])
        sizes = {checkpoint["size"] for checkpoint in trust["checkpoints"]}
        return (
            len(held["granted"] - granted - withdrawn)
            + len(held["withdrawn"] - withdrawn)
            + len(held["anchored"] - sizes)
            + max(0, len(deployment.founders) - len(trust["participants"]))
        )

    def whole_after(self, held):
        """Seconds from the node's return until it holds everything again; None if it never does."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while not self._answers():
            if time.monotonic() > end:
                return None
            time.sleep(0.02)
        returned = time.monotonic()
        while time.monotonic() < end:
            if self.missing(held) == 0:
                return time.monotonic() - returned
            # Reading the whole chain is work for the node, which has other work to do now.
            time.sleep(0.5)
        return None

    def _answers(self):
        try:
            with urllib.request.urlopen(self._stack.settings.rpc_url, timeout=1) as answer:
                return bool(json.load(answer)["ready"])
        except (urllib.error.URLError, OSError, ValueError):
            return False

    def _blocks(self):
        journal = self.folder / "journal.sqlite"
        if not journal.exists():
            return 0
        with closing(sqlite3.connect(journal)) as db:
            return int(db.execute("SELECT coalesce(max(number), 0) FROM blocks").fetchone()[0])

    def _cut(self, count):
        last = self._blocks() - count
        with closing(sqlite3.connect(self.folder / "journal.sqlite")) as db, db:
            db.execute("DELETE FROM txs WHERE block > ? OR block IS NULL", (last,))
            db.execute("DELETE FROM blocks WHERE number > ?", (last,))
        for snapshot in self.folder.glob("snapshot-*.json"):
            if int(snapshot.stem.split("-")[1]) > last:
                snapshot.unlink()

    def _restore(self):
        shutil.rmtree(self.folder)
        shutil.copytree(self._kept, self.folder)
