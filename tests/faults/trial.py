"""One trial: real processes under load, killed at random moments, checked after each kill."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

import sqlalchemy as sa

from exchange.demo.patients import generate, write_files
from exchange.demo.people import Crowd, Wish
from exchange.demo.world import build
from exchange.hospital.publishing import publish_file
from exchange.store import schema
from exchange.store.database import Store
from ledger.chain import ChainLedger
from ledger.deploy import Deployment as OnChain
from tests.faults import checks, selftest
from tests.faults.damage import LOSSES, Node
from tests.faults.load import Load

#: What is killed how often. The node comes back whole, or without its tail, recent past, everything.
SMALL = {"api": 2, "keys": 1, "worker": 1, "node": 1, "tail": 1, "everything": 1}
FULL = {"api": 16, "keys": 12, "worker": 10, "node": 4, "tail": 3, "past": 2, "everything": 3}
WHOLE_SECONDS = 10.0
_SETTLE_SECONDS = 90.0
_AWAY_SECONDS = 60.0


@dataclass
class Report:
    """What a trial counted. ``broken`` lines hold ids and counts only."""

    seed: int
    kills: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    whole: list[tuple[str, int, float]] = field(default_factory=list)
    away: dict[str, list[float]] = field(default_factory=dict)
    selftest: list[tuple[str, str | None]] = field(default_factory=list)
    acks: dict[str, int] = field(default_factory=dict)
    releases: int = 0
    cut_short: int = 0
    subjects_opened: int = 0
    jobs: int = 0
    repeated: int = 0
    leaves: int = 0
    seconds: float = 0.0

    @property
    def good(self):
        """Whether everything held, and every self-test failed as it should."""
        return (
            not self.broken
            and all(noticed for _, noticed in self.selftest)
            and all(seconds <= WHOLE_SECONDS for _, _, seconds in self.whole)
        )


def trial(folder, kills, *, seed, patients=24, pause=0.15, gap=(0.3, 2.5), say=print):
    """Run one trial in ``folder``. ``kills`` says how often which process is killed."""
    began = time.monotonic()
    draw = random.Random(seed)
    report = Report(seed, dict(kills))
    world = build(folder, ["St. Anna", "City General"], progress=lambda _line: None)
    people = generate(patients, prefix="F", seed=seed)
    files = write_files(people, world.hospitals[0].home / "files")
    store = None
    try:
        world.start()
        say(f"the stack runs after {time.monotonic() - began:.1f} s")
        wishes = _enrol(world, people)
        dataset = _publish(world, files)
        store = Store.open(world.stack.settings.database_url, read_only=True, migrate=False)
        load = Load(world, wishes, dataset, seed=seed, pause=pause)
        load.start()
        try:
            _kill(world, store, load, kills, draw, gap, report, say)
        finally:
            load.stop()
        _finally(world, store, load.book, folder, report, say)
    finally:
        if store is not None:
            store.close()
        world.stop()
    report.seconds = time.monotonic() - began
    return report


def _enrol(world, people):
    hospital = world.hospitals[0]
    wishes = [Wish(entry, "purpose") for entry in hospital.enrol([one.record for one in people])]
    crowd = Crowd(world.url)
    try:
        crowd.enrol_and_sign(
            [Wish(one.entry, "none", one.seed) for one in wishes],
            partner=hospital.org,
            expire_seconds=0,
            done=lambda _count: None,
        )
    finally:
        crowd.close()
    return wishes


def _publish(world, files):
    done = publish_file(
        world.hospitals[0].home,
        files["table"],
        form="table",
        title="Cardiovascular risk factors",
        patients=files["patients"],
        progress=lambda *_: None,
    )
    if done["status"] != "published":
        raise AssertionError(f"the table was {done['status']}")
    return done["dataset"]


def _kill(world, store, load, kills, draw, gap, report, say):
    """Kill in random order at random moments; look at once after each."""
    stack = world.stack
    node = Node(stack, store)
    order = [name for name, times in kills.items() for _ in range(times)]
    draw.shuffle(order)
    time.sleep(2)
    node.keep()
    for number, name in enumerate(order, start=1):
        time.sleep(draw.uniform(*gap))
        if name in LOSSES:
            held, blocks = node.kill(name, draw)
            seconds = node.whole_after(held)
            if seconds is None:
                report.broken.append(f"chain: not whole again after losing {LOSSES[name]}")
            else:
                report.whole.append((LOSSES[name], blocks, seconds))
            what = f"node, which lost {LOSSES[name]} ({blocks} blocks): whole again after "
            what += "never" if seconds is None else f"{seconds:.2f} s"
            node.keep()
        else:
            at = time.monotonic()
            stack.kill(name)
            report.away.setdefault(name, []).append(_return(stack, name, at))
            what = f"{name}, back after {report.away[name][-1]:.2f} s"
        book = load.book.copy()
        with store.reading() as conn:
            broken = checks.at_once(conn, book, stack.deployment)
        report.broken.extend(broken)
        say(f"  kill {number:>2} {what}; {len(book.acks)} acknowledged, {len(broken)} broken")


def _return(stack, name, at):
    """Seconds until the process was started again; the api until it answers."""
    end = at + _AWAY_SECONDS
    while not stack.pid(name) and time.monotonic() < end:
        time.sleep(0.02)
    if name == "api":
        stack.wait_for_api()
    return time.monotonic() - at


def _finally(world, store, book, folder, report, say):
    """Once the load has stopped: let everything settle, then check everything."""
    stack = world.stack
    deployment = stack.deployment
    on_chain = OnChain.from_json(
        {
            "deployment": "0x" + deployment.id.hex(),
            "chainId": deployment.chain_id,
            "genesisHash": deployment.genesis_hash,
            "addresses": deployment.addresses,
            "codeHashes": deployment.code_hashes,
            "block": 0,
        }
    )
    ledger = ChainLedger.of(stack.settings.rpc_url, on_chain)
    try:
        end = time.monotonic() + _SETTLE_SECONDS
        while True:
            with store.reading() as conn:
                late = checks.off_chain(conn, book.acks, ledger.status_of)
                late += checks.unfinished(conn, book)
            if not late or time.monotonic() > end:
                break
            time.sleep(0.2)
        say(f"  settled after {time.monotonic() - (end - _SETTLE_SECONDS):.1f} s")
        with store.reading() as conn:
            report.leaves = conn.execute(sa.select(schema.tree_head.c.size)).scalar_one()
            report.broken += late + checks.at_once(conn, book, deployment) + checks.unwanted(book)
        report.broken += [f"client: {line}" for line in book.errors + book.differing]
        if not report.broken:
            source = stack.settings.data_dir / "store.sqlite"
            report.selftest = selftest.run(source, folder, book, deployment, ledger.status_of)
    finally:
        ledger.close()
    report.acks = {
        verb: sum(ack.verb == verb for ack in book.acks)
        for verb in ("grant", "object", "withdraw", "lift")
    }
    report.releases = len(book.deliveries)
    report.cut_short = sum(not one.whole for one in book.deliveries)
    report.subjects_opened = sum(len(one.subjects) for one in book.deliveries)
    report.jobs = len(book.jobs)
    report.repeated = book.repeated
