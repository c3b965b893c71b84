"""Asking for records: the answer, what small numbers hide, and who may learn why something stayed."""

from __future__ import annotations

import time

import pytest

from exchange.access import suppressed
from exchange.actor import Actor, Role
from exchange.documents import REQUEST_KIND
from exchange.errors import DocumentMalformed, NotFound
from ledger.errors import SignatureInvalid
from ledger.ids import DatasetId, ReleaseId
from ledger.leaf import Kind
from ledger.signing import Key, sign_document
from tests.deployed import Hospital
from tests.worked import Worked, a_note, lines

AUDITOR = Actor(Role.AUDITOR, "auditor-1")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Published notes of fifteen patients: three permit, one objects, eleven said nothing."""
    worked = Worked(tmp_path_factory.mktemp("access"))
    worked.covered, _ = worked.consenting(3)
    worked.objecting, _ = worked.consenting(1, decision="deny")
    worked.silent = worked.enrol(11)
    everybody = [*worked.covered, *worked.objecting, *worked.silent]
    worked.publish_parts({one.subject: lines([a_note("fever")]) for one in everybody})
    yield worked
    worked.close()


@pytest.fixture
def house(shared):
    shared.answer_chain()
    return shared


def ask(house, document, *, key=None, actor=None):
    signature = sign_document(
        key or house.requester.key, document.get("kind", REQUEST_KIND), document, house.domain
    )
    return house.requests.ask(actor or house.requester.actor, document, signature)


@pytest.mark.parametrize(("count", "shown"), [(0, 0), (1, None), (10, None), (11, 11), (500, 500)])
def test_a_small_count_of_people_is_not_shown(count, shown):
    assert suppressed(count) == shown


def test_everybody_is_ruled_and_recorded_and_the_answer_counts(house):
    before = len(house.bodies(Kind.ACCESS_DECIDED))
    answer = ask(house, house.request())
    assert answer.to_json() == {
        "release": answer.release.hex,
        "decision": "permit",
        "permitted": 3,
        "withheld": 12,
        "questions": [],
    }
    assert len(house.bodies(Kind.ACCESS_DECIDED)) == before + 15
    assert house.bodies(Kind.RELEASE_DECIDED)[-1]["release"] == answer.release.hex


def test_the_same_signed_request_has_one_answer(house):
    document = house.request()
    before = len(house.bodies(Kind.RELEASE_DECIDED))
    assert ask(house, document) == ask(house, document)
    assert len(house.bodies(Kind.RELEASE_DECIDED)) == before + 1
    assert ask(house, house.request()).release != ask(house, document).release


def test_a_purpose_that_nobody_granted_is_denied_with_its_leaf(house):
    answer = ask(house, house.request(purpose="HMARKT"))
    assert (answer.decision, answer.permitted, answer.withheld) == ("deny", 0, 15)
    assert house.bodies(Kind.RELEASE_DECIDED)[-1]["permitted"] == 0
    assert house.requests.one(house.requester.actor, answer.release)["status"] == "denied"


def test_why_something_stayed_is_for_publisher_and_auditor(house):
    answer = ask(house, house.request())
    told = house.requests.withheld(house.publisher.actor, answer.release)
    assert sum(told.values()) == 12
    assert len(told) == 2
    assert house.requests.withheld(AUDITOR, answer.release) == told
    with pytest.raises(NotFound):
        house.requests.withheld(house.requester.actor, answer.release)
    with pytest.raises(NotFound):
        house.requests.withheld(AUDITOR, ReleaseId.new())


def test_a_request_is_its_requesters_alone(house):
    answer = ask(house, house.request())
    told = house.requests.one(house.requester.actor, answer.release)
    assert (told["permitted"], told["withheld"], told["purpose"]) == (3, 12, "HRESCH")
    with pytest.raises(NotFound):
        house.requests.one(house.publisher.actor, answer.release)
    assert house.requests.mine(house.publisher.actor) == []


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"action": "use"}, "/action"),
        ({"purpose": ""}, "/purpose"),
        ({"purpose": None}, "/purpose"),
        ({"nonce": "0x11"}, "/nonce"),
        ({"dataset": "0x../../passwd"}, "/dataset"),
        ({"dataset": 7}, "/dataset"),
        ({"version": "1"}, "/version"),
        ({"version": -1}, "/version"),
        ({"categories": "notes"}, "/categories"),
        ({"categories": ["notes", "notes"]}, "/categories"),
        ({"categories": ["clinical"]}, "/categories"),
        ({"receiveKey": "11" * 32}, "/receiveKey"),
        ({"at": int(time.time()) - 3600}, "/at"),
        ({"at": int(time.time()) + 3600}, "/at"),
        ({"at": 0}, "/at"),
        ({"dataUse": None}, "/dataUse"),
        ({"kind": "assent.job/1"}, "/kind"),
        ({"requester": "0x" + "22" * 8}, "/requester"),
        ({"requester": ["0x"]}, "/requester"),
    ],
)
def test_a_malformed_request_is_refused_with_its_place(house, changes, pointer):
    before = len(house.bodies(Kind.RELEASE_DECIDED))
    with pytest.raises(DocumentMalformed) as refused:
        ask(house, house.request(**changes))
    assert refused.value.pointer == pointer
    assert len(house.bodies(Kind.RELEASE_DECIDED)) == before


def test_only_the_requester_signs(house):
    for key in (Key.new(), house.publisher.key):
        with pytest.raises(SignatureInvalid):
            ask(house, house.request(), key=key)
    stranger = Hospital("Elsewhere")
    with pytest.raises(NotFound):
        ask(
            house,
            house.request(requester=stranger.org.hex),
            key=stranger.key,
            actor=stranger.actor,
        )


@pytest.mark.parametrize("changes", [{"dataset": DatasetId.new().hex}, {"version": 2}])
def test_what_is_not_published_is_not_found(house, changes):
    with pytest.raises(NotFound):
        ask(house, house.request(**changes))


def test_a_stale_chain_lets_nobody_out(house):
    house.answer_chain(ago_ms=3_600_000)
    assert ask(house, house.request()).permitted == 0


def test_a_condition_for_a_person_is_a_referral_with_its_questions(tmp_path):
    house = Worked(tmp_path / "a")
    try:
        patients, _ = house.consenting(
            1, dataUse={"code": "DUO:0000042", "modifiers": ["DUO:0000021"]}
        )
        house.publish_parts({patients[0].subject: lines([a_note("fever")])})
        answer = ask(house, house.request())
        assert answer.decision == "referral"
        assert answer.questions
        twin, _ = house.consenting(1)
        house.publish_parts({twin[0].subject: lines([a_note("fever")])})
        assert ask(house, house.request()).decision == "permit"
    finally:
        house.close()
