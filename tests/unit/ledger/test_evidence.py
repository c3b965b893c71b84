"""Who withdrew: the desk's signature is verified like the patient's (step 2)."""

import pytest

from ledger.errors import EvidenceInvalid
from ledger.signing import Key
from ledger.verify import verify_bundle
from tests.evidence import NOW, World, seeded

SKEW, LATE = 60, 3_600


def desk_of(**changes):
    """The bundle and trust of a world whose one patient's consent the desk withdrew."""
    made = World()
    patient = made.enrol()
    made.desk(patient, made.consent(patient), **changes)
    bundle = made.bundle()
    return bundle.to_bytes(), made.trust(bundle)


def test_a_desk_that_signed_is_proved():
    assert verify_bundle(*desk_of()).withheld == 1


@pytest.mark.parametrize("at", [NOW + SKEW, NOW - LATE])
def test_a_desk_may_sign_up_to_an_hour_before_its_leaf(at):
    assert verify_bundle(*desk_of(at=at)).withheld == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"signer": Key.from_bytes(seeded("operator"))},
        {"signer": Key.from_bytes(seeded("requester"))},
        {"org": "0x" + "12" * 8},
        {"officers": "ana"},
        {"officers": "ana,ana"},
        {"officers": "ana,"},
        {"at": NOW + SKEW + 1},
        {"at": NOW - LATE - 1},
        {"signature": "0x" + "12" * 64},
    ],
)
def test_a_desk_that_did_not_sign_so_fails_at_step_2(changes):
    with pytest.raises(EvidenceInvalid) as caught:
        verify_bundle(*desk_of(**changes))
    assert caught.value.step == 2


@pytest.mark.parametrize(
    "changes",
    [{"by": "operator"}, {"by": "desk"}, {"by": None}, {"desk": {}}, {"by": "desk", "desk": {}}],
)
def test_a_withdrawal_that_does_not_say_whose_it_is_fails_at_step_2(changes):
    made = World()
    patient = made.enrol()
    made.withdraw(patient, made.consent(patient), **changes)
    bundle = made.bundle()
    with pytest.raises(EvidenceInvalid) as caught:
        verify_bundle(bundle.to_bytes(), made.trust(bundle))
    assert caught.value.step == 2


def test_a_requesters_desk_cannot_withdraw_for_another_hospitals_patient():
    made = World()
    patient = made.enrol()
    made.desk(patient, made.consent(patient), signer=made.requester, org=made.requester_org.hex)
    bundle = made.bundle()
    with pytest.raises(EvidenceInvalid, match="not of the subject's hospital"):
        verify_bundle(bundle.to_bytes(), made.trust(bundle))
