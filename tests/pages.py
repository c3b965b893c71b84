"""A running exchange for the page tests: every process and the chain, hospitals, patients, an auditor.

Nothing stands in for anything: the stack is the one that `assent up` starts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from exchange.demo.patients import generate, write_files
from exchange.demo.world import Hospital, World, build
from exchange.hospital.asking import run_query
from exchange.hospital.publishing import publish_file
from exchange.hospital.receiving import receive_release
from exchange.hospital.request import ask
from exchange.patient.client import Patient

PEOPLE = 24
RESEARCH = "HRESCH"


class Town:
    """One deployment with published notes, patients who came and one who has not come yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world: World = build(
            folder, ["Lindenhof Hospital", "Seaside University Clinic"], progress=lambda _line: None
        )
        self.patients: list[Patient] = []
        self.codes: list[str] = []

    def __enter__(self) -> Self:
        try:
            self.world.start()
            self._fill()
        except BaseException:
            self.world.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for patient in self.patients:
            patient.close()
        self.world.stop()

    @property
    def url(self) -> str:
        return self.world.url

    @property
    def publisher(self) -> Hospital:
        return self.world.hospitals[0]

    @property
    def requester(self) -> Hospital:
        return self.world.hospitals[1]

    def _fill(self) -> None:
        people = generate(PEOPLE, prefix="A", seed=11)
        files = write_files(people, self.folder / "records")
        entries = self.publisher.enrol([person.record for person in people])
        # The last four have a letter and have not used it.
        for entry in entries[:-4]:
            patient = Patient(
                self.url, bytes([entry.subject.raw[-1]]) * 16 + entry.subject.raw[-16:]
            )
            patient.enrol(entry.printed_code)
            self.patients.append(patient)
        self.codes = [entry.printed_code for entry in entries[-4:]]
        for patient in self.patients[:-4]:
            patient.grant(purposes=[RESEARCH])
        self.await_recorded(self.patients)
        self.notes = self._publish(files, "notes", "Discharge letters, internal medicine")
        self.table = self._publish(files, "table", "Cardiovascular risk factors")

    def _publish(self, files: dict[str, Path], form: str, title: str) -> str:
        done = publish_file(
            self.publisher.home,
            files[form],
            form=form,
            title=title,
            description="Generated records; no real person is in them.",
            patients=files["patients"],
            progress=lambda _step, _done, _total: None,
        )
        assert done["status"] == "published", done
        return str(done["dataset"])

    def release(self, purpose: str = RESEARCH) -> dict[str, Any]:
        """The requester asks for the notes, and receives what it may."""
        answer = ask(
            self.requester.http,
            self.requester.identity,
            dataset=self.notes,
            version=None,
            purpose=purpose,
        )
        if answer["permitted"]:
            receive_release(self.requester.home, answer["release"], self.folder / "received")
        return answer

    def query(self) -> dict[str, Any]:
        """The requester counts inside the table: a job, with one ruling per person."""
        return run_query(
            self.requester.home,
            self.table,
            purpose=RESEARCH,
            where=["systolic >= 100"],
            columns=[],
        )

    def await_recorded(self, patients: list[Patient]) -> None:
        """Return once the chain holds what these patients signed."""
        until(lambda: all(item["recorded"] for one in patients for item in one.consents()))

    def patient_link(self, patient: Patient) -> str:
        assert patient.subject is not None
        return f"{self.url}/patient.html#seed={patient.seed.hex()}&subject={patient.subject.hex}"

    def hospital_link(self, hospital: Hospital) -> str:
        return f"{self.url}/hospital.html#token={hospital.http.token()}"

    def auditor_link(self) -> str:
        client = self.world.auditor_client()
        try:
            return f"{self.url}/auditor.html#token={client.token()}"
        finally:
            client.close()


def until(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    """Return once the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.05)
