"""Write the frozen bundles of evidence: ``python -m tests.frozen``.

What is committed under ``tests/vectors/bundles/v1`` must verify for ever; it is written once, from
seeds, and never again. A new version of the format gets a folder of its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from ledger.bundle import AuditBundle
from ledger.commitment import canonical, digest_of
from ledger.leaf import Kind
from ledger.signing import sign_document, to_hex
from tests.evidence import Entry, World, honest
from tests.whole_log import leaves_of, page, receipt

FOLDER = Path(__file__).parent / "vectors" / "bundles" / "v1"


class JobWorld(World):
    """The same exchange with a query, which is a job, instead of a release."""

    def append(self, kind: Kind, body: dict[str, Any], **named: Any) -> Entry:
        """Say in a job's leaves what a release's would have said."""
        if kind is Kind.RELEASE_DECIDED:
            spec = body["request"] | {"kind": "assent.job/1", "job": "query", "slots": None}
            self.spec_digest = to_hex(digest_of(spec))
            kind, body = (
                Kind.JOB_DECIDED,
                {
                    "job": body["release"],
                    "spec": spec,
                    "signature": to_hex(
                        sign_document(self.requester, "assent.job/1", spec, self.domain)
                    ),
                    "covered": body["permitted"],
                    "withheld": body["withheld"],
                    "manifestDigest": body["manifestDigest"],
                },
            )
        elif kind is Kind.ACCESS_DECIDED:
            body = body | {"kind": "query", "requestDigest": self.spec_digest}
        elif kind is Kind.DATA_RELEASED:
            kind, body = (
                Kind.JOB_FINISHED,
                {
                    "job": body["release"],
                    "outcome": "done",
                    "resultDigest": "0x" + "77" * 32,
                    "used": sorted(handle for handle, _ in body["delivered"][1:]),
                    "dropped": 1,
                    "detail": None,
                },
            )
        return super().append(kind, body, **named)

    def bundle(self, **changes: Any) -> AuditBundle:
        """The evidence for the job."""
        return dataclasses.replace(super().bundle(**changes), kind="job")


def release() -> tuple[World, AuditBundle]:
    """One patient of every sort, and one whom the desk served."""
    made = honest()
    served = made.enrol()
    made.desk(served, made.consent(served))
    return made, made.bundle()


def job() -> tuple[World, AuditBundle]:
    """Three patients covered, one of them dropped while the job ran, one withheld."""
    made = JobWorld()
    made.pin()
    for _ in range(3):
        made.consent(made.enrol())
    made.enrol()
    return made, made.bundle()


def rendered(made: World, bundle: AuditBundle) -> dict[str, bytes]:
    """The files of one access, by name."""
    every = leaves_of(made)
    receipts = b"[" + b",".join(receipt(made, index) for index in (2, 5)) + b"]"
    return {
        "bundle.json": bundle.to_bytes(),
        "trust.json": canonical(made.trust_json(bundle)),
        "leaves.json": page(every),
        "receipts.json": receipts,
    }


def main() -> None:
    """Write what is not there yet, and the digests that hold it still."""
    for name, (made, bundle) in {"release": release(), "job": job()}.items():
        folder = FOLDER / name
        if folder.exists():
            continue
        folder.mkdir(parents=True)
        digests = {}
        for file, data in rendered(made, bundle).items():
            (folder / file).write_bytes(data)
            digests[file] = hashlib.sha256(data).hexdigest()
        (folder / "digests.json").write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    main()
