"""The patient's own side: signatures, the state file, the command line against a listening exchange."""

from __future__ import annotations

import json
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exchange.errors import Conflict, SettingsError
from exchange.patient import cli
from exchange.patient.client import Patient
from exchange.patient.keep import State, begin_state, load_state, save_state
from exchange.patient.signing import consent_document, sign_consent
from ledger.errors import MalformedValue, SignatureInvalid
from ledger.forks import read_log
from ledger.ids import ConsentId, OrgId, SubjectId
from ledger.messages import Domain, Grant, Withdraw, from_hex, to_hex
from ledger.signing import Key, verify
from ledger.terms import Terms, check_terms
from tests.served import Served


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(Path(tmp_path_factory.mktemp("served"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def url(served) -> Iterator[str]:
    with served.listening() as address:
        yield address


def run(*arguments):
    result = CliRunner().invoke(cli.app, [str(one) for one in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_signed_consent_holds_together_and_forgets_its_key():
    domain, identity = Domain(secrets.token_bytes(32)), Key.new()
    org = OrgId.of_address(Key.new().address)
    document = consent_document(
        SubjectId.new(org), "permit", notice=bytes(32), requesters=[org], purposes=["HRESCH"]
    )
    signed = sign_consent(document, identity, domain)
    terms = Terms.from_json(signed.submission["terms"])
    check_terms(terms, document)
    assert signed.id == terms.consent_id()
    verify(terms, from_hex(signed.submission["termsSignature"], 64), identity.address, domain)
    for kind, member in ((Grant, "grantSignature"), (Withdraw, "withdrawSignature")):
        message = kind(terms.commitment(), terms.until_day)
        verify(message, from_hex(signed.submission[member], 64), terms.consent_key, domain)
    other = sign_consent(document, identity, domain)
    assert other.submission["terms"]["consentKey"] != signed.submission["terms"]["consentKey"]
    objection = sign_consent(document | {"decision": "deny"}, identity, domain)
    assert objection.submission["withdrawSignature"] is None
    assert objection.withdraw_signature


def test_keys_differ_between_hospitals(served):
    patient = served.patient(served.north)
    elsewhere = Patient("http://127.0.0.1", patient.seed, SubjectId.new(served.south.org))
    assert patient.identity.address != elsewhere.identity.address
    elsewhere.close()


def test_a_receipt_that_another_key_signed_is_not_taken(served):
    patient = served.patient()
    receipt = dict(patient.receipts[0])
    forged = served.stranger()
    forged.trust(patient.deployment() | {"exchange": to_hex(Key.new().address)})
    with pytest.raises(SignatureInvalid, match="receipt"):
        forged._keep({"receipt": receipt})
    patient._keep({"receipt": receipt})


def test_without_enrolment_nothing_can_be_signed(served):
    with pytest.raises(Conflict, match="no subject"):
        served.stranger().grant()
    with pytest.raises(MalformedValue):
        served.stranger().enrol("NOT-A-CODE")


def test_an_objection_from_another_device_cannot_be_lifted_here(served):
    patient = served.patient()
    objection = ConsentId.parse(patient.object()["consent"])
    other = Patient("http://127.0.0.1", patient.seed, patient.subject, http=served.client())
    with pytest.raises(Conflict, match="not on this device"):
        other.lift(objection)


def test_the_state_file_is_the_owners_alone(tmp_path):
    path = tmp_path / "deep" / "state.json"
    state = begin_state(path, "http://127.0.0.1:1/")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_state(path).seed == state.seed
    assert begin_state(path, "http://127.0.0.1:1").seed == state.seed
    with pytest.raises(Conflict):
        begin_state(path, "http://127.0.0.1:2")
    state.subject = SubjectId.new(OrgId.of_address(Key.new().address))
    save_state(path, state)
    with pytest.raises(Conflict):
        begin_state(path, "http://127.0.0.1:1")
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="read by others"):
        load_state(path)
    path.chmod(0o600)
    path.write_text("{")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_state(path)
    path.write_text('{"version": "assent.patient/9"}')
    with pytest.raises(SettingsError, match="no state file"):
        load_state(path)
    assert State.new("x").seed != State.new("x").seed


def test_a_patients_whole_way_on_the_command_line(served, url, tmp_path):
    state = tmp_path / "state.json"
    code = served.invite(1)[0]
    common = ("--state", state, "--json")
    enrolled = json.loads(run("enrol", code, "--exchange", url, *common).stdout)
    assert enrolled["receipt"]["index"] == enrolled["leaf"]
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    permit = json.loads(
        run(
            "grant",
            *("--purpose", "HRESCH", "--requester", served.south.org.hex, "--category", "notes"),
            *("--until", "2031-12-31", *common),
        ).stdout
    )
    assert permit["status"] == "draft"
    objection = json.loads(run("object", "--purpose", "TREAT", *common).stdout)
    assert objection["status"] == "active"
    ended = json.loads(run("withdraw", permit["consent"], *common).stdout)
    assert ended["status"] == "inactive"
    early = run("withdraw", objection["consent"], *common)
    assert (early.exit_code, json.loads(early.stdout)["type"]) == (1, "/problems/conflict")
    served.record(ConsentId.parse(objection["consent"]))
    lifting = json.loads(run("withdraw", objection["consent"], *common).stdout)
    assert lifting["status"] == "active"
    shown = run("status", "--state", state).stdout
    assert "(being lifted)" in shown
    assert "North" in shown
    assert "Nobody has asked yet." in run("history", "--state", state).stdout
    kept = run("receipts", "--state", state).stdout
    assert {one["index"] for one in json.loads(kept)} >= {enrolled["leaf"], ended["leaf"]}
    read = read_log([], [kept.encode()]).receipts
    assert len(read) == len(json.loads(kept))
    assert json.loads(state.read_text())["seed"] not in kept


def test_mistakes_are_told_with_a_next_step(served, url, tmp_path):
    state = tmp_path / "state.json"
    for verb in ("status", "receipts"):
        missing = run(verb, "--state", state)
        assert (missing.exit_code, "enrol first" in missing.stderr) == (2, True)
    wrong = run("enrol", "AAAA", "--exchange", url, "--state", state)
    assert (wrong.exit_code, "not a code" in wrong.stderr) == (2, True)
    unknown = run("enrol", "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AA", "--exchange", url, "--state", state)
    assert (unknown.exit_code, "Next:" in unknown.stderr) == (1, True)
    run("enrol", served.invite(1)[0], "--exchange", url, "--state", state)
    day = run("grant", "--until", "soon", "--state", state)
    assert (day.exit_code, "YYYY-MM-DD" in day.stderr) == (2, True)
    odd = run("withdraw", "0x12", "--state", state)
    assert odd.exit_code == 2
    again = run("enrol", served.invite(1)[0], "--exchange", url, "--state", state)
    assert (again.exit_code, "exists" in again.stderr) == (2, True)
    kept = json.loads(state.read_text())
    kept["exchange"] = "http://127.0.0.1:9"
    state.write_text(json.dumps(kept))
    gone = run("status", "--state", state)
    assert (gone.exit_code, "cannot be reached" in gone.stderr) == (1, True)
