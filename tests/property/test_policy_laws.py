"""The laws of the policy; 4 and 5 for consents that name no predecessor."""

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ledger.consent import Consent, ConsentStatus, Decision, Provision
from ledger.datause import ACTIONS, CATEGORIES, MODIFIERS, PERMISSIONS, DataUse
from ledger.ids import ConsentId, OrgId, SubjectId
from ledger.policy import AccessRequest, Denial, Permit, Referral, Ruling, decide

NOW = 1_790_000_000
AT = datetime.fromtimestamp(NOW, UTC)
ORGS = [OrgId(bytes([n]) * 8) for n in (1, 2)]
SUBJECTS = [SubjectId(bytes([n]) * 32) for n in (1, 2)]
PURPOSES = ["HRESCH", "BIORCH", "POARCH", "TREAT"]

data_uses = st.builds(
    DataUse,
    st.sampled_from(sorted(PERMISSIONS)),
    st.sets(st.sampled_from(sorted(MODIFIERS)), max_size=1).map(tuple),
)
provisions = st.builds(
    Provision,
    purposes=st.none() | st.frozensets(st.sampled_from(PURPOSES), min_size=1),
    requesters=st.none() | st.frozensets(st.sampled_from(ORGS), min_size=1),
    categories=st.none() | st.frozensets(st.sampled_from(sorted(CATEGORIES)), min_size=1),
    actions=st.frozensets(st.sampled_from(sorted(ACTIONS)), min_size=1),
    data_use=data_uses,
)
consents = st.builds(
    Consent,
    id=st.integers(0, 30).map(lambda n: ConsentId(bytes([n]) * 32)),
    subject=st.sampled_from(SUBJECTS),
    decision=st.sampled_from([Decision.PERMIT, Decision.PERMIT, Decision.DENY]),
    provision=provisions,
    starts=st.sampled_from([NOW - 9, NOW, NOW + 9]),
    ends=st.sampled_from([None, NOW + 1, NOW + 50, NOW]),
    status=st.sampled_from([ConsentStatus.ACTIVE] * 3 + list(ConsentStatus)),
    supersedes=st.none(),
)
histories = st.lists(consents, max_size=6, unique_by=lambda consent: consent.id)
requests = st.builds(
    AccessRequest,
    subject=st.just(SUBJECTS[0]),
    requester=st.sampled_from(ORGS),
    purpose=st.sampled_from(PURPOSES),
    categories=st.frozensets(st.sampled_from(sorted(CATEGORIES)), min_size=1, max_size=2),
    action=st.sampled_from(sorted(ACTIONS)),
)


def width(ruling: Ruling) -> tuple[int, float]:
    """How much a ruling allows, and until when."""
    if isinstance(ruling, Permit):
        return 2, float("inf") if ruling.expires is None else ruling.expires
    return (1 if isinstance(ruling, Referral) else 0), 0


@given(requests)
def test_1_silence_denies(request):
    assert decide(request, [], at=AT) == Denial(("no-consent",))


@given(requests, histories, st.randoms(use_true_random=False))
def test_2_order_does_not_matter(request, history, random):
    shuffled = list(history)
    random.shuffle(shuffled)
    assert decide(request, history, at=AT) == decide(request, shuffled, at=AT)


@given(requests, histories)
def test_3_another_subjects_consents_are_noise(request, history):
    own = [consent for consent in history if consent.subject == request.subject]
    assert decide(request, history, at=AT) == decide(request, own, at=AT)


@given(requests, histories, consents)
def test_4_adding_a_denial_never_widens(request, history, extra):
    denial = replace(extra, decision=Decision.DENY, id=ConsentId(b"\xff" * 32))
    assert width(decide(request, [*history, denial], at=AT)) <= width(
        decide(request, history, at=AT)
    )


@given(requests, histories, st.integers(0, 5))
def test_5_withdrawing_a_permission_never_widens(request, history, which):
    permits = [consent for consent in history if consent.decision is Decision.PERMIT]
    if not permits:
        return
    gone = permits[which % len(permits)]
    before = width(decide(request, history, at=AT))
    withdrawn = [
        replace(consent, status=ConsentStatus.INACTIVE) if consent is gone else consent
        for consent in history
    ]
    without = [consent for consent in history if consent is not gone]
    assert width(decide(request, withdrawn, at=AT)) <= before
    assert width(decide(request, without, at=AT)) <= before


@given(requests, histories)
def test_6_a_permit_never_outlives_the_consents_that_carried_it(request, history):
    ruling = decide(request, history, at=AT)
    if not isinstance(ruling, Permit):
        return
    carried = [consent for consent in history if consent.id in ruling.because]
    assert len(carried) == len(ruling.because) > 0
    for consent in carried:
        assert consent.status is ConsentStatus.ACTIVE
        assert consent.decision is Decision.PERMIT
        assert consent.starts <= NOW
        if consent.ends is not None:
            assert ruling.expires is not None
            assert NOW < ruling.expires <= consent.ends
    # And without any one of them the same permit does not come again.
    assert decide(request, [c for c in history if c not in carried], at=AT) != ruling
