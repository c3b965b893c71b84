"""A newcomer: signed by members, pinned by the keys process, recorded by the chain, and then a member."""

from __future__ import annotations

import json
import secrets

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from exchange.errors import (
    Conflict,
    DocumentMalformed,
    KeysRefused,
    KeysUnavailable,
    Malformed,
    RequestRefused,
)
from exchange.hospital import cli
from exchange.hospital.admitting import endorse, hand_in
from exchange.hospital.client import ExchangeClient, Problem
from exchange.hospital.identity import Identity
from exchange.participants import Participants
from exchange.store import schema
from ledger.chain import ChainLedger
from ledger.errors import SignatureInvalid
from ledger.ids import DatasetId
from ledger.leaf import Kind
from ledger.signing import Admit, Domain, Key, Retire, to_hex
from tests.audited import Audited
from tests.deployed import Hospital
from tests.ledgers import RELAYER, Chain
from tests.served import Served


@pytest.fixture(scope="module")
def chain(tmp_path_factory, anvil_path):
    running = Chain(tmp_path_factory.mktemp("node"), anvil_path)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def house(tmp_path_factory, chain):
    deployed = Audited(tmp_path_factory.mktemp("house") / "a", chain)
    yield deployed
    deployed.close()


@pytest.fixture
def participants(house):
    return Participants(house.store, house.client, house.domain, house.clock)


def signed(house, newcomer, *hospitals, domain=None):
    message = Admit(newcomer.key.address)
    return [one.key.sign(message, domain or house.domain) for one in hospitals]


def status(house, newcomer):
    table = schema.orgs
    mine = table.c.org_id == newcomer.org.hex
    with house.store.reading() as conn:
        return conn.execute(sa.select(table.c.status).where(mine)).scalar_one_or_none()


def pinned(house):
    return house.client.status().pinned


def test_two_members_admit_a_newcomer_once_the_chain_says_so(house, participants):
    newcomer = Hospital("East")
    before, leaves = pinned(house), len(house.leaves())
    both = signed(house, newcomer, house.publisher, house.requester)
    found = participants.admit(newcomer.card(), both)
    assert (found.org, found.status) == (newcomer.org.hex, "joining")
    assert pinned(house) == before + 1
    (entry,) = house.leaves()[leaves:]
    assert entry.leaf.kind is Kind.PARTICIPANT_PINNED
    assert entry.body["card"] == newcomer.card()
    assert len(entry.body["admittedBy"]) == 2
    again = participants.admit(newcomer.card(), both[::-1])
    assert (again.status, len(house.leaves())) == ("joining", leaves + 1)
    assert newcomer.org not in house.trust().keys_of
    house.step()
    assert status(house, newcomer) == "member"
    assert house.trust().keys_of[newcomer.org] == {newcomer.key.address}
    assert participants.admit(newcomer.card(), []).status == "member"


def test_a_newcomers_release_is_proved_like_any_other(house, participants):
    newcomer = Hospital("West")
    both = signed(house, newcomer, house.publisher, house.requester)
    participants.admit(newcomer.card(), both)
    house.step()
    founder = house.requester
    house.dataset = DatasetId.new()
    try:
        house.requester = newcomer
        patients = house.enrol(2, house.publisher)
        house.grant(patients[0])
        house.publish_for(patients)
        release = house.ask()
        assert house.blobs[patients[0].subject] in house.stream(release)
        house.anchor()
        found = house.verify(release)
        assert (found.permitted, found.withheld, found.delivered) == (1, 1, 1)
    finally:
        house.requester = founder


def refused(house, participants, newcomer, signatures, match):
    before = pinned(house), len(house.leaves())
    with pytest.raises(RequestRefused, match=match):
        participants.admit(newcomer.card(), signatures)
    assert status(house, newcomer) is None
    assert (pinned(house), len(house.leaves())) == before


def test_one_member_is_not_enough_and_twice_the_same_is_one(house, participants):
    newcomer = Hospital("North East")
    one = signed(house, newcomer, house.publisher)
    refused(house, participants, newcomer, one, "needs 2 members' signatures and has 1")
    refused(house, participants, newcomer, one * 2, "needs 2 members' signatures and has 1")
    refused(house, participants, newcomer, [], "has 0")


def test_strangers_and_other_deployments_do_not_count(house, participants):
    newcomer, stranger = Hospital("North West"), Hospital("Stranger")
    one = signed(house, newcomer, house.publisher)
    for other in (
        signed(house, newcomer, stranger),
        signed(house, newcomer, newcomer),
        signed(house, newcomer, house.requester, domain=Domain(secrets.token_bytes(32))),
        signed(house, stranger, house.requester),
        [bytes(64)],
    ):
        refused(house, participants, newcomer, one + other, "not signed by a member")


def test_a_newcomer_who_is_joining_admits_nobody(house, participants):
    joining, newcomer = Hospital("Joining"), Hospital("Late")
    participants.admit(joining.card(), signed(house, joining, house.publisher, house.requester))
    both = signed(house, newcomer, house.publisher, joining)
    refused(house, participants, newcomer, both, "not signed by a member")
    house.step()
    assert participants.admit(newcomer.card(), both).status == "joining"
    house.step()
    assert status(house, newcomer) == "member"


def test_a_card_that_is_not_its_own_keys_is_refused(house, participants):
    newcomer = Hospital("Card")
    both = signed(house, newcomer, house.publisher, house.requester)
    card = newcomer.card()
    with pytest.raises(SignatureInvalid):
        participants.admit(card | {"signature": to_hex(bytes(63) + b"\x01")}, both)
    with pytest.raises(DocumentMalformed):
        participants.admit({"card": card["card"]}, both)
    assert status(house, newcomer) is None


class Absent:
    """A keys process that does not answer, or does not believe."""

    def __init__(self, error):
        self.error = error

    def pin(self, card, signatures):
        raise self.error


@pytest.mark.parametrize("error", [KeysUnavailable("away"), KeysRefused(("pin-changed",))])
def test_nothing_is_stored_that_the_keys_process_did_not_pin(house, error):
    newcomer = Hospital("Unpinned")
    both = signed(house, newcomer, house.publisher, house.requester)
    leaves = len(house.leaves())
    with pytest.raises(type(error)):
        Participants(house.store, Absent(error), house.domain, house.clock).admit(
            newcomer.card(), both
        )
    assert (status(house, newcomer), len(house.leaves())) == (None, leaves)


def test_an_admission_that_somebody_else_handed_in_counts(house, participants):
    newcomer = Hospital("Known")
    both = sorted(
        (
            (one.key.address, *signed(house, newcomer, one))
            for one in (house.publisher, house.requester)
        ),
    )
    ledger = ChainLedger.of(house.rpc_url, house.on_chain, RELAYER)
    try:
        ledger.admit(newcomer.key.address, [signature for _, signature in both])
        house.step()
        assert status(house, newcomer) is None
        participants.admit(newcomer.card(), [signature for _, signature in both])
        house.step()
        assert status(house, newcomer) == "member"
        left = Hospital("Left")
        both = sorted(
            (
                (one.key.address, *signed(house, left, one))
                for one in (house.publisher, house.requester)
            ),
        )
        ledger.admit(left.key.address, [signature for _, signature in both])
        ledger.retire(left.key.address, left.key.sign(Retire(left.key.address), house.domain))
        participants.admit(left.card(), [signature for _, signature in both])
        house.step()
        assert status(house, left) == "retired"
    finally:
        ledger.close()


def test_a_member_that_leaves_may_not_log_in_again(house, participants):
    newcomer = Hospital("Leaving")
    both = signed(house, newcomer, house.publisher, house.requester)
    participants.admit(newcomer.card(), both)
    house.step()
    assert status(house, newcomer) == "member"
    ledger = ChainLedger.of(house.rpc_url, house.on_chain, RELAYER)
    try:
        gone = Retire(newcomer.key.address)
        ledger.retire(newcomer.key.address, newcomer.key.sign(gone, house.domain))
    finally:
        ledger.close()
    house.step()
    assert status(house, newcomer) == "retired"
    assert status(house, house.publisher) == "member"
    again = Hospital("After")
    both = signed(house, again, house.publisher, newcomer)
    refused(house, participants, again, both, "not signed by a member")


# The command and the door ----------------------------------------------------------------------


@pytest.fixture
def homes(tmp_path):
    """Three hospitals' folders."""
    names = ("north", "south", "east")
    return [Identity.make(tmp_path / name, name.title()) for name in names]


def joined(identity, house, url):
    told = house.http.get("/v1/deployment").json()
    identity.pin(url, told)


def admit(home, *arguments):
    given = ["admit", *(str(one) for one in arguments), "--home", str(home)]
    return CliRunner().invoke(cli.app, given)


@pytest.fixture
def founded(tmp_path, homes):
    """An exchange that has the first two for members; what the chain would record is written."""
    with Served(tmp_path / "served") as house:
        for one in homes[:2]:
            message = Admit(one.signing.address)
            both = [key.sign(message, house.domain) for key in (house.north.key, house.south.key)]
            house.exchange.participants.admit(one.card().to_json(), both)
        statement = sa.update(schema.orgs).values(status="member")
        house.exchange.store.transact(lambda conn: conn.execute(statement))
        yield house


def test_two_members_sign_a_file_and_the_second_hands_it_in(homes, founded, tmp_path):
    north, south, east = homes
    with founded.listening() as url:
        for one in (north, south, east):
            joined(one, founded, url)
        card = east.home / "card.json"
        first, second = tmp_path / "first.json", tmp_path / "second.json"
        address = east.card().card["address"]
        result = admit(north.home, card, "--fingerprint", address, "--out", first, "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.output)["signatures"] == 1
        early = admit(north.home, first, "--submit", "--out", second)
        assert isinstance(early.exception, Problem)
        assert early.exception.slug == "request-refused"
        result = admit(south.home, first, "--submit", "--out", second, "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.output) == {"org": east.org.hex, "status": "joining"}
        assert len(json.loads(second.read_text())["signatures"]) == 2
        # It may not log in before the chain has recorded it.
        client = ExchangeClient.of(east)
        with pytest.raises(Problem) as caught:
            hand_in(client, json.loads(second.read_text()))
        assert caught.value.status == 401
        client.close()


def test_a_member_signs_only_what_it_was_told(homes, founded):
    north, _, east = homes
    joined(north, founded, "http://127.0.0.1:1")
    card = east.card().to_json()
    assert len(endorse(north, card)["signatures"]) == 1
    assert endorse(north, endorse(north, card)) == endorse(north, card)
    with pytest.raises(Conflict, match="fingerprint"):
        endorse(north, card, fingerprint="0x" + "12" * 20)
    for wrong in (7, [], {"card": card, "signatures": "0x"}):
        with pytest.raises(Malformed):
            endorse(north, wrong)
    with pytest.raises(SignatureInvalid):
        endorse(
            north, card | {"signature": to_hex(Key.new().sign(Admit(bytes(20)), Domain(bytes(32))))}
        )


def test_patients_and_auditors_admit_nobody(tmp_path):
    with Served(tmp_path / "served") as house:
        body = {"card": house.north.card(), "signatures": ["0x" + "00" * 64]}
        for who in (house.auditor, house.patient()):
            answer = house.http.post("/v1/participants", json=body, headers=house.headers(who))
            assert answer.status_code == 404
        assert house.http.post("/v1/participants", json=body).status_code == 401
        answer = house.http.post("/v1/participants", json=body, headers=house.headers(house.north))
        assert (answer.status_code, answer.json()["status"]) == (202, "member")
        for wrong in ({}, body | {"extra": 1}, body | {"signatures": ["0x12"]}):
            answer = house.http.post(
                "/v1/participants", json=wrong, headers=house.headers(house.north)
            )
            assert answer.status_code in (400, 422)
