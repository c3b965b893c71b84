from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ledger.consent import Consent, ConsentStatus, Decision, Provision
from ledger.datause import DataUse
from ledger.ids import ConsentId, OrgId, SubjectId
from ledger.policy import REASONS, AccessRequest, Denial, Permit, Referral, as_body, decide

ORG, OTHER = OrgId(b"\x01" * 8), OrgId(b"\x02" * 8)
SUBJECT = SubjectId(b"\x03" * 32)
NOW = 1_790_000_000
AT = datetime.fromtimestamp(NOW, UTC)
GRU = DataUse("DUO:0000042")


def a_consent(number: int = 1, **changes) -> Consent:
    about = Provision(
        purposes=frozenset({"HRESCH"}),
        requesters=frozenset({ORG}),
        categories=frozenset({"notes"}),
        actions=frozenset({"disclose"}),
        data_use=GRU,
    )
    parts = {name: changes.pop(name) for name in list(changes) if name in Provision.__slots__}
    made = Consent(
        id=ConsentId(bytes([number]) * 32),
        subject=SUBJECT,
        decision=Decision.PERMIT,
        provision=replace(about, **parts),
        starts=NOW - 10,
        ends=NOW + 10,
        status=ConsentStatus.ACTIVE,
    )
    return replace(made, **changes)


def a_request(**changes) -> AccessRequest:
    made = AccessRequest(SUBJECT, ORG, "BIORCH", frozenset({"notes"}), "disclose")
    return replace(made, **changes)


def rule(*consents: Consent, **changes):
    return decide(a_request(**changes), consents, at=AT)


def test_a_covering_permit_permits_until_it_ends():
    assert rule(a_consent()) == Permit((a_consent().id,), NOW + 10)
    assert rule(a_consent(ends=None)) == Permit((a_consent().id,), None)


@pytest.mark.parametrize(
    ("consent", "reason"),
    [
        (a_consent(status=ConsentStatus.INACTIVE), "withdrawn"),
        (a_consent(status=ConsentStatus.DRAFT), "not-recorded"),
        (a_consent(status=ConsentStatus.ENTERED_IN_ERROR), "no-consent"),
        (a_consent(ends=NOW), "expired"),
        (a_consent(starts=NOW + 1), "not-yet-valid"),
        (a_consent(requesters=frozenset({OTHER})), "requester"),
        (a_consent(purposes=frozenset({"TREAT"})), "purpose"),
        (a_consent(categories=frozenset({"images"})), "category"),
        (a_consent(actions=frozenset({"use"})), "action"),
        (a_consent(data_use=DataUse("DUO:0000011")), "data-use"),
        (a_consent(data_use=DataUse("DUO:9999999")), "data-use"),
        (a_consent(data_use=DataUse("DUO:0000042", ("DUO:9999999",))), "data-use"),
        (a_consent(subject=SubjectId(bytes(32))), "no-consent"),
    ],
)
def test_each_reason(consent, reason):
    assert rule(consent) == Denial((reason,))
    assert reason in REASONS


def test_bounds_are_start_inclusive_and_end_exclusive():
    assert isinstance(rule(a_consent(starts=NOW)), Permit)
    assert isinstance(rule(a_consent(ends=NOW + 1)), Permit)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"purpose": "MARKETING"}, "purpose"),
        ({"categories": frozenset()}, "category"),
        ({"categories": frozenset({"notes", "genealogy"})}, "category"),
        ({"action": "sell"}, "action"),
        ({"data_use": DataUse("DUO:9999999")}, "data-use"),
    ],
)
def test_codes_nobody_knows_are_denied_even_under_any(changes, reason):
    anything = a_consent(purposes=None, requesters=None, categories=None)
    assert rule(anything, **changes) == Denial((reason,))


def test_an_unknown_policy_version_denies():
    assert decide(a_request(), [a_consent()], at=AT, policy_version="assent.policy/9") == Denial(
        ("policy-unknown",), "assent.policy/9"
    )


def test_a_naive_time_is_refused():
    with pytest.raises(ValueError, match="aware"):
        decide(a_request(), [], at=datetime(2026, 1, 1))  # noqa: DTZ001 (that is the point)


@pytest.mark.parametrize("status", [ConsentStatus.DRAFT, ConsentStatus.ACTIVE])
def test_an_objection_denies_at_once(status):
    objection = a_consent(2, decision=Decision.DENY, status=status)
    assert rule(a_consent(), objection) == Denial(("objection",))


@pytest.mark.parametrize(
    "changes",
    [
        {"purposes": None, "requesters": None, "categories": None},
        {"purposes": frozenset({"HRESCH"})},
        {"purposes": frozenset({"BIORCH"})},
        {"categories": frozenset({"notes", "images"})},
        {"data_use": DataUse("DUO:0000011")},
    ],
)
def test_an_objection_denies_wherever_it_overlaps(changes):
    assert rule(a_consent(), a_consent(2, decision=Decision.DENY, **changes)) == Denial(
        ("objection",)
    )


def test_an_objection_to_a_narrower_purpose_denies_the_wider_request():
    objection = a_consent(2, decision=Decision.DENY, purposes=frozenset({"POARCH"}))
    assert rule(a_consent(), objection, purpose="HRESCH") == Denial(("objection",))


@pytest.mark.parametrize(
    "changes",
    [
        {"requesters": frozenset({OTHER})},
        {"purposes": frozenset({"TREAT"})},
        {"categories": frozenset({"images"})},
        {"actions": frozenset({"use"})},
        {"status": ConsentStatus.INACTIVE},
        {"status": ConsentStatus.ENTERED_IN_ERROR},
        {"starts": NOW + 1},
        {"ends": NOW},
        {"subject": SubjectId(bytes(32))},
    ],
)
def test_an_objection_elsewhere_does_not_deny(changes):
    objection = a_consent(2, decision=Decision.DENY, **changes)
    assert isinstance(rule(a_consent(), objection), Permit)


def test_the_own_hospital_gets_no_exemption():
    own = SUBJECT.org
    assert rule(requester=own) == Denial(("no-consent",))


def test_categories_may_be_carried_by_different_permits():
    notes, tables = a_consent(1, ends=None), a_consent(2, categories=frozenset({"tables"}))
    both = frozenset({"notes", "tables"})
    assert rule(notes, tables, categories=both) == Permit((notes.id, tables.id), NOW + 10)
    assert rule(notes, categories=both) == Denial(("category",))


def test_the_longest_carrier_is_named_then_the_smallest_id():
    short, long, same = a_consent(1), a_consent(3, ends=NOW + 99), a_consent(2, ends=NOW + 99)
    assert rule(short, long, same) == Permit((same.id,), NOW + 99)


def test_superseding_ends_the_older_permit_and_never_an_objection():
    newer = a_consent(2, supersedes=a_consent().id, purposes=frozenset({"TREAT"}))
    assert rule(a_consent(), newer) == Denial(("withdrawn", "purpose"))
    objection = a_consent(1, decision=Decision.DENY)
    assert rule(objection, a_consent(2, supersedes=objection.id)) == Denial(("objection",))


@pytest.mark.parametrize("modifier", ["DUO:0000021", "DUO:0000020", "DUO:0000019", "DUO:0000046"])
def test_conditions_for_a_person_become_questions(modifier):
    consent = a_consent(data_use=DataUse("DUO:0000042", (modifier,)))
    assert rule(consent) == Referral((modifier,))
    assert isinstance(rule(consent, a_consent(2)), Permit)


def test_a_disease_is_compared_by_a_person():
    consent = a_consent(data_use=DataUse("DUO:0000007"))
    assert rule(consent, purpose="DSRCH") == Referral(("DUO:0000007",))
    assert rule(consent) == Denial(("data-use",))


def test_ancestry_can_be_prohibited():
    consent = a_consent(data_use=DataUse("DUO:0000042", ("DUO:0000044",)))
    assert isinstance(rule(consent), Permit)
    assert rule(consent, purpose="POARCH") == Denial(("data-use",))
    assert rule(consent, data_use=DataUse("DUO:0000011")) == Denial(("data-use",))


def test_research_permissions_do_not_open_care_unless_the_patient_says_so():
    named = a_consent(purposes=frozenset({"TREAT"}))
    anything = a_consent(purposes=None)
    care = a_consent(purposes=None, data_use=DataUse("DUO:0000042", ("DUO:0000043",)))
    free = a_consent(purposes=None, data_use=DataUse("DUO:0000004"))
    assert isinstance(rule(named, purpose="ETREAT"), Permit)
    assert rule(anything, purpose="TREAT") == Denial(("data-use",))
    assert isinstance(rule(care, purpose="TREAT"), Permit)
    assert rule(care, purpose="HPAYMT") == Denial(("data-use",))
    assert isinstance(rule(free, purpose="HPAYMT"), Permit)


def test_a_ruling_as_a_leafs_body_carries_it():
    consent = a_consent()
    assert as_body(rule(consent)) == {
        "decision": "permit",
        "because": [consent.id.hex],
        "reasons": [],
        "expires": NOW + 10,
        "policy": "assent.policy/1",
    }
    assert as_body(Denial(("purpose",)))["reasons"] == ["purpose"]
    assert as_body(Referral(("DUO:0000021",)))["decision"] == "refer"
