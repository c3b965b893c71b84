import gzip
import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from eth_account import Account
from eth_account.messages import encode_typed_data

from ledger import signing, vectors
from ledger.commitment import keccak256
from ledger.errors import ConsentMalformed, MalformedValue, SignatureInvalid
from ledger.ids import OrgId, SubjectId
from ledger.signing import (
    ORDER,
    Checkpoint,
    Document,
    Domain,
    Grant,
    Key,
    Message,
    Terms,
    check_terms,
    code_from_text,
    code_key,
    code_to_text,
    from_hex,
    identity_key,
    new_code,
    recover,
    recover_digest,
    sign_document,
    to_hex,
    verify,
    verify_document,
)

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "vectors"
DOMAIN = vectors.DOMAIN
KEY = vectors.KEY


def typed(message: Message, members: dict) -> bytes:
    """The digest as eth_account packs it from the type string."""
    name, inner = message.TYPE[:-1].split("(", 1)
    fields = [
        dict(zip(("type", "name"), part.split(" "), strict=True)) for part in inner.split(",")
    ]
    values = {
        key: int(value) if value.__class__ is str and value.isdigit() else value
        for key, value in members.items()
    }
    signable = encode_typed_data(
        full_message={
            "types": {
                "EIP712Domain": [
                    {"name": "name", "type": "string"},
                    {"name": "version", "type": "string"},
                    {"name": "salt", "type": "bytes32"},
                ],
                name: fields,
            },
            "primaryType": name,
            "domain": {
                "name": "Assent",
                "version": "1",
                "salt": to_hex(DOMAIN.deployment_id),
            },
            "message": values,
        }
    )
    return keccak256(b"\x19" + signable.version + signable.header + signable.body)


@pytest.mark.parametrize(("message", "members"), vectors.messages())
def test_every_messages_digest_is_eth_accounts(message, members):
    assert message.digest(DOMAIN) == typed(message, members)


def test_every_message_type_is_among_them():
    assert {type(message) for message, _ in vectors.messages()} == set(Message.__subclasses__())


def test_signatures_are_those_of_eth_account():
    digest = Grant(bytes(32), 7).digest(DOMAIN)
    full = Account.unsafe_sign_hash(digest, KEY.to_bytes()).signature
    made = KEY.sign(Grant(bytes(32), 7), DOMAIN)
    assert made[:32] == full[:32]
    assert int.from_bytes(made[32:], "big") & ((1 << 255) - 1) == int.from_bytes(full[32:64], "big")
    assert made[32] >> 7 == full[64] - 27
    assert to_hex(KEY.address) == Account.from_key(KEY.to_bytes()).address.lower()


def test_the_hash_and_the_digests_of_the_field_agree_with_ours():
    source = DATA / "eip712_ethers_typed-data.json.gz"
    if not source.is_file():
        pytest.skip("../shared/data is absent")
    for case in json.loads(gzip.decompress(source.read_bytes())):
        encoded = bytes.fromhex(case["encoded"][2:])
        kinds = dict.fromkeys(("name", "version"), "string")
        kinds |= {"chainId": "uint256", "verifyingContract": "address", "salt": "bytes32"}
        used = [key for key in kinds if case["domain"].get(key) is not None]
        text = ",".join(f"{kinds[key]} {key}" for key in used)
        words = b"".join(word(kinds[key], case["domain"][key]) for key in used)
        separator = keccak256(keccak256(f"EIP712Domain({text})".encode()) + words)
        digest = keccak256(b"\x19\x01" + separator + keccak256(encoded))
        assert to_hex(digest) == case["digest"], case["name"]


def word(kind: str, value) -> bytes:
    if kind == "string":
        return signing.Document(value, bytes(32))._words()[:32]
    if kind == "uint256":
        return int(value).to_bytes(32, "big")
    return bytes.fromhex(value[2:]).rjust(32, b"\x00")


def test_a_signature_is_for_one_key_one_message_and_one_deployment():
    message = Checkpoint(5, bytes(32))
    signature = KEY.sign(message, DOMAIN)
    assert recover(message, signature, DOMAIN) == KEY.address
    verify(message, signature, KEY.address, DOMAIN)
    for other in (
        (Checkpoint(6, bytes(32)), signature, KEY.address, DOMAIN),
        (message, signature, vectors.OTHER.address, DOMAIN),
        (message, signature, KEY.address, Domain(bytes(32))),
    ):
        with pytest.raises(SignatureInvalid):
            verify(*other)


def test_a_malleated_or_misshapen_signature_is_refused():
    message = Checkpoint(5, bytes(32))
    signature = KEY.sign(message, DOMAIN)
    r, vs = signature[:32], int.from_bytes(signature[32:], "big")
    s, parity = vs & ((1 << 255) - 1), vs >> 255
    flipped = ((ORDER - s) | ((1 - parity) << 255)).to_bytes(33, "big")[-32:]
    for bad in (
        r + flipped,
        signature[:-1],
        signature + b"\x00",
        b"",
        bytes(64),
        bytes(32) + signature[32:],
        r + bytes(32),
        ORDER.to_bytes(32, "big") + signature[32:],
    ):
        with pytest.raises(SignatureInvalid):
            verify(message, bad, KEY.address, DOMAIN)
    # An r that is no point's x coordinate belongs to no key.
    with pytest.raises(SignatureInvalid):
        recover_digest(bytes(32), (5).to_bytes(32, "big") + (1).to_bytes(32, "big"))


def test_keys_are_scalars_and_never_show_themselves():
    for bad in (bytes(32), ORDER.to_bytes(32, "big"), b"\x01"):
        with pytest.raises(MalformedValue):
            Key.from_bytes(bad)
    made = Key.new()
    assert Key.from_bytes(made.to_bytes()).address == made.address
    assert made.to_bytes().hex() not in repr(made)
    assert to_hex(made.address) in repr(made)


def test_members_of_the_wrong_size_are_refused():
    for message in (
        Grant(bytes(31), 1),
        Grant(bytes(32), 2**32),
        Checkpoint(-1, bytes(32)),
        signing.Admit(bytes(19)),
    ):
        with pytest.raises(MalformedValue):
            message.digest(DOMAIN)
    with pytest.raises(MalformedValue):
        Domain(bytes(31))


def test_terms_survive_json_and_refuse_anything_else():
    terms = vectors.terms()
    assert Terms.from_json(json.loads(json.dumps(terms.to_json()))) == terms
    forever = vectors.terms(until=None)
    assert forever.to_json()["until"] is None
    assert Terms.from_json(forever.to_json()) == forever
    for change in (
        {"decision": "maybe"},
        {"purpose": 5},
        {"from": "1"},
        {"from": True},
        {"until": -1},
        {"signBy": 2**60},
        {"salt": "0x12"},
        {"consentKey": "0x" + "AB" * 20},
        {"subject": None},
        {"extra": 1},
    ):
        with pytest.raises(ConsentMalformed) as caught:
            Terms.from_json(terms.to_json() | change)
        assert caught.value.pointer.startswith("/terms")
    with pytest.raises(ConsentMalformed):
        Terms.from_json([])


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"purpose": "*"}, "/terms/purpose"),
        ({"requester": "*"}, "/terms/requester"),
        ({"categories": "notes"}, "/terms/categories"),
        ({"decision": "deny"}, "/terms/decision"),
        ({"from": 1}, "/terms/from"),
        ({"until": None}, "/terms/until"),
        ({"subject": "0x" + "12" * 32}, "/terms/subject"),
        ({"documentHash": "0x" + "12" * 32}, "/terms/documentHash"),
        ({"noticeHash": "0x" + "12" * 32}, "/terms/noticeHash"),
    ],
)
def test_terms_say_what_the_document_says(change, pointer):
    terms = vectors.terms()
    assert check_terms(terms, vectors.document()).decision.value == "permit"
    other = Terms.from_json(terms.to_json() | change)
    with pytest.raises(ConsentMalformed) as caught:
        check_terms(other, vectors.document())
    assert caught.value.pointer == pointer


def test_documents_are_signed_with_their_kind():
    document = {"kind": "assent.request/1", "n": 1}
    signature = sign_document(KEY, "assent.request/1", document, DOMAIN)
    verify_document("assent.request/1", document, signature, KEY.address, DOMAIN)
    for kind, changed in (
        ("assent.card/1", document),
        ("assent.request/1", document | {"n": 2}),
        ("assent.request/1", {"n": 1}),
    ):
        with pytest.raises(SignatureInvalid):
            verify_document(kind, changed, signature, KEY.address, DOMAIN)
    assert Document("a", bytes(32)).digest(DOMAIN) != Document("b", bytes(32)).digest(DOMAIN)


def test_keys_are_derived_by_hkdf_so_that_a_browser_can():
    def hkdf(secret: bytes, info: bytes) -> bytes:
        return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)

    code, seed = new_code(), hashlib.sha256(b"seed").digest()
    org = OrgId(bytes(range(8)))
    assert code_key(code).to_bytes() == hkdf(code, b"assent code/1")
    assert identity_key(seed, org).to_bytes() == hkdf(seed, b"assent identity/1" + org.raw)
    assert identity_key(seed, org).address != identity_key(seed, OrgId(bytes(8))).address
    with pytest.raises(MalformedValue):
        code_key(bytes(15))
    with pytest.raises(MalformedValue):
        identity_key(bytes(31), org)


def test_a_derivation_outside_the_order_counts_on():
    answers = {b"i": bytes(32), b"i\x00": ORDER.to_bytes(32, "big"), b"i\x01": b"\x01" * 32}
    made = signing._derive(b"secret", b"i", lambda _, info: answers[info])
    assert made.to_bytes() == b"\x01" * 32


def test_codes_are_typed_in_any_case_with_any_gaps():
    code = new_code()
    text = code_to_text(code)
    assert len(text.split("-")) == 7
    assert code_from_text(text) == code
    assert code_from_text(" " + text.lower().replace("-", " ") + "\n") == code
    plain = text.replace("-", "")
    for bad in ("", "AAAA", plain[:-1], plain + "A", "1" + plain[1:], "é" + plain[1:]):
        with pytest.raises(MalformedValue):
            code_from_text(bad)
    # The last character carries two idle bits: only one spelling is the code.
    zero = code_to_text(bytes(16))
    with pytest.raises(MalformedValue):
        code_from_text(zero[:-1] + "B")


def test_hex_has_one_spelling():
    assert from_hex("0x0aff", 2) == b"\x0a\xff"
    for bad in ("0aff", "0x0AFF", "0x0af", "0x 0a", "0x0a\n", None, 5, b"0x0a"):
        with pytest.raises(MalformedValue):
            from_hex(bad)
    with pytest.raises(MalformedValue):
        from_hex("0x0aff", 3)


def test_the_committed_vectors_are_fresh():
    folder = Path(__file__).resolve().parents[2] / "vectors"
    for name, text in vectors.render_all().items():
        assert (folder / name).read_text(encoding="utf-8") == text, f"make gen: {name}"


def test_a_subject_of_the_vectors_is_its_hospitals():
    assert isinstance(vectors.SUBJECT, SubjectId)
    assert vectors.SUBJECT.org == vectors.ORG == OrgId.of_address(KEY.address)
