"""``assent hospital receive``: download a release and open it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exchange.hospital.client import ExchangeClient
from exchange.hospital.identity import Identity
from exchange.hospital.receive import open_release_stream
from ledger.ids import ReleaseId


def receive_release(home: Path, release: str, out: Path) -> dict[str, Any]:
    """Open a release into ``out``: one NDJSON file, and the signed trailer beside it.

    Raises:
        Problem: the exchange refused.
        EnvelopeCorrupt, SignatureInvalid: what arrived is not what the exchange signed; nothing is kept.
    """
    identity = Identity.load(home)
    pins = identity.pins()
    wanted = ReleaseId.parse(release)
    client = ExchangeClient.of(identity)
    try:
        with client.stream(f"/v1/releases/{wanted.hex}/content") as stream:
            received = open_release_stream(
                stream, identity.receive, pins.exchange, pins.domain, out, release=wanted
            )
    finally:
        client.close()
    return {
        "release": received.release.hex,
        "file": str(received.path),
        "trailer": str(received.trailer_path),
        "records": received.records,
        "delivered": len(received.delivered),
        "subjects": [subject.hex for subject in received.delivered],
        "stopped": len(received.stopped),
        "leaf": received.leaf,
    }
