"""Logging in: what opens the door, and that nothing else does, nor tells why."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.patient.client import Problem
from exchange.store import schema
from ledger.ids import SubjectId
from ledger.messages import Domain, Login, from_hex, to_hex
from ledger.signing import Key
from tests.served import ASSERTION, BASE, Served, assertion, new_jwk


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(Path(tmp_path_factory.mktemp("served"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def patient(served):
    return served.patient()


def challenge(served, subject):
    return served.http.post("/v1/challenges", json={"subject": subject.hex}).json()


def log_in(served, patient, asked, **changes):
    subject = changes.get("subject", patient.subject)
    expiry = changes.get("expiry", asked["expires"])
    message = Login(subject, from_hex(asked["challenge"], 32), expiry)
    key, domain = changes.get("key", patient.identity), changes.get("domain", served.domain)
    return served.http.post(
        "/v1/sessions",
        json={
            "subject": subject.hex,
            "challenge": asked["challenge"],
            "expiry": expiry,
            "signature": to_hex(key.sign(message, domain)),
        },
    )


def token(served, text, **form):
    data = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION,
        "client_assertion": text,
    }
    return served.http.post("/v1/token", data=data | form)


def test_a_signed_challenge_opens_once(served, patient):
    asked = challenge(served, patient.subject)
    first = log_in(served, patient, asked)
    assert first.status_code == 201
    assert first.json()["expires_in"] == served.settings.token_seconds
    assert log_in(served, patient, asked).status_code == 401


def test_a_challenge_for_a_stranger_looks_the_same(served, patient):
    known = challenge(served, patient.subject)
    unknown = challenge(served, SubjectId.new(served.north.org))
    assert set(known) == set(unknown)
    assert abs(known["expires"] - unknown["expires"]) <= 2
    stored = {row["challenge"] for row in served.rows(schema.challenges)}
    assert known["challenge"] in stored
    assert unknown["challenge"] not in stored


def test_open_challenges_of_a_subject_are_few(served, patient):
    asked = [challenge(served, patient.subject) for _ in range(12)]
    mine = [row for row in served.rows(schema.challenges) if row["subject"] == patient.subject.hex]
    assert len(mine) == 8
    assert log_in(served, patient, asked[-1]).status_code == 201


@pytest.mark.parametrize("how", ["key", "domain", "subject", "expiry", "past", "challenge"])
def test_every_wrong_log_in_is_refused_alike(served, patient, how):
    asked = challenge(served, patient.subject)
    changes = {
        "key": {"key": Key.new()},
        "domain": {"domain": Domain(secrets.token_bytes(32))},
        "subject": {"subject": SubjectId.new(served.north.org)},
        "expiry": {"expiry": asked["expires"] + 9_000},
        "past": {"expiry": int(time.time()) - 10},
        "challenge": {},
    }[how]
    if how == "challenge":
        asked = asked | {"challenge": "0x" + "ee" * 32}
    answer = log_in(served, patient, asked, **changes)
    body = answer.json()
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    body.pop("trace_id")
    assert body == {
        "type": "/problems/not-authenticated",
        "title": "Not authenticated",
        "status": 401,
        "detail": "this log-in is not valid",
        "next": "ask for a new challenge and sign it",
    }


def test_a_token_ends_by_time_and_by_log_out(served, patient):
    headers = {"Authorization": patient._headers()["Authorization"]}
    assert served.http.get("/v1/me", headers=headers).status_code == 200
    stored = {row["token_hash"] for row in served.rows(schema.tokens)}
    assert headers["Authorization"].split()[1] not in stored
    assert served.http.delete("/v1/sessions", headers=headers).status_code == 204
    assert served.http.get("/v1/me", headers=headers).status_code == 401
    patient.login()
    headers = {"Authorization": f"Bearer {patient._token}"}
    served.exchange.store.transact(
        lambda conn: conn.execute(schema.tokens.update().values(expires=int(time.time()) - 1))
    )
    assert served.http.get("/v1/me", headers=headers).status_code == 401
    patient.login()


@pytest.mark.parametrize("header", ["", "Bearer", "Basic abc", "Bearer " + "x" * 900, "Bearer nix"])
def test_without_a_token_of_ours_nothing_opens(served, header):
    answer = served.http.get("/v1/me", headers={"Authorization": header} if header else {})
    assert answer.status_code == 401
    assert answer.json()["next"]


def test_a_token_in_the_address_is_none(served, patient):
    patient.login()
    answer = served.http.get("/v1/me", params={"access_token": patient._token})
    assert answer.status_code == 401


def test_hospitals_and_auditors_log_in_by_private_key_jwt(served):
    assert served.token(served.north)
    assert served.token(served.auditor)
    answer = token(served, assertion(served.north))
    assert answer.json()["token_type"] == "Bearer"
    assert answer.headers["cache-control"] == "no-store"


def test_an_assertion_is_used_once(served):
    text = assertion(served.north)
    assert token(served, text).status_code == 200
    again = token(served, text)
    assert (again.status_code, again.json()["error"]) == (401, "invalid_client")


NOW = int(time.time())


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://elsewhere.example/v1/token"},
        {"aud": None},
        {"exp": NOW - 60},
        {"exp": NOW + 4_000},
        {"exp": None},
        {"jti": None},
        {"jti": "x" * 200},
        {"sub": "0x0000000000000000"},
        {"iss": "0x0000000000000000", "sub": "0x0000000000000000"},
        {"iat": NOW + 900},
        {"key": new_jwk("other")},
        {"key": {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}, "header": None},
    ],
    ids="-".join,
)
def test_a_wrong_assertion_is_refused_without_a_word_why(served, changes):
    if "header" in changes:
        from joserfc import jwt
        from joserfc.jwk import OctKey

        claims = {
            "iss": served.north.client_id,
            "sub": served.north.client_id,
            "aud": f"{BASE}/v1/token",
            "exp": NOW + 100,
            "jti": secrets.token_hex(8),
        }
        key = OctKey.import_key(changes["key"])
        text = jwt.encode({"alg": "HS256"}, claims, key, algorithms=["HS256"])
    else:
        text = assertion(served.north, **changes)
    answer = token(served, text)
    assert (answer.status_code, answer.json()) == (
        401,
        {"error": "invalid_client", "error_description": "the client assertion is not valid"},
    )


@pytest.mark.parametrize("text", ["a.b.c", "x", "..", "eyJ.eyJ.sig", "a" * 9_000])
def test_what_is_no_assertion_is_refused(served, text):
    assert token(served, text).json()["error"] == "invalid_client"


def test_the_token_endpoint_speaks_oauth(served):
    wrong = token(served, "x", grant_type="password")
    assert (wrong.status_code, wrong.json()["error"]) == (400, "unsupported_grant_type")
    missing = token(served, "")
    assert (missing.status_code, missing.json()["error"]) == (400, "invalid_request")
    other = token(served, assertion(served.north), client_id=served.south.client_id)
    assert other.json()["error"] == "invalid_client"
    kind = served.http.post("/v1/token", json={"grant_type": "client_credentials"})
    assert kind.status_code == 415


def test_a_retired_hospital_cannot_log_in(served):
    table = schema.orgs

    def set_status(status):
        served.exchange.store.transact(
            lambda conn: conn.execute(
                table.update().where(table.c.org_id == served.south.org.hex).values(status=status)
            )
        )

    set_status("retired")
    try:
        assert token(served, assertion(served.south)).status_code == 401
    finally:
        set_status("member")
    assert token(served, assertion(served.south)).status_code == 200


def test_a_role_that_may_not_sees_what_is_not_there(served, patient):
    """Every route of the patient, for a hospital: the same body as for a thing that is not."""
    consent = patient.grant()["consent"]
    known = {"Authorization": f"Bearer {served.token(served.north)}"}
    mine = {"Authorization": patient._headers()["Authorization"]}
    nothing = served.http.get(f"/v1/consents/0x{'00' * 32}", headers=mine).json()
    nothing.pop("trace_id")
    for method, path in (
        ("GET", f"/v1/consents/{consent}"),
        ("GET", "/v1/consents"),
        ("GET", "/v1/me"),
        ("GET", "/v1/me/accesses"),
        ("GET", "/v1/me/events"),
        ("GET", "/v1/receipts/1"),
        ("POST", f"/v1/consents/{consent}/withdrawal"),
        ("POST", "/v1/consents"),
    ):
        answer = served.http.request(method, path, headers=known, json={})
        body = answer.json()
        body.pop("trace_id")
        assert (answer.status_code, body) == (404, nothing), path
    for path in ("/v1/subjects",):
        body = served.http.get(path, headers=mine).json()
        body.pop("trace_id")
        assert body == nothing
    with pytest.raises(Problem):
        patient._create("/v1/desk/withdrawals", {})
