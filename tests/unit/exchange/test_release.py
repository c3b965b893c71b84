from __future__ import annotations

import json
import threading

import pytest
import sqlalchemy as sa

from exchange import streaming
from exchange.errors import Conflict, EnvelopeCorrupt, EnvelopeVersionUnknown, NotFound
from exchange.hospital.receive import open_release_stream
from exchange.keys.client import KeysClient
from exchange.keys.process import KeysProcess
from exchange.keys.server import KeysServer
from exchange.release import Releases
from exchange.store import schema
from exchange.stream import DATA, KEY, STOPPED, TRAILER, message, read_json, read_messages, told
from exchange.streaming import GROUP_SUBJECTS, PIECE_BYTES
from ledger.errors import SignatureInvalid
from ledger.leaf import Kind
from ledger.signing import from_hex
from tests.deployed import Deployed, Hospital


@pytest.fixture
def house(tmp_path):
    deployed = Deployed(tmp_path / "a")
    process = KeysProcess(deployed.settings)
    server = KeysServer(process.answer, deployed.settings.keys_socket)
    thread = threading.Thread(target=server.serve)
    thread.start()
    deployed.deploy(process.exchange_address)
    deployed.client = KeysClient(deployed.settings.keys_socket, timeout_seconds=20)
    deployed.exchange = process.exchange_address
    deployed.releases = Releases(
        store=deployed.store,
        gate=deployed.gate,
        keys=deployed.client,
        vault=deployed.vault,
        clock=deployed.clock,
    )
    yield deployed
    deployed.client.close()
    server.stop()
    thread.join()
    process.close()
    deployed.close()


def publish(house, count, *, records=2, size=300):
    patients = house.enrol(count)
    for patient in patients:
        house.grant(patient)
    sealed = house.seal(patients, house.client.status().keys_key, records=records, size=size)
    assert house.client.deposit(house.dataset, 1, sealed) == count
    house.publish()
    return patients


def receive(house, chunks, folder, **changes):
    given = {
        "receive_private_key": house.requester.receive[0],
        "exchange_address": house.exchange,
        "domain": house.domain,
        "out_dir": folder,
    } | changes
    return open_release_stream(chunks, **given)


def states(house, release):
    table = schema.release_subjects
    with house.store.reading() as conn:
        rows = conn.execute(
            sa.select(table.c.subject, table.c.state).where(table.c.release_id == release.hex)
        )
        return dict(tuple(row) for row in rows)


def closing(house, release):
    table = schema.leaves
    with house.store.reading() as conn:
        bodies = conn.execute(sa.select(table.c.body).where(table.c.kind == Kind.DATA_RELEASED))
        return [json.loads(body) for (body,) in bodies if release.hex in body]


def test_a_release_arrives_as_it_was_published(house, tmp_path):
    patients = publish(house, 20)
    release = house.ask()
    stream = house.releases.open(house.requester.org, release)
    received = receive(
        house, stream, tmp_path / "out", release=release, manifest_digest=house.manifest_digest
    )
    stream.close()
    assert received.records == 40
    assert received.delivered == tuple(sorted(one.subject for one in patients))
    assert received.stopped == ()
    by_subject = {}
    for line in received.path.read_text().splitlines():
        record = json.loads(line)
        by_subject.setdefault(record.pop("subject"), []).append(record)
    assert by_subject == {one.hex: records for one, records in house.plain.items()}
    kept = json.loads(received.trailer_path.read_text())
    assert kept["trailer"]["leaf"] == received.leaf
    assert set(states(house, release).values()) == {"delivered"}
    (leaf,) = closing(house, release)
    assert leaf["outcome"] == "complete"
    assert len(leaf["delivered"]) == 20


def test_a_release_is_streamed_once_and_to_its_requester_alone(house, tmp_path):
    publish(house, 1)
    release = house.ask()
    with pytest.raises(NotFound):
        house.releases.open(house.publisher.org, release)
    stream = house.releases.open(house.requester.org, release)
    with pytest.raises(Conflict):
        house.releases.open(house.requester.org, release)
    receive(house, stream, tmp_path / "out")
    with pytest.raises(Conflict):
        house.releases.open(house.requester.org, release)


def test_who_withdrew_between_ruling_and_streaming_is_stopped_and_the_others_go_on(house, tmp_path):
    patients = publish(house, 3)
    release = house.ask()
    stream = house.releases.open(house.requester.org, release)
    house.withdraw(patients[1])
    received = receive(house, stream, tmp_path / "out")
    assert received.stopped == (patients[1].subject,)
    assert set(received.delivered) == {patients[0].subject, patients[2].subject}
    assert patients[1].subject.hex not in received.path.read_text()
    assert states(house, release)[patients[1].subject.hex] == "stopped"


def test_a_withdrawal_after_the_keys_ruled_stops_before_the_key_leaves(house, tmp_path):
    patients = publish(house, 3)
    release = house.ask()
    stream = house.releases.open(house.requester.org, release)
    ask = house.client.begin_parts

    def then_withdraw(*given):
        pending = ask(*given)
        result = pending.result

        def withdrawn():
            answer = result()
            house.withdraw(patients[0])
            return answer

        pending.result = withdrawn
        return pending

    house.client.begin_parts = then_withdraw
    chunks = list(stream)
    keys = [
        read_json(payload, {"subject", "wrapped", "digest", "length", "records"})["subject"]
        for kind, payload in read_messages(chunks)
        if kind == KEY
    ]
    assert patients[0].subject.hex not in keys
    received = receive(house, chunks, tmp_path / "out")
    assert received.stopped == (patients[0].subject,)


def test_a_withdrawal_stops_whose_key_was_asked_for_ahead(house, tmp_path):
    patients = sorted(publish(house, GROUP_SUBJECTS + 3), key=lambda one: one.subject)
    stream = house.releases.open(house.requester.org, house.ask())
    # The first group is on its way, and the keys of the second were already asked for.
    chunks = [next(stream), next(stream)]
    house.withdraw(patients[-1])
    received = receive(house, chunks + list(stream), tmp_path / "out")
    assert received.stopped == (patients[-1].subject,)
    assert len(received.delivered) == GROUP_SUBJECTS + 2


@pytest.mark.parametrize("serves_ms", [60_000, -1])
def test_a_ruling_serves_for_a_moment_only(house, tmp_path, monkeypatch, serves_ms):
    """A receiver that dawdles meets the gate again, whether or not the log has grown."""
    monkeypatch.setattr(streaming, "RULING_MS", serves_ms)
    publish(house, GROUP_SUBJECTS + 3)
    stream = house.releases.open(house.requester.org, house.ask())
    chunks = [next(stream), next(stream)]
    house.answer_chain(ago_ms=120_000)
    received = receive(house, chunks + list(stream), tmp_path / "out")
    assert len(received.stopped) == (3 if serves_ms < 0 else 0)


def test_a_hang_up_leaves_no_answer_behind_for_another_question(house):
    publish(house, GROUP_SUBJECTS + 3)
    stream = house.releases.open(house.requester.org, house.ask())
    for _ in range(2):
        next(stream)
    stream.close()
    assert house.client.status().pinned == 2


def test_a_withdrawal_in_the_middle_of_a_large_part_stops_with_the_next_piece(house, tmp_path):
    patients = publish(house, 2, records=40, size=40_000)
    release = house.ask()
    stream = house.releases.open(house.requester.org, release)
    chunks = [next(stream), next(stream), next(stream)]
    first = min(patients, key=lambda one: one.subject)
    house.withdraw(first)
    rest = list(stream)
    kind, payload = next(read_messages([b"ASR1", *rest]))
    assert (kind, read_json(payload, {"subject"})["subject"]) == (STOPPED, first.subject.hex)
    received = receive(house, chunks + rest, tmp_path / "out")
    assert received.stopped == (first.subject,)
    assert received.records == 40
    assert first.subject.hex not in received.path.read_text()


def test_no_piece_is_larger_than_what_may_leave_between_two_looks(house):
    publish(house, 2, records=40, size=40_000)
    stream = house.releases.open(house.requester.org, house.ask())
    pieces = list(stream)
    assert max(map(len, pieces)) < PIECE_BYTES + 4_096
    assert len(pieces) > 8


def test_a_hang_up_closes_the_release_as_partial(house, tmp_path):
    patients = publish(house, 2, records=40, size=40_000)
    release = house.ask()
    stream = house.releases.open(house.requester.org, release)
    chunks = [next(stream), next(stream), next(stream)]
    stream.close()
    stream.close()
    (leaf,) = closing(house, release)
    assert leaf["outcome"] == "partial"
    assert leaf["delivered"] == []
    assert len(leaf["stopped"]) == 1
    first, second = sorted(one.subject.hex for one in patients)
    assert states(house, release) == {first: "stopped", second: "permitted"}
    with pytest.raises(EnvelopeCorrupt):
        receive(house, chunks, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_stream_that_nobody_read_is_closed_too(house):
    publish(house, 1)
    release = house.ask()
    house.releases.open(house.requester.org, release).close()
    (leaf,) = closing(house, release)
    assert (leaf["outcome"], leaf["delivered"], leaf["stopped"]) == ("partial", [], [])


def test_what_a_killed_process_left_streaming_is_closed_at_the_next_start(house):
    patients = publish(house, 3)
    release = house.ask()
    stream = house.releases.open(house.requester.org, release)
    next(stream)
    next(stream)
    assert house.releases.close_interrupted() == [release]
    assert house.releases.close_interrupted() == []
    (leaf,) = closing(house, release)
    assert leaf["outcome"] == "interrupted"
    assert len(leaf["delivered"]) == len(patients)


def test_keys_that_stop_answering_end_the_stream_without_a_trailer(house, tmp_path):
    publish(house, 3)
    release = house.ask()
    stream = house.releases.open(house.requester.org, release)
    chunks = [next(stream)]
    nobody = KeysClient(tmp_path / "nobody.sock")
    house.client.begin_parts = nobody.begin_parts
    chunks += list(stream)
    (leaf,) = closing(house, release)
    assert leaf["outcome"] == "partial"
    with pytest.raises(EnvelopeCorrupt, match="without a trailer"):
        receive(house, chunks, tmp_path / "out")


def test_a_stale_chain_stops_everybody(house, tmp_path):
    patients = publish(house, 3)
    stream = house.releases.open(house.requester.org, house.ask())
    house.answer_chain(ago_ms=120_000)
    received = receive(house, stream, tmp_path / "out")
    assert len(received.stopped) == len(patients)
    assert received.records == 0


# The receiver believes nothing that is not signed ------------------------------------------


@pytest.fixture
def arrived(house):
    publish(house, 3)
    return b"".join(house.releases.open(house.requester.org, house.ask()))


def rebuilt(messages):
    return [b"ASR1", *(message(kind, payload) for kind, payload in messages)]


def test_any_change_of_a_stream_is_noticed_and_leaves_no_file(house, arrived, tmp_path):
    folder = tmp_path / "out"
    messages = list(read_messages([arrived]))
    header, trailer = messages[0], messages[-1]
    middle = messages[1:-1]
    assert receive(house, rebuilt(messages), tmp_path / "fine").records == 6
    changes = [
        [header, *middle],
        [header, *middle[2:], trailer],
        [header, *middle[:1], *middle, trailer],
        [header, *middle, *middle[:2], trailer],
        [header, *middle[:-1], trailer],
        [header, *middle, (STOPPED, b'{"subject":"0x' + b"00" * 32 + b'"}'), trailer],
        [header, *middle, trailer, trailer],
        [*middle, trailer],
        [header, (middle[0][0], middle[2][1]), *middle[1:], trailer],
        [header, (KEY, b"{}"), *middle[1:], trailer],
        [header, (DATA, b"x"), *middle, trailer],
    ]
    for changed in changes:
        with pytest.raises(EnvelopeCorrupt):
            receive(house, rebuilt(changed), folder)
    for at in range(0, len(arrived) - 1, 97):
        with pytest.raises(EnvelopeCorrupt):
            receive(house, [arrived[:at]], folder)
    assert not folder.exists() or list(folder.iterdir()) == []


def test_flipped_bytes_are_noticed(house, arrived, tmp_path):
    for at in range(0, len(arrived), 101):
        changed = bytearray(arrived)
        changed[at] ^= 1
        with pytest.raises((EnvelopeCorrupt, EnvelopeVersionUnknown, SignatureInvalid)):
            receive(house, [bytes(changed)], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_trailer_of_another_key_or_another_content_is_refused(house, arrived, tmp_path):
    with pytest.raises(SignatureInvalid):
        receive(house, [arrived], tmp_path, exchange_address=Hospital("other").key.address)
    messages = list(read_messages([arrived]))
    document = read_json(messages[-1][1], {"trailer", "signature"})
    document["trailer"]["stopped"] = [document["trailer"]["delivered"][0][0]]
    changed = [b"ASR1", *(message(*one) for one in messages[:-1]), told(TRAILER, document)]
    with pytest.raises(SignatureInvalid):
        receive(house, changed, tmp_path)


def test_a_stream_opens_for_its_receiver_release_and_manifest_only(house, arrived, tmp_path):
    for changes in (
        {"receive_private_key": Hospital("other").receive[0]},
        {"release": house.ask()},
        {"manifest_digest": bytes(32)},
    ):
        with pytest.raises(EnvelopeCorrupt):
            receive(house, [arrived], tmp_path / "out", **changes)
    with pytest.raises(EnvelopeVersionUnknown):
        receive(house, [b"ASR2" + arrived[4:]], tmp_path / "out")
    with pytest.raises(EnvelopeCorrupt):
        receive(house, [b"<html>" + arrived], tmp_path / "out")


def test_pieces_of_one_byte_open_as_well(house, arrived, tmp_path):
    pieces = (arrived[at : at + 1] for at in range(len(arrived)))
    assert receive(house, pieces, tmp_path).records == 6


def test_the_trailer_speaks_the_published_digests(house, arrived):
    messages = list(read_messages([arrived]))
    trailer = read_json(messages[-1][1], {"trailer", "signature"})["trailer"]
    table = schema.parts
    with house.store.reading() as conn:
        rows = conn.execute(sa.select(table.c.subject, table.c.digest))
        assert sorted(map(list, rows)) == trailer["delivered"]
    assert from_hex(trailer["manifestDigest"], 32) == house.manifest_digest
