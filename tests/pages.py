"""A running exchange for the page tests: every process and the chain, hospitals, patients, an auditor.

Nothing stands in for anything: the stack is the one that `assent up` starts.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Request, Route

from exchange.demo.patients import generate, write_files
from exchange.demo.world import Hospital, World, build
from exchange.hospital.client import ExchangeClient
from exchange.hospital.publishing import publish_file
from exchange.hospital.receiving import receive_release
from exchange.hospital.request import ask
from exchange.patient.client import Patient

PEOPLE = 17
INVITED = 2
SILENT = 3
RESEARCH = "HRESCH"
#: What a page must show as these very letters.
HOSTILE = "Generated <b id=planted>records</b>; <img src=x onerror=\"document.title='taken'\">"


class Tab:
    """A tab of a browser, which remembers what it asked for and every complaint of the browser."""

    def __init__(self, context: BrowserContext) -> None:
        self.page = context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._listen)

    def _note(self, request: Request) -> None:
        head = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
        self.asked.append(f"{request.method} {request.url}\n{head}\n{request.post_data or ''}")

    def _listen(self, message: ConsoleMessage) -> None:
        # Chromium itself notes every refusal; the page shows those to the reader.
        if message.type in ("error", "warning") and "the server responded" not in message.text:
            self.complaints.append(message.text)

    def open(self, url: str) -> Page:
        """Load a page from the start: a link that differs only after # would not be loaded again."""
        self.page.goto("about:blank")
        self.page.goto(url)
        return self.page


class Town:
    """One deployment with published notes, patients who came and one who has not come yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.world: World = build(
            folder, ["Lindenhof Hospital", "Seaside University Clinic"], progress=lambda _line: None
        )
        self.patients: list[Patient] = []
        self.codes: list[str] = []
        self.used_code = ""

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
        # The last ones have a letter and have not used it.
        for entry in entries[:-INVITED]:
            patient = Patient(self.url, secrets.token_bytes(32))
            patient.enrol(entry.printed_code)
            self.patients.append(patient)
        self.used_code = entries[0].printed_code
        self.codes = [entry.printed_code for entry in entries[-INVITED:]]
        for patient in self.patients[:-SILENT]:
            patient.grant(purposes=[RESEARCH])
        self.await_recorded(self.patients)
        with ThreadPoolExecutor(2) as both:
            notes = both.submit(
                self._publish, files, "notes", "Discharge letters, internal medicine"
            )
            table = both.submit(self._publish, files, "table", "Cardiovascular risk factors")
            self.notes, self.table = notes.result(), table.result()

    def _publish(self, files: dict[str, Path], form: str, title: str) -> str:
        done = publish_file(
            self.publisher.home,
            files[form],
            form=form,
            title=title,
            description=HOSTILE,
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
            self.receive(answer["release"])
        return answer

    def receive(self, release: str) -> dict[str, Any]:
        """The requester opens a release, in its own folder."""
        return receive_release(self.requester.home, release, self.folder / "received")

    def await_recorded(self, patients: list[Patient]) -> None:
        """Return once the chain holds what these patients signed."""
        until(lambda: all(item["recorded"] for one in patients for item in one.consents()))

    def patient_link(self, patient: Patient) -> str:
        assert patient.subject is not None
        return f"{self.url}/patient.html#seed={patient.seed.hex()}&subject={patient.subject.hex}"

    def hospital_link(self, hospital: Hospital) -> str:
        # A token of its own: a page that is left hands its token back.
        client = ExchangeClient.of(hospital.identity)
        try:
            return f"{self.url}/hospital.html#token={client.token()}"
        finally:
            client.close()

    def auditor_key(self) -> bytes:
        """The auditor's private JWK, as it lies in the auditor's file."""
        return json.dumps(self.world.auditor["private"]).encode()

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


def view(page: Page, name: str) -> None:
    """Turn to a view of the page, and wait until it is there."""
    page.get_by_role("navigation").get_by_role("link", name=name).click()
    page.locator(".views [aria-current]").filter(has_text=name).wait_for()


def card(page: Page, title: str) -> Locator:
    """The card with this heading."""
    return page.locator("li.card").filter(has=page.get_by_role("heading", name=title))


def answered(page: Page, pattern: str, change: Callable[[Any], Any]) -> None:
    """Let what the exchange answers arrive changed, as from a newer or a dishonest one."""

    def handle(route: Route) -> None:
        real = route.fetch()
        route.fulfill(response=real, json=change(real.json()))

    page.route(pattern, handle)
