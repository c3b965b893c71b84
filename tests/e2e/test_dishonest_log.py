"""The exchange lies about its whole log: a bundle may look right, a reader of every leaf sees it.

Each lie is told by an operator who may write the store, and where it is said, has stolen the log key.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from contextlib import closing
from typing import Any

import pytest
import sqlalchemy as sa

from exchange import log
from exchange.errors import KeysRefused
from exchange.granting import Checked, read_submission
from exchange.store import schema
from exchange.taking import take
from ledger.chain import ChainLedger
from ledger.commitment import canonical
from ledger.consent import parse_document
from ledger.errors import Reverted, TrustInvalid
from ledger.ids import handle
from ledger.leaf import Kind, Leaf
from ledger.merkle import Tree
from ledger.messages import from_hex
from ledger.signing import Checkpoint, Grant, Key, Terms, Withdraw, to_hex
from ledger.trust import parse_bytes, require_not_behind
from tests.audited import Audited
from tests.auditor import Auditor
from tests.deployed import Patient
from tests.ledgers import RELAYER, Chain

DAY = 86_400


@pytest.fixture(scope="module")
def chain(tmp_path_factory, anvil_path):
    running = Chain(tmp_path_factory.mktemp("node"), anvil_path)
    yield running
    running.stop()


@pytest.fixture
def house(tmp_path, chain):
    """An exchange of the test's own: its log is not to be believed afterwards."""
    deployed = Audited(tmp_path / "a", chain)
    yield deployed
    deployed.close()


@pytest.fixture
def auditor(house, tmp_path):
    return Auditor(house, tmp_path / "audit")


def fails(verdict: dict[str, Any], step: int, what: str) -> None:
    assert (verdict["verified"], verdict.get("step")) == (False, step), verdict
    assert what in verdict["what"], verdict


def forget_withdrawal(house: Audited, patient: Patient, kept: Any) -> None:
    """Let the subject's chain end before the withdrawal, and its consent be active again."""
    heads = schema.chain_heads
    mine = sa.and_(heads.c.handle == kept.handle, heads.c.chain == "consent")
    house.edit(sa.update(heads).where(mine).values(seq=kept.seq, hash=kept.hash))
    row = schema.consents.c.consent_id == patient.consent.hex
    values = {"status": "active", "ended_leaf": None, "ended_by": None}
    house.edit(sa.update(schema.consents).where(row).values(values))


def head_of(house: Audited, patient: Patient) -> Any:
    heads = schema.chain_heads
    own = to_hex(handle(patient.subject))
    with house.store.reading() as conn:
        return conn.execute(
            sa.select(heads).where(heads.c.handle == own, heads.c.chain == "consent")
        ).one()


def test_a_ruling_on_a_stale_head_is_seen_in_the_leaves(house, auditor):
    (patient,) = house.enrol(1)
    house.grant(patient)
    before = head_of(house, patient)
    house.withdraw(patient)
    house.publish_for([patient])
    honest = house.ask()
    forget_withdrawal(house, patient, before)
    lied = house.ask()
    received = house.stream(lied)
    house.anchor()
    every = auditor.leaves()
    assert auditor.verdict(house.bundle(honest), leaves=every)["withheld"] == 1
    # The file alone looks right; that is the limit which every leaf (or a witness) closes.
    assert auditor.verdict(house.bundle(lied))["permitted"] == 1
    fails(auditor.verdict(house.bundle(lied), leaves=every), 6, "stale head")
    # The keys process remembers withdrawals by itself: nothing left.
    assert house.blobs[patient.subject] not in received


def test_a_forked_chain_is_seen_in_the_leaves(house, auditor):
    (patient,) = house.enrol(1)
    house.grant(patient)
    before = head_of(house, patient)
    house.withdraw(patient)
    house.publish_for([patient])
    forget_withdrawal(house, patient, before)
    house.grant(patient, categories=["tables"])
    lied = house.ask()
    house.anchor()
    fails(auditor.verdict(house.bundle(lied)), 4, "the consent chain is broken")
    # Told as if the withdrawal were nobody's, the file looks right.
    leaves = schema.leaves
    gone = sa.and_(leaves.c.handle == before.handle, leaves.c.kind == int(Kind.CONSENT_WITHDRAWN))
    house.edit(sa.update(leaves).where(gone).values(handle=None))
    assert auditor.verdict(house.bundle(lied))["permitted"] == 1
    fails(auditor.verdict(house.bundle(lied), leaves=auditor.leaves()), 6, "forks its subject's")


def test_a_hidden_withdrawal_contradicts_the_patients_receipt(house, auditor, tmp_path):
    (patient,) = house.enrol(1)
    house.grant(patient)
    house.publish_for([patient])
    live, kept = house.settings.data_dir / "store.sqlite", tmp_path / "backup.sqlite"
    assert live.exists()
    copy(live, kept)
    leaf = house.withdraw(patient)
    receipt = house.client.sign_receipts([leaf])[0].to_json()
    copy(kept, live)
    lied = house.ask()
    house.anchor()
    every = auditor.leaves()
    assert auditor.verdict(house.bundle(lied), leaves=every)["permitted"] == 1
    verdict = auditor.verdict(house.bundle(lied), leaves=every, receipts=[receipt])
    fails(verdict, 6, f"leaf {leaf} is not the one receipted")


def copy(source: Any, target: Any) -> None:
    """Bring one database's contents into the other, as a restored backup does."""
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)


def test_a_receipt_of_a_kept_leaf_agrees(house, auditor):
    (patient,) = house.enrol(1)
    house.grant(patient)
    house.publish_for([patient])
    release = house.ask()
    leaf = house.withdraw(patient)
    receipts = [one.to_json() for one in house.client.sign_receipts([0, leaf])]
    house.anchor()
    every = auditor.leaves()
    verdict = auditor.verdict(house.bundle(release), leaves=every, receipts=receipts)
    assert (verdict["verified"], verdict["receipts"]) == (True, 2)
    stranger = Key.new().sign(Checkpoint(1, bytes(32)), house.domain)
    receipts[0]["signature"] = to_hex(stranger)
    verdict = auditor.verdict(house.bundle(release), leaves=every, receipts=receipts)
    fails(verdict, 6, "not signed")


def test_a_consent_entered_late_and_dated_back_is_seen_in_the_leaves(house, auditor):
    honest, late = house.enrol(2)
    house.grant(honest)
    now = int(time.time())
    document = house.document(late, **{"from": now - 3 * DAY})
    key = Key.new()
    terms = Terms.of_document(
        document, sign_by=now - DAY, consent_key=key.address, salt=secrets.token_bytes(32)
    )
    late.consents.append(terms)
    commitment, day = terms.commitment(), terms.until_day
    submission = {
        "terms": terms.to_json(),
        "termsSignature": to_hex(late.identity.sign(terms, house.domain)),
        "document": document,
        "grantSignature": to_hex(key.sign(Grant(commitment, day), house.domain)),
        "withdrawSignature": to_hex(key.sign(Withdraw(commitment, day), house.domain)),
    }
    checked = Checked(
        id=terms.consent_id(),
        commitment=commitment,
        until_day=day,
        parsed=parse_document(document),
        given=read_submission(submission),
    )

    def work(conn: sa.Connection) -> None:
        log.lock_head(conn)
        take(conn, late.subject, {0: checked}, at_ms=(now - 2 * DAY) * 1000)

    house.store.transact(work)
    house.step()
    house.publish_for([honest, late])
    release = house.ask()
    house.anchor()
    assert auditor.verdict(house.bundle(release))["permitted"] == 2
    fails(auditor.verdict(house.bundle(release), leaves=auditor.leaves()), 6, "dated back")


# A log that is not the one anchored ------------------------------------------------------------


@pytest.fixture
def anchored(house):
    """A release of one, anchored; its bundle, and the leaves of the log."""
    (patient,) = house.enrol(1)
    house.grant(patient)
    house.publish_for([patient])
    release = house.ask()
    house.stream(release)
    house.anchor()
    return house.bundle(release)


def without(pages: list[dict[str, Any]], kind: Kind) -> list[dict[str, Any]]:
    """The log as it would be if nothing of a kind had happened."""
    (page,) = pages
    left = [text for text in page["skeletons"] if from_hex(text)[1] != kind]
    return [page | {"to": len(left), "size": len(left), "skeletons": left}]


def test_an_access_left_out_of_the_log_fails_at_step_6(anchored, auditor):
    every = auditor.leaves()
    assert auditor.verdict(anchored, leaves=every)["verified"]
    for kind in (Kind.ACCESS_DECIDED, Kind.RELEASE_DECIDED, Kind.DATA_RELEASED):
        fails(auditor.verdict(anchored, leaves=without(every, kind)), 6, "leaves")


def test_a_shrunken_log_fails_at_step_6(house, anchored, auditor):
    house.ask()
    house.anchor()
    (page,) = auditor.leaves()
    assert auditor.verdict(anchored, leaves=[page])["verified"]
    older = json.loads(anchored)["checkpoint"]["size"]
    short = page | {"to": older, "size": older, "skeletons": page["skeletons"][:older]}
    fails(auditor.verdict(anchored, leaves=[short]), 6, f"there are {older} leaves")
    with pytest.raises(KeysRefused, match="smaller-tree"):
        house.client.sign_checkpoint(older - 1)


def rewritten(data: bytes, key: Key, house: Audited) -> tuple[bytes, Tree]:
    """The bundle under another history: one foreign leaf changed, signed by the stolen log key."""
    value = json.loads(data)
    leaves = [Leaf.unpack(entry.leaf.pack()).hash for entry in house.leaves()]
    size = value["checkpoint"]["size"]
    tree = Tree([b"x" * 32, *leaves[1:size]])
    shown = [*value["participants"], value["access"]["leaf"], value["access"]["closing"]]
    shown.append(value["dataset"]["leaf"])
    for subject in value["subjects"]:
        shown += [subject["decided"], subject["consentChain"][-1]]
    value["participants"] = [one for one in value["participants"] if one["index"] != 0]
    for leaf in shown:
        leaf["proof"] = [to_hex(node) for node in tree.inclusion_proof(leaf["index"])]
    signature = key.sign(Checkpoint(size, tree.root), house.domain)
    value["checkpoint"].update(root=to_hex(tree.root), signature=to_hex(signature))
    return canonical(value), tree


def test_two_roots_for_one_size_even_with_the_log_key_fail_at_step_6(house, anchored, auditor):
    stolen = house.process._secrets.exchange_key
    lied, tree = rewritten(anchored, stolen, house)
    fails(auditor.verdict(lied), 6, f"no checkpoint of size {tree.size} and this root")
    assert auditor.verdict(anchored)["verified"]
    # The contract takes no second root, and no smaller log, whoever signs them.
    ledger = ChainLedger.of(house.rpc_url, house.on_chain, RELAYER)
    try:
        for size, root, name in (
            (tree.size, tree.root, "SecondRoot"),
            (tree.size - 1, b"y" * 32, "SizeShrinks"),
        ):
            signature = stolen.sign(Checkpoint(size, root), house.domain)
            with pytest.raises(Reverted, match=name):
                ledger.anchor(size, root, signature)
    finally:
        ledger.close()


def test_a_node_that_tells_less_than_before_is_refused_at_step_0(house, anchored, auditor):
    older = parse_bytes(auditor.trust().read_bytes())
    house.ask()
    house.anchor()
    newer = parse_bytes(auditor.trust().read_bytes())
    require_not_behind(newer, older)
    with pytest.raises(TrustInvalid) as caught:
        require_not_behind(older, newer)
    assert caught.value.step == 0
    assert auditor.verdict(anchored)["verified"]
