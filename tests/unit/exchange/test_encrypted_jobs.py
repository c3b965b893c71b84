"""Encrypted inference through the exchange: what the door refuses, what a shared ciphertext loses together."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from compute.client.decryption import decrypt
from compute.client.encryption import encrypt, make_keys
from compute.errors import CiphertextRefused, ContextRefused
from compute.models import ModelCard
from compute.presets import LINEAR, SQUARE
from exchange.encrypted_input import join
from exchange.errors import (
    BlobMissing,
    DocumentMalformed,
    NotFound,
    RequestRefused,
    VersionNotReady,
)
from exchange.vault import input_path
from ledger.commitment import sha256
from ledger.errors import SignatureInvalid
from ledger.ids import JobId
from ledger.leaf import Kind
from ledger.signing import Key
from tests.worked import Before, Worked

FEATURES = ("age", "pressure")
WEIGHTS = json.dumps({"layers": [{"weight": [[0.05, -0.01]], "bias": [-1.5]}]}).encode()
CARD = ModelCard("Risk", "1", "logistic-regression", FEATURES, ("risk",), sha256(WEIGHTS))
ROWS = np.array([[70.0, 120.0], [40.0, 150.0], [55.0, 90.0]])


@pytest.fixture(scope="module")
def holder():
    return make_keys(LINEAR)


@pytest.fixture
def house(tmp_path):
    worked = Worked(tmp_path / "a")
    worked.patients, worked.granted = worked.consenting(3, worked.requester)
    worked.slots = [
        (one.subject.hex, consent.hex)
        for one, consent in zip(worked.patients, worked.granted, strict=True)
    ]
    worked.model = worked.register(WEIGHTS, CARD.to_value())
    yield worked
    worked.close()


def spec(house, **changes):
    given = {
        "job": "encrypted-inference",
        "dataset": None,
        "version": None,
        "categories": ["tables"],
        "model": house.model.hex,
        "parameters": {},
        "slots": [list(slot) for slot in house.slots],
    }
    return given | changes


def request(house, holder, **changes):
    given = {
        "org": house.requester.org.hex,
        "columns": FEATURES,
        "model_digest": house.model.hex,
        "calibration": None,
    }
    return encrypt(holder, ROWS[: len(house.slots)], house.slots, **(given | changes))


def signed(house, made, key=None):
    signature = (key or house.requester.key).sign_digest(made.header.digest)
    return made.signed(signature).to_bytes()


def hand_in(house, job, body):
    house.jobs.receive(house.requester.actor, job, [body])


def test_the_hospital_alone_reads_what_was_computed(house, holder):
    job = house.submit(**spec(house))
    assert house.status(job)["status"] == "draft"
    made = request(house, holder)
    hand_in(house, job, join(holder.evaluator_bytes(), signed(house, made)))
    assert house.runner.run(job) == "done"
    reply = house.jobs.result(house.requester.actor, job)
    opened = decrypt(holder, reply, made.header)
    wanted = ROWS @ np.array([0.05, -0.01]) - 1.5
    assert np.allclose(opened[:, 0], wanted, atol=0.02)
    assert house.status(job)["used"] == 3
    with pytest.raises(NotFound):
        house.jobs.result(house.publisher.actor, job)


def bodies(house, holder):
    """What must not be taken for the input of a job on three slots, and why."""
    context = holder.evaluator_bytes()
    good = request(house, holder)
    wire = signed(house, good)
    deeper = make_keys(SQUARE)
    fewer = encrypt(
        holder, ROWS[:2], house.slots[:2], org=house.requester.org.hex, columns=FEATURES,
        model_digest=house.model.hex, calibration=None,
    )  # fmt: skip
    secret = context + holder.context.serialize(save_secret_key=True)
    return {
        "nothing": (b"", ContextRefused),
        "cut": (join(context, wire)[:100], ContextRefused),
        "cut request": (join(context, wire[:-1]), CiphertextRefused),
        "cut head": (join(context, wire[:40]), CiphertextRefused),
        "too long": (join(context, wire + b"\0"), CiphertextRefused),
        "huge context": (join(b"A" * 5000, wire), ContextRefused),
        "a secret key": (join(secret[:4000], wire), ContextRefused),
        "off the list": (
            join(context.replace(b"ckks-n4096-linear/1", b"ckks-n2048-linear/1"), wire),
            ContextRefused,
        ),
        "other parameters": (join(deeper.evaluator_bytes(), wire), RequestRefused),
        "another key": (join(make_keys(LINEAR).evaluator_bytes(), wire), RequestRefused),
        "fewer slots": (join(context, signed(house, fewer)), RequestRefused),
        "another model": (
            join(context, signed(house, request(house, holder, model_digest="0x" + "22" * 32))),
            RequestRefused,
        ),
        "another hospital": (
            join(context, signed(house, request(house, holder, org=house.publisher.org.hex))),
            RequestRefused,
        ),
        "unsigned": (join(context, good.to_bytes()), SignatureInvalid),
        "another's hand": (join(context, signed(house, good, Key.new())), SignatureInvalid),
        "a pickle": (join(context, b"\x80\x04" + wire), CiphertextRefused),
    }


def test_an_input_that_is_not_this_jobs_is_refused_at_the_door_and_not_kept(house, holder):
    job = house.submit(**spec(house))
    for body, refusal in bodies(house, holder).values():
        with pytest.raises(refusal):
            hand_in(house, job, body)
        with pytest.raises(BlobMissing):
            house.vault.read(input_path(job))
        assert house.status(job)["status"] == "draft"
    hand_in(house, job, join(holder.evaluator_bytes(), signed(house, request(house, holder))))
    assert house.status(job)["status"] == "queued"


def test_a_ciphertext_changed_in_the_vault_fails_in_the_child(house, holder):
    for place, word in ((-1, "ciphertext-refused"), (12, "input-refused")):
        job = house.submit(**spec(house))
        body = bytearray(join(holder.evaluator_bytes(), signed(house, request(house, holder))))
        hand_in(house, job, bytes(body))
        body[place] ^= 1
        house.vault.delete(input_path(job))
        house.vault.put_bytes(input_path(job), bytes(body))
        assert house.runner.run(job) == "failed"
        assert house.status(job)["detail"] == word


def test_parameters_that_only_the_library_can_see_fail_in_the_child(house):
    """Every field in clear says one preset; the serialised parameters inside are another's."""
    forged = make_keys(SQUARE)
    forged.context.global_scale = 2.0**LINEAR.scale_bits
    forged = dataclasses.replace(forged, preset=LINEAR)
    job = house.submit(**spec(house))
    hand_in(house, job, join(forged.evaluator_bytes(), signed(house, request(house, forged))))
    assert house.runner.run(job) == "failed"
    assert house.status(job)["detail"] == "context-refused"


def test_a_slot_without_cover_refuses_the_job_and_names_the_slot(house):
    house.withdraw(house.patients[1])
    job = house.submit(**spec(house))
    assert house.status(job)["status"] == "refused"
    assert house.status(job)["detail"] == "uncovered:1"
    with pytest.raises(VersionNotReady):
        hand_in(house, job, b"x")


def test_another_consent_of_the_same_patient_does_not_stand_in(house):
    """A slot names its consent; the header that the hospital signed binds both."""
    house.slots[1] = (house.slots[1][0], house.slots[0][1])
    assert house.status(house.submit(**spec(house)))["detail"] == "uncovered:1"


def test_a_withdrawal_before_the_run_stops_the_whole_ciphertext(house, holder):
    job = house.submit(**spec(house))
    hand_in(house, job, join(holder.evaluator_bytes(), signed(house, request(house, holder))))
    house.withdraw(house.patients[2])
    assert house.runner.run(job) == "stopped"
    assert house.status(job)["detail"] == "cover-lost:2"
    assert house.status(job)["used"] == 0


@pytest.mark.parametrize("moment", ["read", "put_bytes"])
def test_a_withdrawal_during_the_run_stops_the_whole_ciphertext(house, holder, moment):
    job = house.submit(**spec(house))
    hand_in(house, job, join(holder.evaluator_bytes(), signed(house, request(house, holder))))
    vault = Before(house.vault, moment, lambda: house.withdraw(house.patients[0]))
    assert dataclasses.replace(house.runner, vault=vault).run(job) == "stopped"
    assert house.status(job)["detail"] == "cover-lost:0"
    with pytest.raises(VersionNotReady):
        house.jobs.result(house.requester.actor, job)
    (leaf,) = house.bodies(Kind.JOB_FINISHED)
    assert (leaf["outcome"], leaf["used"], leaf["resultDigest"]) == ("stopped", [], None)


def test_slots_are_the_requesters_own_patients(house):
    strangers, consents = house.consenting(1, house.publisher)
    slots = [[strangers[0].subject.hex, consents[0].hex]]
    with pytest.raises(DocumentMalformed, match="own subjects"):
        house.submit(**spec(house, slots=slots))


def test_a_plain_job_takes_no_ciphertext_and_a_queued_one_no_second(house, holder):
    house.patients, _ = house.consenting(1)
    house.publish_rows([(house.patients[0], {"age": "7"})], [
        {"name": "age", "type": "number", "unit": None, "min": None, "max": None}
    ])  # fmt: skip
    with pytest.raises(VersionNotReady):
        hand_in(house, house.count(), b"x")
    job = house.submit(**spec(house))
    hand_in(house, job, join(holder.evaluator_bytes(), signed(house, request(house, holder))))
    before = house.vault.read(input_path(job))
    hand_in(house, job, b"something else")
    assert house.vault.read(input_path(job)) == before
    with pytest.raises(NotFound):
        house.jobs.receive(house.publisher.actor, job, [b""])
    with pytest.raises(NotFound):
        hand_in(house, JobId.new(), b"")


def test_coverage_names_the_consent_of_each_covered_patient(house):
    house.withdraw(house.patients[0])
    found = house.jobs.coverage(house.requester.actor, "HRESCH", ["tables"])
    assert found == dict(house.slots[1:])
    assert house.jobs.coverage(house.publisher.actor, "HRESCH", ["tables"]) == {}
