from __future__ import annotations

import contextlib
import inspect
import json
import os
import secrets
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from exchange import log, sealing
from exchange.documents import JOB_KIND, KEYS_KEY_KIND, REQUEST_KIND, read_request
from exchange.errors import KeysRefused, KeysUnavailable, SettingsError
from exchange.gate import Access
from exchange.keys import proofs
from exchange.keys.client import KeysClient
from exchange.keys.process import KeysProcess
from exchange.keys.server import KeysServer
from exchange.settings import environment_of
from exchange.store import schema
from exchange.store.consents import document_columns
from ledger.commitment import canonical, sha256
from ledger.consent import parse_document
from ledger.ids import JobId, ReleaseId, SubjectId, handle
from ledger.leaf import Kind
from ledger.merkle import CompactRange
from ledger.signing import (
    Admit,
    Checkpoint,
    Grant,
    Key,
    Receipt,
    Redeemed,
    Terms,
    Withdraw,
    sign_document,
    to_hex,
    verify,
    verify_document,
)
from tests.deployed import Deployed, Hospital


class Asked(Deployed):
    """A deployment whose keys process is asked without a socket."""

    def __init__(self, folder):
        super().__init__(folder)
        self.start()

    def start(self):
        self.process = KeysProcess(self.settings)

    def restart(self):
        self.process.close()
        self.start()

    def ask_keys(self, verb, **fields):
        answer = self.process.answer({"verb": verb, **fields})
        return answer["ok"] if "ok" in answer else tuple(answer.get("refused", ["unavailable"]))

    @property
    def keys_key(self):
        return bytes.fromhex(self.ask_keys("status")["keysKey"]["publicKey"][2:])

    def prepared(self, count=2, **changes):
        """Patients with a published dataset and their keys deposited."""
        patients = self.enrol(count)
        for patient in patients:
            self.grant(patient, **changes)
        sealed = self.seal(patients, self.keys_key, records=1, size=64)
        assert self.deposit(sealed) == {"keys": count}
        self.publish()
        return patients

    def deposit(self, sealed):
        return self.ask_keys("deposit", dataset=self.dataset.hex, version=1, sealed=to_hex(sealed))

    def open(self, release):
        return self.ask_keys("open_release", release=release.hex)

    def parts(self, release, *patients):
        answer = self.ask_keys(
            "open_parts", release=release.hex, subjects=[one.subject.hex for one in patients]
        )
        return [one.get("refused", ["opened"]) for one in answer["parts"]]


@pytest.fixture
def house(tmp_path):
    asked = Asked(tmp_path / "a")
    asked.deploy(asked.process.exchange_address)
    yield asked
    asked.process.close()
    asked.close()


consents = schema.consents


# Secrets and pins --------------------------------------------------------------------------


def test_before_a_deployment_only_the_status_is_told(tmp_path):
    asked = Asked(tmp_path / "a")
    status = asked.ask_keys("status")
    assert (status["deployment"], status["keysKey"]["signature"], status["pinned"]) == (
        None,
    ) * 2 + (0,)
    for verb in ("sign_receipts", "sign_checkpoint", "open_release"):
        assert asked.ask_keys(verb, indexes=[0], size=1, release="0x" + "0" * 32) == (
            "not-deployed",
        )
    asked.deploy(asked.process.exchange_address)
    status = asked.ask_keys("status")
    assert status["pinned"] == 2
    document = {"kind": KEYS_KEY_KIND, "publicKey": status["keysKey"]["publicKey"]}
    signature = bytes.fromhex(status["keysKey"]["signature"][2:])
    verify_document(
        KEYS_KEY_KIND, document, signature, asked.process.exchange_address, asked.domain
    )
    asked.process.close()
    asked.close()


def test_keys_are_made_once_and_their_file_is_the_owners_alone(house):
    before = house.ask_keys("status")
    root = house.settings.data_dir / "keys" / "root.key"
    assert stat.S_IMODE(root.stat().st_mode) == 0o600
    house.restart()
    after = house.ask_keys("status")
    assert before == after


def test_a_root_key_that_is_lost_cut_or_readable_stops_the_start(house):
    root = house.settings.data_dir / "keys" / "root.key"
    key = root.read_bytes()
    house.process.close()
    root.chmod(0o640)
    with pytest.raises(SettingsError, match="read by others"):
        house.start()
    root.chmod(0o600)
    root.write_bytes(key[:31])
    with pytest.raises(SettingsError):
        house.start()
    root.unlink()
    with pytest.raises(SettingsError, match="missing"):
        house.start()
    assert not root.exists()
    root.write_bytes(key)
    root.chmod(0o600)
    house.start()


def test_no_secret_lies_open_in_the_database(house):
    house.prepared()
    house.process.close()
    raw = b"".join(path.read_bytes() for path in house.settings.data_dir.glob("keys.sqlite*"))
    house.start()
    for key in house.keys.values():
        assert key not in raw
        assert key.hex().encode() not in raw
    assert house.process._secrets.exchange_key.to_bytes() not in raw
    assert house.process._secrets.hpke_private not in raw


@pytest.mark.parametrize("what", ["founder", "card", "deployment", "exchange"])
def test_a_changed_deployment_file_is_refused_at_later_starts(house, what):
    house.ask_keys("status")
    document = json.loads(house.settings.deployment_file.read_text())
    reason = "pin-changed"
    if what == "founder":
        document["founders"][0] = Hospital("North").card()
    elif what == "card":
        house.publisher.name = "Elsewhere"
        document["founders"][0] = house.publisher.card()
    elif what == "deployment":
        document["deployment"] = to_hex(secrets.token_bytes(32))
        reason = "deployment-changed"
    else:
        document["exchange"] = to_hex(Key.new().address)
        reason = "exchange-changed"
    house.settings.deployment_file.write_text(json.dumps(document))
    house.process.close()
    with pytest.raises(KeysRefused, match=reason):
        house.start()
    house.process = KeysProcess.__new__(KeysProcess)
    house.process.close = lambda: None


def test_a_founder_with_a_forged_card_is_not_pinned(tmp_path):
    asked = Asked(tmp_path / "a")
    card = asked.publisher.card()
    card["card"]["receiveKey"] = "0x" + "11" * 32
    document = {
        "deployment": to_hex(asked.domain.deployment_id), "chainId": 1, "genesisHash": "0x",
        "addresses": {}, "codeHashes": {}, "exchange": to_hex(asked.process.exchange_address),
        "founders": [card], "auditors": [],
    }  # fmt: skip
    asked.settings.deployment_file.write_text(json.dumps(document))
    assert asked.ask_keys("status") == ("card-invalid",)
    asked.process.close()
    asked.close()


def test_a_newcomer_is_pinned_by_two_members(house):
    house.ask_keys("status")
    newcomer = Hospital("East")
    card = newcomer.card()
    sign = [
        to_hex(member.key.sign(Admit(newcomer.key.address), house.domain))
        for member in (house.publisher, house.requester, Hospital("stranger"))
    ]
    for signatures in ([sign[0]], [sign[0], sign[0]], [sign[0], sign[2]], ["0x00"]):
        assert house.ask_keys("pin", card=card, signatures=signatures) == ("admission-unsigned",)
    for _ in range(2):
        assert house.ask_keys("pin", card=card, signatures=sign[:2]) == {"org": newcomer.org.hex}
    house.restart()
    assert house.ask_keys("status")["pinned"] == 3


# Receipts and checkpoints ------------------------------------------------------------------


def test_receipts_are_signed_for_leaves_that_are_there(house):
    patient = house.enrol(1)[0]
    house.grant(patient)
    receipts = house.ask_keys("sign_receipts", indexes=[0, 2, 1])["receipts"]
    assert [one["index"] for one in receipts] == [0, 2, 1]
    for one in receipts:
        receipt = Receipt(one["index"], bytes.fromhex(one["leafHash"][2:]))
        signature = bytes.fromhex(one["signature"][2:])
        verify(receipt, signature, house.process.exchange_address, house.domain)
    assert house.ask_keys("sign_receipts", indexes=[99]) == ("no-such-leaf",)
    for wrong in ([], [-1], ["0"], [True], "0", list(range(1_001))):
        assert house.ask_keys("sign_receipts", indexes=wrong) == ("malformed",)


@pytest.mark.parametrize("column", ["hash", "skeleton", "body"])
def test_no_receipt_for_a_leaf_that_was_changed(house, column):
    house.enrol(1)
    house.ask_keys("status")
    with house.store.reading() as conn:
        row = conn.execute(sa.select(schema.leaves).where(schema.leaves.c.idx == 2)).one()
    value = {
        "hash": "0x" + "00" * 32,
        "skeleton": bytes(row.skeleton[:2]) + bytes(8) + bytes(row.skeleton[10:]),
        "body": row.body.replace('"subject"', '"subjecT"'),
    }[column]
    house.edit(sa.update(schema.leaves).where(schema.leaves.c.idx == 2).values({column: value}))
    assert house.ask_keys("sign_receipts", indexes=[2]) == ("leaf-differs",)
    assert house.ask_keys("sign_receipts", indexes=[0])["receipts"]


def checkpoint(house, size, root=None):
    return house.ask_keys("sign_checkpoint", size=size, root=None if root is None else to_hex(root))


def test_checkpoints_are_of_the_log(house):
    house.enrol(3)
    with house.store.reading() as conn:
        size, root = log.head(conn)
        older = log.root_at(conn, 2)
    signed = checkpoint(house, size, root)
    assert (signed["size"], signed["root"]) == (size, to_hex(root))
    signature = bytes.fromhex(signed["signature"][2:])
    verify(Checkpoint(size, root), signature, house.process.exchange_address, house.domain)
    assert checkpoint(house, size) == signed
    assert checkpoint(house, size, older) == ("second-root",)
    assert checkpoint(house, 2, older) == ("smaller-tree",)
    assert checkpoint(house, size + 1) == ("no-such-leaf",)
    assert checkpoint(house, 0) == ("smaller-tree",)


def rewrite(house, index):
    """Replace a leaf and recompute everything above it, as an operator could."""

    def work(conn):
        row = conn.execute(sa.select(schema.leaves).where(schema.leaves.c.idx == index)).one()
        skeleton = bytearray(row.skeleton)
        skeleton[9] ^= 1
        changed = sha256(b"\x00" + bytes(skeleton))
        conn.execute(
            sa.update(schema.leaves)
            .where(schema.leaves.c.idx == index)
            .values(skeleton=bytes(skeleton), hash=to_hex(changed))
        )
        tree = CompactRange()
        for one in conn.execute(
            sa.select(schema.leaves.c.hash).order_by(schema.leaves.c.idx)
        ).scalars():
            tree.append(bytes.fromhex(one[2:]))
        conn.execute(sa.update(schema.tree_head).values(size=tree.size, frontier=tree.to_bytes()))
        return tree.size, tree.root()

    return house.store.transact(work)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_second_root_is_never_signed(house, restarted):
    house.enrol(3)
    with house.store.reading() as conn:
        size, root = log.head(conn)
    assert checkpoint(house, size, root)["size"] == size
    _, forged = rewrite(house, 1)
    if restarted:
        house.restart()
    assert checkpoint(house, size, forged) == ("second-root",)
    house.enrol(1)
    with house.store.reading() as conn:
        size, _ = log.head(conn)
    assert checkpoint(house, size) == ("second-root",)


def test_a_log_that_was_rolled_back_gets_no_smaller_checkpoint(house):
    house.enrol(3)
    with house.store.reading() as conn:
        size, _ = log.head(conn)
    checkpoint(house, size)
    house.restart()

    def cut(conn):
        conn.execute(sa.delete(schema.leaves).where(schema.leaves.c.idx >= size - 1))

    house.store.transact(cut)
    assert checkpoint(house, size - 1) == ("second-root",)


# Deposits and shredding --------------------------------------------------------------------


def test_only_the_list_that_the_manifest_names_is_deposited(house):
    patients = house.enrol(2)
    sealed = house.seal(patients, house.keys_key, records=1, size=64)
    other = sealing.seal_key_list(house.keys_key, dataset=house.dataset, version=1, keys=house.keys)
    assert house.deposit(other) == ("key-list",)
    assert house.deposit(sealed) == {"keys": 2}
    assert house.deposit(sealed) == {"keys": 2}


def test_a_manifest_of_somebody_else_gets_no_keys_in(house):
    patients = house.enrol(1)
    sealed = house.seal(patients, house.keys_key, records=1, size=64)
    table = schema.dataset_versions
    with house.store.reading() as conn:
        manifest = json.loads(conn.execute(sa.select(table.c.manifest)).scalar_one())
    for signer in (house.requester.key, Key.new()):
        forged = sign_document(signer, manifest["kind"], manifest, house.domain)
        house.edit(sa.update(table).values(manifest_signature=to_hex(forged)))
        assert house.deposit(sealed) == ("manifest-signature",)


def test_a_shredded_key_is_gone_and_does_not_come_back(house):
    one, two = house.prepared()
    release = house.ask()
    house.open(release)
    shred = {"dataset": house.dataset.hex, "version": 1, "subject": one.subject.hex}
    copy = {}
    for path in house.settings.data_dir.glob("keys.sqlite*"):
        copy[path] = path.read_bytes()
    assert house.ask_keys("shred", **shred) == {"shredded": True}
    assert house.ask_keys("shred", **shred) == {"shredded": False}
    assert house.parts(release, one, two) == [["shredded"], ["opened"]]
    house.restart()
    house.open(release)
    assert house.parts(release, one, two) == [["shredded"], ["opened"]]


# Releases ----------------------------------------------------------------------------------


def test_a_permitted_key_opens_what_was_published(house):
    (one,) = house.prepared(1)
    release = house.ask()
    opened = house.open(release)
    key = sealing.open_sealed(
        house.requester.receive[0],
        bytes.fromhex(opened["releaseKey"][2:]),
        info=sealing.release_info(release),
    )
    part = house.ask_keys("open_parts", release=release.hex, subjects=[one.subject.hex])["parts"][0]
    found = sealing.unwrap_released(
        key, bytes.fromhex(part["wrapped"][2:]), release=release, subject=one.subject
    )
    assert found == house.keys[one.subject]


def test_nothing_opens_without_open_release_or_for_strangers(house):
    patients = house.prepared()
    stranger = house.enrol(1)[0]
    house.grant(stranger)
    release = house.ask()
    assert house.ask_keys(
        "open_parts", release=release.hex, subjects=[patients[0].subject.hex]
    ) == ("not-open",)
    house.open(release)
    assert house.parts(release, stranger) == [["not-permitted"]]
    assert house.open(ReleaseId.new()) == ("not-open",)
    for wrong in ([], [patients[0].subject.hex] * 2, [patients[0].subject.hex] * 33, ["0x00"]):
        assert house.ask_keys("open_parts", release=release.hex, subjects=wrong) == ("malformed",)


def test_a_release_is_sealed_to_the_key_on_the_requesters_card_and_to_no_other(house):
    house.prepared()
    stolen = sealing.new_receive_key()[1]
    assert house.open(house.ask(receiveKey=to_hex(stolen))) == ("receive-key",)
    assert "releaseKey" in house.open(house.ask())


def test_a_request_with_a_bad_signature_is_refused(house):
    house.prepared()
    document = house.request()
    forged = sign_document(Key.new(), REQUEST_KIND, document, house.domain)

    # The operator enters the request itself, past the door that would have refused it.

    answer = house.store.transact(
        lambda conn: house.requests._admit(
            conn, read_request(document), forged, house.clock.now_ms(), *_claims(house)
        )
    )
    assert house.open(answer.release) == ("request-signature",)


def _claims(house):
    """What else the door hands to the work, where it hands anything."""
    extra = list(inspect.signature(house.requests._admit).parameters)[4:]
    return [None for _ in extra]


def test_a_request_of_an_unpinned_hospital_is_refused(house):
    house.prepared(requester="*")
    house.ask_keys("status")
    house.requester = Hospital("stranger")
    row = {
        "org_id": house.requester.org.hex, "name": "x", "card": "{}", "status": "member",
        "address": to_hex(house.requester.key.address),
    }  # fmt: skip
    house.edit(sa.insert(schema.orgs).values(row))
    assert house.open(house.ask()) == ("requester-unknown",)


def test_a_release_without_its_leaf_is_refused(house):
    house.prepared()
    release = house.ask()
    table = schema.releases
    for leaf, reason in ((None, "no-record"), (0, "no-record"), (10_000, "no-such-leaf")):
        house.edit(sa.update(table).values(leaf_idx=leaf))
        assert house.open(release) == (reason,)


def test_a_subject_without_a_permit_of_its_own_leaf_is_not_opened(house):
    patients = house.enrol(2)
    house.grant(patients[0])
    sealed = house.seal(patients, house.keys_key, records=1, size=64)
    house.deposit(sealed)
    house.publish()
    release = house.ask()
    house.grant(patients[1])
    table = schema.release_subjects
    house.edit(
        sa.update(table)
        .where(table.c.subject == patients[1].subject.hex)
        .values(decision="permit", state="permitted")
    )
    assert house.open(release)
    assert house.parts(release, *patients) == [["opened"], ["not-permitted"]]


def test_the_same_signed_request_serves_one_release(house):
    house.prepared()
    release = house.ask()
    house.open(release)
    copy = ReleaseId.new()

    def forge(conn):
        releases, subjects = schema.releases, schema.release_subjects
        row = dict(conn.execute(sa.select(releases)).mappings().one())
        body = json.loads(_body(conn, row["leaf_idx"]))
        body.pop("salt")
        entry = log.append(
            conn,
            kind=Kind.RELEASE_DECIDED,
            body=body | {"release": copy.hex},
            at_ms=row["created_ms"],
        )
        row |= {"release_id": copy.hex, "request_digest": "0x00", "leaf_idx": entry.index}
        conn.execute(sa.insert(releases).values(row))
        for one in conn.execute(sa.select(subjects)).mappings().all():
            entry_body = json.loads(_body(conn, one["leaf_idx"]))
            entry_body.pop("salt")
            admitted = log.append(
                conn,
                kind=Kind.ACCESS_DECIDED,
                body=entry_body | {"access": copy.hex},
                at_ms=row["created_ms"],
                subject=SubjectId.parse(one["subject"]),
            )
            changed = dict(one) | {"release_id": copy.hex, "leaf_idx": admitted.index}
            conn.execute(sa.insert(subjects).values(changed))

    house.store.transact(forge)
    assert house.open(copy) == ("request-replayed",)
    house.restart()
    assert house.open(copy) == ("request-replayed",)
    assert house.open(release)["releaseKey"]


def _body(conn, index):
    return conn.execute(
        sa.select(schema.leaves.c.body).where(schema.leaves.c.idx == index)
    ).scalar_one()


# Evidence: what an operator with the database could try -------------------------------------


def test_a_consent_signed_by_keys_of_the_operator_is_refused(house):
    """The operator enrols the patient anew under its own identity key, and grants everything."""
    patient = house.enrol(1)[0]
    mine = Key.new()
    code = Key.new()
    # Rows and leaf say what the operator likes; the hospital's invitation it cannot sign.
    body = {
        "subject": patient.subject.hex,
        "org": patient.subject.org.hex,
        "invited": {
            "codeKey": to_hex(code.address),
            "expiry": 4_000_000_000,
            "signature": to_hex(bytes(31) + b"\x01" + bytes(31) + b"\x01"),
        },
        "redeemed": {
            "identityKey": to_hex(mine.address),
            "signature": to_hex(code.sign(Redeemed(patient.subject, mine.address), house.domain)),
        },
    }

    def forge(conn):
        entry = log.append(
            conn,
            kind=Kind.SUBJECT_ENROLLED,
            body=body,
            at_ms=house.clock.now_ms(),
            subject=patient.subject,
        )
        conn.execute(
            sa.update(schema.subjects).values(
                identity_key=to_hex(mine.address), leaf_idx=entry.index
            )
        )

    house.store.transact(forge)
    patient.identity = mine
    house.grant(patient)
    house.deposit(house.seal([patient], house.keys_key, records=1, size=64))
    house.publish()
    release = house.ask()
    house.open(release)
    assert house.parts(release, patient) == [["enrolment"]]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("purposes", None),
        ("purposes", '["HRESCH","TREAT"]'),
        ("requesters", None),
        ("categories", None),
        ("actions", '["disclose"]'),
        ("data_use", '{"code":"DUO:0000004","modifiers":[]}'),
        ("starts", 1),
        ("ends", 4_000_000_000),
        ("terms_signature", "0x" + "11" * 64),
        ("grant_signature", "0x" + "11" * 64),
        ("recorded_leaf", 0),
        ("recorded_leaf", None),
        ("granted_leaf", 0),
    ],
)
@pytest.mark.parametrize("warm", [False, True])
def test_an_edited_consent_is_refused(house, column, value, warm):
    one, two = house.prepared()
    release = house.ask()
    house.open(release)
    if warm:
        assert house.parts(release, one, two) == [["opened"], ["opened"]]
    else:
        house.restart()
    house.edit(
        sa.update(consents).where(consents.c.subject == one.subject.hex).values({column: value})
    )
    if not warm:
        house.open(release)
    ((refused,), other) = house.parts(release, one, two)
    assert refused in ("consent-differs", "consent-signature")
    assert other == ["opened"]


def test_a_widened_document_needs_the_patients_own_signature(house):
    """Document, terms and columns agree with each other; only the identity key did not sign."""
    (one,) = house.prepared(1, purpose=["TREAT"])
    document = house.document(one)
    consent_key = Key.new()
    terms = Terms.of_document(
        document, sign_by=4_000_000_000, consent_key=consent_key.address, salt=bytes(32)
    )
    consent = terms.consent_id()

    body = {
        "terms": terms.to_json(),
        "termsSignature": to_hex(Key.new().sign(terms, house.domain)),
        "document": document,
        "grant": {
            "untilDay": terms.until_day,
            "signature": to_hex(
                consent_key.sign(Grant(terms.commitment(), terms.until_day), house.domain)
            ),
        },
    }

    def forge(conn):
        entry = log.append(
            conn,
            kind=Kind.CONSENT_GRANTED,
            body=body,
            at_ms=house.clock.now_ms(),
            subject=one.subject,
            consent=consent,
        )
        row = document_columns(parse_document(document)) | {
            "consent_id": consent.hex,
            "terms": canonical(terms.to_json()).decode(),
            "document": canonical(document).decode(),
            "terms_signature": body["termsSignature"],
            "consent_key": to_hex(consent_key.address),
            "commitment": to_hex(terms.commitment()),
            "until_day": terms.until_day,
            "grant_signature": body["grant"]["signature"],
            "withdraw_signature": to_hex(
                consent_key.sign(Withdraw(terms.commitment(), terms.until_day), house.domain)
            ),
            "status": "draft",
            "granted_leaf": entry.index,
        }
        conn.execute(sa.insert(consents).values(row))
        return entry.index

    leaf = house.store.transact(forge)
    house.record([(one, consent)])
    # A receipt says that the leaf stands there, not that what it holds is true.
    assert house.ask_keys("sign_receipts", indexes=[leaf])["receipts"]
    house.restart()
    release = house.ask()
    house.open(release)
    assert house.parts(release, one) == [["consent-signature"]]


def granted_leaves(house):
    with house.store.reading() as conn:
        return list(conn.execute(sa.select(consents.c.granted_leaf)).scalars())


@pytest.mark.parametrize("proved", [True, False])
def test_a_grant_is_proved_with_its_receipt_and_stays_proved(house, monkeypatch, proved):
    patients = house.prepared()
    if proved:
        house.ask_keys("sign_receipts", indexes=granted_leaves(house))
    house.restart()
    verified = []
    monkeypatch.setattr(proofs, "verify", lambda message, *_: verified.append(type(message)))
    release = house.ask()
    house.open(release)
    assert house.parts(release, *patients) == [["opened"], ["opened"]]
    assert len(verified) == (0 if proved else 8)


def test_a_remembered_proof_is_of_one_row_alone(house):
    """Whoever writes another consent's digest beside an id gains nothing."""
    one, two = house.prepared()
    house.ask_keys("sign_receipts", indexes=granted_leaves(house))
    house.restart()
    house.edit(
        sa.update(consents)
        .where(consents.c.subject == one.subject.hex)
        .values(terms_signature="0x" + "11" * 64)
    )
    release = house.ask()
    house.open(release)
    assert house.parts(release, one, two) == [["consent-signature"], ["opened"]]


def test_a_leaf_of_another_consent_proves_no_recording(house):
    one, two = house.prepared()
    house.ask_keys("sign_receipts", indexes=granted_leaves(house))
    with house.store.reading() as conn:
        other = conn.execute(
            sa.select(consents.c.recorded_leaf).where(consents.c.subject == two.subject.hex)
        ).scalar_one()
    house.edit(
        sa.update(consents).where(consents.c.subject == one.subject.hex).values(recorded_leaf=other)
    )
    release = house.ask()
    house.open(release)
    assert house.parts(release, one, two) == [["consent-differs"], ["opened"]]


def test_a_withdrawal_stops_the_key_at_once(house):
    one, two = house.prepared()
    release = house.ask()
    house.open(release)
    house.withdraw(one)
    assert house.parts(release, one, two) == [["withdrawn"], ["opened"]]


def revive(house, patient):
    """The store says active again, and its log knows nothing of a withdrawal."""

    def work(conn):
        conn.execute(
            sa.update(consents)
            .where(consents.c.subject == patient.subject.hex)
            .values(status="active", ended_leaf=None, ended_by=None)
        )
        conn.execute(
            sa.update(schema.leaves)
            .where(
                schema.leaves.c.kind == Kind.CONSENT_WITHDRAWN,
                schema.leaves.c.handle == to_hex(handle(patient.subject)),
            )
            .values(handle="0x00")
        )

    house.store.transact(work)


@pytest.mark.parametrize("seen_by", ["receipt", "opening"])
def test_a_consent_once_seen_as_withdrawn_is_refused_for_ever(house, seen_by):
    one, two = house.prepared()
    leaf = house.withdraw(one)
    release = None
    if seen_by == "receipt":
        house.ask_keys("sign_receipts", indexes=[leaf])
    else:
        revive(house, one)
        release = house.ask()
        house.edit(
            sa.update(schema.leaves)
            .where(schema.leaves.c.idx == leaf)
            .values(handle=to_hex(handle(one.subject)))
        )
        house.open(release)
    revive(house, one)
    house.restart()
    release = release or house.ask()
    house.open(release)
    assert house.parts(release, one, two) == [["withdrawn"], ["opened"]]


def test_without_the_memory_the_revived_consent_would_open(house):
    """The self-test of the test above: what it catches is caught by the memory alone."""
    one, _ = house.prepared()
    house.withdraw(one)
    revive(house, one)
    release = house.ask()
    house.open(release)
    assert house.parts(release, one) == [["opened"]]


def test_an_objection_that_vanished_from_the_rows_still_stands(house):
    one, two = house.prepared()
    release = house.ask()
    house.open(release)
    house.grant(one, decision="deny")
    assert house.parts(release, one, two) == [["objection"], ["opened"]]
    deny = consents.c.decision == "deny"
    house.edit(sa.update(consents).where(deny).values(status="inactive"))
    assert house.parts(release, one, two) == [["objection"], ["opened"]]
    house.edit(sa.delete(consents).where(deny))
    assert house.parts(release, one, two) == [["objection"], ["opened"]]


def test_a_lifting_counts_only_with_the_patients_signature(house):
    (one,) = house.prepared(1)
    release = house.ask()
    house.open(release)
    house.grant(one, decision="deny")
    objection = one.consents[-1]
    deny = consents.c.decision == "deny"

    def forge(conn):
        log.append(
            conn,
            kind=Kind.OBJECTION_LIFTED,
            body={"commitment": to_hex(objection.commitment()), "lift": "0x" + "11" * 64},
            at_ms=house.clock.now_ms(),
            subject=one.subject,
            consent=objection.consent_id(),
        )
        conn.execute(sa.update(consents).where(deny).values(status="inactive"))

    house.store.transact(forge)
    assert house.parts(release, one) == [["objection"]]
    house.edit(sa.update(consents).where(deny).values(status="active"))
    house.lift(one, objection)
    assert house.parts(release, one) == [["opened"]]
    house.restart()
    house.open(release)
    assert house.parts(release, one) == [["opened"]]


# Trailers ----------------------------------------------------------------------------------


def close(house, release, delivered, stopped=(), digest=None):
    body = {
        "release": release.hex,
        "delivered": [
            [to_hex(handle(one.subject)), to_hex(digest or sha256(house.blobs[one.subject]))]
            for one in delivered
        ],
        "stopped": [to_hex(handle(one.subject)) for one in stopped],
        "outcome": "complete",
    }

    def work(conn):
        entry = log.append(conn, kind=Kind.DATA_RELEASED, body=body, at_ms=house.clock.now_ms())
        conn.execute(sa.update(schema.releases).values(status="closed", closing_leaf=entry.index))

    house.store.transact(work)


def test_a_trailer_says_what_the_leaf_says_and_nothing_opens_afterwards(house):
    one, two = house.prepared()
    release = house.ask()
    house.open(release)
    assert house.ask_keys("sign_trailer", release=release.hex) == ("no-record",)
    house.ask_keys("open_parts", release=release.hex, subjects=[one.subject.hex])
    close(house, release, [one], [two])
    signed = house.ask_keys("sign_trailer", release=release.hex)
    assert signed["trailer"]["stopped"] == [two.subject.hex]
    assert [pair[0] for pair in signed["trailer"]["delivered"]] == [one.subject.hex]
    signature = bytes.fromhex(signed["signature"][2:])
    verify_document(
        "assent.trailer/1",
        signed["trailer"],
        signature,
        house.process.exchange_address,
        house.domain,
    )
    assert house.ask_keys("sign_trailer", release=release.hex) == signed
    house.edit(sa.update(schema.releases).values(status="decided"))
    assert house.open(release) == ("closed",)


def test_a_trailer_about_a_key_that_never_left_or_other_bytes_is_not_signed(house):
    one, two = house.prepared()
    release = house.ask()
    house.open(release)
    house.ask_keys("open_parts", release=release.hex, subjects=[one.subject.hex])
    close(house, release, [one, two])
    assert house.ask_keys("sign_trailer", release=release.hex) == ("not-permitted",)
    close(house, release, [one], digest=bytes(32))
    assert house.ask_keys("sign_trailer", release=release.hex) == ("digest-differs",)


# Intake and jobs ---------------------------------------------------------------------------


def test_an_intake_opens_once_for_each_leaf_and_child(house):
    patients = house.enrol(2)
    sealed = house.seal(patients, house.keys_key, records=1, size=64)
    house.deposit(sealed)
    (private, public), (_, other) = sealing.new_receive_key(), sealing.new_receive_key()

    def opened(child):
        return house.ask_keys(
            "open_intake", dataset=house.dataset.hex, version=1, childKey=to_hex(child), leaf=None
        )

    assert opened(public) == ("no-record",)
    house.open_intake_leaf()
    for _ in range(2):
        found = opened(public)
        packed = sealing.open_sealed(
            private,
            bytes.fromhex(found["sealed"][2:]),
            info=sealing.intake_info(house.dataset, 1),
        )
        keys = sealing.unpack_keys(packed, dataset=house.dataset, version=1)
        assert keys == house.keys
    assert opened(other) == ("no-record",)
    house.restart()
    assert opened(other) == ("no-record",)
    house.open_intake_leaf()
    assert opened(other)["sealed"]
    house.publish()
    assert opened(public) == ("not-open",)


def decided_job(house, patients, signer=None, **changes):
    spec = {
        "kind": JOB_KIND, "job": "query", "requester": house.requester.org.hex,
        "dataset": house.dataset.hex, "version": 1, "purpose": "HRESCH", "categories": ["notes"],
        "action": "use", "model": None, "parameters": {}, "slots": None,
        "receiveKey": to_hex(house.requester.receive[1]), "nonce": to_hex(secrets.token_bytes(16)),
        "at": house.clock.now_ms() // 1000,
    } | changes  # fmt: skip
    signature = sign_document(signer or house.requester.key, JOB_KIND, spec, house.domain)
    job = JobId.new()

    def work(conn):
        access = Access(
            kind="query",
            requester=house.requester.org,
            purpose="HRESCH",
            categories=frozenset({"notes"}),
            action="use",
            dataset=house.dataset,
            version=1,
            request_digest=sha256(canonical(spec)),
        )
        admission = house.gate.admit(conn, access, job, [one.subject for one in patients])
        entry = log.append(
            conn,
            kind=Kind.JOB_DECIDED,
            body={
                "job": job.hex, "spec": spec, "signature": to_hex(signature),
                "covered": 1, "withheld": 0,
            },
            at_ms=admission.at_ms,
        )  # fmt: skip
        now = house.clock.now_ms()
        conn.execute(
            sa.insert(schema.jobs).values(
                job_id=job.hex, kind="query", requester=house.requester.org.hex,
                spec=canonical(spec).decode(), signature=to_hex(signature), status="queued",
                leaf_idx=entry.index, created_ms=now, updated_ms=now,
            )
        )  # fmt: skip
        rows = [
            {
                "job_id": job.hex, "subject": subject.hex, "reasons": "[]", "state": "covered",
                "decision": "permit" if subject in admission.permitted else "deny",
                "leaf_idx": admission.entries[subject].index,
            }
            for subject in admission.rulings
        ]  # fmt: skip
        conn.execute(sa.insert(schema.job_subjects), rows)

    house.store.transact(work)
    return job


def test_a_job_gets_the_keys_of_those_who_cover_it_now(house):
    one, two, three = house.prepared(3)
    job = decided_job(house, [one, two])
    private, public = sealing.new_receive_key()
    house.withdraw(two)
    found = house.ask_keys(
        "open_job",
        job=job.hex,
        subjects=[patient.subject.hex for patient in (one, two, three)],
        childKey=to_hex(public),
    )
    assert found["refused"] == {
        two.subject.hex: ["withdrawn"],
        three.subject.hex: ["not-permitted"],
    }
    packed = sealing.open_sealed(
        private, bytes.fromhex(found["sealed"][2:]), info=sealing.job_info(job)
    )
    keys = sealing.unpack_keys(packed, dataset=house.dataset, version=1)
    assert keys == {one.subject: house.keys[one.subject]}


def test_a_job_that_its_requester_did_not_sign_gets_no_key(house):
    patients = house.prepared()
    job = decided_job(house, patients, signer=house.publisher.key)
    fields = {
        "subjects": [patients[0].subject.hex], "childKey": to_hex(sealing.new_receive_key()[1])
    }  # fmt: skip
    assert house.ask_keys("open_job", job=job.hex, **fields) == ("request-signature",)
    assert house.ask_keys("open_job", job=JobId.new().hex, **fields) == ("not-open",)


# The socket --------------------------------------------------------------------------------


def test_unknown_verbs_and_odd_questions_are_refused(house):
    for question in (
        {},
        {"verb": 1},
        {"verb": "export"},
        {"verb": "sign_checkpoint"},
        {"verb": "sign_checkpoint", "size": "1"},
        {"verb": "open_release", "release": None},
        {"verb": "deposit", "dataset": "0x", "version": 1, "sealed": "zz"},
    ):
        answer = house.process.answer(question)
        assert answer in ({"refused": ["malformed"]}, {"refused": ["unknown-verb"]})


@pytest.fixture
def served(house):
    server = KeysServer(house.process.answer, house.settings.keys_socket)
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield house
    server.stop()
    thread.join()


def test_the_socket_is_the_owners_and_has_one_server(served):
    path = served.settings.keys_socket
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(SettingsError, match="another keys process"):
        KeysServer(served.process.answer, path)


def test_many_threads_share_one_client(served):
    client = KeysClient(served.settings.keys_socket)
    found = []
    threads = [threading.Thread(target=lambda: found.append(client.status())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 20
    assert {one.exchange for one in found} == {served.process.exchange_address}
    client.close()


@pytest.mark.parametrize(
    "junk",
    [b"\xff\xff\xff\xff", b"\x00\x00\x00\x02[]", b"\x00\x00\x00\x05{}", b"GET / HTTP/1.1\r\n"],
)
def test_junk_ends_its_own_connection_alone(served, junk):
    path = served.settings.keys_socket
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(10)
        raw.connect(str(path))
        raw.sendall(junk)
        raw.shutdown(socket.SHUT_WR)
        # A server that closes with bytes unread resets the connection: both are an end.
        with contextlib.suppress(ConnectionResetError):
            assert raw.recv(10) == b""
    client = KeysClient(path)
    assert client.status().pinned == 2
    client.close()


def test_nobody_answering_is_said_and_a_new_server_is_found(house):
    path = house.settings.keys_socket
    client = KeysClient(path, timeout_seconds=10)
    with pytest.raises(KeysUnavailable):
        client.status()
    for _ in range(2):
        server = KeysServer(house.process.answer, path)
        thread = threading.Thread(target=server.serve)
        thread.start()
        assert client.status().pinned == 2
        server.stop()
        thread.join()
    client.close()


def test_a_deep_folder_is_no_obstacle(tmp_path):
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    server = KeysServer(lambda _: {"ok": {"fine": 1}}, deep / "keys.sock")
    thread = threading.Thread(target=server.serve)
    thread.start()
    client = KeysClient(deep / "keys.sock")
    assert client._ask("status") == {"fine": 1}
    client.close()
    server.stop()
    thread.join()


START = (
    "import sys; from exchange.settings import load_settings; "
    "from exchange.keys.process import main; sys.exit(main(load_settings()))"
)


def test_the_process_survives_a_kill_and_ends_on_request(tmp_path):
    deployed = Deployed(tmp_path / "a")
    environ = {name: value for name, value in os.environ.items() if name[:7] != "ASSENT_"}
    addresses = set()

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", START],
            env=environ | environment_of(deployed.settings),
            cwd=Path(__file__).resolve().parents[3],
            stdout=subprocess.PIPE,
            text=True,
        )
        ready = json.loads(process.stdout.readline())
        assert ready["ready"] == "keys"
        addresses.add(ready["exchange"])
        return process

    process = start()
    client = KeysClient(deployed.settings.keys_socket, timeout_seconds=30)
    deployed.deploy(client.status().exchange)
    deployed.enrol(2)
    before = client.sign_checkpoint(2)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=20)
    process.stdout.close()
    with pytest.raises(KeysUnavailable):
        client.status()
    process = start()
    assert client.sign_checkpoint(2) == before
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    process.stdout.close()
    assert len(addresses) == 1
    assert not deployed.settings.keys_socket.exists()
    client.close()
    deployed.close()


def test_frames_carry_lengths_of_four_bytes(served):
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(10)
        raw.connect(str(served.settings.keys_socket))
        body = b'{"verb":"status"}'
        raw.sendall(struct.pack(">I", len(body)) + body)
        (length,) = struct.unpack(">I", raw.recv(4))
        assert json.loads(raw.recv(length))["ok"]["pinned"] == 2
