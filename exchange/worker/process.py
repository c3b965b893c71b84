"""The process ``assent worker``: its loops, its start, its end.

Killed at any moment it loses nothing: promises stand in the outbox, the cursor moves with what it saw,
jobs and inspections resume.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

from exchange import logs
from exchange.relayer import relayer_key
from exchange.settings import Settings
from exchange.wiring import build
from exchange.worker.chain_side import ChainSide
from exchange.worker.execution import Execution
from exchange.worker.intake import Intake
from exchange.worker.running import Runner
from exchange.worker.sandbox import Limits

_log = logging.getLogger(__name__)
_END_SECONDS = 5.0


def main(settings: Settings) -> NoReturn:
    """Run until a signal comes; prints one JSON line when ready; ends the process.

    Raises:
        SettingsError: there is no deployment yet.
        Conflict: another worker runs on this data folder.
    """
    logs.set_up("worker", level=settings.log_level)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    house = build(settings)
    chain = ChainSide(
        store=house.store,
        keys=house.keys,
        clock=house.clock,
        deployment=house.deployment,
        rpc_url=settings.rpc_url,
        relayer=relayer_key(settings),
        anchor_seconds=settings.ledger.anchor_seconds,
        confirmations=settings.ledger.depth if settings.ledger.finality == "depth" else 0,
    )
    limits = Limits(settings.worker.job_seconds, settings.worker.job_memory)
    runner = Runner(house.store, house.vault, house.keys, house.gate, house.clock, limits)
    intake = Intake(house.store, house.vault, house.keys, house.clock, limits)
    execution = Execution(
        runner,
        intake,
        database_url=settings.worker.database_url or _own_file(settings.data_dir),
        lock_file=settings.run_dir / "worker.lock",
        concurrency=settings.worker.concurrency,
    )
    loops = [
        threading.Thread(target=loop, args=(stopping,), daemon=True)
        for loop in (chain.hand_in_loop, chain.follow_loop, chain.anchor_loop)
    ]
    try:
        for loop in loops:
            loop.start()
        execution.launch()
        working = threading.Thread(target=execution.loop, args=(stopping,), daemon=True)
        working.start()
        sys.stdout.write(json.dumps({"ready": True, "pid": os.getpid()}) + "\n")
        sys.stdout.flush()
        stopping.wait()
    finally:
        stopping.set()
        for loop in loops:
            loop.join(_END_SECONDS)
        execution.shut_down()
        chain.close()
        house.close()
        sys.stdout.flush()
    # A job in flight sits in a thread that nothing can interrupt; it resumes at the next start, so
    # waiting for it here would only delay whoever stops this process.
    os._exit(0)


def _own_file(data_dir: Path) -> str:
    folder = data_dir / "worker"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return f"sqlite:///{folder / 'jobs.sqlite'}"
