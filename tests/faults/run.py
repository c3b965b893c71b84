"""`make faults`: kill -9 of api, keys, worker and node at random moments, and count what was lost.

``--full`` kills fifty times, else seven. ``--seed`` repeats a run's order and moments. Prints a
summary, then JSON lines ``{name, value, unit, bar}``; the exit code is 1 when anything broke.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.faults.trial import FULL, SMALL, WHOLE_SECONDS, trial


def summary(report):
    kills = ", ".join(f"{times} {name}" for name, times in report.kills.items())
    acks = ", ".join(f"{count} {verb}" for verb, count in report.acks.items())
    print(
        f"seed {report.seed}: {sum(report.kills.values())} kills ({kills}), {report.seconds:.0f} s"
    )
    print(f"  acknowledged: {acks}; {report.repeated} requests repeated")
    print(
        f"  {report.releases} releases opened, {report.cut_short} of them cut short; "
        f"{report.subjects_opened} parts; {report.jobs} jobs; {report.leaves} leaves"
    )
    for name, blocks, seconds in report.whole:
        print(f"  node lost {name} ({blocks} blocks): whole again {seconds:.2f} s after its return")
    noticed = sum(bool(line) for _, line in report.selftest)
    print(f"  self-test: {noticed} of {len(report.selftest)} planted faults noticed")
    for what, line in report.selftest:
        if not line:
            print(f"    not noticed: {what}")
    for line in report.broken[:40]:
        print(f"  BROKEN {line}")
    print("everything held" if report.good else f"FAILED; repeat with --seed {report.seed}")


def figures(report):
    def count(prefix):
        return sum(line.startswith(prefix) for line in report.broken)

    noticed = sum(bool(line) for _, line in report.selftest)
    for name, value, unit, bar in (
        ("faults.kills", sum(report.kills.values()), "kills", None),
        ("faults.acknowledged", sum(report.acks.values()), "verbs", None),
        ("faults.lost", count("lost"), "verbs", 0),
        ("faults.unrecorded", count("unrecorded"), "parts", 0),
        ("faults.unwanted", count("unwanted"), "parts", 0),
        ("faults.log-breaks", count("log"), "breaks", 0),
        ("faults.off-chain", count("off chain") + count("chain"), "consents", 0),
        ("faults.broken", len(report.broken), "findings", 0),
        (
            "faults.node-whole",
            max((one[2] for one in report.whole), default=0.0),
            "s",
            WHOLE_SECONDS,
        ),
        ("faults.selftest", len(report.selftest) - noticed, "unnoticed", 0),
    ):
        print(json.dumps({"name": name, "value": round(value, 3), "unit": unit, "bar": bar}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="fifty kills instead of seven")
    parser.add_argument("--seed", type=int, default=None, help="repeat a run")
    given = parser.parse_args()
    seed = secrets.randbelow(1 << 31) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    options = {"patients": 60, "pause": 0.8, "gap": (0.2, 1.5)} if given.full else {}

    def say(line):
        print(line, flush=True)

    good = False
    try:
        report = trial(
            folder / "world", FULL if given.full else SMALL, seed=seed, say=say, **options
        )
        summary(report)
        figures(report)
        good = report.good
    finally:
        if good:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            print(f"what the processes wrote is kept in {folder}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
