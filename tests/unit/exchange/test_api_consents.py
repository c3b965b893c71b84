"""Granting, objecting, withdrawing over HTTP: what counts when, and every broken rule by its own name."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.patient.client import Problem
from exchange.patient.signing import sign_consent, sign_lift
from exchange.store import schema
from ledger.ids import ConsentId
from ledger.leaf import Kind
from ledger.messages import Desk, Domain, Grant, Withdraw, from_hex, to_hex
from ledger.signing import ORDER, Key
from ledger.terms import Terms
from tests.served import Served


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(Path(tmp_path_factory.mktemp("served"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def patient(served):
    return served.patient()


def evidence(served):
    return [len(served.rows(table)) for table in (schema.consents, schema.leaves, schema.outbox)]


def refused(patient, submission):
    with pytest.raises(Problem) as problem:
        patient._create("/v1/consents", submission)
    document = problem.value.document
    assert document["next"]
    assert document["trace_id"]
    return document


def high(signature):
    """An s above half of the order: the compact form has room for very few, all of them refused."""
    return signature[:66] + to_hex((ORDER // 2 + 1).to_bytes(32, "big"))[2:]


def turned(signature):
    """The parity turned: what remains recovers to another key."""
    raw = bytearray(from_hex(signature, 64))
    raw[32] ^= 0x80
    return to_hex(bytes(raw))


def test_a_permit_waits_for_the_record_and_an_objection_does_not(served, patient):
    permit = patient.grant(purposes=["HRESCH"])
    objection = patient.object(purposes=["TREAT"])
    assert (permit["status"], permit["recorded"]) == ("draft", False)
    assert objection["status"] == "active"
    assert permit["receipt"]["index"] == permit["leaf"]
    rows = {row["consent_id"]: row for row in served.rows(schema.consents)}
    assert rows[permit["consent"]]["withdraw_signature"] is not None
    assert rows[objection["consent"]]["withdraw_signature"] is None
    promised = [row["verb"] for row in served.rows(schema.outbox)][-2:]
    assert promised == ["grant", "grant"]


def test_the_status_codes_tell_which(served, patient):
    headers = served.headers(patient)
    permit = patient.sign(patient.document("permit"))
    answer = served.http.post("/v1/consents", json=permit.submission, headers=headers)
    assert (answer.status_code, answer.headers["location"]) == (
        202,
        f"/v1/consents/{permit.id.hex}",
    )
    objection = patient.sign(patient.document("deny"))
    answer = served.http.post(
        "/v1/consents", json=objection.submission, headers=served.headers(patient)
    )
    assert answer.status_code == 200


def test_the_same_consent_again_gets_the_same_answer_and_stores_nothing(served, patient):
    signed = patient.sign(patient.document("permit"))
    first = patient.submit(signed)
    before = evidence(served)
    again = patient.submit(signed)
    assert {**again, "receipt": 0} == {**first, "receipt": 0}
    assert evidence(served) == before


def test_a_consent_key_serves_one_consent(served, patient):
    consent_key = Key.new()

    def signed(purpose):
        document = patient.document("permit", purposes=[purpose])
        terms = Terms.of_document(
            document,
            sign_by=int(time.time()) + 60,
            consent_key=consent_key.address,
            salt=secrets.token_bytes(32),
        )
        commitment, day = terms.commitment(), terms.until_day
        return {
            "terms": terms.to_json(),
            "termsSignature": to_hex(patient.identity.sign(terms, served.domain)),
            "document": document,
            "grantSignature": to_hex(consent_key.sign(Grant(commitment, day), served.domain)),
            "withdrawSignature": to_hex(consent_key.sign(Withdraw(commitment, day), served.domain)),
        }

    patient._create("/v1/consents", signed("HRESCH"))
    before = evidence(served)
    document = refused(patient, signed("TREAT"))
    assert (document["status"], document["type"]) == (409, "/problems/consent-key-used")
    both = patient._create("/v1/consents/batch", {"consents": [signed("HRESCH")]})["results"]
    assert both[0]["type"] == "/problems/consent-key-used"
    assert evidence(served) == before


def broken(served, patient, how):  # noqa: C901 - a table of cases
    """A submission with one rule broken."""
    document = patient.document("permit")
    domain, identity, sign_by = served.domain, patient.identity, None
    match how:
        case "grammar":
            document = document | {"grammar": "assent.consent/9"}
            good = sign_consent(patient.document("permit"), identity, domain).submission
            return good | {"document": document}
        case "unknown-code":
            good = sign_consent(document, identity, domain).submission
            return good | {"document": document | {"purpose": ["FUN"]}}
        case "subject":
            other = served.patient()
            return other.sign(other.document("permit")).submission
        case "document-differs":
            good = sign_consent(document, identity, domain).submission
            return good | {"document": document | {"purpose": ["TREAT"]}}
        case "notice":
            document = document | {"notice": "0x" + "ab" * 32}
        case "deployment":
            domain = Domain(secrets.token_bytes(32))
        case "identity":
            identity = Key.new()
        case "expired":
            sign_by = int(time.time()) - 5
        case "far":
            sign_by = int(time.time()) + 3 * 86_400
        case "ended":
            now = int(time.time())
            document = document | {"from": now - 900, "until": now - 5}
        case "late-start":
            document = document | {"from": int(time.time()) + 9 * 366 * 86_400}
    submission = sign_consent(document, identity, domain, sign_by=sign_by).submission
    match how:
        case "consent-key":
            other = sign_consent(document, identity, domain).submission
            return submission | {"grantSignature": other["grantSignature"]}
        case "withdraw-key":
            other = sign_consent(document, identity, domain).submission
            return submission | {"withdrawSignature": other["withdrawSignature"]}
        case "no-withdraw":
            return submission | {"withdrawSignature": None}
        case "objection-withdraw":
            objection = sign_consent(patient.document("deny"), identity, domain)
            return objection.submission | {
                "withdrawSignature": to_hex(objection.withdraw_signature)
            }
        case "high-s-terms":
            return submission | {"termsSignature": high(submission["termsSignature"])}
        case "turned-terms":
            return submission | {"termsSignature": turned(submission["termsSignature"])}
        case "turned-grant":
            return submission | {"grantSignature": turned(submission["grantSignature"])}
        case "high-s-grant":
            return submission | {"grantSignature": high(submission["grantSignature"])}
        case "until-day":
            return submission | {"untilDay": 5}
        case "supersedes":
            document = document | {"supersedes": "0x" + "cd" * 32}
            return sign_consent(document, identity, domain).submission
    return submission


BROKEN = [
    ("grammar", "grammar-unknown", ""),
    ("unknown-code", "consent-malformed", "/document/purpose/0"),
    ("subject", "subject-mismatch", "/document/subject"),
    ("document-differs", "terms-mismatch", "/terms/purpose"),
    ("notice", "notice-unknown", "/document/notice"),
    ("deployment", "signature-invalid", "/termsSignature"),
    ("identity", "signature-invalid", "/termsSignature"),
    ("high-s-terms", "signature-invalid", "/termsSignature"),
    ("high-s-grant", "signature-invalid", "/grantSignature"),
    ("turned-terms", "signature-invalid", "/termsSignature"),
    ("turned-grant", "consent-key-mismatch", "/grantSignature"),
    ("expired", "deadline-expired", "/terms/signBy"),
    ("far", "deadline-too-far", "/terms/signBy"),
    ("ended", "period-invalid", "/document/until"),
    ("late-start", "period-invalid", "/document/from"),
    ("consent-key", "consent-key-mismatch", "/grantSignature"),
    ("withdraw-key", "consent-key-mismatch", "/withdrawSignature"),
    ("no-withdraw", "withdraw-missing", "/withdrawSignature"),
    ("objection-withdraw", "withdraw-unexpected", "/withdrawSignature"),
    ("until-day", "until-day-wrong", "/untilDay"),
    ("supersedes", "supersedes-invalid", "/document/supersedes"),
]


@pytest.mark.parametrize(("how", "slug", "pointer"), BROKEN)
def test_each_broken_rule_has_its_name_its_place_and_no_effect(served, patient, how, slug, pointer):
    submission = broken(served, patient, how)
    before = evidence(served)
    document = refused(patient, submission)
    assert document["type"] == f"/problems/{slug}"
    assert 400 <= document["status"] < 500
    assert [one["pointer"] for one in document.get("errors", [])] == ([pointer] if pointer else [])
    assert evidence(served) == before


def test_the_good_part_of_a_batch_is_kept(served, patient):
    good = [patient.sign(patient.document("permit")) for _ in range(2)]
    bad = broken(served, patient, "consent-key")
    before = evidence(served)
    answer = patient._create(
        "/v1/consents/batch",
        {"consents": [good[0].submission, bad, {"terms": 1}, good[1].submission]},
    )["results"]
    assert [item.get("consent") for item in answer] == [good[0].id.hex, None, None, good[1].id.hex]
    assert answer[1]["type"] == "/problems/consent-key-mismatch"
    assert answer[2]["type"] == "/problems/consent-malformed"
    assert evidence(served) == [count + 2 for count in before]


def test_many_are_one_transaction_and_each_has_a_receipt(patient):
    signed = [patient.sign(patient.document("permit")) for _ in range(40)]
    results = patient.submit_many(signed)
    leaves = [item["leaf"] for item in results]
    assert leaves == list(range(leaves[0], leaves[0] + 40))
    assert all(item["receipt"]["index"] == item["leaf"] for item in results)


def test_a_withdrawal_counts_at_once_and_can_be_repeated(served, patient):
    consent = ConsentId.parse(patient.grant()["consent"])
    first = patient.withdraw(consent)
    before = evidence(served)
    again = patient.withdraw(consent)
    assert first["status"] == again["status"] == "inactive"
    assert first["leaf"] == again["leaf"]
    assert evidence(served) == before
    row = served.rows(schema.outbox)[-1]
    assert (row["verb"], row["consent_id"]) == ("withdraw", consent.hex)
    assert patient.consent(consent)["endedBy"] == "patient"


def test_a_withdrawal_is_taken_while_the_keys_process_is_down(served, patient):
    consent = ConsentId.parse(patient.grant()["consent"])
    served.stop_keys()
    try:
        outcome = patient.withdraw(consent)
        assert (outcome["status"], outcome["receipt"]) == ("inactive", None)
        with pytest.raises(Problem) as unavailable:
            patient.receipt(outcome["leaf"])
        assert (unavailable.value.status, unavailable.value.slug) == (503, "keys-unavailable")
    finally:
        served.start_keys()
    assert patient.receipt(outcome["leaf"])["index"] == outcome["leaf"]


def test_superseding_withdraws_the_older_in_the_same_transaction(served, patient):
    old = ConsentId.parse(patient.grant(purposes=["HRESCH"])["consent"])
    new = patient.grant(purposes=["TREAT"], supersedes=old)
    assert patient.consent(old)["endedBy"] == "superseded"
    assert patient.consent(old)["endedLeaf"] == new["leaf"] - 1
    verbs = [(row["verb"], row["consent_id"]) for row in served.rows(schema.outbox)][-2:]
    assert verbs == [("grant", new["consent"]), ("withdraw", old.hex)]
    with pytest.raises(Problem) as problem:
        patient.grant(supersedes=old)
    assert problem.value.slug == "supersedes-invalid"


def test_an_objection_cannot_be_superseded(patient):
    objection = ConsentId.parse(patient.object()["consent"])
    with pytest.raises(Problem) as problem:
        patient.grant(supersedes=objection)
    assert problem.value.slug == "supersedes-invalid"


def test_an_objection_is_lifted_by_the_identity_key_and_waits_for_the_record(served, patient):
    objection = ConsentId.parse(patient.object(purposes=["HRESCH"])["consent"])
    path = f"/v1/consents/{objection.hex}/withdrawal"
    kept = patient.withdrawals[objection]
    with pytest.raises(Problem) as early:
        patient.lift(objection)
    assert early.value.slug == "conflict"
    served.record(objection)
    withdrawal = {"signature": to_hex(kept.withdraw_signature)}
    lift = to_hex(sign_lift(kept.commitment, patient.identity, served.domain))
    forged = to_hex(sign_lift(kept.commitment, Key.new(), served.domain))
    elsewhere = to_hex(
        sign_lift(kept.commitment, patient.identity, Domain(secrets.token_bytes(32)))
    )
    before = evidence(served)
    for body, slug in (
        ({}, "lift-missing"),
        (withdrawal, "lift-missing"),
        (withdrawal | {"lift": forged}, "signature-invalid"),
        (withdrawal | {"lift": elsewhere}, "signature-invalid"),
        ({"lift": lift}, "withdraw-missing"),
        ({"lift": lift, "signature": lift}, "consent-key-mismatch"),
    ):
        with pytest.raises(Problem) as problem:
            patient._create(path, body)
        assert problem.value.slug == slug
    assert evidence(served) == before
    answer = patient.lift(objection)
    assert answer["status"] == "active"
    shown = patient.consent(objection)
    assert (shown["status"], shown["lifting"]) == ("active", True)
    assert served.rows(schema.leaves)[-1]["kind"] == int(Kind.OBJECTION_LIFTED)
    assert patient.lift(objection)["leaf"] == answer["leaf"]


def test_lifting_is_for_objections_only(patient, served):
    consent = ConsentId.parse(patient.grant()["consent"])
    kept = patient.withdrawals[consent]
    with pytest.raises(Problem) as problem:
        patient.lift(consent)
    assert problem.value.slug == "request-refused"
    assert kept.decision == "permit"


def desk(served, consent, commitment, hospital, **changes):
    at = changes.get("at", int(time.time()))
    officers = changes.get("officers", ["ann", "bea"])
    message = Desk(commitment, ",".join(officers), at)
    return served.http.post(
        "/v1/desk/withdrawals",
        json={
            "consent": consent.hex,
            "officers": officers,
            "at": at,
            "signature": to_hex(changes.get("key", hospital.key).sign(message, served.domain)),
        },
        headers=served.headers(hospital),
    )


def test_the_desk_withdraws_with_two_officers_and_a_leaf_that_names_them(served, patient):
    signed = patient.sign(patient.document("permit"))
    patient.submit(signed)
    ask = (served, signed.id, signed.commitment)
    north = served.north
    assert desk(*ask, north, officers=["ann", "ann"]).status_code == 422
    assert desk(*ask, north, at=int(time.time()) - 9_000).status_code == 410
    assert desk(*ask, north, key=served.south.key).json()["type"] == "/problems/signature-invalid"
    assert desk(*ask, served.south).status_code == 404
    answer = desk(*ask, north)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "inactive"
    body = served.rows(schema.leaves)[-1]["body"]
    assert '"officers":"ann,bea"' in body
    assert patient.consent(signed.id)["endedBy"] == "desk"


def test_the_desk_cannot_end_an_objection(served, patient):
    signed = patient.sign(patient.document("deny"))
    patient.submit(signed)
    assert desk(served, signed.id, signed.commitment, served.north).status_code == 404


def test_another_patient_sees_nothing_of_mine(served, patient):
    consent = ConsentId.parse(patient.grant()["consent"])
    other = served.patient()
    for act in (
        lambda: other.consent(consent),
        lambda: other.withdraw(consent),
        lambda: other.receipt(patient.consent(consent)["leaf"]),
    ):
        with pytest.raises(Problem) as problem:
            act()
        assert (problem.value.status, problem.value.slug) == (404, "not-found")
    assert patient.consent(consent)["status"] == "draft"


def test_the_list_comes_in_pages(served):
    patient = served.patient()
    signed = [patient.sign(patient.document("permit")) for _ in range(5)]
    patient.submit_many(signed)
    page = patient._ask("GET", "/v1/consents?limit=3")
    assert len(page["items"]) == 3
    rest = patient._ask("GET", f"/v1/consents?limit=3&cursor={page['next']}")
    assert rest["next"] is None
    assert [item["consent"] for item in page["items"] + rest["items"]] == [
        one.id.hex for one in signed
    ]
    with pytest.raises(Problem) as problem:
        patient._ask("GET", "/v1/consents?cursor=../../etc")
    assert problem.value.slug == "malformed"


def test_an_expired_consent_is_computed_never_stored(served, patient):
    soon = int(time.time()) + 2
    consent = ConsentId.parse(patient.grant(ends=soon)["consent"])
    row = next(one for one in served.rows(schema.consents) if one["consent_id"] == consent.hex)
    consents = served.exchange.consents
    assert consents._shown(row)["expired"] is False
    assert consents._shown(dict(row) | {"ends": soon - 60})["expired"] is True
    assert dataclasses.is_dataclass(patient.withdrawals[consent])
