"""The process ``assent worker``: it starts without its node, says so, ends at once when told, and alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from tests import architecture
from tests.served import Served

ROOT = Path(architecture.__file__).resolve().parent.parent


@contextmanager
def started(folder):
    worker = subprocess.Popen(
        [sys.executable, "-m", "exchange", "worker"],
        env={
            "PYTHONPATH": str(ROOT),
            "PATH": os.environ["PATH"],
            "ASSENT_DATA_DIR": str(folder),
            # Nobody listens there: a worker waits for its node, it does not die of it.
            "ASSENT_LEDGER__RPC_URL": "http://127.0.0.1:9",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield worker
    finally:
        worker.kill()
        worker.communicate()


def test_a_worker_says_that_it_is_ready_and_ends_when_told(tmp_path):
    with Served(tmp_path / "a") as served:
        # A node stands in every deployment; this one's never answers.
        told = json.loads(served.settings.deployment_file.read_text())
        names = ("AuditAnchor", "ConsentLedger", "Participants")
        told["addresses"] = dict.fromkeys(names, "0x" + "11" * 20)
        told["codeHashes"] = dict.fromkeys(names, "0x" + "22" * 32)
        served.settings.deployment_file.write_text(json.dumps(told))
        with started(served.settings.data_dir) as worker:
            said = json.loads(worker.stdout.readline() or "{}")
            assert said == {"ready": True, "pid": worker.pid}
            with started(served.settings.data_dir) as second:
                _, why = second.communicate(timeout=60)
                assert second.returncode not in {0, None}
                assert b"another worker" in why
            worker.send_signal(signal.SIGTERM)
            worker.communicate(timeout=60)
            assert worker.returncode == 0


def test_a_worker_without_a_deployment_names_the_next_step(tmp_path):
    with started(tmp_path) as worker:
        said, why = worker.communicate(timeout=60)
        assert worker.returncode not in {0, None}
    assert said == b""
    assert b"deploy" in why
    assert b"Traceback" not in why
