"""Release of 10,000 records of 1,000 subjects: decide, rewrap, stream, verify and open.

Prints JSON lines ``{name, value, unit, peer, peer_value, ratio}``. The keys process is a real one,
with its own database and socket; the api's half runs in this process, as does the receiver. The peer
is a plain copy of the same sealed bytes to disk with fsync: no consent, no keys, no record.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from exchange.hospital.receive import open_release_stream
from exchange.keys.client import KeysClient
from exchange.release import Releases
from exchange.settings import environment_of
from tests.deployed import Deployed

START = (
    "import sys; from exchange.settings import load_settings; "
    "from exchange.keys.process import main; sys.exit(main(load_settings()))"
)


def show(name, value, unit, peer=None, peer_value=None):
    ratio = None if not peer_value else round(value / peer_value, 3)
    line = {
        "name": name,
        "value": round(value, 3),
        "unit": unit,
        "peer": peer or "none",
        "peer_value": None if peer_value is None else round(peer_value, 3),
        "ratio": ratio,
    }
    print(json.dumps(line), flush=True)


def start_keys(house):
    environ = {name: value for name, value in os.environ.items() if name[:7] != "ASSENT_"}
    return subprocess.Popen(
        [sys.executable, "-c", START],
        env=environ | environment_of(house.settings),
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )


def prepare(house, keys, subjects, records, size):
    """Enrol, grant and publish; not part of what is measured."""
    patients = house.enrol(subjects)
    granted = []
    lock = threading.Lock()

    def grant(some):
        for patient in some:
            consent = house.consents.grant(patient.actor, house.submission(patient)).consent
            with lock:
                granted.append((patient, consent))

    # Several at a time, so that the store's group commit has groups.
    threads = [threading.Thread(target=grant, args=(patients[at::8],)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    house.record(granted)
    sealed = house.seal(patients, keys.status().keys_key, records=records, size=size)
    keys.deposit(house.dataset, 1, sealed)
    house.publish()


def copied(house, folder):
    """Seconds to copy the same sealed bytes to another file, synced."""
    begun = time.perf_counter()
    with (folder / "copy").open("wb") as file:
        for subject in sorted(house.blobs):
            file.write(house.blobs[subject])
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - begun


def peak_of(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--subjects", type=int, default=1_000)
    parser.add_argument("--records", type=int, default=10, help="records of each subject")
    parser.add_argument("--size", type=int, default=2_600, help="bytes of each record")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", action="store_true", help="also print the seconds of each step")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="release-"))
    house = Deployed(folder / "data")
    process = start_keys(house)
    try:
        exchange = bytes.fromhex(json.loads(process.stdout.readline())["exchange"][2:])
        house.deploy(exchange)
        keys = KeysClient(house.settings.keys_socket)
        prepare(house, keys, given.subjects, given.records, given.size - 60)
        releases = Releases(
            store=house.store, gate=house.gate, keys=keys, vault=house.vault, clock=house.clock
        )
        seconds, steps = [], {}
        for number in range(given.rounds):
            house.answer_chain()
            begun = time.perf_counter()
            release = house.ask()
            decided = time.perf_counter()
            stream = releases.open(house.requester.org, release)
            opened = time.perf_counter()
            received = open_release_stream(
                stream,
                house.requester.receive[0],
                exchange,
                house.domain,
                folder / f"out-{number}",
                release=release,
                manifest_digest=house.manifest_digest,
            )
            ended = time.perf_counter()
            stream.close()
            assert received.records == given.subjects * given.records
            if ended - begun <= min(seconds, default=ended - begun):
                steps = {
                    "decide": decided - begun,
                    "verify": opened - decided,
                    "stream": ended - opened,
                }
            seconds.append(ended - begun)
            if number == 0:
                first = ended - begun
        show(
            "release.10k", first, "s", "copy of the same sealed bytes, fsync", copied(house, folder)
        )
        show("release.10k.again", min(seconds[1:], default=first), "s")
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        show("release.memory", own + peak_of(process.pid), "MiB")
        show("release.memory.keys", peak_of(process.pid), "MiB")
        if given.steps:
            for name, value in steps.items():
                show(f"release.step.{name}", value, "s")
        keys.close()
    finally:
        process.terminate()
        process.wait(timeout=20)
        house.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
