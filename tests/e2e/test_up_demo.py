"""``assent up --demo``: one link per role, each of which works, and the same patients the next time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from exchange.patient.client import Patient
from exchange.up.stack import free_port
from ledger.ids import SubjectId

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def up(folder: Path, ports: tuple[int, int]) -> Iterator[str]:
    """What the command prints until it is ready; it is interrupted afterwards and must end well."""
    environment = {name: value for name, value in os.environ.items() if "ASSENT" not in name} | {
        "ASSENT_DATA_DIR": str(folder),
        "ASSENT_API__PORT": str(ports[0]),
        "ASSENT_LEDGER__PORT": str(ports[1]),
    }
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "exchange", "up", "--demo"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        yield "".join(lines)
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=60)[0]
    assert process.returncode == 0, "".join(lines) + rest


def test_every_role_gets_a_link_that_works_and_a_second_start_finds_the_same_patient(
    tmp_path, anvil_path
):
    ports = free_port(), free_port()
    seeds = []
    for _ in range(2):
        with up(tmp_path, ports) as printed:
            url = f"http://127.0.0.1:{ports[0]}"
            links = dict(re.findall(rf"(\w+) +({url}\S+)", printed))
            assert set(links) == {"patient", "hospital", "auditor"}, printed
            with httpx2.Client(trust_env=False) as http:
                for link in links.values():
                    assert http.get(link.split("#")[0]).status_code == 200
                for role, path in (("hospital", "/v1/requests"), ("auditor", "/v1/accesses")):
                    token = links[role].split("#token=")[1]
                    answer = http.get(url + path, headers={"authorization": f"Bearer {token}"})
                    assert answer.json()["items"]
            seed, subject = re.findall(r"seed=([0-9a-f]{64})&subject=(\S+)", links["patient"])[0]
            seeds.append(seed)
            with Patient(url, bytes.fromhex(seed), SubjectId.parse(subject)) as patient:
                patient.trust(patient.deployment())
                patient.login()
                assert {one["status"] for one in patient.consents()} == {"active"}
                assert patient.history()
    assert seeds[0] == seeds[1]
