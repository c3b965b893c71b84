"""Whether what left is what was permitted and published: the last step of the auditor's proof.

``permitted``/``covered`` and ``withheld`` in the access leaf may be totals or lists of handles;
``used`` in a job's closing leaf likewise. A job delivers no part of a subject; what is proved is that
nobody was used who was not permitted, and that each slot of an encrypted one was covered by the very
consent that it names.
"""

from __future__ import annotations

from ledger.bundle import AuditBundle, LoggedLeaf
from ledger.errors import ReleaseMismatch
from ledger.evidence import mapping, text
from ledger.ids import SubjectId, handle
from ledger.messages import from_hex, to_hex


def body_of(logged: LoggedLeaf) -> dict[str, object]:
    """Return the leaf's body. Raises TypeError where it is not shown."""
    return dict(mapping(logged.body))


def texts(value: object) -> list[str]:
    """Return the list of strings. Raises TypeError for another shape."""
    if not isinstance(value, list):
        raise TypeError
    return [text(item) for item in value]


def request_of(bundle: AuditBundle) -> tuple[dict[str, object], object]:
    """Return the signed request document and its signature."""
    body = body_of(bundle.access)
    if bundle.kind == "release":
        return dict(mapping(body["request"])), body["requestSignature"]
    return dict(mapping(body["spec"])), body["signature"]


def _agrees(value: object, handles: set[bytes]) -> bool:
    """Whether a recorded total, or list of handles, is that of these subjects."""
    if type(value) is int:
        return value == len(handles)
    return sorted(texts(value)) == sorted(to_hex(one) for one in handles)


def require_match(
    bundle: AuditBundle, permitted: set[bytes], withheld: set[bytes]
) -> tuple[int, int]:
    """Return how many subjects were delivered (or used) and stopped (or dropped); step 7.

    ``permitted`` and ``withheld`` are handles. Raises ReleaseMismatch.
    """
    body = body_of(bundle.access)
    covered = "permitted" if bundle.kind == "release" else "covered"
    if not _agrees(body[covered], permitted) or not _agrees(body["withheld"], withheld):
        raise ReleaseMismatch("the subjects shown are not all that were decided")
    published = _published(bundle)
    if bundle.closing is None:
        return 0, 0
    closing = body_of(bundle.closing)
    if bundle.kind == "job":
        found = _used(closing["used"], permitted)
        _require_slots_covered(bundle, found[0])
        return found
    return _delivered(closing, permitted, published)


def _used(used: object, permitted: set[bytes]) -> tuple[int, int]:
    if type(used) is int:
        count = used
    else:
        named = {from_hex(one, 32) for one in texts(used)}
        if not named <= permitted:
            raise ReleaseMismatch("the job used a subject that was not permitted")
        count = len(named)
    if not 0 <= count <= len(permitted):
        raise ReleaseMismatch("the job used more subjects than were permitted")
    return count, len(permitted) - count


def _require_slots_covered(bundle: AuditBundle, used: int) -> None:
    """Subjects who share a ciphertext are used together: each slot by its own consent (D9)."""
    slots = request_of(bundle)[0].get("slots")
    if slots is None:
        return
    if not isinstance(slots, list):
        raise TypeError
    because = {
        one.handle: texts(mapping(body_of(one.decided)["ruling"])["because"])
        for one in bundle.subjects
    }
    named = set()
    for slot in slots:
        subject, consent = texts(slot)
        own = handle(SubjectId.parse(subject))
        named.add(own)
        if used and consent not in because.get(own, []):
            raise ReleaseMismatch("a slot of the job is not covered by the consent that it names")
    if named != set(because):
        raise ReleaseMismatch("the subjects decided on are not those of the job's slots")


def _delivered(
    closing: dict[str, object], permitted: set[bytes], published: dict[bytes, bytes]
) -> tuple[int, int]:
    pairs = closing["delivered"]
    if not isinstance(pairs, list):
        raise TypeError
    got: set[bytes] = set()
    for pair in pairs:
        one, digest = (from_hex(member, 32) for member in texts(pair))
        if one not in permitted:
            raise ReleaseMismatch("a subject was delivered that was not permitted")
        if one in got or published.get(one) != digest:
            raise ReleaseMismatch("what was delivered is not what was published")
        got.add(one)
    stopped = [from_hex(one, 32) for one in texts(closing["stopped"])]
    left = permitted - got
    if not left.issuperset(stopped) or len(set(stopped)) != len(stopped):
        raise ReleaseMismatch("the subjects stopped are not subjects permitted and undelivered")
    return len(got), len(stopped)


def _published(bundle: AuditBundle) -> dict[bytes, bytes]:
    """Return each subject's part digest as the publisher signed it; the same dataset and version."""
    if bundle.dataset is None:
        return {}
    publication, document = body_of(bundle.dataset), request_of(bundle)[0]
    manifest = mapping(publication["manifest"])
    for name in ("dataset", "version"):
        if not publication[name] == manifest[name] == document[name]:
            raise ReleaseMismatch(f"the {name} published is not the one requested")
    access = body_of(bundle.access)
    release = ("dataset", "version", "manifestDigest")
    for name in release if bundle.kind == "release" else ("manifestDigest",):
        if access[name] != publication[name]:
            raise ReleaseMismatch(f"the {name} released is not the one published")
    parts = manifest["parts"]
    if not isinstance(parts, list):
        raise TypeError
    found: dict[bytes, bytes] = {}
    for part in parts:
        one = handle(SubjectId.parse(mapping(part)["subject"]))
        if one in found:
            raise ReleaseMismatch("a subject has two parts in the manifest")
        found[one] = from_hex(part["digest"], 32)
    return found
