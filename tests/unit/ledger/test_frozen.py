"""Evidence once handed out verifies for ever: every committed version, byte for byte."""

import hashlib
import json

import pytest

from ledger.errors import VerificationError
from ledger.forks import read_log
from ledger.trust import parse_bytes
from ledger.verify import verify_bundle
from tests import frozen

VERSIONS = frozen.FOLDER.parent
KEPT = sorted(
    path.parent.relative_to(VERSIONS).as_posix() for path in VERSIONS.rglob("bundle.json")
)
PROVED = {
    "v1/release": ("release", 4, 6, 4, 0),
    "v1/job": ("job", 3, 1, 2, 1),
}


def read(kept, name):
    return (VERSIONS / kept / name).read_bytes()


def proved(kept):
    every = read_log([read(kept, "leaves.json")], [read(kept, "receipts.json")])
    trust = parse_bytes(read(kept, "trust.json"))
    found = verify_bundle(read(kept, "bundle.json"), trust, every)
    return found.kind, found.permitted, found.withheld, found.delivered, found.stopped


def test_every_kept_bundle_has_its_expectation():
    assert set(PROVED) == set(KEPT)


@pytest.mark.parametrize("kept", KEPT)
def test_old_evidence_still_verifies(kept):
    assert proved(kept) == PROVED[kept]


@pytest.mark.parametrize("kept", KEPT)
def test_nobody_rewrote_it(kept):
    digests = json.loads(read(kept, "digests.json"))
    assert set(digests) == {"bundle.json", "trust.json", "leaves.json", "receipts.json"}
    for name, digest in digests.items():
        assert hashlib.sha256(read(kept, name)).hexdigest() == digest, name


@pytest.mark.parametrize("kept", KEPT)
def test_it_fails_once_a_byte_is_changed(kept):
    trust = parse_bytes(read(kept, "trust.json"))
    data = bytearray(read(kept, "bundle.json"))
    data[len(data) // 2] ^= 1
    with pytest.raises(VerificationError):
        verify_bundle(bytes(data), trust)


@pytest.mark.parametrize("name", ["release", "job"])
def test_the_seeds_give_the_same_evidence_every_time(name):
    first, again = (frozen.rendered(*getattr(frozen, name)()) for _ in range(2))
    assert first == again
    every = read_log([first["leaves.json"]], [first["receipts.json"]])
    assert verify_bundle(first["bundle.json"], parse_bytes(first["trust.json"]), every).kind == name


def test_what_is_kept_is_not_written_again():
    before = {path: path.stat().st_mtime_ns for path in VERSIONS.rglob("*.json")}
    frozen.main()
    assert {path: path.stat().st_mtime_ns for path in VERSIONS.rglob("*.json")} == before
