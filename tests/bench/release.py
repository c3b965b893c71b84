"""Release of 10,000 records of 1,000 subjects: decide, rewrap, stream, verify and open.

Prints JSON lines ``{name, value, unit, peer, peer_value, ratio}``. The keys process is a real one,
with its own database and socket; the api's half runs in this process, as does the receiver. The peer
is a plain copy of the same sealed bytes to disk with fsync: no consent, no keys, no record.

Consents are mixed: beside the 1,000 subjects who are covered stand 250 whose records must stay, for
five reasons, and every delivered record is one of the covered. The keys process is started anew
before the first round, so that nothing is warm; ``--unproved`` leaves out the patients' receipts,
with which it verified their signatures in advance.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from exchange.consents import Consents
from exchange.hospital.receive import open_release_stream
from exchange.keys.client import KeysClient
from exchange.release import Releases
from exchange.settings import environment_of
from tests.deployed import NOTICE, Deployed

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


def never(house, patient):
    """No consent at all."""


def withdrawn(house, patient):
    house.grant(patient)
    house.withdraw(patient)


def objecting(house, patient):
    house.grant(patient)
    house.grant(patient, decision="deny")


def for_another(house, patient):
    house.grant(patient, requester=[house.publisher.org.hex])


def for_treatment(house, patient):
    house.grant(patient, purpose=["TREAT"])


WITHHELD = (never, withdrawn, objecting, for_another, for_treatment)


def prepare(house, keys, given):
    """Enrol, grant and publish; not part of what is measured. Return who is covered."""
    if not given.unproved:
        house.consents = Consents(house.store, keys, house.domain, frozenset({NOTICE}), house.clock)
    everybody = house.enrol(given.subjects + given.withheld)
    # Spread over the whole dataset, as they would be.
    random.Random(0).shuffle(everybody)
    covered, others = everybody[: given.subjects], everybody[given.subjects :]
    granted = []
    lock = threading.Lock()

    def grant(some):
        for patient in some:
            consent = house.consents.grant(patient.actor, house.submission(patient)).consent
            with lock:
                granted.append((patient, consent))

    # Several at a time, so that the store's group commit has groups.
    threads = [threading.Thread(target=grant, args=(covered[at::8],)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    house.record(granted)
    for number, patient in enumerate(others):
        WITHHELD[number % len(WITHHELD)](house, patient)
    size = given.size - 60
    sealed = house.seal(everybody, keys.status().keys_key, records=given.records, size=size)
    keys.deposit(house.dataset, 1, sealed)
    house.publish()
    return {patient.subject for patient in covered}


def copied(house, folder):
    """Seconds to copy the same sealed bytes to another file, synced."""
    begun = time.perf_counter()
    with (folder / "copy").open("wb") as file:
        for subject in sorted(house.blobs):
            file.write(house.blobs[subject])
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - begun


def cpu_of(pid):
    """Seconds of CPU that a process used so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
    parser.add_argument("--withheld", type=int, default=250, help="subjects who are not covered")
    parser.add_argument("--unproved", action="store_true", help="grants without receipts")
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
        covered = prepare(house, keys, given)
        process.terminate()
        process.wait(timeout=20)
        process = start_keys(house)
        process.stdout.readline()
        releases = Releases(
            store=house.store, gate=house.gate, keys=keys, vault=house.vault, clock=house.clock
        )
        seconds, busy, steps = [], [], []
        for number in range(given.rounds):
            house.answer_chain()
            used = time.process_time() + cpu_of(process.pid)
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
            busy.append(time.process_time() + cpu_of(process.pid) - used)
            stream.close()
            assert set(received.delivered) == covered
            assert received.records == given.subjects * given.records
            seconds.append(ended - begun)
            steps.append(
                {"decide": decided - begun, "verify": opened - decided, "stream": ended - opened}
            )
        show(
            "release.10k",
            seconds[0],
            "s",
            "copy of the same sealed bytes, fsync",
            copied(house, folder),
        )
        show("release.10k.again", min(seconds[1:], default=seconds[0]), "s")
        # Where others use the machine too, this is what can be compared.
        show("release.10k.cpu", busy[0], "s")
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        show("release.memory", own + peak_of(process.pid), "MiB")
        show("release.memory.keys", peak_of(process.pid), "MiB")
        if given.steps:
            for name, value in steps[0].items():
                show(f"release.step.{name}", value, "s")
        keys.close()
    finally:
        process.terminate()
        process.wait(timeout=20)
        house.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
