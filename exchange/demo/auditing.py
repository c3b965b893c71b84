"""The auditor of the demonstration: trust from the chain, a bundle, a verification without a network.

And the operator as an opponent: one byte changed in a bundle, and a consent forged with keys of its own,
written straight into the store as only an operator can. The first fails at a named step; the second is
refused by ``keys``, which verifies by itself, and fails at a named step of the verification.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from exchange import log
from exchange.demo.people import RESEARCH
from exchange.demo.stage import Differs, Stage
from exchange.granting import Checked, read_submission
from exchange.hospital.client import Problem
from exchange.hospital.receiving import receive_release
from exchange.hospital.request import ask
from exchange.patient.signing import consent_document, sign_consent
from exchange.store.database import Store
from exchange.taking import take
from ledger.consent import parse_document
from ledger.ids import SubjectId
from ledger.messages import from_hex
from ledger.signing import Key

_ANCHORED_SECONDS = 60.0


def audit(stage: Stage) -> dict[str, Any]:
    """Verify the first release offline; then the same bundle with one byte changed."""
    release = stage.releases[0]
    folder = stage.world.folder / "audit"
    folder.mkdir(exist_ok=True)
    bundle = fetch_bundle(stage, release, folder)
    trust = fetch_trust(stage, folder)
    verdict = verify(bundle, trust)
    if not verdict["verified"]:
        raise Differs(f"the bundle fails at step {verdict['step']}: {verdict['what']}")
    data = bytearray(bundle.read_bytes())
    middle = data.index(b'"purpose":"') + len(b'"purpose":"')
    data[middle] ^= 1
    tampered = folder / "tampered.json"
    tampered.write_bytes(bytes(data))
    failed = verify(tampered, trust)
    if failed["verified"]:
        raise Differs("a bundle with a changed byte passes")
    stage.say(
        f"  the bundle of the release verifies offline ({verdict['permitted']} permitted, "
        f"{verdict['withheld']} withheld); with one byte changed it fails at step "
        f"{failed['step']} ({failed['what']})"
    )
    return {
        "bundle_verified": True,
        "bundle_bytes": len(data),
        "tampered_bundle_failed_at": failed["step"],
    }


def forge(stage: Stage) -> dict[str, Any]:
    """The operator writes a consent of its own making for a patient who signed nothing."""
    victim = next(wish for wish in stage.holding() if wish.kind == "none")
    consent = _forge_consent(stage, victim.subject)
    _await_active(stage, victim.subject, consent)
    answer = ask(
        stage.requester.http,
        stage.requester.identity,
        dataset=stage.datasets[stage.main],
        version=None,
        purpose=RESEARCH,
    )
    got = receive_release(stage.requester.home, answer["release"], stage.world.folder / "received")
    if victim.subject.hex in got["subjects"]:
        raise Differs("a forged consent let a patient's records out")
    folder = stage.world.folder / "audit"
    bundle = fetch_bundle(stage, answer["release"], folder)
    failed = verify(bundle, fetch_trust(stage, folder))
    if failed["verified"]:
        raise Differs("a forged consent passes verification")
    stage.say(
        f"  the gate believed the operator's row, the keys process did not: nothing of the patient "
        f"left; the auditor's verification fails at step {failed['step']} ({failed['what']})"
    )
    return {"forged_consent_released": False, "forged_consent_failed_at": failed["step"]}


def fetch_bundle(stage: Stage, access: str, folder: Path) -> Path:
    """Download a bundle, waiting until a checkpoint that covers it is anchored.

    Raises:
        Problem: the exchange refused for another reason.
    """
    auditor = stage.world.auditor_client()
    path = folder / f"bundle-{access}.json"
    end = time.monotonic() + _ANCHORED_SECONDS
    try:
        while True:
            try:
                path.write_bytes(auditor.get_bytes(f"/v1/bundles/{access}"))
            except Problem as problem:
                if problem.slug != "version-not-ready" or time.monotonic() > end:
                    raise
                time.sleep(0.2)
            else:
                return path
    finally:
        auditor.close()


def fetch_trust(stage: Stage, folder: Path) -> Path:
    """``python -m ledger trust``, against the node; never behind an older one."""
    path = folder / "trust.json"
    command = [
        "trust",
        "--rpc",
        stage.world.stack.settings.rpc_url,
        "--deployment",
        str(stage.world.stack.settings.deployment_file),
        "--out",
        str(path),
    ]
    if path.exists():
        command += ["--previous", str(path)]
    found = _ledger(command)
    if found.returncode:
        raise Differs("the auditor cannot fetch what to trust: " + found.stderr[-300:])
    return path


def verify(bundle: Path, trust: Path) -> dict[str, Any]:
    """``python -m ledger verify``, in a process of its own; its verdict."""
    found = _ledger(["verify", str(bundle), "--trust", str(trust), "--json"])
    verdict: dict[str, Any] = json.loads(found.stdout)
    return verdict


def _ledger(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ledger", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _forge_consent(stage: Stage, subject: SubjectId) -> str:
    """Sign as the patient with a made-up identity key, and store it as only an operator can."""
    settings = stage.world.stack.settings
    pins = stage.requester.identity.pins()
    deployment = stage.requester.http.get("/v1/deployment")
    document = consent_document(
        subject,
        "permit",
        notice=from_hex(deployment["notice"]["en"]["hash"], 32),
        purposes=[RESEARCH],
    )
    signed = sign_consent(document, Key.new(), pins.domain)
    given = read_submission(signed.submission)
    forged = Checked(
        id=signed.id,
        commitment=signed.commitment,
        until_day=given.terms.until_day,
        parsed=parse_document(document),
        given=given,
    )
    store = Store.open(settings.database_url)
    try:

        def work(conn: Any) -> None:
            log.lock_head(conn)
            take(conn, subject, {0: forged}, at_ms=int(time.time() * 1000))

        store.transact(work)
    finally:
        store.close()
    return signed.id.hex


def _await_active(stage: Stage, subject: SubjectId, consent: str) -> None:
    """Wait until the chain has recorded the forged consent, as it records any signed message."""
    wish = next(wish for group in stage.wishes for wish in group if wish.subject == subject)
    end = time.monotonic() + _ANCHORED_SECONDS
    while time.monotonic() < end:
        listed = {item["consent"]: item for item in stage.crowd.client(wish).consents()}
        if listed.get(consent, {}).get("recorded"):
            return
        time.sleep(0.05)
    raise Differs("the chain does not record")
