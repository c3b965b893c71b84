import pytest

from ledger.consent import ConsentStatus, Decision, legal, parse_document, require_legal
from ledger.errors import ConsentError, ConsentMalformed, GrammarUnknown, IllegalTransition
from ledger.history import statuses
from ledger.ids import ConsentId, OrgId, SubjectId
from ledger.leaf import Kind
from tests.evidence import NOW, a_document

SUBJECT = SubjectId(bytes(range(32)))


def test_a_document_is_read_whole():
    parsed = parse_document(
        a_document(
            SUBJECT,
            purpose=["TREAT", "HRESCH"],
            requester=["0x" + "12" * 8],
            categories="*",
            supersedes="0x" + "34" * 32,
            until=None,
        )
    )
    assert parsed.decision is Decision.PERMIT
    assert parsed.subject == SUBJECT
    assert parsed.provision.purposes == {"TREAT", "HRESCH"}
    assert parsed.provision.requesters == {OrgId(b"\x12" * 8)}
    assert parsed.provision.categories is None
    assert (parsed.starts, parsed.ends) == (NOW - 86_400, None)
    made = parsed.consent(ConsentId(bytes(32)), ConsentStatus.DRAFT)
    assert made.supersedes == ConsentId(b"\x34" * 32)
    assert made.status is ConsentStatus.DRAFT


@pytest.mark.parametrize("grammar", ["assent.consent/2", "", None, 1])
def test_an_unknown_grammar_is_refused(grammar):
    with pytest.raises(GrammarUnknown):
        parse_document(a_document(SUBJECT, grammar=grammar))


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"decision": "maybe"}, "/decision"),
        ({"decision": ["permit"]}, "/decision"),
        ({"subject": "0x12"}, "/subject"),
        ({"purpose": []}, "/purpose"),
        ({"purpose": "HRESCH"}, "/purpose"),
        ({"purpose": ["HRESCH", "MARKETING"]}, "/purpose/1"),
        ({"purpose": ["HRESCH", "HRESCH"]}, "/purpose"),
        ({"purpose": ["HRESCH", 3]}, "/purpose/1"),
        ({"requester": ["0x12"]}, "/requester/0"),
        ({"categories": ["notes", "*"]}, "/categories/1"),
        ({"actions": "*"}, "/actions"),
        ({"actions": []}, "/actions"),
        ({"actions": ["delete"]}, "/actions/0"),
        ({"dataUse": {"code": "DUO:0000042"}}, "/dataUse"),
        ({"dataUse": {"code": "GRU", "modifiers": []}}, "/dataUse/code"),
        ({"dataUse": {"code": [], "modifiers": []}}, "/dataUse/code"),
        ({"dataUse": {"code": "DUO:0000042", "modifiers": "x"}}, "/dataUse/modifiers"),
        ({"dataUse": {"code": "DUO:0000042", "modifiers": [{}]}}, "/dataUse/modifiers/0"),
        (
            {"dataUse": {"code": "DUO:0000042", "modifiers": ["DUO:0000046"] * 2}},
            "/dataUse/modifiers",
        ),
        ({"from": -1}, "/from"),
        ({"from": True}, "/from"),
        ({"from": 1.5}, "/from"),
        ({"until": NOW - 86_400}, "/until"),
        ({"until": 2**60}, "/until"),
        ({"supersedes": "none"}, "/supersedes"),
        ({"locale": "e"}, "/locale"),
        ({"locale": None}, "/locale"),
        ({"notice": "0x12"}, "/notice"),
        ({"extra": 1}, ""),
    ],
)
def test_what_the_grammar_does_not_know_is_refused_with_its_pointer(changes, pointer):
    with pytest.raises(ConsentMalformed) as caught:
        parse_document(a_document(SUBJECT) | changes)
    assert caught.value.pointer == pointer
    assert isinstance(caught.value, ConsentError)


def test_a_missing_member_and_another_shape_are_refused():
    for key in a_document(SUBJECT):
        document = a_document(SUBJECT)
        del document[key]
        with pytest.raises(ConsentError):
            parse_document(document)
    with pytest.raises(ConsentMalformed):
        parse_document([])


def test_inactive_never_comes_back():
    draft, active = ConsentStatus.DRAFT, ConsentStatus.ACTIVE
    inactive, error = ConsentStatus.INACTIVE, ConsentStatus.ENTERED_IN_ERROR
    allowed = {
        (draft, active),
        (draft, inactive),
        (draft, error),
        (active, inactive),
        (active, error),
        (inactive, error),
    }
    for one in ConsentStatus:
        for two in ConsentStatus:
            assert legal(one, two) is ((one, two) in allowed)
    require_legal(draft, active)
    with pytest.raises(IllegalTransition):
        require_legal(inactive, active)


A, B = ConsentId(b"\x0a" * 32), ConsentId(b"\x0b" * 32)
NONE = ConsentId(bytes(32))


def test_leaf_order_decides_a_consents_state():
    enrolled = (Kind.SUBJECT_ENROLLED, NONE)
    granted, recorded = (Kind.CONSENT_GRANTED, A), (Kind.CONSENT_RECORDED, A)
    withdrawn = (Kind.CONSENT_WITHDRAWN, A)
    assert statuses([enrolled]) == {}
    assert statuses([enrolled, granted])[A] is ConsentStatus.DRAFT
    assert statuses([granted, recorded])[A] is ConsentStatus.ACTIVE
    assert statuses([granted, recorded, withdrawn])[A] is ConsentStatus.INACTIVE
    # A record that arrives after the withdrawal does not bring the consent back.
    assert statuses([granted, withdrawn, recorded])[A] is ConsentStatus.INACTIVE


def test_only_a_recorded_lift_ends_an_objection():
    objected, recorded = (Kind.OBJECTION_RECORDED, B), (Kind.CONSENT_RECORDED, B)
    lifted, withdrawn = (Kind.OBJECTION_LIFTED, B), (Kind.CONSENT_WITHDRAWN, B)
    assert statuses([objected])[B] is ConsentStatus.DRAFT
    assert statuses([objected, recorded, withdrawn])[B] is ConsentStatus.ACTIVE
    assert statuses([objected, recorded, lifted])[B] is ConsentStatus.ACTIVE
    assert statuses([objected, recorded, lifted, recorded])[B] is ConsentStatus.INACTIVE


@pytest.mark.parametrize(
    "steps",
    [
        [(Kind.CONSENT_GRANTED, A), (Kind.CONSENT_GRANTED, A)],
        [(Kind.CONSENT_RECORDED, A)],
        [(Kind.CONSENT_WITHDRAWN, A)],
        [(Kind.CONSENT_GRANTED, A), (Kind.OBJECTION_LIFTED, A)],
        [(Kind.CONSENT_GRANTED, A), (Kind.ACCESS_DECIDED, A)],
    ],
)
def test_an_impossible_history_is_refused(steps):
    with pytest.raises(IllegalTransition):
        statuses(steps)
