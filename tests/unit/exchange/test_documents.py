"""Signed documents: a card speaks for the key that signed it, and for nothing else."""

from __future__ import annotations

import pytest

from exchange.documents import CARD_DOMAIN, CARD_KIND, check_card, digest
from exchange.errors import DocumentMalformed
from ledger.errors import SignatureInvalid
from ledger.messages import Domain, to_hex
from ledger.signing import Key, sign_document
from tests.served import Hospital


@pytest.fixture(scope="module")
def hospital():
    return Hospital("North")


def signed(hospital, *, key=None, domain=CARD_DOMAIN, **changes):
    card = hospital.card()["card"] | changes
    card = {name: value for name, value in card.items() if value is not ...}
    signature = sign_document(key or hospital.key, card["kind"], card, domain)
    return {"card": card, "signature": to_hex(signature)}


def test_a_card_is_read_and_its_digest_moves_with_every_field(hospital):
    card = check_card(signed(hospital))
    assert card["org"] == hospital.org.hex
    assert digest(card) != digest(card | {"made": 2})


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"org": "0x" + "11" * 8}, "/org"),
        ({"address": "0x11"}, "/address"),
        ({"receiveKey": None}, "/receiveKey"),
        ({"receiveKey": "0x" + "AB" * 32}, "/receiveKey"),
        ({"made": -1}, "/made"),
        ({"made": True}, "/made"),
        ({"made": 2**53 - 1, "name": ""}, "/name"),
        ({"name": "x" * 121}, "/name"),
        ({"name": 7}, "/name"),
        ({"authJwk": "key"}, "/authJwk"),
        ({"authJwk": ...}, "/authJwk"),
        ({"more": 1}, "/more"),
        ({"kind": "assent.request/1"}, "/kind"),
    ],
)
def test_a_malformed_card_is_refused_with_its_place(hospital, changes, pointer):
    with pytest.raises(DocumentMalformed) as refused:
        check_card(signed(hospital, **changes))
    assert refused.value.pointer == pointer


@pytest.mark.parametrize(
    "stored", [None, [], {}, {"card": {}}, {"card": {}, "signature": "", "x": 1}]
)
def test_what_is_no_signed_card_is_refused(stored):
    with pytest.raises(DocumentMalformed):
        check_card(stored)


def test_nobody_signs_anothers_card(hospital):
    for wrong in (signed(hospital, key=Key.new()), signed(hospital, domain=Domain(b"\1" * 32))):
        with pytest.raises(SignatureInvalid):
            check_card(wrong)
    other = signed(hospital) | {"signature": signed(hospital, made=2)["signature"]}
    with pytest.raises(SignatureInvalid):
        check_card(other)
    assert CARD_KIND in str(signed(hospital))
