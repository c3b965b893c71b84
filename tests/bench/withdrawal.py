"""What a withdrawal ends, and how soon: requests, streams and jobs that had begun before it.

Prints JSON lines ``{name, value, unit, peer, peer_value, ratio}``. Real processes, over HTTP. Each trial
withdraws the only consent behind a dataset while its release streams, or while a job reads it, and asks
again as soon as the withdrawal was acknowledged. A stream is read at some 4 MB/s, through a small window, so
that little is under way in the kernel; a job's end is the one that its owner sees. What had ended before
the acknowledgement is drawn again, not counted. The peer is a bearer token that nobody looks at again.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import http.client
import json
import math
import random
import secrets
import shutil
import socket
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from exchange.demo.people import RESEARCH, Crowd, Wish
from exchange.demo.world import build
from exchange.hospital.asking import ENDED
from exchange.hospital.client import Problem
from exchange.hospital.publishing import publish_file
from exchange.hospital.request import ask, job_document
from exchange.settings import Settings
from exchange.stream import STOPPED
from ledger.ids import ConsentId

ROWS = 400
CELL_BYTES = 8_000
BEDS = 2
WINDOW_BYTES = 64 << 10
READ_BYTES = 32 << 10
READ_SECONDS = 0.008
RECORDED_SECONDS = 60.0
WORDS = "sinus rhythm regular narrow complex atrial pause ectopic rate stable slow paced".split()


@dataclass
class Bed:
    """One patient alone in a dataset: whoever withdraws here ends everything about it."""

    wish: Wish
    dataset: str
    version: int
    size: int
    consent: ConsentId


@dataclass
class Counted:
    """What the trials found."""

    streams: list[float] = field(default_factory=list)
    jobs: list[float] = field(default_factory=list)
    acks: list[float] = field(default_factory=list)
    permitted_after: int = 0
    outputs_after: int = 0
    drawn_again: int = 0


def show(name, value, unit, peer=None, peer_value=None):
    line = {
        "name": name,
        "value": round(value, 1),
        "unit": unit,
        "peer": peer,
        "peer_value": peer_value,
        "ratio": None if not peer_value else round(value / peer_value, 6),
    }
    print(json.dumps(line), flush=True)


def percentile(values, share):
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Bench:
    """Two hospitals, the processes, and a few patients with large records."""

    def __init__(self, folder, seed):
        self.folder = folder
        self.draw = random.Random(seed)
        self.counted = Counted()
        self.crowd = None
        self.longest = 1.0
        self.world = build(folder / "world", ["A", "B"], progress=lambda _line: None)

    def prepare(self):
        self.world.start()
        publisher = self.world.hospitals[0]
        entries = publisher.enrol([f"bed-{number}" for number in range(BEDS)])
        self.crowd = Crowd(self.world.url)
        wishes = [Wish(entry, "purpose") for entry in entries]
        self.crowd.enrol_and_sign(
            wishes, partner=publisher.org, expire_seconds=0, done=lambda _count: None
        )
        self.beds = [self._bed(publisher, wish) for wish in wishes]

    def _bed(self, publisher, wish):
        path = self.folder / f"{wish.entry.record}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["record", "marker", "rhythm"])
            for _ in range(ROWS):
                marker = f"{self.draw.uniform(0, 100):.4f}"
                words = self.draw.choices(WORDS, k=CELL_BYTES // 8)
                writer.writerow([wish.entry.record, marker, " ".join(words)])
        done = publish_file(
            publisher.home,
            path,
            form="table",
            title="Laboratory series",
            progress=lambda *_: None,
            wait_seconds=300,
        )
        assert done["status"] == "published", done
        found = self.world.hospitals[1].http.get(f"/v1/datasets/{done['dataset']}")
        return Bed(wish, done["dataset"], found["version"], ROWS * CELL_BYTES, wish.consents[-1])

    def close(self):
        if self.crowd is not None:
            self.crowd.close()
        self.world.stop()

    # Trials --------------------------------------------------------------------------------

    def stream_trial(self, bed):
        """Withdraw while the release streams; whether it counted."""
        requester = self.world.hospitals[1]
        self._recorded(bed)
        answer = self._ask(bed)
        assert answer["decision"] == "permit", answer
        moment = self.draw.randrange(READ_BYTES, int(bed.size * 0.3))
        withdrawing = threading.Thread(target=self._withdraw, args=(bed,))
        got, tail = 0, b""
        with _slowly(self.world.url, requester, answer["release"]) as response:
            while piece := response.read1(READ_BYTES):
                got += len(piece)
                tail = (tail + piece)[-4096:]
                if got >= moment and withdrawing.ident is None:
                    withdrawing.start()
                time.sleep(READ_SECONDS)
        ended = time.monotonic()
        if withdrawing.ident is None:
            raise AssertionError(f"the stream was shorter than expected: {got} bytes")
        withdrawing.join()
        if ended < self._acked:
            self.counted.drawn_again += 1
        else:
            self.counted.streams.append((ended - self._acked) * 1000)
            # All of it came, though it was withdrawn while much of it was still to be sent.
            self.counted.outputs_after += STOPPED + b"\0\0\0" not in tail
        self._grant(bed)
        return ended >= self._acked

    def job_trial(self, bed):
        """Withdraw while a job reads the records; whether it counted."""
        requester = self.world.hospitals[1]
        self._recorded(bed)
        job = requester.http.post("/v1/queries", self._query(bed))["job"]
        while requester.http.get(f"/v1/jobs/{job}")["status"] == "queued":
            time.sleep(0.01)
        time.sleep(self.draw.uniform(0, self.longest))
        self._withdraw(bed)
        while True:
            status = requester.http.get(f"/v1/jobs/{job}")
            ended = time.monotonic()
            if status["status"] in ENDED:
                break
            time.sleep(0.01)
        before = status["updated"] <= self._acked_ms
        if before:
            self.counted.drawn_again += 1
            # Jobs are quicker here: withdraw sooner, so that most are met while they run.
            self.longest *= 0.8
        else:
            self.counted.jobs.append((ended - self._acked) * 1000)
            self.counted.outputs_after += self._has_output(job, status)
        self._grant(bed)
        return not before

    def _has_output(self, job, status):
        if status["status"] == "done" or status["used"]:
            return 1
        try:
            self.world.hospitals[1].http.get_bytes(f"/v1/jobs/{job}/result")
        except Problem:
            return 0
        return 1

    def _withdraw(self, bed):
        """Withdraw; then ask at once: what begins after the acknowledgement is denied."""
        began = time.monotonic()
        self.crowd.client(bed.wish).withdraw(bed.consent)
        self._acked, self._acked_ms = time.monotonic(), time.time_ns() // 1_000_000
        self.counted.acks.append((self._acked - began) * 1000)
        if self._ask(bed)["decision"] != "deny":
            self.counted.permitted_after += 1

    def _ask(self, bed):
        hospital = self.world.hospitals[1]
        return ask(
            hospital.http,
            hospital.identity,
            dataset=bed.dataset,
            version=bed.version,
            purpose=RESEARCH,
        )

    def _query(self, bed):
        return job_document(
            self.world.hospitals[1].identity,
            job="query",
            dataset=bed.dataset,
            version=bed.version,
            purpose=RESEARCH,
            categories=["tables"],
            action="disclose",
            parameters={
                "filters": [{"field": "marker", "op": "<", "value": "10"}],
                "want": "rows",
                "columns": ["marker"],
            },
        )

    def _grant(self, bed):
        answer = self.crowd.client(bed.wish).grant(purposes=[RESEARCH])
        bed.consent = ConsentId.parse(answer["consent"])

    def _recorded(self, bed):
        end = time.monotonic() + RECORDED_SECONDS
        while not self.crowd.client(bed.wish).consent(bed.consent)["recorded"]:
            if time.monotonic() > end:
                raise TimeoutError("the consent is not recorded")
            time.sleep(0.02)


@contextlib.contextmanager
def _slowly(url, hospital, release):
    """The stream of a release through a small window."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    connection.sock = socket.socket()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
    connection.sock.settimeout(60)
    connection.sock.connect((address.hostname, address.port))
    headers = {"Authorization": f"Bearer {hospital.http.token()}"}
    connection.request("GET", f"/v1/releases/{release}/content", headers=headers)
    response = connection.getresponse()
    assert response.status == 200, response.status
    try:
        yield response
    finally:
        connection.close()


def run(bench, trial, wanted, name, say):
    done = attempts = 0
    while done < wanted:
        if attempts > 3 * wanted + 10:
            raise AssertionError(f"too few {name} ran when the withdrawal came")
        done += trial(bench.beds[attempts % BEDS])
        attempts += 1
        if done and done % 20 == 0:
            say(f"  {done} {name}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=200, help="streams, and as many jobs")
    parser.add_argument("--seed", type=int, default=None, help="repeat a run")
    given = parser.parse_args()
    seed = secrets.randbelow(1 << 31) if given.seed is None else given.seed

    def say(line):
        print(line, file=sys.stderr, flush=True)

    say(f"seed {seed}")
    folder = Path(tempfile.mkdtemp(prefix="withdrawal-"))
    bench = Bench(folder, seed)
    try:
        bench.prepare()
        say("published")
        run(bench, bench.stream_trial, given.trials, "streams", say)
        run(bench, bench.job_trial, given.trials, "jobs", say)
    finally:
        bench.close()
        shutil.rmtree(folder, ignore_errors=True)
    found = bench.counted
    token = Settings().token_seconds * 1000
    peer = "a bearer token that is not looked at again until it ends"
    show("withdrawal.p99", percentile(found.streams, 0.99), "ms", peer, token)
    show("withdrawal.p50", percentile(found.streams, 0.5), "ms", peer, token)
    show("withdrawal.job-p99", percentile(found.jobs, 0.99), "ms", peer, token)
    show("withdrawal.job-p50", percentile(found.jobs, 0.5), "ms", peer, token)
    show("withdrawal.ack-p99", percentile(found.acks, 0.99), "ms")
    show("withdrawal.trials", len(found.streams) + len(found.jobs), "trials")
    show("withdrawal.drawn-again", found.drawn_again, "trials")
    show("withdrawal.permitted-after", found.permitted_after, "requests")
    show("withdrawal.outputs-after", found.outputs_after, "outputs")
    return 1 if found.permitted_after or found.outputs_after else 0


if __name__ == "__main__":
    sys.exit(main())
