from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.errors import SealError
from exchange.sealing import FRAME_BYTES, PartContext, open_part, seal_part, unwrap, wrap
from ledger.ids import DatasetId, OrgId, SubjectId

KEY = bytes(range(32))
orgs = st.binary(min_size=8, max_size=8).map(OrgId)
contexts = st.builds(
    lambda org, rest, dataset, version, part: PartContext(
        org, DatasetId(dataset), version, SubjectId(org.raw + rest), part
    ),
    orgs,
    st.binary(min_size=24, max_size=24),
    st.binary(min_size=16, max_size=16),
    st.integers(1, 2**31),
    st.integers(0, 2**32 - 1),
)


@given(contexts, st.binary(max_size=4096), st.binary(min_size=32, max_size=32))
def test_round_trip(context, plaintext, key):
    assert open_part(key, context, seal_part(key, context, plaintext)) == plaintext


@given(contexts, st.binary(max_size=512), st.data())
@settings(max_examples=300)
def test_any_flipped_bit_is_noticed(context, plaintext, data):
    blob = bytearray(seal_part(KEY, context, plaintext))
    bit = data.draw(st.integers(0, 8 * len(blob) - 1))
    blob[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealError):
        open_part(KEY, context, bytes(blob))


@given(contexts, st.binary(max_size=512), st.data())
def test_any_cut_and_any_addition_is_noticed(context, plaintext, data):
    blob = seal_part(KEY, context, plaintext)
    with pytest.raises(SealError):
        open_part(KEY, context, blob[: data.draw(st.integers(0, len(blob) - 1))])
    with pytest.raises(SealError):
        open_part(KEY, context, blob + data.draw(st.binary(min_size=1, max_size=64)))


@given(contexts, contexts, st.binary(max_size=64))
def test_a_part_of_another_context_never_opens(mine, other, plaintext):
    if mine == other:
        return
    with pytest.raises(SealError):
        open_part(KEY, other, seal_part(KEY, mine, plaintext))


@given(contexts, st.integers(1, 3), st.integers(0, 2))
@settings(max_examples=10, deadline=None)
def test_a_cut_at_any_frames_edge_is_noticed(context, frames, kept):
    blob = seal_part(KEY, context, bytes(frames * FRAME_BYTES + 1))
    edge = 36 + min(kept, frames) * (4 + FRAME_BYTES + 16)
    with pytest.raises(SealError):
        open_part(KEY, context, blob[:edge])


@given(st.binary(max_size=64), st.data())
def test_any_flipped_bit_of_a_wrap_is_noticed(aad, data):
    wrapped = bytearray(wrap(KEY, bytes(32), aad=aad))
    bit = data.draw(st.integers(0, 8 * len(wrapped) - 1))
    wrapped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SealError):
        unwrap(KEY, bytes(wrapped), aad=aad)
