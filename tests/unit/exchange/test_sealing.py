from __future__ import annotations

import json
from pathlib import Path

import pytest

from exchange import sealing
from exchange.errors import EnvelopeCorrupt, EnvelopeVersionUnknown, SealError
from exchange.sealing import FRAME_BYTES, PartContext, open_part, open_stream, seal_part
from ledger.ids import DatasetId, JobId, OrgId, ReleaseId, SubjectId
from ledger.policy import POLICY_VERSION, Denial, Permit

ORG = OrgId(bytes(range(8)))
SUBJECT = SubjectId(ORG.raw + bytes(24))
DATASET = DatasetId(bytes(16))
KEY = bytes(range(32))
CONTEXT = PartContext(ORG, DATASET, 1, SUBJECT)
VECTORS = Path(__file__).parents[2] / "vectors" / "sealing.json"
SIZES = [0, 1, 100, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 2 * FRAME_BYTES]


@pytest.mark.parametrize("size", SIZES)
def test_a_part_opens_to_what_was_sealed(size):
    plaintext = b"x" * size
    blob = seal_part(KEY, CONTEXT, plaintext)
    assert open_part(KEY, CONTEXT, blob) == plaintext
    pieces = (blob[at : at + 70_001] for at in range(0, len(blob), 70_001))
    assert b"".join(open_stream(KEY, CONTEXT, pieces)) == plaintext


def test_a_full_last_frame_has_no_empty_one_behind_it():
    blob = seal_part(KEY, CONTEXT, b"x" * FRAME_BYTES)
    assert len(blob) == 36 + 4 + FRAME_BYTES + 16


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_a_cut_at_a_frames_edge_is_noticed(frames):
    blob = seal_part(KEY, CONTEXT, b"x" * (3 * FRAME_BYTES))
    cut = blob[: 36 + frames * (4 + FRAME_BYTES + 16)]
    with pytest.raises(EnvelopeCorrupt):
        open_part(KEY, CONTEXT, cut)


def test_frames_cannot_be_swapped_repeated_or_added():
    size = 4 + FRAME_BYTES + 16
    blob = seal_part(KEY, CONTEXT, b"a" * FRAME_BYTES + b"b" * FRAME_BYTES + b"c")
    head, first, second, last = blob[:36], blob[36:][:size], blob[36 + size :][:size], b""
    last = blob[36 + 2 * size :]
    assert open_part(KEY, CONTEXT, head + first + second + last)
    for frames in (
        (second, first, last),
        (first, first, last),
        (first, second, second, last),
        (first, last),
        (first, second, last, last),
        (first, second, last, first),
    ):
        with pytest.raises(EnvelopeCorrupt):
            open_part(KEY, CONTEXT, head + b"".join(frames))


@pytest.mark.parametrize(
    "other",
    [
        PartContext(OrgId(bytes(8)), DATASET, 1, SUBJECT),
        PartContext(ORG, DatasetId(bytes([1]) * 16), 1, SUBJECT),
        PartContext(ORG, DATASET, 2, SUBJECT),
        PartContext(ORG, DATASET, 1, SubjectId(ORG.raw + bytes([1]) * 24)),
        PartContext(ORG, DATASET, 1, SUBJECT, part=1),
    ],
)
def test_a_part_opens_only_where_it_belongs(other):
    blob = seal_part(KEY, CONTEXT, b"note")
    with pytest.raises(EnvelopeCorrupt):
        open_part(KEY, other, blob)
    # The commitment alone could be replaced by whoever has the key; the frames are bound as well.
    forged = blob[:4] + other.commitment(KEY) + blob[36:]
    with pytest.raises(EnvelopeCorrupt):
        open_part(KEY, other, forged)


def test_a_part_is_committed_to_one_key():
    blob = seal_part(KEY, CONTEXT, b"note")
    with pytest.raises(EnvelopeCorrupt, match="key and context"):
        open_part(bytes(32), CONTEXT, blob)


def test_unknown_versions_are_refused_by_name():
    blob = seal_part(KEY, CONTEXT, b"note")
    with pytest.raises(EnvelopeVersionUnknown):
        open_part(KEY, CONTEXT, b"ASP2" + blob[4:])
    with pytest.raises(EnvelopeCorrupt):
        open_part(KEY, CONTEXT, b"PK\x03\x04" + blob[4:])


@pytest.mark.parametrize("key", [b"", bytes(16), bytes(31), bytes(33)])
def test_keys_of_other_sizes_are_refused(key):
    with pytest.raises(SealError):
        seal_part(key, CONTEXT, b"note")


def test_a_wrap_is_bound_and_never_repeats():
    one, two = (sealing.wrap(KEY, bytes(32), aad=b"a") for _ in range(2))
    assert one != two
    assert sealing.unwrap(KEY, one, aad=b"a") == bytes(32)
    for wrapping, wrapped, aad in (
        (KEY, one, b"b"),
        (bytes(32), one, b"a"),
        (KEY, one[:-1], b"a"),
        (KEY, b"", b"a"),
        (KEY, one[:12] + bytes(len(one) - 12), b"a"),
    ):
        with pytest.raises(EnvelopeCorrupt):
            sealing.unwrap(wrapping, wrapped, aad=aad)


def test_rewrapping_takes_a_permit_that_still_holds():
    release, release_key = ReleaseId.new(), sealing.new_key()

    def rewrap(permit, at_seconds=100):
        return sealing.rewrap(
            permit,
            KEY,
            release_key=release_key,
            release=release,
            subject=SUBJECT,
            at_seconds=at_seconds,
        )

    wrapped = rewrap(Permit((), 101, POLICY_VERSION))
    opened = sealing.unwrap_released(release_key, wrapped, release=release, subject=SUBJECT)
    assert opened == KEY
    with pytest.raises(EnvelopeCorrupt):
        sealing.unwrap_released(release_key, wrapped, release=ReleaseId.new(), subject=SUBJECT)
    for permit in (Permit((), 100, POLICY_VERSION), Denial(("no-consent",), POLICY_VERSION), None):
        with pytest.raises(SealError):
            rewrap(permit)


def test_an_envelope_opens_for_its_holder_and_purpose_only():
    private, public = sealing.new_receive_key()
    other, _ = sealing.new_receive_key()
    assert sealing.public_of(private) == public
    info = sealing.release_info(ReleaseId(bytes(16)))
    sealed = sealing.seal_to(public, b"key", info=info)
    assert len(sealed) == 3 + 48
    assert sealing.open_sealed(private, sealed, info=info) == b"key"
    for key, envelope, purpose in (
        (other, sealed, info),
        (private, sealed, sealing.job_info(JobId(bytes(16)))),
        (private, sealed[:-1], info),
        (private, b"", info),
    ):
        with pytest.raises(EnvelopeCorrupt):
            sealing.open_sealed(key, envelope, info=purpose)
    for call in (
        lambda: sealing.seal_to(bytes(31), b"key", info=info),
        lambda: sealing.open_sealed(bytes(31), sealed, info=info),
    ):
        with pytest.raises(SealError):
            call()


def test_every_purpose_of_an_envelope_has_its_own_info():
    zeros = bytes(16)
    infos = {
        sealing.keys_info(DatasetId(zeros), 1),
        sealing.keys_info(DatasetId(zeros), 2),
        sealing.intake_info(DatasetId(zeros), 1),
        sealing.release_info(ReleaseId(zeros)),
        sealing.job_info(JobId(zeros)),
        sealing.result_info(JobId(zeros)),
    }
    assert len(infos) == 6


def test_a_key_list_is_of_one_dataset_version():
    private, public = sealing.new_receive_key()
    keys = {SUBJECT: KEY, SubjectId.new(ORG): sealing.new_key()}
    sealed = sealing.seal_key_list(public, dataset=DATASET, version=3, keys=keys)
    assert sealing.open_key_list(private, sealed, dataset=DATASET, version=3) == keys
    with pytest.raises(EnvelopeCorrupt):
        sealing.open_key_list(private, sealed, dataset=DATASET, version=4)
    # Sealed to the right info, but speaking of another version inside.
    inside = sealing.seal_to(
        public, sealing.pack_keys(DATASET, 4, keys), info=sealing.keys_info(DATASET, 3)
    )
    with pytest.raises(EnvelopeCorrupt):
        sealing.open_key_list(private, inside, dataset=DATASET, version=3)


@pytest.mark.parametrize(
    "keys", [None, [], {"0x00": "0x" + "00" * 32}, {SUBJECT.hex: "0x00"}, {SUBJECT.hex: 1}]
)
def test_a_malformed_key_list_is_refused(keys):
    packed = json.dumps(
        {"dataset": DATASET.hex, "keys": keys, "version": 1}, separators=(",", ":")
    ).encode()
    with pytest.raises(EnvelopeCorrupt):
        sealing.unpack_keys(packed, dataset=DATASET, version=1)


def test_vectors_open_for_ever():
    for vector in json.loads(VECTORS.read_text())["parts"]:
        context = PartContext(
            OrgId.parse(vector["org"]),
            DatasetId.parse(vector["dataset"]),
            vector["version"],
            SubjectId.parse(vector["subject"]),
            vector["part"],
        )
        key, plaintext = bytes.fromhex(vector["key"]), bytes.fromhex(vector["plaintext"])
        blob = bytes.fromhex(vector["blob"])
        assert seal_part(key, context, plaintext) == blob
        assert open_part(key, context, blob) == plaintext
    for vector in json.loads(VECTORS.read_text())["wraps"]:
        found = sealing.unwrap(
            bytes.fromhex(vector["wrapping"]),
            bytes.fromhex(vector["wrapped"]),
            aad=bytes.fromhex(vector["aad"]),
        )
        assert found.hex() == vector["key"]
    for vector in json.loads(VECTORS.read_text())["envelopes"]:
        found = sealing.open_sealed(
            bytes.fromhex(vector["private"]),
            bytes.fromhex(vector["sealed"]),
            info=bytes.fromhex(vector["info"]),
        )
        assert found.hex() == vector["plaintext"]
