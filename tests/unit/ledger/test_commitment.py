from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.commitment import (
    NO_END_DAY,
    canonical,
    consent_id,
    digest_of,
    keccak256,
    new_salt,
    parse_canonical,
    salted_body_hash,
    sha256,
    until_day,
)
from ledger.errors import MalformedValue

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.text(st.characters(codec="utf-8"), max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
def test_what_is_canonical_is_read_back_the_same(value):
    data = canonical(value)
    assert parse_canonical(data) == value
    assert canonical(parse_canonical(data)) == data
    assert digest_of(value) == sha256(data)


def test_keys_sort_by_utf16_as_the_rfc_shows():
    # RFC 8785 section 3.2.3, the example's keys.
    keys = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    text = canonical(dict.fromkeys(keys, 0)).decode()
    order = [text.index(f'"{key}"') if key != "\r" else text.index('"\\r"') for key in keys]
    expected = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert [key for _, key in sorted(zip(order, keys, strict=True))] == expected


def test_strings_escape_only_what_they_must():
    # RFC 8785 section 3.2.2.2.
    assert canonical('\u20ac$\u000f\nA\'B"\\\\"/\u007f') == (
        '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/\u007f"'.encode()
    )


@pytest.mark.parametrize(
    "value",
    [1.5, 2**53, -(2**53), float("nan"), {1: 2}, b"x", {"a": {1, 2}}, "\ud800", {"\udfff": 1}],
)
def test_other_values_have_no_canonical_form(value):
    with pytest.raises(MalformedValue):
        canonical(value)


def test_too_deep_a_nesting_is_refused():
    deep: object = 1
    for _ in range(65):
        deep = [deep]
    with pytest.raises(MalformedValue):
        canonical(deep)
    with pytest.raises(MalformedValue):
        parse_canonical(b"[" * 100_000 + b"]" * 100_000)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"b":1,"a":1}',
        b'{"a": 1}',
        b' {"a":1}',
        b'{"a":1}\n',
        b"1.0",
        b"1e2",
        b"-0",
        b"01",
        b"NaN",
        b"9007199254740992",
        b"1" * 5000,
        b'"\\u0041"',
        b'"\\/"',
        b'"\\u000A"',
        b'"\\ud800"',
        b'"\xff"',
        b"\xef\xbb\xbf1",
        b"",
        b"{",
    ],
)
def test_another_spelling_is_refused(data):
    with pytest.raises(MalformedValue):
        parse_canonical(data)


def test_a_body_needs_its_salt():
    body = {"salt": new_salt(), "n": 1}
    assert salted_body_hash(body) == digest_of(body)
    assert new_salt() != new_salt()
    for salt in (None, "", "0x12", 5, "xx" + "1" * 32):
        with pytest.raises(MalformedValue):
            salted_body_hash({"salt": salt})
    with pytest.raises(MalformedValue):
        salted_body_hash({})


@given(st.integers(0, 4_000_000_000))
def test_until_day_is_the_last_day_of_its_month(ends):
    day = until_day(ends)
    at = datetime.fromtimestamp(ends, UTC)
    last = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
    assert (last.year, last.month) == (at.year, at.month)
    assert (last + timedelta(days=1)).day == 1


def test_no_end_is_the_largest_day():
    assert until_day(None) == NO_END_DAY == 2**32 - 1


def test_a_consents_id_binds_key_commitment_and_day():
    key, commitment = bytes(range(20)), bytes(range(32))
    made = consent_id(key, commitment, 7)
    assert made.raw == keccak256(key + commitment + (7).to_bytes(4, "big"))
    assert made != consent_id(key, commitment, 8)
    for bad in ((key[1:], commitment, 7), (key, commitment[1:], 7), (key, commitment, 2**32)):
        with pytest.raises(MalformedValue):
            consent_id(*bad)
