"""Jobs that outlive their worker: killed at any moment they resume, and end once."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from exchange.keys.server import KeysServer
from ledger.leaf import Kind
from tests import architecture
from tests.worked import Worked, a_column, a_note, lines

ROOT = Path(architecture.__file__).resolve().parent.parent

#: A worker without its side of the chain: what `exchange.worker.process` builds, and its loop.
WORKER = """
import sys, threading, time
from pathlib import Path
from exchange.clock import SystemClock
from exchange.errors import Conflict
from exchange.gate import Gate
from exchange.keys.client import KeysClient
from exchange.settings import load_settings
from exchange.store.database import Store
from exchange.vault import Vault
from exchange.worker.execution import Execution
from exchange.worker.intake import Intake
from exchange.worker.running import Runner
from exchange.worker.sandbox import Limits

settings = load_settings({"ASSENT_DATA_DIR": sys.argv[1]})
store, vault = Store.open(settings.database_url), Vault.open(settings.vault_url)
keys = KeysClient(settings.keys_socket, timeout_seconds=30)
clock, limits = SystemClock(), Limits(120, 2 << 30)
execution = Execution(
    Runner(store, vault, keys, Gate(60, clock), clock, limits),
    Intake(store, vault, keys, clock, limits),
    database_url=f"sqlite:///{sys.argv[1]}/jobs.sqlite",
    lock_file=Path(sys.argv[1]) / "worker.lock",
    concurrency=2,
)
try:
    execution.launch()
except Conflict:
    print("conflict", flush=True)
    sys.exit(3)
threading.Thread(target=execution.loop, args=(threading.Event(),), daemon=True).start()
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def house(tmp_path):
    worked = Worked(tmp_path / "a")
    yield worked
    worked.close()


class Workers:
    """Workers on one data folder, each a process of its own."""

    def __init__(self, house):
        self.folder = house.settings.data_dir
        self.started = []

    def start(self):
        worker = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(self.folder)],
            env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.started.append(worker)
        assert worker.stdout is not None
        return worker, worker.stdout.readline().decode().strip()

    def kill(self, worker):
        worker.send_signal(signal.SIGKILL)
        worker.wait()

    def close(self):
        for worker in self.started:
            worker.kill()
            worker.wait()
            worker.stdout.close()


@pytest.fixture
def workers(house):
    made = Workers(house)
    yield made
    made.close()


@pytest.fixture
def held(house):
    """The keys process answers as ever, but lends keys only once it is told to go on."""
    go_on, asked = threading.Event(), []
    answer = house.process.answer

    def waiting(question):
        if question.get("verb") in {"open_job", "open_intake"}:
            asked.append(question["verb"])
            go_on.wait(60)
        return answer(question)

    house.stop_keys()
    house.server = KeysServer(waiting, house.settings.keys_socket)
    house._thread = threading.Thread(target=house.server.serve, daemon=True)
    house._thread.start()
    yield go_on, asked
    go_on.set()


def until(found, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def a_table(house, count=11):
    patients, _ = house.consenting(count)
    house.publish_rows([(one, {"age": "70"}) for one in patients], [a_column("age")])
    return patients


def ended(house, job):
    status = house.status(job)
    return status if status["status"] in {"done", "failed", "refused", "stopped"} else None


def is_alive(process):
    return Path(f"/proc/{process}").exists()


def test_a_job_whose_worker_was_killed_is_run_to_one_end_by_the_next(house, workers, held):
    go_on, asked = held
    patients = a_table(house, 12)
    job = house.count()
    first, said = workers.start()
    assert said == "ready"
    until(lambda: asked)
    assert house.status(job)["status"] == "running"
    mine = [int(one) for one in Path(f"/proc/{first.pid}/task").iterdir() for one in
            (one / "children").read_text().split()]  # fmt: skip
    workers.kill(first)
    # The child holds plaintext: it must not outlive who watches it.
    assert mine
    until(lambda: not any(is_alive(one) for one in mine))
    house.withdraw(patients[0])
    go_on.set()
    _, said = workers.start()
    assert said == "ready"
    status = until(lambda: ended(house, job))
    assert (status["status"], status["used"], status["dropped"]) == ("done", 11, 1)
    assert len(house.bodies(Kind.JOB_FINISHED)) == 1
    assert house.answer(job)["subjects"] == 11


def test_an_inspection_whose_worker_was_killed_is_finished_by_the_next(house, workers, held):
    go_on, asked = held
    (patient,) = house.enrol(1)
    house.hand_in({patient.subject: lines([a_note("")])})
    first, _ = workers.start()
    until(lambda: asked)
    workers.kill(first)
    assert house.version()["status"] == "inspecting"
    go_on.set()
    workers.start()
    until(lambda: house.version()["status"] not in {"received", "inspecting"})
    assert house.version()["quality"]["refused"] == "too-many-unfit-records"
    # Each opening has a leaf of its own, the verdict one.
    assert len(house.bodies(Kind.INTAKE_OPENED)) == 2
    assert len(house.bodies(Kind.DATASET_REFUSED)) == 1


def test_a_folder_has_one_worker(house, workers):
    _, said = workers.start()
    assert said == "ready"
    second, said = workers.start()
    assert (said, second.wait(30)) == ("conflict", 3)


def test_many_jobs_each_end_once_and_nothing_readable_is_kept_of_them(house, workers):
    a_table(house)
    secret = {"field": "age", "op": "!=", "value": "sesame-canary"}
    jobs = [house.count(secret) for _ in range(5)]
    workers.start()
    until(lambda: all(ended(house, job) for job in jobs))
    assert {house.status(job)["status"] for job in jobs} == {"done"}
    finished = [leaf["job"] for leaf in house.bodies(Kind.JOB_FINISHED)]
    assert sorted(finished) == sorted(job.hex for job in jobs)
    # The queue holds ids and words: no filter, no subject, and no pickle to load.
    with sqlite3.connect(house.settings.data_dir / "jobs.sqlite") as connection:
        dump = "\n".join(connection.iterdump())
    connection.close()
    assert jobs[0].hex in dump
    assert "canary" not in dump
    assert "py_pickle" not in dump
