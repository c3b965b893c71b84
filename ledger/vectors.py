"""The vectors that every implementation of the formats must meet; the browser's tests read them.

Made from fixed keys and values, so that they never change while the formats do not. Bytes are
0x-hex, times epoch seconds (``atMs`` milliseconds).
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from ledger.commitment import canonical, salted_body_hash, sha256, until_day
from ledger.ids import ConsentId, OrgId, SubjectId, handle
from ledger.leaf import Kind, Leaf
from ledger.merkle import Tree, consistency_proof, leaf_hash
from ledger.messages import (
    Admit,
    Checkpoint,
    Desk,
    Document,
    Domain,
    Grant,
    Invited,
    Lift,
    Login,
    Message,
    Receipt,
    Redeemed,
    Replace,
    Retire,
    Rotate,
    Withdraw,
    to_hex,
)
from ledger.signing import Key, code_key, code_to_text, identity_key
from ledger.terms import Terms

DOMAIN = Domain(sha256(b"assent vectors"))
KEY = Key.from_bytes(sha256(b"assent vectors key"))
OTHER = Key.from_bytes(sha256(b"assent vectors other key"))
ORG = OrgId.of_address(KEY.address)
SUBJECT = SubjectId(ORG.raw + sha256(b"assent vectors subject")[:24])


def document(**changes: object) -> dict[str, object]:
    """Return the vectors' consent document, with changes."""
    made: dict[str, object] = {
        "grammar": "assent.consent/1",
        "decision": "permit",
        "subject": SUBJECT.hex,
        "purpose": ["HRESCH", "TREAT"],
        "requester": [ORG.hex],
        "categories": ["notes", "clinical"],
        "actions": ["disclose", "use"],
        "dataUse": {"code": "DUO:0000042", "modifiers": ["DUO:0000046"]},
        "from": 1790000000,
        "until": 1800000000,
        "supersedes": None,
        "locale": "en",
        "notice": to_hex(sha256(b"notice")),
    }
    return made | changes


def terms(**changes: object) -> Terms:
    """Return the terms of :func:`document` with the same changes."""
    return Terms.of_document(
        document(**changes),
        sign_by=1790086400,
        consent_key=OTHER.address,
        salt=sha256(b"salt"),
    )


def messages() -> list[tuple[Message, dict[str, object]]]:
    """Return one message of every type, with its EIP-712 members."""
    commitment, day, challenge = terms().commitment(), terms().until_day, sha256(b"challenge")
    subject, address, other = SUBJECT.hex, to_hex(KEY.address), to_hex(OTHER.address)
    shown, root = to_hex(commitment), sha256(b"root")
    forever = terms(until=None, requester="*", purpose="*", categories="*")
    return [
        (terms(), _members(terms())),
        (forever, _members(forever)),
        (Grant(commitment, day), {"commitment": shown, "untilDay": day}),
        (Withdraw(commitment, day), {"commitment": shown, "untilDay": day}),
        (Lift(commitment), {"commitment": shown}),
        (
            Invited(SUBJECT, KEY.address, 1790000000),
            {"subject": subject, "codeKey": address, "expiry": 1790000000},
        ),
        (Redeemed(SUBJECT, OTHER.address), {"subject": subject, "identityKey": other}),
        (
            Login(SUBJECT, challenge, 1790000300),
            {"subject": subject, "challenge": to_hex(challenge), "expiry": 1790000300},
        ),
        (
            Desk(commitment, "officer-1,officer-2", 1790000000),
            {"commitment": shown, "officers": "officer-1,officer-2", "at": 1790000000},
        ),
        (
            Document("assent.request/1", root),
            {"kind": "assent.request/1", "documentHash": to_hex(root)},
        ),
        (Checkpoint(42, root), {"size": 42, "root": to_hex(root)}),
        (Receipt(41, root), {"index": 41, "leafHash": to_hex(root)}),
        (Admit(KEY.address), {"participant": address}),
        (Rotate(KEY.address, OTHER.address), {"from": address, "to": other}),
        (Replace(KEY.address, OTHER.address), {"from": address, "to": other}),
        (Retire(KEY.address), {"participant": address}),
    ]


def _members(value: Terms) -> dict[str, object]:
    # In the signed struct no end is the largest uint64.
    shown = value.to_json()
    return shown | {"until": str(2**64 - 1) if value.ends is None else value.ends}


def eip712() -> dict[str, object]:
    """Digests and signatures of every message type."""
    return {
        "domain": {"name": "Assent", "version": "1", "salt": to_hex(DOMAIN.deployment_id)},
        "domainSeparator": to_hex(DOMAIN.separator),
        "key": to_hex(KEY.to_bytes()),
        "address": to_hex(KEY.address),
        "messages": [
            {
                "type": message.TYPE,
                "primaryType": message.TYPE.split("(", 1)[0],
                "message": members,
                "structHash": to_hex(message.struct_hash()),
                "digest": to_hex(message.digest(DOMAIN)),
                "signature": to_hex(KEY.sign(message, DOMAIN)),
            }
            for message, members in messages()
        ],
    }


def derivation() -> dict[str, object]:
    """Keys derived from codes and seeds, and the codes as patients see them."""
    codes = [bytes(range(16)), sha256(b"code")[:16], b"\xff" * 16]
    seeds = [bytes(range(32)), sha256(b"seed")]
    return {
        "codes": [
            {
                "code": to_hex(code),
                "text": code_to_text(code),
                "key": to_hex(code_key(code).to_bytes()),
                "address": to_hex(code_key(code).address),
            }
            for code in codes
        ],
        "identities": [
            {
                "seed": to_hex(seed),
                "org": org.hex,
                "key": to_hex(identity_key(seed, org).to_bytes()),
                "address": to_hex(identity_key(seed, org).address),
            }
            for seed in seeds
            for org in (ORG, OrgId(bytes(8)))
        ],
    }


def commitment() -> dict[str, object]:
    """Canonical JSON, consent documents, commitments, ids and leaves."""
    values: list[object] = [
        {"b": 1, "a": [True, False, None], "": "empty key"},
        {"\u20ac": 1, "\U0001f600": 2, "\ufb33": 3, "1": 4, "\u00f6": 5, "\r": 6},
        'quote " backslash \\ controls \b\t\n\f\r\u0001\u001f delete \u007f line \u2028',
        [-(2**53) + 1, 2**53 - 1, 0],
    ]
    body = {"salt": "0x" + "5a" * 16, "commitment": to_hex(terms().commitment())}
    leaf = Leaf(
        Kind.CONSENT_GRANTED,
        1790000000123,
        handle(SUBJECT),
        1,
        sha256(b"previous leaf"),
        terms().consent_id().raw,
        salted_body_hash(body),
    )
    consents = [terms(), terms(until=None), terms(decision="deny", purpose="*")]
    return {
        "canonical": [{"value": value, "bytes": to_hex(canonical(value))} for value in values],
        "untilDay": [
            {"ends": ends, "untilDay": until_day(ends)}
            for ends in (None, 0, 1800000000, 1709164800)
        ],
        "consents": [
            {
                "terms": one.to_json(),
                "commitment": to_hex(one.commitment()),
                "untilDay": one.until_day,
                "consent": one.consent_id().hex,
            }
            for one in consents
        ],
        "document": document(),
        "documentHash": to_hex(sha256(canonical(document()))),
        "subject": {"id": SUBJECT.hex, "handle": to_hex(handle(SUBJECT)), "org": ORG.hex},
        "org": {"address": to_hex(KEY.address), "id": ORG.hex},
        "leaf": {
            "kind": int(leaf.kind),
            "atMs": leaf.at_ms,
            "handle": to_hex(leaf.handle),
            "seq": leaf.seq,
            "prev": to_hex(leaf.prev),
            "consent": ConsentId(leaf.consent_id).hex,
            "body": body,
            "bodyHash": to_hex(leaf.body_hash),
            "skeleton": to_hex(leaf.pack()),
            "hash": to_hex(leaf.hash),
        },
    }


def merkle() -> dict[str, object]:
    """Roots and proofs of small trees over the leaves "0", "1", ..."""
    hashes = [leaf_hash(str(index).encode()) for index in range(13)]
    trees = [Tree(hashes[:size]) for size in range(14)]
    return {
        "leaves": [to_hex(one) for one in hashes],
        "roots": [to_hex(tree.root) for tree in trees],
        "inclusion": [
            {"index": index, "size": size, "proof": _hexes(trees[size].inclusion_proof(index))}
            for size in (1, 2, 3, 7, 8, 13)
            for index in range(size)
        ],
        "consistency": [
            {"first": one, "second": two, "proof": _hexes(consistency_proof(one, hashes[:two]))}
            for two in (1, 2, 7, 8, 13)
            for one in range(1, two + 1)
        ],
    }


def _hexes(nodes: list[bytes]) -> list[str]:
    return [to_hex(node) for node in nodes]


def render_all() -> dict[str, str]:
    """Return file name -> text of every vector file."""
    files: Mapping[str, dict[str, object]] = {
        "eip712.json": eip712(),
        "derivation.json": derivation(),
        "commitment.json": commitment(),
        "merkle.json": merkle(),
    }
    return {
        name: json.dumps(value, indent=1, ensure_ascii=True, sort_keys=True) + "\n"
        for name, value in files.items()
    }
