"""A whole synthetic exchange in memory: keys, consents, a log, and honest bundles of evidence.

Every part can be bent before it is sealed into the log, so that a test can play a dishonest
exchange whose bundle is consistent with itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ledger.bundle import AuditBundle, LoggedLeaf, SignedCheckpoint, SubjectEvidence, shown
from ledger.commitment import canonical, digest_of, salted_body_hash
from ledger.consent import Consent, ConsentStatus
from ledger.history import statuses
from ledger.ids import ConsentId, DatasetId, OrgId, ReleaseId, SubjectId, handle
from ledger.leaf import ZEROS, Kind, Leaf, chain_of
from ledger.merkle import Tree
from ledger.policy import AccessRequest, as_body, decide
from ledger.signing import (
    Checkpoint,
    Desk,
    Domain,
    Grant,
    Invited,
    Key,
    Lift,
    Redeemed,
    Terms,
    Withdraw,
    sign_document,
    to_hex,
)
from ledger.trust import Trust, parse

NOW = 1_790_000_000


def seeded(*parts: object) -> bytes:
    """32 bytes that are the same in every run."""
    return hashlib.sha256(repr(parts).encode()).digest()


def a_document(subject: SubjectId, **changes: Any) -> dict[str, Any]:
    """A consent document, valid by default."""
    return {
        "grammar": "assent.consent/1",
        "decision": "permit",
        "subject": subject.hex,
        "purpose": ["HRESCH"],
        "requester": "*",
        "categories": ["notes"],
        "actions": ["disclose", "use"],
        "dataUse": {"code": "DUO:0000042", "modifiers": []},
        "from": NOW - 86_400,
        "until": NOW + 365 * 86_400,
        "supersedes": None,
        "locale": "en",
        "notice": "0x" + "11" * 32,
    } | changes


@dataclass
class Entry:
    """One leaf of the log with its body."""

    index: int
    leaf: Leaf
    body: dict[str, Any]


@dataclass
class Patient:
    """A subject and the keys that only the patient has."""

    subject: SubjectId
    identity: Key
    chain: list[Entry] = field(default_factory=list)
    consents: dict[ConsentId, tuple[Terms, Key, dict[str, Any]]] = field(default_factory=dict)


class World:
    """Two hospitals, an exchange with its log, and a chain that keeps what it is told."""

    def __init__(self) -> None:
        self.domain = Domain(seeded("deployment"))
        self.exchange = Key.from_bytes(seeded("exchange"))
        self.publisher = Key.from_bytes(seeded("publisher"))
        self.requester = Key.from_bytes(seeded("requester"))
        self.org = OrgId.of_address(self.publisher.address)
        self.requester_org = OrgId.of_address(self.requester.address)
        self.dataset = DatasetId(seeded("dataset")[:16])
        self.release = ReleaseId(seeded("release")[:16])
        self.entries: list[Entry] = []
        self.heads: dict[tuple[bytes, str], Leaf] = {}
        self.patients: list[Patient] = []
        self.granted: set[ConsentId] = set()
        self.withdrawn: set[ConsentId] = set()
        self.at_ms = NOW * 1000
        self.salt = 0
        self.bend: Callable[[Kind, dict[str, Any]], dict[str, Any]] = lambda _, body: body

    def append(
        self,
        kind: Kind,
        body: dict[str, Any],
        *,
        subject: SubjectId | None = None,
        consent: ConsentId | None = None,
        at_ms: int | None = None,
    ) -> Entry:
        """Put one leaf into the log; ``bend`` may change the body before it is sealed."""
        self.salt += 1
        salted = self.bend(kind, body) | {"salt": to_hex(seeded("salt", self.salt)[:16])}
        chain = chain_of(kind)
        named, before = ZEROS, None
        if chain is not None:
            assert subject is not None
            named = handle(subject)
            before = self.heads.get((named, chain))
        self.at_ms += 7
        leaf = Leaf(
            kind,
            self.at_ms if at_ms is None else at_ms,
            named,
            0 if before is None else before.seq + 1,
            ZEROS if before is None else before.hash,
            ZEROS if consent is None else consent.raw,
            salted_body_hash(salted),
        )
        if chain is not None:
            self.heads[named, chain] = leaf
        entry = Entry(len(self.entries), leaf, salted)
        self.entries.append(entry)
        return entry

    def pin(self) -> None:
        """Put both hospitals' cards into the log."""
        for org in (self.org, self.requester_org):
            self.append(Kind.PARTICIPANT_PINNED, {"org": org.hex, "card": {"name": "hospital"}})

    def enrol(self, *, inviter: Key | None = None) -> Patient:
        """Enrol a patient; ``inviter`` other than the hospital's key is the operator's forgery."""
        number = len(self.patients)
        subject = SubjectId(self.org.raw + seeded("subject", number)[:24])
        code = Key.from_bytes(seeded("code", number))
        patient = Patient(subject, Key.from_bytes(seeded("identity", number)))
        expiry = NOW + 86_400
        signer = inviter or self.publisher
        entry = self.append(
            Kind.SUBJECT_ENROLLED,
            {
                "subject": subject.hex,
                "org": self.org.hex,
                "invited": {
                    "codeKey": to_hex(code.address),
                    "expiry": expiry,
                    "signature": to_hex(
                        signer.sign(Invited(subject, code.address, expiry), self.domain)
                    ),
                },
                "redeemed": {
                    "identityKey": to_hex(patient.identity.address),
                    "signature": to_hex(
                        code.sign(Redeemed(subject, patient.identity.address), self.domain)
                    ),
                },
            },
            subject=subject,
        )
        patient.chain.append(entry)
        self.patients.append(patient)
        return patient

    def consent(
        self, patient: Patient, *, record: bool = True, at_ms: int | None = None, **changes: Any
    ) -> ConsentId:
        """Sign and log a consent (or objection), and have the chain record it."""
        self.salt += 1
        key = Key.from_bytes(seeded("consent", self.salt))
        document = a_document(patient.subject, **changes)
        terms = Terms.of_document(
            document,
            sign_by=NOW + 3600,
            consent_key=key.address,
            salt=seeded("terms salt", self.salt),
        )
        permit = document["decision"] == "permit"
        made = terms.consent_id()
        grant = Grant(terms.commitment(), terms.until_day)
        entry = self.append(
            Kind.CONSENT_GRANTED if permit else Kind.OBJECTION_RECORDED,
            {
                "terms": terms.to_json(),
                "termsSignature": to_hex(patient.identity.sign(terms, self.domain)),
                "document": document,
                "grant": {
                    "untilDay": terms.until_day,
                    "signature": to_hex(key.sign(grant, self.domain)),
                },
            },
            subject=patient.subject,
            consent=made,
            at_ms=at_ms,
        )
        patient.chain.append(entry)
        patient.consents[made] = (terms, key, document)
        if record:
            self.record(patient, made)
        return made

    def record(self, patient: Patient, consent: ConsentId) -> None:
        """The chain holds the consent's event."""
        self.granted.add(consent)
        body = {"block": 5, "blockHash": "0x" + "22" * 32, "transaction": "0x" + "33" * 32}
        patient.chain.append(
            self.append(Kind.CONSENT_RECORDED, body, subject=patient.subject, consent=consent)
        )

    def withdraw(self, patient: Patient, consent: ConsentId, **changes: Any) -> None:
        """The patient withdraws; ``changes`` are members of the body that somebody else writes."""
        terms, key, _ = patient.consents[consent]
        message = Withdraw(terms.commitment(), terms.until_day)
        self.withdrawn.add(consent)
        body = {
            "commitment": to_hex(terms.commitment()),
            "untilDay": terms.until_day,
            "signature": to_hex(key.sign(message, self.domain)),
            "by": "patient",
            "desk": None,
        }
        patient.chain.append(
            self.append(
                Kind.CONSENT_WITHDRAWN,
                body | changes,
                subject=patient.subject,
                consent=consent,
            )
        )

    def desk(
        self,
        patient: Patient,
        consent: ConsentId,
        *,
        signer: Key | None = None,
        officers: str = "ana,ben",
        at: int = NOW,
        **changes: Any,
    ) -> None:
        """The hospital's desk withdraws for the patient; ``signer`` None is the hospital."""
        commitment = patient.consents[consent][0].commitment()
        signature = (signer or self.publisher).sign(Desk(commitment, officers, at), self.domain)
        said = {
            "org": self.org.hex,
            "officers": officers,
            "at": at,
            "signature": to_hex(signature),
        }
        self.withdraw(patient, consent, by="desk", desk=said | changes)

    def lift(self, patient: Patient, consent: ConsentId, *, signer: Key | None = None) -> None:
        """The patient lifts an objection, and the chain records that it ended."""
        terms, _, _ = patient.consents[consent]
        message = Lift(terms.commitment())
        patient.chain.append(
            self.append(
                Kind.OBJECTION_LIFTED,
                {
                    "commitment": to_hex(terms.commitment()),
                    "lift": to_hex((signer or patient.identity).sign(message, self.domain)),
                },
                subject=patient.subject,
                consent=consent,
            )
        )
        self.withdrawn.add(consent)
        self.record(patient, consent)

    def part_digest(self, patient: Patient) -> str:
        """Digest of the patient's sealed part."""
        return to_hex(seeded("part", patient.subject.hex))

    def bundle(
        self,
        *,
        omit: Iterable[Patient] = (),
        permit_all: bool = False,
        deliver: Callable[[list[Any]], list[Any]] = lambda pairs: pairs,
        heads_at: dict[SubjectId, int] | None = None,
    ) -> AuditBundle:
        """Publish, request, rule, release and seal the log; return the evidence for it all.

        ``permit_all`` rules in favour whatever the consents say; ``deliver`` bends the delivery;
        ``heads_at`` makes the ruling commit to an earlier head of a subject's chain.
        """
        manifest = {
            "kind": "assent.manifest/1",
            "org": self.org.hex,
            "dataset": self.dataset.hex,
            "version": 1,
            "parts": [
                {"subject": p.subject.hex, "digest": self.part_digest(p)} for p in self.patients
            ],
        }
        signature = sign_document(self.publisher, "assent.manifest/1", manifest, self.domain)
        dataset = self.append(
            Kind.DATASET_PUBLISHED,
            {
                "dataset": self.dataset.hex,
                "version": 1,
                "org": self.org.hex,
                "manifestDigest": to_hex(digest_of(manifest)),
                "manifest": manifest,
                "manifestSignature": to_hex(signature),
            },
        )
        request = {
            "kind": "assent.request/1",
            "requester": self.requester_org.hex,
            "dataset": self.dataset.hex,
            "version": 1,
            "purpose": "BIORCH",
            "categories": ["notes"],
            "action": "disclose",
            "nonce": "0x" + "44" * 16,
        }
        asked = {k: v for k, v in request.items() if k not in ("kind", "nonce")}
        rulings: list[tuple[Patient, dict[str, Any], list[Entry]]] = []
        for patient in self.patients:
            chain = patient.chain[: (heads_at or {}).get(patient.subject, len(patient.chain))]
            ruling = self._rule(patient, chain, permit_all=permit_all)
            rulings.append((patient, ruling, chain))
        permitted = [p for p, ruling, _ in rulings if ruling["decision"] == "permit"]
        access = self.append(
            Kind.RELEASE_DECIDED,
            {
                "release": self.release.hex,
                "request": request,
                "requestSignature": to_hex(
                    sign_document(self.requester, "assent.request/1", request, self.domain)
                ),
                "requester": self.requester_org.hex,
                "dataset": self.dataset.hex,
                "version": 1,
                "manifestDigest": to_hex(digest_of(manifest)),
                "permitted": len(permitted),
                "withheld": len(rulings) - len(permitted),
            },
        )
        decided = [
            self.append(
                Kind.ACCESS_DECIDED,
                {
                    "access": self.release.hex,
                    "kind": "release",
                    "request": asked,
                    "requestDigest": to_hex(digest_of(request)),
                    "ruling": ruling,
                    "consentHead": to_hex(chain[-1].leaf.hash if chain else ZEROS),
                    "consentSeq": max(len(chain) - 1, 0),
                },
                subject=patient.subject,
            )
            for patient, ruling, chain in rulings
        ]
        pairs = [[to_hex(handle(p.subject)), self.part_digest(p)] for p in permitted]
        closing = self.append(
            Kind.DATA_RELEASED,
            {
                "release": self.release.hex,
                "delivered": deliver(pairs),
                "stopped": [],
                "outcome": "delivered",
            },
        )
        tree = Tree([entry.leaf.hash for entry in self.entries])

        def logged(entry: Entry) -> LoggedLeaf:
            proof = tuple(tree.inclusion_proof(entry.index))
            return LoggedLeaf(entry.leaf, entry.index, entry.body, proof)

        subjects = []
        for (patient, ruling, chain), entry in zip(rulings, decided, strict=True):
            if patient in omit:
                continue
            leaves = [
                logged(one) if one is chain[-1] else LoggedLeaf(one.leaf, None, one.body, None)
                for one in chain
            ]
            because = [ConsentId.parse(one).raw for one in ruling["because"]]
            permit = ruling["decision"] == "permit"
            subjects.append(
                SubjectEvidence(
                    handle(patient.subject),
                    logged(entry),
                    shown(leaves, permitted=permit, because=because),
                )
            )
        message = Checkpoint(tree.size, tree.root)
        return AuditBundle(
            deployment=self.domain.deployment_id,
            kind="release",
            id=self.release.hex,
            participants=tuple(
                logged(e) for e in self.entries if e.leaf.kind is Kind.PARTICIPANT_PINNED
            ),
            checkpoint=SignedCheckpoint(
                tree.size,
                tree.root,
                self.exchange.sign(message, self.domain),
                (self.publisher.sign(message, self.domain),),
            ),
            access=logged(access),
            closing=logged(closing),
            dataset=logged(dataset),
            subjects=tuple(subjects),
        )

    def _rule(self, patient: Patient, chain: list[Entry], *, permit_all: bool) -> dict[str, Any]:
        states = statuses((e.leaf.kind, ConsentId(e.leaf.consent_id)) for e in chain)
        consents = [self.parsed(patient, consent, status) for consent, status in states.items()]
        request = AccessRequest(
            patient.subject, self.requester_org, "BIORCH", frozenset({"notes"}), "disclose"
        )
        at = datetime.fromtimestamp((self.at_ms + 7) // 1000, UTC)
        ruling = as_body(decide(request, consents, at=at))
        if permit_all and ruling["decision"] != "permit":
            permits = [e for e in chain if e.leaf.kind is Kind.CONSENT_GRANTED]
            because = [ConsentId(e.leaf.consent_id).hex for e in permits[:1]]
            return ruling | {"decision": "permit", "reasons": [], "because": because}
        return ruling

    def parsed(self, patient: Patient, consent: ConsentId, status: ConsentStatus) -> Consent:
        """The consent as a value."""
        from ledger.consent import parse_document

        return parse_document(patient.consents[consent][2]).consent(consent, status)

    def trust_json(self, bundle: AuditBundle) -> dict[str, Any]:
        """The trust file that the auditor's own node would have given."""
        hash_ = "0x" + "55" * 32
        return {
            "version": "assent.trust/1",
            "deployment": to_hex(self.domain.deployment_id),
            "chainId": 31337,
            "genesisHash": hash_,
            "addresses": dict.fromkeys(
                ("ConsentLedger", "Participants", "AuditAnchor"), "0x" + "66" * 20
            ),
            "codeHashes": dict.fromkeys(("ConsentLedger", "Participants", "AuditAnchor"), hash_),
            "head": {"number": 9, "hash": hash_},
            "exchange": to_hex(self.exchange.address),
            "participants": [
                {"address": to_hex(key.address), "since": 1, "until": None, "successor": None}
                for key in (self.publisher, self.requester)
            ],
            "checkpoints": [
                {
                    "size": bundle.checkpoint.size,
                    "root": to_hex(bundle.checkpoint.root),
                    "block": 8,
                }
            ],
            "granted": {one.hex: 5 for one in sorted(self.granted)},
            "withdrawn": {one.hex: 7 for one in sorted(self.withdrawn)},
        }

    def trust(self, bundle: AuditBundle) -> Trust:
        """The parsed trust file."""
        return parse(self.trust_json(bundle))


def honest() -> World:
    """A world with one patient of every sort."""
    world = World()
    world.pin()
    for _ in range(2):
        world.consent(world.enrol())
    world.enrol()
    withdrew = world.enrol()
    world.withdraw(withdrew, world.consent(withdrew))
    objecting = world.enrol()
    world.consent(objecting)
    world.consent(objecting, decision="deny", purpose="*", categories="*", until=None)
    changed_mind = world.enrol()
    world.consent(changed_mind)
    objection = world.consent(changed_mind, decision="deny", requester="*", purpose="*")
    world.lift(changed_mind, objection)
    world.consent(world.enrol(), purpose=["TREAT"])
    renewed = world.enrol()
    older = world.consent(renewed)
    world.withdraw(renewed, older)
    world.consent(renewed, supersedes=older.hex)
    world.consent(world.enrol(), record=False)
    return world


def edited(bundle: AuditBundle, change: Callable[[Any], None]) -> bytes:
    """The bundle's bytes after somebody changed its JSON (kept canonical)."""
    value = json.loads(bundle.to_bytes())
    change(value)
    return canonical(value)
