"""The pages in a real Chromium, before a whole running exchange: what patients, hospitals, auditors do."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from exchange.hospital.identity import Identity
from ledger.bundle import AuditBundle
from tests.architecture import ROOT
from tests.pages import HOSTILE, PEOPLE, Tab, Town, answered, card, until, view

# A page waits for the exchange, which may have other work to do.
expect.set_options(timeout=20_000)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

ACCESSIBLE = (ROOT / "tests" / "browser" / "accessible.js").read_text()
WINDOWS: dict[str, dict[str, Any]] = {
    "desktop, light": {"viewport": {"width": 1280, "height": 860}, "color_scheme": "light"},
    # 320 px, as 1280 px at 400 % (WCAG 1.4.10).
    "phone, dark": {
        "viewport": {"width": 320, "height": 780},
        "color_scheme": "dark",
        "has_touch": True,
        "is_mobile": True,
    },
}
Open = Callable[..., Tab]


@pytest.fixture(scope="module")
def town(
    browser: Browser, anvil_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Town]:
    with Town(tmp_path_factory.mktemp("town")) as made:
        yield made


@pytest.fixture
def tab(browser: Browser) -> Iterator[Open]:
    """Opens tabs, each of a browser of its own; none may complain, nor ask anybody else."""
    contexts: list[BrowserContext] = []
    tabs: list[Tab] = []

    def opened(**window: Any) -> Tab:
        contexts.append(browser.new_context(accept_downloads=True, **window))
        tabs.append(Tab(contexts[-1]))
        return tabs[-1]

    yield opened
    for context in contexts:
        context.close()
    for one in tabs:
        assert one.complaints == []
        hosts = {text.split()[1].split("/")[2] for text in one.asked if "://" in text.split()[1]}
        assert len(hosts) == 1


# Patients


def test_a_patient_enrols_gives_sees_the_use_and_ends_it_with_one_tap(
    town: Town, tab: Open
) -> None:
    one = tab()
    page = one.open(f"{town.url}/patient.html")
    page.get_by_label("Code from the letter").fill(town.codes[0].lower().replace("-", " "))
    page.get_by_role("button", name="Use this code").click()
    expect(page.get_by_role("heading", name="Lindenhof Hospital will recognise")).to_be_visible()
    seed = page.locator(".seed").inner_text().replace(" ", "").replace("\n", "")
    subject = page.locator(".seed ~ .mono").inner_text()
    on = page.get_by_role("button", name="Continue to my records")
    expect(on).to_be_disabled()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as a file").click()
    page.get_by_label("I have written it down").check()
    on.click()
    expect(page.get_by_role("heading", name="Nobody may use your records")).to_be_visible()
    expect(page.get_by_text("Discharge letters, internal medicine")).to_be_visible()

    page.get_by_role("link", name="Give permission").first.click()
    expect(page.get_by_label("health research")).to_be_checked()
    page.get_by_label("Handed over as records").check()
    preview = page.get_by_label("In plain words")
    expect(preview).to_contain_text(
        "may use doctors’ notes and tables of values for health research"
    )
    page.get_by_role("button", name="Read and sign").click()
    page.get_by_text("Exactly what is signed").click()
    expect(page.locator(".exact")).to_contain_text(subject)
    page.get_by_role("button", name="Sign and give permission").click()
    consent = page.locator("[data-consent]")
    expect(consent).to_have_attribute("data-state", "active", timeout=20_000)

    answer = town.release()
    view(page, "History")
    entry = page.locator(".entry").first
    expect(entry).to_have_attribute("data-outcome", "delivered")
    expect(entry).to_contain_text("Seaside University Clinic asked to receive doctors’ notes")
    entry.get_by_role("button").click()
    expect(entry).to_contain_text("signed")

    view(page, "Who may use it")
    page.get_by_role("button", name="Withdraw").click()
    stopped = page.locator(".stopped")
    expect(stopped).to_contain_text("Confirmed live by the log")
    expect(page.get_by_role("heading", name="Nobody may use your records")).to_be_visible()
    page.get_by_text("1 that has ended").click()
    expect(consent).to_have_attribute("data-state", "withdrawn")

    assert town.release()["permitted"] == answer["permitted"] - 1
    view(page, "History")
    expect(entry).to_have_attribute("data-outcome", "withheld")
    expect(entry).to_contain_text("Because: you have withdrawn")

    page.reload()
    expect(page.locator(".timeline")).to_be_visible()
    page.get_by_role("button", name="Leave").click()
    expect(page.get_by_label("Code from the letter")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0
    page.get_by_label("Recovery key").fill(Path(saved.value.path()).read_text())
    page.get_by_role("button", name="Come in").click()
    expect(page.locator(".timeline")).to_be_visible()
    assert not any(seed in text for text in one.asked)


def test_a_link_works_and_vanishes_from_the_address_bar(town: Town, tab: Open) -> None:
    for link, secret in (
        (town.patient_link(town.patients[-1]), town.patients[-1].seed.hex()),
        (town.hospital_link(town.requester), "#token="),
        (town.auditor_link(), "#token="),
    ):
        one = tab()
        page = one.open(link)
        expect(page.locator(".views")).to_be_visible()
        assert "#" not in page.url
        assert not any(secret in text for text in one.asked)
        page.go_back()
        page.go_forward()
        expect(page.locator(".views")).to_be_visible()
        assert "#" not in page.url


@pytest.mark.parametrize(
    ("code", "title", "detail"),
    [
        ("ABCD-EFGH", "This is not the whole code", "Compare it with the letter"),
        ("AAAQ-EAYE-AUDA-OCAJ-BIFQ-YDIO-B4", "The exchange refused", ""),
        (None, "The exchange refused", ""),
    ],
    ids=["half", "unknown", "used"],
)
def test_a_code_that_does_not_work_says_what_to_do(
    town: Town, tab: Open, code: str | None, title: str, detail: str
) -> None:
    page = tab().open(f"{town.url}/patient.html")
    page.get_by_label("Code from the letter").fill(code or town.used_code)
    page.get_by_role("button", name="Use this code").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(title)
    expect(alert).to_contain_text(detail)
    expect(alert).to_contain_text("Next:")
    assert page.evaluate("sessionStorage.length") == 0


def test_an_objection_is_lifted_where_it_was_made_or_with_its_file(town: Town, tab: Open) -> None:
    link = town.patient_link(town.patients[-2])
    # A day ends in UTC, for a reader who is half a day ahead as well.
    page = tab(timezone_id="Pacific/Kiritimati").open(link)
    page.get_by_role("link", name="Give permission").first.click()
    page.get_by_label("Object").check()
    page.get_by_label("Any purpose").check()
    page.get_by_label("A day I choose").check()
    page.get_by_label("Last day").fill("2031-05-04")
    expect(page.get_by_label("In plain words")).to_contain_text("until the end of May 4, 2031.")
    page.get_by_role("button", name="Read and sign").click()
    page.get_by_role("button", name="Sign and object").click()
    state = page.locator("[data-consent]")
    expect(state).to_have_attribute("data-state", "objection")
    view(page, "Receipts")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Check and save").click()
    expect(page.locator("main")).to_contain_text(re.compile(r"(\d+) of \1 checked"))

    elsewhere = tab().open(link)
    expect(elsewhere.get_by_text("on the device where you made it")).to_be_visible()
    expect(elsewhere.get_by_role("button", name="Lift")).to_have_count(0)
    view(elsewhere, "Receipts")
    elsewhere.get_by_label("Receipts file").set_input_files(saved.value.path())
    expect(elsewhere.get_by_text("1 withdrawal loaded")).to_be_visible()
    view(elsewhere, "Who may use it")
    elsewhere.get_by_role("button", name="Lift").click()
    elsewhere.get_by_text("1 that has ended").click(timeout=20_000)
    expect(elsewhere.locator("[data-consent]")).to_have_attribute("data-state", "lifted")


def test_a_withdrawal_needs_no_pointer(town: Town, tab: Open) -> None:
    page = tab().open(town.patient_link(town.patients[1]))
    expect(page.locator("[data-state=active]")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('stop')"):
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.locator(".stopped")).to_contain_text("Confirmed live")


def test_unknown_words_are_shown_as_words(town: Town, tab: Open) -> None:
    page = tab().page
    evil = "<img src=x onerror=\"document.title='taken'\">"

    def unheard(answer: Any) -> Any:
        for item in answer["items"]:
            item.update(kind=evil, title=evil, name=evil, outcome="levitated", action="disclose")
            item.update(purpose=evil, categories=[evil], decision="permit", reasons=[evil])
        return answer

    town.release()
    answered(page, "**/v1/me/accesses*", unheard)
    page.goto(town.patient_link(town.patients[2]))
    view(page, "History")
    expect(page.locator(".entry .sentence").first).to_contain_text(
        f"{evil} asked to receive {evil}"
    )
    assert page.locator("main img").count() == 0
    assert page.title() == "Your records – Assent"


def test_a_receipt_with_a_wrong_signature_is_told_to_the_patient(town: Town, tab: Open) -> None:
    page = tab().page
    answered(page, "**/v1/receipts/*", lambda receipt: {**receipt, "leafHash": "0x" + "11" * 32})
    page.goto(town.patient_link(town.patients[3]))
    view(page, "Receipts")
    with page.expect_download():
        page.get_by_role("button", name="Check and save").click()
    expect(page.locator(".badge.bad")).to_contain_text("wrong signature")


def test_an_exchange_that_does_not_answer_is_said_to(town: Town, tab: Open) -> None:
    page = tab().page
    page.route("**/v1/deployment", lambda route: route.fulfill(status=500, body="<b>broken</b>"))
    page.goto(f"{town.url}/patient.html")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The exchange refused")
    page.unroute("**/v1/deployment")
    alert.get_by_role("button", name="Try again").click()
    expect(page.get_by_label("Code from the letter")).to_be_visible()


# Hospitals


def test_a_hospital_logs_in_with_its_file_finds_counts_asks_and_follows(
    town: Town, tab: Open
) -> None:
    one = tab()
    page = one.open(f"{town.url}/hospital.html")
    field = page.get_by_label("identity.json")
    field.set_input_files({"name": "a.json", "mimeType": "text/plain", "buffer": b"[1]"})
    expect(page.get_by_role("alert")).to_contain_text("This is not a key file")
    field.set_input_files(town.requester.home / "identity.json")
    expect(page.locator(".who")).to_have_text("Seaside University Clinic")

    view(page, "Find")
    page.get_by_label("Words in title").fill("cardio")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("1 dataset", exact=True)).to_be_visible()
    found = card(page, "Cardiovascular risk factors")
    expect(found).to_contain_text(HOSTILE)
    assert page.locator("#planted, main img").count() == 0
    assert page.title() == "Hospital – Assent"

    found.get_by_text("Count inside").click()
    found.get_by_label("Column").select_option("systolic")
    found.get_by_label("Value").fill("1")
    found.get_by_role("button", name="Sign and count").click()
    granted = [("permit", "active")]
    covered = sum(
        [(one["decision"], one["status"]) for one in patient.consents()] == granted
        for patient in town.patients
    )
    assert covered > 10
    expect(found.locator(".notice").first).to_contain_text(f"{covered} people", timeout=30_000)

    found.get_by_text("Ask for these").click()
    ask = found.get_by_role("button", name="Sign and ask")
    ask.click()
    expect(found.locator(".notice").first).to_contain_text(f"Permitted: {covered}.")
    release = found.locator(".notice pre").first.inner_text().split()[-1]
    assert town.receive(release)["delivered"] == covered
    found.get_by_label("Purpose").first.select_option("HPAYMT")
    ask.click()
    expect(found.locator(".notice").first).to_contain_text("No consent covers this request")

    view(page, "Requests")
    expect(page.locator("li.card").first).to_contain_text("Denied")
    expect(page.locator("li.card").nth(1)).to_contain_text("Closed")
    view(page, "Jobs")
    job = page.locator("[data-job]").first
    expect(job).to_have_attribute("data-status", "done")
    expect(job).to_contain_text("Cardiovascular risk factors")

    secrets = json.loads((town.requester.home / "identity.json").read_text())
    kept = [secrets[name] for name in ("signing", "receive", "deidentification")]
    kept.append(secrets["auth"]["d"])
    assert not any(secret in text for secret in kept for text in one.asked)
    assert page.evaluate("sessionStorage.length + localStorage.length") == 0
    page.reload()
    expect(page.get_by_label("identity.json")).to_be_visible()


def test_a_link_shows_a_hospital_everything_and_signs_nothing(town: Town, tab: Open) -> None:
    page = tab().open(town.hospital_link(town.publisher))
    expect(card(page, "Cardiovascular risk factors")).to_contain_text("Published")
    page.get_by_text("De-identification and quality").first.click()
    expect(page.get_by_text("under the profile safe-harbor").first).to_be_visible()
    view(page, "Find")
    found = card(page, "Cardiovascular risk factors")
    found.get_by_text("Ask for these").click()
    expect(found.get_by_role("button", name="Sign and ask")).to_have_count(0)
    expect(found.locator("pre").first).to_contain_text("assent hospital request 0x")
    page.get_by_label("identity.json").set_input_files(town.publisher.home / "identity.json")
    expect(found.get_by_role("button", name="Sign and ask")).to_be_visible()


def test_a_stranger_is_not_let_in(town: Town, tab: Open, tmp_path: Path) -> None:
    Identity.make(tmp_path / "stranger", "Nobody's Hospital")
    page = tab().open(f"{town.url}/hospital.html")
    page.get_by_label("identity.json").set_input_files(tmp_path / "stranger" / "identity.json")
    expect(page.get_by_role("alert")).to_contain_text("The exchange does not know this key")
    page.get_by_label("token").fill("invented")
    page.get_by_role("button", name="Look").click()
    expect(page.get_by_role("alert")).to_contain_text("Your access has ended")
    page.get_by_role("button", name="Leave").click()
    expect(page.get_by_label("identity.json")).to_be_visible()


# Auditors


def test_an_auditor_checks_the_log_proves_a_leaf_and_takes_the_evidence(
    town: Town, tab: Open, tmp_path: Path
) -> None:
    release = town.release()["release"]
    one = tab()
    page = one.open(f"{town.url}/auditor.html")
    key = tmp_path / "auditor.key"
    key.write_bytes(town.auditor_key())
    page.get_by_label("Your private key").set_input_files(key)
    whole = page.locator(".card").filter(has_text="The whole log")
    whole.get_by_role("button").click()
    expect(whole.locator(".steps li.good")).to_have_count(4)
    expect(whole).to_contain_text(f"The chains of {PEOPLE - 1} persons are unbroken")
    page.get_by_label("Leaf number").fill("3")
    page.get_by_role("button", name="Prove it").click()
    leaf = page.locator(".card").filter(has_text="One entry")
    expect(leaf.locator(".steps li.good")).to_have_count(3)

    view(page, "Accesses")
    access = page.locator(f"[data-access='{release}']")
    expect(access).to_contain_text(
        "Seaside University Clinic: Release of records for health research"
    )
    access.get_by_text("Why records were withheld").click()
    expect(access).to_contain_text("no permission given")

    def ready() -> bool:
        view(page, "Log")
        view(page, "Accesses")
        return access.get_by_role("button", name="Download").is_enabled()

    until(ready)
    with page.expect_download() as saved:
        access.get_by_role("button", name="Download").click()
    bundle = AuditBundle.from_bytes(Path(saved.value.path()).read_bytes())
    assert bundle.id == release
    saved.value.save_as(tmp_path / saved.value.suggested_filename)

    # What the page says about verifying without the exchange, word for word.
    view(page, "Verify offline")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save the description").click()
    saved.value.save_as(tmp_path / "deployment.json")
    for command in page.locator("pre").all_inner_texts()[1:]:
        words = shlex.split(command.replace("*.bundle.json", f"{release[2:]}.bundle.json"))
        done = subprocess.run(
            [sys.executable, *words[1:]],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_the_auditor_notices_a_log_that_was_rewritten(town: Town, tab: Open) -> None:
    page = tab().page

    def rewritten(answer: Any) -> Any:
        if len(answer["skeletons"]) > 5:
            answer["skeletons"][5] = answer["skeletons"][5][:-2] + "00"
        return answer

    answered(page, "**/v1/leaves*", rewritten)
    page.goto(town.auditor_link())
    page.get_by_role("button", name="Check everything").click()
    expect(page.locator(".steps li.bad")).to_contain_text("do not give the root")


# Everybody


@pytest.mark.parametrize("window", WINDOWS)
def test_every_page_can_be_used_by_everybody(town: Town, tab: Open, window: str) -> None:
    """Contrast, names, labels, headings, targets, reflow: in light and dark, wide and narrow."""
    page = tab(**WINDOWS[window]).page
    places = {
        "index": (f"{town.url}/", ".member", []),
        "code": (f"{town.url}/patient.html", "#code", []),
        "patient": (
            town.patient_link(town.patients[4]),
            "[data-consent]",
            ["Give permission", "History", "Receipts"],
        ),
        "hospital": (
            town.hospital_link(town.requester),
            ".views",
            ["Find", "Requests", "Jobs"],
        ),
        "publisher": (town.hospital_link(town.publisher), "li.card", []),
        "auditor": (town.auditor_link(), ".views", ["Accesses", "Verify offline"]),
    }
    found = {}
    for name, (link, sign, more) in places.items():
        page.goto("about:blank")
        page.goto(link)
        page.locator(sign).first.wait_for()
        for name_of_view in ["", *more]:
            if name_of_view:
                view(page, name_of_view)
            page.evaluate(
                "document.querySelectorAll('details').forEach((one) => (one.open = true))"
            )
            found[f"{name} {name_of_view}"] = page.evaluate(ACCESSIBLE)
    assert {place: findings for place, findings in found.items() if findings} == {}


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        ("document.querySelector('h1').style.color = '#ccc'", "contrast"),
        ("document.querySelector('label').remove()", "no label"),
        ("document.querySelector('h2').outerHTML = '<h4>x</h4>'", "a heading skips"),
        ("document.querySelector('button').textContent = ''", "no name"),
        ("document.body.style.width = '3000px'", "wider than the window"),
        (
            "document.querySelector('button').style.cssText = 'all:unset;font-size:4px'",
            "small target",
        ),
    ],
)
def test_what_keeps_somebody_out_is_found(
    town: Town, page: Page, damage: str, finding: str
) -> None:
    page.goto(f"{town.url}/patient.html")
    page.locator("#code").wait_for()
    assert page.evaluate(ACCESSIBLE) == []
    page.evaluate(damage)
    assert any(finding in one for one in page.evaluate(ACCESSIBLE))
