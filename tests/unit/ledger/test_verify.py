import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.commitment import canonical
from ledger.errors import (
    BundleMalformed,
    CheckpointInvalid,
    CommitmentMismatch,
    EvidenceInvalid,
    InclusionInvalid,
    NotInForce,
    ReleaseMismatch,
    RulingNotReproducible,
    TrustInvalid,
    VerificationError,
)
from ledger.ids import handle
from ledger.leaf import Kind
from ledger.merkle import Tree, consistency_proof
from ledger.signing import Key, to_hex
from ledger.trust import parse, require_not_behind
from ledger.verify import verify_bundle
from tests.evidence import NOW, World, edited, honest, seeded


@pytest.fixture(scope="module")
def world():
    made = honest()
    return made, made.bundle()


def fails(data: bytes, trust: Any, step: int, kind: type[VerificationError]) -> VerificationError:
    with pytest.raises(VerificationError) as caught:
        verify_bundle(data, trust)
    assert caught.value.step == step, caught.value
    assert isinstance(caught.value, kind), caught.value
    return caught.value


def subject_of(bundle, patient) -> int:
    return [s.handle for s in bundle.subjects].index(handle(patient.subject))


def test_an_honest_bundle_is_proved(world):
    made, bundle = world
    found = verify_bundle(bundle.to_bytes(), made.trust(bundle))
    assert (found.permitted, found.withheld, found.delivered) == (4, 5, 4)
    assert found.checkpoint_size == len(made.entries)


# Step 0


@pytest.mark.parametrize(
    "change",
    [
        {"version": "assent.trust/2"},
        {"deployment": "0x" + "00" * 32},
        {"checkpoints": []},
        {"exchange": "0x12"},
        {"granted": {"0xabc": 1}},
        {"participants": [{"address": "0x" + "11" * 20}]},
        {"addresses": {}},
        {"checkpoints": [{"size": 3, "root": "0x" + b * 32, "block": 1} for b in ("11", "22")]},
    ],
)
def test_an_unusable_trust_file_fails_at_step_0(world, change):
    made, bundle = world
    with pytest.raises(TrustInvalid) as caught:
        verify_bundle(bundle.to_bytes(), parse(made.trust_json(bundle) | change))
    assert caught.value.step == 0


def test_a_missing_member_of_the_trust_file_fails_at_step_0(world):
    made, bundle = world
    for name in made.trust_json(bundle):
        value = made.trust_json(bundle)
        del value[name]
        with pytest.raises(TrustInvalid):
            parse(value)


def test_trust_does_not_go_back_behind_an_older_one(world):
    made, bundle = world
    older = made.trust(bundle)
    require_not_behind(made.trust(bundle), older)
    for change in (
        {"checkpoints": []},
        {"granted": {}},
        {"withdrawn": {}},
        {"participants": []},
        {"genesisHash": "0x" + "99" * 32},
        {"deployment": "0x" + "99" * 32},
        {"exchange": "0x" + "99" * 20},
        {"chainId": 1},
        {"addresses": dict.fromkeys(made.trust_json(bundle)["addresses"], "0x" + "98" * 20)},
        {"codeHashes": dict.fromkeys(made.trust_json(bundle)["codeHashes"], "0x" + "98" * 32)},
    ):
        with pytest.raises(TrustInvalid):
            require_not_behind(parse(made.trust_json(bundle) | change), older)


# Step 1


def test_another_spelling_of_the_same_bundle_fails_at_step_1(world):
    made, bundle = world
    loose = json.dumps(json.loads(bundle.to_bytes())).encode()
    fails(loose, made.trust(bundle), 1, BundleMalformed)
    fails(bundle.to_bytes() + b"\n", made.trust(bundle), 1, BundleMalformed)
    fails(b"", made.trust(bundle), 1, BundleMalformed)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(version="assent.bundle/2"),
        lambda v: v.update(extra=1),
        lambda v: v.pop("dataset"),
        lambda v: v.update(deployment="0x" + "12" * 32),
        lambda v: v.update(kind="job"),
        lambda v: v.update(id="0x" + "12" * 16),
        lambda v: v["access"].update(closing=v["access"]["leaf"]),
        lambda v: v["access"]["leaf"].update(proof=None),
        lambda v: v["access"]["leaf"].update(index=-1),
        lambda v: v["subjects"].append(v["subjects"][0]),
        lambda v: v["subjects"][0].update(handle=v["subjects"][1]["handle"]),
        lambda v: v["subjects"][0].update(decided=v["subjects"][1]["decided"]),
        lambda v: v["subjects"][0]["consentChain"][0].update(index=1),
        lambda v: v["subjects"][0]["consentChain"][0].update(skeleton="0x02"),
        lambda v: v["subjects"][0]["consentChain"][1]["body"].update(salt="0x" + "00" * 16),
        lambda v: v["subjects"][0]["consentChain"][1]["body"]["document"].update(purpose="*"),
        lambda v: v["subjects"][0]["decided"]["body"]["ruling"].update(expires=None),
        lambda v: v["access"]["closing"]["body"].update(delivered=[]),
        lambda v: v["dataset"]["leaf"]["body"].update(version=2),
    ],
)
def test_a_bundle_at_odds_with_itself_fails_at_step_1(world, change):
    made, bundle = world
    fails(edited(bundle, change), made.trust(bundle), 1, BundleMalformed)


# Step 2


def test_a_consent_forged_by_keys_of_the_operators_own_fails_at_step_2():
    made = World()
    made.consent(made.enrol(inviter=Key.from_bytes(seeded("operator"))))
    bundle = made.bundle()
    error = fails(bundle.to_bytes(), made.trust(bundle), 2, EvidenceInvalid)
    assert "invitation" in error.what


def test_an_identity_key_that_no_code_redeemed_fails_at_step_2():
    made = World()
    patient = made.enrol()
    patient.identity = Key.from_bytes(seeded("operator"))
    made.consent(patient)
    bundle = made.bundle()
    fails(bundle.to_bytes(), made.trust(bundle), 2, EvidenceInvalid)


def test_a_hospital_that_is_no_participant_fails_at_step_2(world):
    made, bundle = world
    value = made.trust_json(bundle)
    value["participants"] = value["participants"][1:]
    fails(bundle.to_bytes(), parse(value), 2, EvidenceInvalid)


def test_a_rotated_hospital_key_speaks_for_its_organisation_and_no_other():
    made = World()
    founder, later = made.publisher, Key.from_bytes(seeded("later"))
    made.publisher = later
    made.consent(made.enrol())
    bundle = made.bundle()
    value = made.trust_json(bundle)
    stranger = value["participants"] + [
        {"address": to_hex(founder.address), "since": 1, "until": None}
    ]
    fails(bundle.to_bytes(), parse(value | {"participants": stranger}), 2, EvidenceInvalid)
    moved = value["participants"] + [
        {
            "address": to_hex(founder.address),
            "since": 1,
            "until": 2,
            "successor": to_hex(later.address),
        }
    ]
    assert verify_bundle(bundle.to_bytes(), parse(value | {"participants": moved})).permitted == 1


def bent(kind: Kind, change) -> World:
    """A world whose exchange changes one kind of body before sealing it into the log."""
    made = World()

    def bend(at: Kind, body: dict[str, Any]) -> dict[str, Any]:
        if at is kind:
            body = json.loads(canonical(body))
            change(body)
        return body

    made.bend = bend
    made.consent(made.enrol())
    return made


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Kind.SUBJECT_ENROLLED, lambda b: b["invited"].update(expiry=NOW + 99_999)),
        (Kind.SUBJECT_ENROLLED, lambda b: b["redeemed"].update(identityKey="0x" + "12" * 20)),
        (Kind.SUBJECT_ENROLLED, lambda b: b.update(org="0x" + "12" * 8)),
        (Kind.SUBJECT_ENROLLED, lambda b: b.update(subject="0x" + "12" * 32)),
        (Kind.SUBJECT_ENROLLED, lambda b: b.pop("invited")),
        (Kind.CONSENT_GRANTED, lambda b: b["terms"].update(purpose="*")),
        (Kind.CONSENT_GRANTED, lambda b: b["document"].update(purpose="*")),
        (Kind.CONSENT_GRANTED, lambda b: b["document"].update(grammar="assent.consent/2")),
        (Kind.CONSENT_GRANTED, lambda b: b["grant"].update(untilDay=1)),
        (Kind.CONSENT_GRANTED, lambda b: b["grant"].update(signature="0x" + "12" * 64)),
        (Kind.CONSENT_GRANTED, lambda b: b.update(termsSignature="0x" + "12" * 64)),
        (Kind.CONSENT_GRANTED, lambda b: b.update(terms=7)),
        (Kind.RELEASE_DECIDED, lambda b: b["request"].update(purpose="HRESCH")),
        (Kind.RELEASE_DECIDED, lambda b: b["request"].update(kind="assent.card/1")),
        (Kind.RELEASE_DECIDED, lambda b: b.pop("requestSignature")),
        (Kind.DATASET_PUBLISHED, lambda b: b["manifest"]["parts"].clear()),
        (Kind.DATASET_PUBLISHED, lambda b: b.update(manifestDigest="0x" + "12" * 32)),
    ],
)
def test_a_lie_about_what_was_signed_fails_at_step_2(kind, change):
    made = bent(kind, change)
    bundle = made.bundle()
    fails(bundle.to_bytes(), made.trust(bundle), 2, EvidenceInvalid)


def test_terms_that_arrive_after_their_deadline_fail_at_step_2():
    made = World()
    patient = made.enrol()
    made.consent(patient, at_ms=(NOW + 3601) * 1000)
    bundle = made.bundle()
    error = fails(bundle.to_bytes(), made.trust(bundle), 2, EvidenceInvalid)
    assert "deadline" in error.what


def test_signatures_for_another_deployment_fail_at_step_2():
    made = World()
    real = made.domain
    patient = made.enrol()
    made.domain = type(real)(seeded("another deployment"))
    made.consent(patient)
    made.domain = real
    bundle = made.bundle()
    fails(bundle.to_bytes(), made.trust(bundle), 2, EvidenceInvalid)


def test_a_lift_without_the_identity_key_fails_at_step_2():
    made = World()
    patient = made.enrol()
    made.consent(patient)
    objection = made.consent(patient, decision="deny")
    made.lift(patient, objection, signer=made.exchange)
    bundle = made.bundle()
    fails(bundle.to_bytes(), made.trust(bundle), 2, EvidenceInvalid)


def test_a_permit_without_its_enrolment_fails_at_step_2(world):
    made, bundle = world

    def hide(value):
        value["subjects"][0]["consentChain"][0]["body"] = None

    fails(edited(bundle, hide), made.trust(bundle), 2, EvidenceInvalid)


# Step 3


def test_terms_under_another_consents_id_fail_at_step_3(monkeypatch):
    made = World()
    patient = made.enrol()
    real = made.append

    def append(kind, body, *, consent=None, **kwargs):
        if consent is not None:
            consent = type(consent)(seeded("another id"))
        return real(kind, body, consent=consent, **kwargs)

    monkeypatch.setattr(made, "append", append)
    consent = made.consent(patient)
    other = type(consent)(seeded("another id"))
    patient.consents[other] = patient.consents.pop(consent)
    made.granted.add(other)
    bundle = made.bundle()
    fails(bundle.to_bytes(), made.trust(bundle), 3, CommitmentMismatch)


# Step 4


def drop(index: int, place: int):
    def change(value):
        chain = value["subjects"][index]["consentChain"]
        del chain[place]
        if chain[-1]["proof"] is None:
            # Keep the shape that step 1 asks for: the head carries a proof, if a wrong one.
            chain[-1].update(proof=[], index=0)

    return change


def test_leaving_out_a_withdrawal_an_objection_or_any_leaf_fails_at_step_4(world):
    made, bundle = world
    for patient in (made.patients[0], made.patients[3], made.patients[4], made.patients[5]):
        index = subject_of(bundle, patient)
        for place in range(1, len(patient.chain)):
            if patient.chain[place].leaf.kind is Kind.OBJECTION_RECORDED and (
                patient is made.patients[5]
            ):
                continue  # the lift that follows is then evidence of nothing: step 2
            data = edited(bundle, drop(index, place))
            fails(data, made.trust(bundle), 4, NotInForce)


def test_a_withdrawn_permit_ruled_in_favour_fails_at_step_4():
    made = World()
    patient = made.enrol()
    made.withdraw(patient, made.consent(patient))
    lied = made.bundle(permit_all=True)
    error = fails(lied.to_bytes(), made.trust(lied), 4, NotInForce)
    assert "not in force" in error.what


def test_a_ruling_on_a_stale_head_is_the_limit_that_witnesses_close():
    made = World()
    patient = made.enrol()
    made.withdraw(patient, made.consent(patient))
    bundle = made.bundle(heads_at={patient.subject: 3})
    # The proof cannot see it; a reader of every leaf can: the ruling's leaf comes after another
    # leaf of the same chain than the one it commits to.
    assert verify_bundle(bundle.to_bytes(), made.trust(bundle)).permitted == 1
    ruling = made.entries[bundle.subjects[0].decided.index]
    before = [e for e in patient.chain if e.index < ruling.index]
    assert to_hex(before[-1].leaf.hash) != ruling.body["consentHead"]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_redated_leaf_fails_at_step_4(world, place):
    made, bundle = world

    def redate(value):
        chain = value["subjects"][0]["consentChain"]
        skeleton = bytearray.fromhex(chain[place]["skeleton"][2:])
        skeleton[9] ^= 1
        chain[place]["skeleton"] = to_hex(bytes(skeleton))

    fails(edited(bundle, redate), made.trust(bundle), 4, NotInForce)


def test_a_permit_that_the_chain_does_not_hold_fails_at_step_4(world):
    made, bundle = world
    value = made.trust_json(bundle)
    value["granted"] = {}
    fails(bundle.to_bytes(), parse(value), 4, NotInForce)


def test_a_lifted_objection_that_the_chain_did_not_end_fails_at_step_4(world):
    made, bundle = world
    value = made.trust_json(bundle)
    value["withdrawn"] = {}
    fails(bundle.to_bytes(), parse(value), 4, NotInForce)


def test_an_unrecorded_permit_ruled_in_favour_fails_at_step_4():
    made = World()
    made.consent(made.enrol(), record=False)
    bundle = made.bundle(permit_all=True)
    fails(bundle.to_bytes(), made.trust(bundle), 4, NotInForce)


def test_hiding_the_body_of_an_objection_or_of_a_withheld_grant_fails_at_step_4(world):
    made, bundle = world
    for number, kind in ((4, Kind.OBJECTION_RECORDED), (6, Kind.CONSENT_GRANTED)):
        patient = made.patients[number]
        index = subject_of(bundle, patient)
        place = [entry.leaf.kind for entry in patient.chain].index(kind)

        def hide(value, index=index, place=place):
            value["subjects"][index]["consentChain"][place]["body"] = None

        fails(edited(bundle, hide), made.trust(bundle), 4, NotInForce)


def test_a_subjects_other_grants_before_the_one_relied_on_stay_private(world):
    made, bundle = world
    index = subject_of(bundle, made.patients[7])
    bodies = [leaf.body for leaf in bundle.subjects[index].consent_chain]
    assert bodies[1] is None
    assert bodies[4] is not None


# Step 5


def test_a_permit_that_the_consents_do_not_give_fails_at_step_5():
    made = World()
    made.consent(made.enrol(), purpose=["TREAT"])
    bundle = made.bundle(permit_all=True)
    fails(bundle.to_bytes(), made.trust(bundle), 5, RulingNotReproducible)


def test_a_permit_despite_an_objection_fails_at_step_5():
    made = World()
    patient = made.enrol()
    made.consent(patient)
    made.consent(patient, decision="deny", purpose="*")
    bundle = made.bundle(permit_all=True)
    fails(bundle.to_bytes(), made.trust(bundle), 5, RulingNotReproducible)


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b["ruling"].update(expires=None),
        lambda b: b["ruling"].update(policy="assent.policy/0"),
        lambda b: b["ruling"].update(decision="deny", because=[], reasons=["purpose"]),
        lambda b: b["ruling"].update(
            decision="deny", because=[], reasons=["chain-stale", "purpose"], expires=None
        ),
        lambda b: b.update(requestDigest="0x" + "12" * 32),
        lambda b: b["request"].update(purpose="HRESCH"),
        lambda b: b["request"].update(categories=["tables"]),
        lambda b: b.update(kind="query"),
        lambda b: b["request"].pop("version"),
    ],
)
def test_another_ruling_or_request_fails_at_step_5(change):
    made = bent(Kind.ACCESS_DECIDED, change)
    bundle = made.bundle()
    fails(bundle.to_bytes(), made.trust(bundle), 5, RulingNotReproducible)


def test_a_denial_for_a_circumstance_is_accepted_since_it_can_only_narrow():
    denied = {
        "decision": "deny",
        "because": [],
        "reasons": ["chain-stale"],
        "expires": None,
        "policy": "assent.policy/1",
    }

    def bend(kind, body):
        if kind is Kind.ACCESS_DECIDED:
            return body | {"ruling": denied}
        if kind is Kind.RELEASE_DECIDED:
            return body | {"permitted": 0, "withheld": 1}
        return body | ({"delivered": []} if kind is Kind.DATA_RELEASED else {})

    made = World()
    made.consent(made.enrol())
    made.bend = bend
    bundle = made.bundle()
    assert verify_bundle(bundle.to_bytes(), made.trust(bundle)).withheld == 1


# Step 6


def test_a_checkpoint_that_is_not_anchored_fails_at_step_6(world):
    made, bundle = world
    for change in ({"root": "0x" + "12" * 32}, {"size": 7}):
        value = made.trust_json(bundle)
        value["checkpoints"][0].update(change)
        fails(bundle.to_bytes(), parse(value), 6, CheckpointInvalid)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(size=c["size"] + 1),
        lambda c: c.update(root="0x" + "12" * 32),
        lambda c: c.update(signature="0x" + "12" * 64),
        lambda c: c.update(cosignatures=["0x" + "12" * 64]),
        lambda c: c.update(cosignatures=c["cosignatures"] * 2),
        lambda c: c.update(cosignatures=[c["signature"]]),
    ],
)
def test_a_changed_checkpoint_fails_at_step_6(world, change):
    made, bundle = world
    data = edited(bundle, lambda value: change(value["checkpoint"]))
    fails(data, made.trust(bundle), 6, CheckpointInvalid)


def test_a_checkpoint_may_be_a_prefix_of_an_anchored_one():
    made = honest()
    bundle = made.bundle()
    size = bundle.checkpoint.size
    made.pin()
    hashes = [entry.leaf.hash for entry in made.entries]
    later = Tree(hashes)
    trust = made.trust_json(bundle)
    trust["checkpoints"] = [{"size": later.size, "root": to_hex(later.root), "block": 8}]
    proof = [to_hex(node) for node in consistency_proof(size, hashes)]

    def prove(value):
        value["checkpoint"]["consistency"] = {
            "size": later.size,
            "root": to_hex(later.root),
            "proof": proof,
        }

    def wrong(value):
        prove(value)
        value["checkpoint"]["consistency"]["proof"] = proof[1:]

    fails(bundle.to_bytes(), parse(trust), 6, CheckpointInvalid)
    assert verify_bundle(edited(bundle, prove), parse(trust)).permitted == 4
    fails(edited(bundle, wrong), parse(trust), 6, InclusionInvalid)


@pytest.mark.parametrize(
    "leaf",
    [
        lambda v: v["access"]["leaf"],
        lambda v: v["access"]["closing"],
        lambda v: v["dataset"]["leaf"],
        lambda v: v["participants"][0],
        lambda v: v["subjects"][0]["decided"],
        lambda v: v["subjects"][0]["consentChain"][-1],
    ],
)
def test_a_leaf_that_is_not_in_the_log_fails_at_step_6(world, leaf):
    made, bundle = world

    def change(value):
        proof = leaf(value)["proof"]
        proof[0] = "0x" + "12" * 32

    fails(edited(bundle, change), made.trust(bundle), 6, InclusionInvalid)


# Step 7


def test_a_digest_that_was_not_published_fails_at_step_7():
    made = honest()
    bundle = made.bundle(deliver=lambda pairs: [[pairs[0][0], "0x" + "12" * 32], *pairs[1:]])
    fails(bundle.to_bytes(), made.trust(bundle), 7, ReleaseMismatch)


def test_a_subject_delivered_without_a_permit_fails_at_step_7():
    made = honest()
    withheld = made.patients[2]
    extra = [to_hex(handle(withheld.subject)), made.part_digest(withheld)]
    bundle = made.bundle(deliver=lambda pairs: [*pairs, extra])
    error = fails(bundle.to_bytes(), made.trust(bundle), 7, ReleaseMismatch)
    assert "not permitted" in error.what


def test_a_subject_delivered_twice_fails_at_step_7():
    made = honest()
    bundle = made.bundle(deliver=lambda pairs: [*pairs, pairs[0]])
    fails(bundle.to_bytes(), made.trust(bundle), 7, ReleaseMismatch)


def test_leaving_a_whole_subject_out_fails_at_step_7():
    for number in (0, 2):
        made = honest()
        bundle = made.bundle(omit=[made.patients[number]])
        fails(bundle.to_bytes(), made.trust(bundle), 7, ReleaseMismatch)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Kind.RELEASE_DECIDED, lambda b: b.update(version=2)),
        (Kind.RELEASE_DECIDED, lambda b: b.update(manifestDigest="0x" + "12" * 32)),
        (Kind.RELEASE_DECIDED, lambda b: b.update(permitted=2)),
        (Kind.DATASET_PUBLISHED, lambda b: b.update(version=2)),
        (Kind.DATA_RELEASED, lambda b: b.update(stopped=["0x" + "12" * 32])),
        (Kind.DATA_RELEASED, lambda b: b.update(delivered={})),
    ],
)
def test_a_release_that_differs_from_the_publication_fails_at_step_7(kind, change):
    made = bent(kind, change)
    bundle = made.bundle()
    fails(bundle.to_bytes(), made.trust(bundle), 7, ReleaseMismatch)


# Everything


def small() -> tuple[bytes, Any]:
    made = World()
    made.pin()
    made.consent(made.enrol())
    withdrew = made.enrol()
    made.withdraw(withdrew, made.consent(withdrew))
    bundle = made.bundle()
    return bundle.to_bytes(), made.trust(bundle)


SMALL, TRUST = small()


@given(st.integers(0, len(SMALL) - 1), st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_one_changed_byte_anywhere_fails_at_a_named_step(place, change):
    data = bytearray(SMALL)
    data[place] ^= change
    with pytest.raises(VerificationError) as caught:
        verify_bundle(bytes(data), TRUST)
    assert caught.value.step in range(1, 8)


def test_errors_carry_no_contents(world):
    made, bundle = world
    canary = "canary-name"

    def plant(value):
        value["subjects"][0]["consentChain"][1]["body"]["document"]["locale"] = canary

    error = fails(edited(bundle, plant), made.trust(bundle), 1, BundleMalformed)
    assert canary not in str(error)


def test_the_command_verifies_offline_without_chain_libraries(world, tmp_path):
    made, bundle = world
    path, trust = tmp_path / "bundle.json", tmp_path / "trust.json"
    path.write_bytes(bundle.to_bytes())
    trust.write_text(json.dumps(made.trust_json(bundle)))
    script = (
        "import sys, runpy\n"
        "sys.argv = ['ledger', 'verify', *sys.argv[1:]]\n"
        "try:\n"
        "    runpy.run_module('ledger', run_name='__main__')\n"
        "finally:\n"
        "    heavy = {'web3', 'solcx', 'eth_account', 'requests', 'fastapi', 'sqlalchemy'}\n"
        "    assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-c", script, str(path), "--trust", str(trust), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )

    done = run("--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["permitted"] == 4
    path.write_bytes(bundle.to_bytes().replace(b'"withheld":5', b'"withheld":4'))
    failed = run()
    assert failed.returncode == 1
    assert "1  FAILED" in failed.stdout


def test_a_thousand_subjects_verify():
    made = World()
    for _ in range(1000):
        made.consent(made.enrol())
    bundle = made.bundle()
    assert verify_bundle(bundle.to_bytes(), made.trust(bundle)).permitted == 1000
