"""Jobs and inspections, durable on DBOS: a killed worker resumes what it had begun.

The only module that knows DBOS. What it is given and gives back are ids and stable words, since DBOS
stores them in clear (``durable-jobs.md``, traps). DBOS remembers only that a workflow of that id has
begun; what was done stands in the store. One worker holds the lock of a data folder, so one executor id
serves and no step runs twice at the same time.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID
from sqlalchemy import event

from exchange.errors import Conflict, SandboxLost, Transient
from exchange.store import schema
from exchange.worker.intake import Intake
from exchange.worker.running import Runner
from ledger.ids import DatasetId, JobId

_log = logging.getLogger(__name__)
_VERSION = "assent-worker/1"
_LOOK_SECONDS = 0.1
_PATIENCE_SECONDS = 0.5


class Execution:
    """Starts what waits in the store, at most ``concurrency`` at a time, and resumes after a kill."""

    def __init__(
        self, runner: Runner, intake: Intake, *, database_url: str, lock_file: Path,
        concurrency: int,
    ) -> None:  # fmt: skip
        self._runner = runner
        self._intake = intake
        self._url = database_url
        self._lock_file = lock_file
        self._concurrency = concurrency
        self._running: dict[str, threading.Thread | None] = {}
        self._guard = threading.Lock()
        self._lock: int | None = None

    def launch(self) -> None:
        """Take the folder's lock, start DBOS, resume what a killed worker had begun.

        Raises:
            Conflict: another worker runs on this data folder.
        """
        self._lock_file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict("another worker runs on this data folder") from None
        config: DBOSConfig = {
            "name": "assent-worker",
            "application_version": _VERSION,
            "executor_id": "assent-worker",
            "serializer": DBOSPortableJSONSerializer(),
            "log_level": "WARNING",
            "enable_otlp": False,
        }
        if self._url.startswith("sqlite"):
            config["system_database_engine"] = _sqlite(self._url)
        else:
            config["system_database_url"] = self._url
        DBOS(config=config)
        self._job, self._inspection = self._workflows()
        DBOS.launch()

    def shut_down(self) -> None:
        """Stop starting workflows and give the lock back; a running one resumes at the next start."""
        DBOS.destroy(workflow_completion_timeout_sec=0)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def loop(self, stopping: threading.Event) -> None:
        """Look for waiting work until ``stopping`` is set."""
        while not stopping.wait(_LOOK_SECONDS):
            try:
                self.step()
            except Exception as error:  # noqa: BLE001 - named, and work goes on
                # The store may be away for a moment; what waits in it will still wait.
                _log.warning("looking for work failed", extra={"error": type(error).__name__})

    def step(self) -> int:
        """Start what waits, as far as there is room; how many were started."""
        with self._guard:
            room = self._concurrency - len(self._running)
        if room <= 0:
            return 0
        started = 0
        for key, workflow, arguments in self._waiting():
            with self._guard:
                if key in self._running or len(self._running) >= self._concurrency:
                    continue
                self._running[key] = None
            thread = threading.Thread(
                target=self._follow, args=(key, workflow, arguments), daemon=True
            )
            thread.start()
            started += 1
        return started

    def _waiting(self) -> list[tuple[str, Any, tuple[Any, ...]]]:
        jobs, versions = schema.jobs, schema.dataset_versions
        with self._runner.store.reading() as conn:
            queued = conn.execute(
                sa.select(jobs.c.job_id)
                .where(jobs.c.status.in_(("queued", "running")))
                .order_by(jobs.c.created_ms)
                .limit(100)
            ).scalars()
            found: list[tuple[str, Any, tuple[Any, ...]]] = [
                (f"job-{job}", self._job, (job,)) for job in queued
            ]
            received = conn.execute(
                sa.select(versions.c.dataset_id, versions.c.version)
                .where(versions.c.status.in_(("received", "inspecting")))
                .limit(100)
            ).all()
        found += [
            (f"intake-{row.dataset_id}-{row.version}", self._inspection,
             (row.dataset_id, row.version))
            for row in received
        ]  # fmt: skip
        return found

    def _follow(self, key: str, workflow: Any, arguments: tuple[Any, ...]) -> None:
        """Run one workflow to its end. A failed one is tried again under another id, later."""
        try:
            attempt = f"{key}-{time.time_ns()}" if self._failed(key) else key
            with SetWorkflowID(attempt):
                handle = DBOS.start_workflow(workflow, *arguments)
            handle.get_result()
        except Exception as error:  # noqa: BLE001 - named, and work goes on
            _log.warning("work failed", extra={"work": key, "error": type(error).__name__})
            time.sleep(_PATIENCE_SECONDS)
        finally:
            with self._guard:
                self._running.pop(key, None)

    @staticmethod
    def _failed(key: str) -> bool:
        status = DBOS.get_workflow_status(key)
        return status is not None and status.status not in ("PENDING", "ENQUEUED")

    def _workflows(self) -> tuple[Any, Any]:
        runner, intake = self._runner, self._intake

        def again(error: BaseException) -> bool:
            return isinstance(error, Transient | SandboxLost)

        @DBOS.step(
            name="assent-run-job", retries_allowed=True, max_attempts=20, interval_seconds=0.2,
            backoff_rate=1.3, should_retry=again,
        )  # fmt: skip
        def run_job(job: str) -> str:
            return runner.run(JobId.parse(job))

        @DBOS.workflow(name="assent-job")
        def job_workflow(job: str) -> str:
            return run_job(job)

        @DBOS.step(
            name="assent-inspect", retries_allowed=True, max_attempts=20, interval_seconds=0.2,
            backoff_rate=1.3, should_retry=again,
        )  # fmt: skip
        def inspect(dataset: str, version: int) -> str:
            return intake.inspect(DatasetId.parse(dataset), version)

        @DBOS.workflow(name="assent-intake")
        def intake_workflow(dataset: str, version: int) -> str:
            return inspect(dataset, version)

        return job_workflow, intake_workflow


def _sqlite(url: str) -> sa.Engine:
    """DBOS's own file with a write-ahead log: half the cost per step (``durable-jobs.md``)."""
    engine = sa.create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    return engine
