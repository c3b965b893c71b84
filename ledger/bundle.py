"""The self-contained evidence for one release or job: ``assent.bundle/1``, canonical JSON.

A leaf stands as ``{"index", "skeleton", "body", "proof"}``. ``body`` null is a body not shown (or
erased); ``proof`` null is a leaf that the next one's ``prev`` binds, and then ``index`` is null,
too, since nothing would prove it. Members::

    {"version": "assent.bundle/1", "deployment": "0x<32>", "kind": "release" | "job", "id": "0x<16>",
     "participants": [leaf of kind 64, ...],
     "checkpoint": {"size", "root", "signature", "cosignatures": ["0x<64>", ...],
                    "consistency": null | {"size", "root", "proof"}},
     "access": {"leaf": leaf (40 or 48), "closing": null | leaf (41 or 49)},
     "dataset": null | {"leaf": leaf (32)},
     "subjects": [{"handle", "decided": leaf (16), "consentChain": [leaf, ...]}, ...]}

``consistency`` shows that the checkpoint is a prefix of a larger, anchored one. Bodies: for every
subject the enrolment's and all objections' and lifts'; for a permitted one the grants named in the
ruling and every later grant; for another one every grant. Nothing in a bundle is unbound: a change
of any byte makes verification fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ledger.commitment import canonical, parse_canonical, salted_body_hash
from ledger.errors import BundleMalformed, LedgerError, MalformedValue
from ledger.leaf import Kind, Leaf
from ledger.messages import from_hex, to_hex

VERSION = "assent.bundle/1"
_STEP = 1

BundleKind = Literal["release", "job"]
OPENING: Mapping[BundleKind, Kind] = {"release": Kind.RELEASE_DECIDED, "job": Kind.JOB_DECIDED}
CLOSING: Mapping[BundleKind, Kind] = {"release": Kind.DATA_RELEASED, "job": Kind.JOB_FINISHED}


@dataclass(frozen=True)
class LoggedLeaf:
    """A leaf as evidence: its place in the log if proven, its body if shown."""

    leaf: Leaf
    index: int | None = None
    body: Mapping[str, object] | None = None
    proof: tuple[bytes, ...] | None = None

    def to_json(self) -> dict[str, object]:
        """Return the leaf's JSON; an index without a proof is left out."""
        return {
            "index": None if self.proof is None else self.index,
            "skeleton": to_hex(self.leaf.pack()),
            "body": None if self.body is None else dict(self.body),
            "proof": None if self.proof is None else [to_hex(node) for node in self.proof],
        }


@dataclass(frozen=True)
class Consistency:
    """Proof that the bundle's checkpoint is a prefix of this anchored one."""

    size: int
    root: bytes
    proof: tuple[bytes, ...]


@dataclass(frozen=True)
class SignedCheckpoint:
    """(size, root) of the log, signed by the log key and by witnesses."""

    size: int
    root: bytes
    signature: bytes
    cosignatures: tuple[bytes, ...] = ()
    consistency: Consistency | None = None


@dataclass(frozen=True)
class SubjectEvidence:
    """One subject's ruling, and the consent chain up to the head that the ruling commits to."""

    handle: bytes
    decided: LoggedLeaf
    consent_chain: tuple[LoggedLeaf, ...]


@dataclass(frozen=True)
class AuditBundle:
    """Everything needed to verify one release or job, in one file."""

    deployment: bytes
    kind: BundleKind
    id: str
    participants: tuple[LoggedLeaf, ...]
    checkpoint: SignedCheckpoint
    access: LoggedLeaf
    closing: LoggedLeaf | None
    dataset: LoggedLeaf | None
    subjects: tuple[SubjectEvidence, ...]

    def to_json(self) -> dict[str, object]:
        """Return the JSON value of the bundle."""
        point = self.checkpoint
        held = point.consistency
        return {
            "version": VERSION,
            "deployment": to_hex(self.deployment),
            "kind": self.kind,
            "id": self.id,
            "participants": [leaf.to_json() for leaf in self.participants],
            "checkpoint": {
                "size": point.size,
                "root": to_hex(point.root),
                "signature": to_hex(point.signature),
                "cosignatures": [to_hex(one) for one in point.cosignatures],
                "consistency": None
                if held is None
                else {
                    "size": held.size,
                    "root": to_hex(held.root),
                    "proof": [to_hex(node) for node in held.proof],
                },
            },
            "access": {
                "leaf": self.access.to_json(),
                "closing": None if self.closing is None else self.closing.to_json(),
            },
            "dataset": None if self.dataset is None else {"leaf": self.dataset.to_json()},
            "subjects": [
                {
                    "handle": to_hex(subject.handle),
                    "decided": subject.decided.to_json(),
                    "consentChain": [leaf.to_json() for leaf in subject.consent_chain],
                }
                for subject in self.subjects
            ],
        }

    def to_bytes(self) -> bytes:
        """Return the file: canonical JSON."""
        return canonical(self.to_json())

    @classmethod
    def from_bytes(cls, data: bytes) -> AuditBundle:
        """Read a bundle. Raises BundleMalformed (step 1) for anything not exactly of this form."""
        try:
            return _bundle(parse_canonical(data))
        except BundleMalformed:
            raise
        except LedgerError as error:
            raise BundleMalformed(str(error), step=_STEP) from None


def shown(
    leaves: Sequence[LoggedLeaf], *, permitted: bool, because: Iterable[bytes]
) -> tuple[LoggedLeaf, ...]:
    """Return a consent chain with only the bodies that the proof needs (data minimisation).

    ``leaves`` carry all bodies still kept; ``because`` are the raw ids of the ruling's consents.
    """
    named = set(because)
    found: list[LoggedLeaf] = []
    begun = not permitted
    for one in leaves:
        kind = one.leaf.kind
        begun = begun or (kind is Kind.CONSENT_GRANTED and one.leaf.consent_id in named)
        needed = kind is not Kind.CONSENT_GRANTED or begun
        found.append(one if needed else LoggedLeaf(one.leaf, one.index, None, one.proof))
    return tuple(found)


def _fail(what: str) -> BundleMalformed:
    return BundleMalformed(what, step=_STEP)


def _object(value: object, keys: frozenset[str], what: str) -> Mapping[str, object]:
    if not isinstance(value, dict) or value.keys() != keys:
        raise _fail(f"{what} does not have exactly its members")
    return value


def _items(value: object, what: str) -> list[object]:
    if not isinstance(value, list):
        raise _fail(f"{what} is not a list")
    return value


def _count(value: object, what: str) -> int:
    if type(value) is not int or value < 0:
        raise _fail(f"{what} is not a count")
    return value


def _nodes(value: object, what: str) -> tuple[bytes, ...]:
    return tuple(from_hex(node, 32) for node in _items(value, what))


_LEAF = frozenset({"index", "skeleton", "body", "proof"})
_BUNDLE = frozenset(
    {
        "version",
        "deployment",
        "kind",
        "id",
        "participants",
        "checkpoint",
        "access",
        "dataset",
        "subjects",
    }
)
_CHECKPOINT = frozenset({"size", "root", "signature", "cosignatures", "consistency"})
_CONSISTENCY = frozenset({"size", "root", "proof"})
_ACCESS = frozenset({"leaf", "closing"})
_DATASET = frozenset({"leaf"})
_SUBJECT = frozenset({"handle", "decided", "consentChain"})


def _leaf(value: object, what: str, *kinds: Kind) -> LoggedLeaf:
    found = _object(value, _LEAF, what)
    leaf = Leaf.unpack(from_hex(found["skeleton"]))
    if kinds and leaf.kind not in kinds:
        raise _fail(f"{what} is a leaf of another kind")
    proof = None if found["proof"] is None else _nodes(found["proof"], what)
    if (proof is None) != (found["index"] is None):
        raise _fail(f"{what} has an index without a proof, or a proof without an index")
    index = None if proof is None else _count(found["index"], what)
    body = found["body"]
    if body is not None:
        if not isinstance(body, dict):
            raise _fail(f"the body of {what} is not an object")
        if salted_body_hash(body) != leaf.body_hash:
            raise _fail(f"the body of {what} is not the one that the leaf commits to")
    return LoggedLeaf(leaf, index, body, proof)


def _proven(value: object, what: str, *kinds: Kind) -> LoggedLeaf:
    leaf = _leaf(value, what, *kinds)
    if leaf.proof is None or leaf.body is None:
        raise _fail(f"{what} needs its body and its proof")
    return leaf


def _checkpoint(value: object) -> SignedCheckpoint:
    found = _object(value, _CHECKPOINT, "the checkpoint")
    held = None
    if found["consistency"] is not None:
        inner = _object(found["consistency"], _CONSISTENCY, "the consistency proof")
        held = Consistency(
            _count(inner["size"], "the anchored size"),
            from_hex(inner["root"], 32),
            _nodes(inner["proof"], "the consistency proof"),
        )
    return SignedCheckpoint(
        size=_count(found["size"], "the checkpoint's size"),
        root=from_hex(found["root"], 32),
        signature=from_hex(found["signature"], 64),
        cosignatures=tuple(
            from_hex(one, 64) for one in _items(found["cosignatures"], "the cosignatures")
        ),
        consistency=held,
    )


def _subject(value: object, number: int) -> SubjectEvidence:
    what = f"subject {number}"
    found = _object(value, _SUBJECT, what)
    handle = from_hex(found["handle"], 32)
    decided = _proven(found["decided"], f"the ruling of {what}", Kind.ACCESS_DECIDED)
    chain = tuple(
        _leaf(one, f"leaf {index} of {what}")
        for index, one in enumerate(_items(found["consentChain"], f"the chain of {what}"))
    )
    if chain and chain[-1].proof is None:
        raise _fail(f"the head of the consent chain of {what} needs its proof")
    return SubjectEvidence(handle, decided, chain)


def _bundle(value: object) -> AuditBundle:
    if not isinstance(value, dict) or value.get("version") != VERSION:
        raise _fail(f"the bundle's version is not {VERSION}")
    found = _object(value, _BUNDLE, "the bundle")
    kind = found["kind"]
    if kind != "release" and kind != "job":  # noqa: PLR1714 (mypy narrows this form)
        raise _fail("the bundle's kind is neither release nor job")
    text = found["id"]
    if not isinstance(text, str):
        raise MalformedValue("the bundle's id is not text")
    from_hex(text, 16)
    access = _object(found["access"], _ACCESS, "the access")
    dataset = found["dataset"]
    return AuditBundle(
        deployment=from_hex(found["deployment"], 32),
        kind=kind,
        id=text,
        participants=tuple(
            _proven(one, f"participant {index}", Kind.PARTICIPANT_PINNED)
            for index, one in enumerate(_items(found["participants"], "the participants"))
        ),
        checkpoint=_checkpoint(found["checkpoint"]),
        access=_proven(access["leaf"], "the access leaf", OPENING[kind]),
        closing=(
            None
            if access["closing"] is None
            else _proven(access["closing"], "the closing leaf", CLOSING[kind])
        ),
        dataset=(
            None
            if dataset is None
            else _proven(
                _object(dataset, _DATASET, "the dataset")["leaf"],
                "the dataset leaf",
                Kind.DATASET_PUBLISHED,
            )
        ),
        subjects=tuple(
            _subject(one, index)
            for index, one in enumerate(_items(found["subjects"], "the subjects"))
        ),
    )
