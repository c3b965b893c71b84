"""A node that comes back empty: what it held comes first, whatever was about to be handed in."""

from __future__ import annotations

import shutil

import pytest

from exchange import outbox
from ledger.errors import ChainError
from ledger.managed import ManagedNode
from ledger.node import NodeServer
from tests.audited import Audited
from tests.ledgers import RELAYER, Chain


class Losing:
    """An exchange on a node of its own, which can lose everything and come back."""

    def __init__(self, folder, anvil):
        self.folder, self.anvil = folder / "node", anvil
        self.chain = Chain(self.folder, anvil)
        self.house = Audited(folder / "house", self.chain)

    def lose_everything(self):
        port = int(self.chain.url.rsplit(":", 1)[1])
        self.chain.server.stop()
        shutil.rmtree(self.folder)
        node = ManagedNode(
            self.folder,
            anvil_path=self.anvil,
            senders=[RELAYER.address],
            collect_seconds=(0.0, 0.0),
        )
        self.chain.server = NodeServer(node, port=port)
        self.chain.server.start()

    def grow(self):
        """One more patient with a consent, and a checkpoint that waits to be anchored."""
        house = self.house
        patient = house.enrol(1)[0]
        house.consents.grant(patient.actor, house.submission(patient))
        assert house.chain.checkpoint()

    def anchored(self):
        ledger = self.house.chain._ledger
        return [one.size for one in ledger.events(0, ledger.head().number) if one.size is not None]

    def stop(self):
        self.house.close()
        self.chain.stop()


@pytest.fixture
def losing(tmp_path, anvil_path):
    (tmp_path / "house").mkdir()
    one = Losing(tmp_path, anvil_path)
    yield one
    one.stop()


def _follow(chain):
    """As the worker's loop does: what was connected to the old node answers no more."""
    for _ in range(10):
        try:
            while chain.follow():
                pass
        except ChainError:
            continue
        return


@pytest.fixture
def interrupted(losing, monkeypatch):
    """The node is lost, and found to be, between reading what waits and handing it in."""
    for _ in range(2):
        losing.grow()
        losing.house.step()
    losing.grow()
    read, chain = outbox.rounds, losing.house.chain

    def rounds(conn, limit):
        found = read(conn, limit)
        monkeypatch.setattr(outbox, "rounds", read)
        losing.lose_everything()
        _follow(chain)
        return found

    monkeypatch.setattr(outbox, "rounds", rounds)
    return losing


def test_no_checkpoint_overtakes_those_that_were_lost(interrupted):
    before = interrupted.anchored()
    interrupted.house.step()
    after = interrupted.anchored()
    assert len(before) >= 2
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1


def test_without_noticing_the_refill_the_lost_ones_never_come_back(interrupted, monkeypatch):
    before = interrupted.anchored()
    monkeypatch.setattr(
        type(interrupted.house.chain),
        "_refills",
        property(lambda _: 0, lambda *_: None),
        raising=False,
    )
    interrupted.house.step()
    assert not set(before) <= set(interrupted.anchored())
