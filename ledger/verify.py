"""The auditor's numbered proof that one release or job was allowed and did only what was allowed.

Offline, with this package alone. The exchange is not trusted in any step:

0. Trust: what the auditor's own node said, of this deployment (:mod:`ledger.trust`).
1. The bundle is canonical, of a known version, of this deployment, and every body shown is the one
   that its leaf commits to.
2. Signatures: hospital's invitation, redemption, identity key over the terms, consent key over the
   grant, lifts, a desk's withdrawals by the hospital; the requester's signature over the request,
   the publisher's over the manifest.
3. Each consent's id is that of the terms that were signed.
4. In force by leaf order: each subject's consent chain is complete up to the head that the ruling
   commits to; the permits named were granted, recorded, not withdrawn; the chain holds their ids;
   no grant or objection that could change the ruling is left out.
5. Deciding again, by the policy version named, gives the same ruling about the same request.
6. The checkpoint is signed by the log key and anchored on the chain (or a prefix of one that is);
   request, rulings, chains' heads, publication and closing are included under it, in order. Where
   every leaf is given, no chain forks, no ruling stands on a stale head, every receipt is kept.
7. Subjects delivered are subjects permitted, and digests delivered are digests published.

A denial for a circumstance (the chain was stale, the dataset retired) cannot be decided again; it
is accepted, since it can only narrow. What no step can see: a release that was never recorded; and
without every leaf a ruling on a stale head of a forked chain (:mod:`ledger.forks`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from ledger.bundle import AuditBundle, BundleKind, LoggedLeaf, SubjectEvidence
from ledger.commitment import digest_of
from ledger.consent import ConsentStatus
from ledger.delivery import body_of, request_of, require_match, texts
from ledger.errors import (
    BundleMalformed,
    CheckpointInvalid,
    EvidenceInvalid,
    InclusionInvalid,
    LedgerError,
    NotInForce,
    ReleaseMismatch,
    RulingNotReproducible,
    TrustInvalid,
    VerificationError,
)
from ledger.evidence import Person, examine, mapping, require_commitments, text, whole
from ledger.forks import WholeLog
from ledger.history import statuses
from ledger.ids import ConsentId, DatasetId, OrgId, SubjectId
from ledger.leaf import ZEROS, Kind, chain_of
from ledger.merkle import verify_consistency, verify_inclusion
from ledger.messages import Checkpoint, from_hex, to_hex
from ledger.policy import CIRCUMSTANCES, AccessRequest, as_body, decide
from ledger.signing import Document, recover, verify
from ledger.trust import Trust

REQUEST_KINDS: dict[BundleKind, str] = {"release": "assent.request/1", "job": "assent.job/1"}
MANIFEST_KIND = "assent.manifest/1"
_ASKED = ("requester", "purpose", "categories", "action", "dataset", "version")
_MS = 1000
_NOBODY = SubjectId(bytes(SubjectId.SIZE))


@dataclass(frozen=True)
class Verified:
    """What was proved. Counts of subjects; the checkpoint's size and root."""

    kind: BundleKind
    id: str
    permitted: int
    withheld: int
    delivered: int
    stopped: int
    checkpoint_size: int
    checkpoint_root: bytes
    decided_from_ms: int | None
    decided_to_ms: int | None


@dataclass
class _Case:
    """One subject on the way through the steps."""

    number: int
    evidence: SubjectEvidence
    person: Person
    states: dict[ConsentId, ConsentStatus]

    @property
    def decided(self) -> LoggedLeaf:
        return self.evidence.decided

    @property
    def ruling(self) -> dict[str, object]:
        return dict(mapping(body_of(self.decided)["ruling"]))

    @property
    def permitted(self) -> bool:
        return self.ruling["decision"] == "permit"

    @property
    def because(self) -> list[ConsentId]:
        return [ConsentId.parse(one) for one in texts(self.ruling["because"])]

    @property
    def by_circumstance(self) -> bool:
        reasons = texts(self.ruling["reasons"])
        return self.ruling["decision"] == "deny" and 0 < len(reasons) <= len(
            CIRCUMSTANCES.intersection(reasons)
        )


@contextmanager
def _step(number: int, kind: type[VerificationError], what: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into the numbered failure; contents never reach the text."""
    try:
        yield
    except VerificationError as error:
        if error.step is not None:
            raise
        raise type(error)(f"{what}: {error.what}", step=number) from None
    except LedgerError as error:
        raise kind(f"{what}: {error}", step=number) from None
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError):
        raise kind(f"{what}: a member is missing or of the wrong form", step=number) from None


def verify_bundle(data: bytes, trust: Trust, every: WholeLog | None = None) -> Verified:
    """Prove a bundle's bytes; against every leaf of the log where they are given. Raises a VerificationError with ``step`` and ``what``."""
    if not trust.checkpoints:
        raise TrustInvalid("the trust file knows no checkpoint", step=0)  # 0
    bundle = AuditBundle.from_bytes(data)  # 1
    _require_shape(bundle, trust)  # 1
    return verify_release(bundle, trust, every)


def verify_release(bundle: AuditBundle, trust: Trust, every: WholeLog | None = None) -> Verified:
    """Prove a parsed bundle, steps 2 to 7 (step 1 is :meth:`AuditBundle.from_bytes`)."""
    with _step(2, EvidenceInvalid, "the request and the manifest"):
        _require_documents_signed(bundle, trust)
    cases = []
    for number, evidence in enumerate(bundle.subjects):
        with _step(2, EvidenceInvalid, f"subject {number}"):
            case = _Case(number, evidence, examine(evidence, trust), {})
            _require_identity(case)
            cases.append(case)
    for case in cases:
        with _step(3, VerificationError, f"subject {case.number}"):
            require_commitments(case.person)
    for case in cases:
        with _step(4, NotInForce, f"subject {case.number}"):
            _require_chain(case)
            _require_in_force(case, trust)
    for case in cases:
        with _step(5, RulingNotReproducible, f"subject {case.number}"):
            _require_same_request(case, bundle)
            _require_same_ruling(case)
    with _step(6, CheckpointInvalid, "the checkpoint"):
        _require_anchored(bundle, trust)
    with _step(6, InclusionInvalid, "the log"):
        _require_included(bundle)
    if every is not None:
        with _step(6, CheckpointInvalid, "every leaf"):
            every.require_agrees(bundle, trust)
    with _step(7, ReleaseMismatch, "what left"):
        handles = {case.evidence.handle: case.permitted for case in cases}
        delivered, stopped = require_match(
            bundle,
            {one for one, permitted in handles.items() if permitted},
            {one for one, permitted in handles.items() if not permitted},
        )
    times = [case.decided.leaf.at_ms for case in cases]
    permitted = sum(case.permitted for case in cases)
    return Verified(
        kind=bundle.kind,
        id=bundle.id,
        permitted=permitted,
        withheld=len(cases) - permitted,
        delivered=delivered,
        stopped=stopped,
        checkpoint_size=bundle.checkpoint.size,
        checkpoint_root=bundle.checkpoint.root,
        decided_from_ms=min(times, default=None),
        decided_to_ms=max(times, default=None),
    )


def _require_shape(bundle: AuditBundle, trust: Trust) -> None:
    """Step 1: of this deployment, one ruling per subject, all about this access."""
    if bundle.deployment != trust.deployment:
        raise BundleMalformed("the bundle is of another deployment", step=1)
    if body_of(bundle.access).get(bundle.kind) != bundle.id:
        raise BundleMalformed("the access leaf is another access's", step=1)
    if bundle.closing is not None and body_of(bundle.closing).get(bundle.kind) != bundle.id:
        raise BundleMalformed("the closing leaf is another access's", step=1)
    seen: set[bytes] = set()
    for number, evidence in enumerate(bundle.subjects):
        if evidence.handle in seen or evidence.handle == ZEROS:
            raise BundleMalformed(f"subject {number} appears twice", step=1)
        seen.add(evidence.handle)
        if evidence.decided.leaf.handle != evidence.handle:
            raise BundleMalformed(f"the ruling of subject {number} is another's", step=1)
        if body_of(evidence.decided).get("access") != bundle.id:
            raise BundleMalformed(f"the ruling of subject {number} is for another access", step=1)


def _require_signed(
    kind: str, document: dict[str, object], signature: object, org: OrgId, trust: Trust
) -> None:
    if document.get("kind") != kind:
        raise EvidenceInvalid(f"a document is not of kind {kind}")
    signer = recover(Document(kind, digest_of(document)), from_hex(signature), trust.domain)
    if signer not in trust.keys_of.get(org, frozenset()):
        raise EvidenceInvalid(f"a document of kind {kind} is not signed by {org}")


def _require_documents_signed(bundle: AuditBundle, trust: Trust) -> None:
    document, signature = request_of(bundle)
    requester = OrgId.parse(document["requester"])
    _require_signed(REQUEST_KINDS[bundle.kind], document, signature, requester, trust)
    if bundle.dataset is None:
        if document.get("dataset") is not None:
            raise EvidenceInvalid("the publication of the requested dataset is not shown")
        return
    body = body_of(bundle.dataset)
    manifest = dict(mapping(body["manifest"]))
    publisher = OrgId.parse(body["org"])
    _require_signed(MANIFEST_KIND, manifest, body["manifestSignature"], publisher, trust)
    if manifest["org"] != body["org"] or to_hex(digest_of(manifest)) != body["manifestDigest"]:
        raise EvidenceInvalid("the publication is not the one that the manifest signs")


def _require_identity(case: _Case) -> None:
    """A permit needs the enrolment's evidence: without it nobody knows whose key signed."""
    if case.permitted and case.person.subject is None:
        raise EvidenceInvalid("a permitted subject's enrolment is not shown")


def _require_chain(case: _Case) -> None:
    """The skeletons run from the first leaf to the head that the ruling commits to."""
    body = body_of(case.decided)
    previous = ZEROS
    for place, logged in enumerate(case.evidence.consent_chain):
        leaf = logged.leaf
        if chain_of(leaf.kind) != "consent" or leaf.handle != case.evidence.handle:
            raise NotInForce("a leaf of the consent chain belongs elsewhere")
        if leaf.seq != place or leaf.prev != previous:
            raise NotInForce(f"the consent chain is broken at leaf {place}")
        if (place == 0) != (leaf.kind is Kind.SUBJECT_ENROLLED):
            raise NotInForce("a consent chain begins with the enrolment, once")
        previous = leaf.hash
    length = len(case.evidence.consent_chain)
    if from_hex(body["consentHead"], 32) != previous:
        raise NotInForce("the consent chain does not end at the head of the ruling")
    if whole(body["consentSeq"]) != max(length - 1, 0):
        raise NotInForce("the consent chain is not as long as the ruling says")
    if length:
        head, decided = case.evidence.consent_chain[-1].index, case.decided.index
        if head is None or decided is None or head >= decided:
            raise NotInForce("the consent chain's head came after the ruling")
    case.states = statuses(
        (logged.leaf.kind, ConsentId(logged.leaf.consent_id))
        for logged in case.evidence.consent_chain
    )


def _require_in_force(case: _Case, trust: Trust) -> None:
    """What the ruling relies on stood in the log, unended, and on the chain; nothing is hidden."""
    because = set(case.because)
    for consent in because:
        if case.states.get(consent) is not ConsentStatus.ACTIVE:
            raise NotInForce(f"consent {consent} was not in force by leaf order")
        if consent not in trust.granted:
            raise NotInForce(f"the chain holds no grant of consent {consent}")
        if consent not in case.person.signed:
            raise NotInForce(f"consent {consent} is not shown")
    for objection in case.person.lifted:
        if case.states[objection] is ConsentStatus.INACTIVE and objection not in trust.withdrawn:
            raise NotInForce(f"the chain holds no end of objection {objection}")
    if case.by_circumstance:
        return
    begun = not case.permitted
    for logged in case.evidence.consent_chain:
        consent = ConsentId(logged.leaf.consent_id)
        begun = begun or consent in because
        # An earlier permit cannot narrow a later one; a later one could have superseded it.
        needed = logged.leaf.kind is Kind.OBJECTION_RECORDED or (
            begun and logged.leaf.kind is Kind.CONSENT_GRANTED
        )
        if needed and consent not in case.person.signed:
            raise NotInForce(f"consent {consent} is not shown and could change the ruling")


def _require_same_request(case: _Case, bundle: AuditBundle) -> None:
    body = body_of(case.decided)
    asked = mapping(body["request"])
    document, _ = request_of(bundle)
    if from_hex(body["requestDigest"], 32) != digest_of(document):
        raise RulingNotReproducible("the ruling answers another request")
    for name in _ASKED:
        mine, theirs = asked[name], document[name]
        if name == "categories":
            mine, theirs = sorted(texts(mine)), sorted(texts(theirs))
        if mine != theirs:
            raise RulingNotReproducible(f"the ruling's {name} is not the request's")
    if (body["kind"] == "release") != (bundle.kind == "release"):
        raise RulingNotReproducible("the ruling is for another kind of access")


def _require_same_ruling(case: _Case) -> None:
    recorded = case.ruling
    if case.by_circumstance:
        if recorded["because"] != [] or recorded["expires"] is not None:
            raise RulingNotReproducible("a denial names consents")
        return
    asked = mapping(body_of(case.decided)["request"])
    subject = case.person.subject or _NOBODY
    dataset = asked["dataset"]
    ruling = decide(
        AccessRequest(
            subject=subject,
            requester=OrgId.parse(asked["requester"]),
            purpose=text(asked["purpose"]),
            categories=frozenset(texts(asked["categories"])),
            action=text(asked["action"]),
            dataset=None if dataset is None else DatasetId.parse(dataset),
        ),
        [
            signed.document.consent(consent, case.states[consent])
            for consent, signed in case.person.signed.items()
        ],
        at=datetime.fromtimestamp(case.decided.leaf.at_ms // _MS, UTC),
        policy_version=text(recorded["policy"]),
    )
    if as_body(ruling) != recorded:
        raise RulingNotReproducible("deciding again gives another ruling")


def _require_anchored(bundle: AuditBundle, trust: Trust) -> None:
    point = bundle.checkpoint
    message = Checkpoint(point.size, point.root)
    verify(message, point.signature, trust.exchange, trust.domain)
    signers = [recover(message, one, trust.domain) for one in point.cosignatures]
    if signers != sorted(set(signers)) or not set(signers) <= set(trust.successors):
        raise CheckpointInvalid("a co-signature is not a participant's, or out of order")
    held = point.consistency
    if held is None:
        if trust.checkpoints.get(point.size) != point.root:
            raise CheckpointInvalid(f"no checkpoint of size {point.size} and this root is anchored")
        return
    if trust.checkpoints.get(held.size) != held.root:
        raise CheckpointInvalid(f"no checkpoint of size {held.size} and this root is anchored")
    verify_consistency(point.size, held.size, point.root, held.root, held.proof)


def _require_included(bundle: AuditBundle) -> None:
    size, root = bundle.checkpoint.size, bundle.checkpoint.root
    shown = [*bundle.participants, bundle.access]
    shown += [leaf for leaf in (bundle.closing, bundle.dataset) if leaf is not None]
    for evidence in bundle.subjects:
        shown += [leaf for leaf in evidence.consent_chain if leaf.proof is not None]
        shown.append(evidence.decided)
    for logged in shown:
        if logged.index is None or logged.proof is None:
            raise InclusionInvalid("a leaf stands without its proof")
        verify_inclusion(logged.leaf.hash, logged.index, size, logged.proof, root)
    rulings = [evidence.decided.index or 0 for evidence in bundle.subjects]
    opened = bundle.access.index or 0
    if bundle.closing is not None and (bundle.closing.index or 0) <= max([*rulings, opened]):
        raise InclusionInvalid("the access was closed before it was decided")
    first = min([*rulings, opened])
    if bundle.dataset is not None and (bundle.dataset.index or 0) >= first:
        raise InclusionInvalid("the dataset was published after the decision")
