"""Inviting and redeeming: every step as a hospital and a patient take it, and every way to go wrong."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.patient.client import Problem
from exchange.store import schema
from ledger.ids import SubjectId
from ledger.messages import Domain, Redeemed, to_hex
from ledger.signing import Key, code_from_text, code_key, code_to_text
from tests.served import Served


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(Path(tmp_path_factory.mktemp("served"))) as opened:
        yield opened


def invite(served, body, hospital=None):
    return served.http.post(
        "/v1/invitations",
        json={"invitations": [body]},
        headers=served.headers(hospital or served.north),
    )


def redeem(served, code, subject, identity, **headers):
    signature = code_key(code).sign(Redeemed(subject, identity), served.domain)
    return served.http.post(
        "/v1/enrolments",
        json={
            "subject": subject.hex,
            "identityKey": to_hex(identity),
            "redeemed": to_hex(signature),
        },
        headers={"Idempotency-Key": secrets.token_hex(8), **headers},
    )


def test_a_code_makes_a_subject_and_the_receipt_is_signed(served):
    patient = served.patient()
    assert patient.subject.org == served.north.org
    assert patient.receipts[0]["index"] >= 2
    assert patient.me()["name"] == "North"


def test_a_code_is_used_once(served):
    code = served.invite(1)[0]
    first, second = served.stranger(), served.stranger()
    first.enrol(code)
    with pytest.raises(Problem) as refused:
        second.enrol(code)
    assert (refused.value.status, refused.value.slug) == (409, "code-used")
    assert refused.value.next_step
    assert first.me()["subject"] == first.subject.hex


def test_the_same_redemption_again_gets_the_same_answer(served):
    code = code_from_text(served.invite(1)[0])
    found = served.http.get(f"/v1/invitations/{to_hex(code_key(code).address)}").json()
    subject, identity = SubjectId.parse(found["subject"]), Key.new().address
    first = redeem(served, code, subject, identity)
    again = redeem(served, code, subject, identity)
    assert first.status_code == again.status_code == 201
    assert first.json()["leaf"] == again.json()["leaf"]


def test_a_wrong_code_and_an_unknown_subject_look_alike(served):
    code = code_from_text(served.invite(1)[0])
    found = served.http.get(f"/v1/invitations/{to_hex(code_key(code).address)}").json()
    wrong = redeem(
        served, secrets.token_bytes(16), SubjectId.parse(found["subject"]), Key.new().address
    ).json()
    unknown = redeem(served, code, SubjectId.new(served.north.org), Key.new().address).json()
    assert wrong.pop("trace_id") != unknown.pop("trace_id")
    assert wrong == unknown
    assert wrong["type"] == "/problems/invitation-unknown"


def test_inviting_again_makes_the_old_code_worthless(served):
    code, body = served.invitation(served.north)
    assert invite(served, body).status_code == 201
    newer, again = served.invitation(served.north, subject=SubjectId.parse(body["subject"]))
    assert invite(served, again).status_code == 201
    with pytest.raises(Problem, match="invitation"):
        served.stranger().enrol(code_to_text(code))
    served.stranger().enrol(code_to_text(newer))
    _, late = served.invitation(served.north, subject=SubjectId.parse(body["subject"]))
    assert invite(served, late).json()["type"] == "/problems/code-used"


def test_an_invitation_over_is_gone(served):
    code, body = served.invitation(served.north, expiry=int(time.time()) + 2)
    assert invite(served, body).status_code == 201
    table = schema.invitations
    # What passes in two seconds.
    served.exchange.store.transact(
        lambda conn: conn.execute(
            table.update()
            .where(table.c.subject == body["subject"])
            .values(expiry=int(time.time()) - 1)
        )
    )
    with pytest.raises(Problem) as refused:
        served.stranger().enrol(code_to_text(code))
    assert (refused.value.status, refused.value.slug) == (410, "expired")


@pytest.mark.parametrize(
    ("change", "slug", "pointer"),
    [
        ("foreign", "invitation-refused", "/invitations/0/subject"),
        ("past", "invitation-refused", "/invitations/0/expiry"),
        ("far", "invitation-refused", "/invitations/0/expiry"),
        ("signer", "signature-invalid", None),
        ("domain", "signature-invalid", None),
    ],
)
def test_what_is_wrong_with_an_invitation_is_named_and_nothing_is_stored(
    served, change, slug, pointer
):
    changes = {
        "foreign": {"subject": SubjectId.new(served.south.org)},
        "past": {"expiry": int(time.time()) - 10},
        "far": {"expiry": int(time.time()) + 10 * 366 * 86_400},
        "signer": {"signer": served.south.key},
        "domain": {"domain": Domain(secrets.token_bytes(32))},
    }[change]
    before = len(served.rows(schema.invitations))
    good = served.invitation(served.north)[1]
    body = served.invitation(served.north, **changes)[1]
    answer = served.http.post(
        "/v1/invitations",
        json={"invitations": [body, good]},
        headers=served.headers(served.north),
    )
    assert answer.status_code == 422
    assert answer.json()["type"] == f"/problems/{slug}"
    assert answer.json()["next"]
    if pointer:
        assert answer.json()["errors"][0]["pointer"] == pointer
    assert len(served.rows(schema.invitations)) == before


def test_a_hospital_lists_only_its_own_subjects_page_by_page(served):
    served.invite(3, served.south)
    headers = served.headers(served.south)
    seen, cursor = [], None
    while True:
        page = served.http.get(
            "/v1/subjects",
            params={"limit": 2, **({"cursor": cursor} if cursor else {})},
            headers=headers,
        ).json()
        seen += page["items"]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) >= 3
    assert all(item["subject"].startswith(served.south.org.hex) for item in seen)


def test_a_creating_request_needs_its_key_and_one_payload_per_key(served):
    body = served.invitation(served.north)[1]
    headers = served.headers(served.north)
    bare = {"Authorization": headers["Authorization"]}
    missing = served.http.post("/v1/invitations", json={"invitations": [body]}, headers=bare)
    assert missing.json()["type"] == "/problems/idempotency-key-missing"
    for _ in range(2):
        again = served.http.post("/v1/invitations", json={"invitations": [body]}, headers=headers)
        assert again.status_code == 201
    other = served.invitation(served.north)[1]
    mixed = served.http.post("/v1/invitations", json={"invitations": [other]}, headers=headers)
    assert (mixed.status_code, mixed.json()["type"]) == (422, "/problems/idempotency-mismatch")
