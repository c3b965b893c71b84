"""The model registry: weights as safetensors or JSON for a known architecture, pinned by digest.

A pickle is refused unread (``threats.md`` U1). The api checks magic bytes, the digest and the card; the
weights themselves are parsed only in a job's child.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange import log
from exchange.actor import Actor
from exchange.claims import Claim, unclaimed
from exchange.clock import Clock
from exchange.documents import MODEL_KIND, fields, hex_bytes
from exchange.errors import DocumentMalformed, NotFound
from exchange.store import schema
from exchange.store.database import Store
from exchange.vault import Vault, model_path
from ledger.commitment import canonical, parse_canonical, sha256
from ledger.ids import ModelDigest
from ledger.leaf import Kind
from ledger.signing import Domain, verify_document


class Models:
    """Models that jobs may name."""

    def __init__(self, store: Store, vault: Vault, domain: Domain, clock: Clock) -> None:
        self._store = store
        self._vault = vault
        self._domain = domain
        self._clock = clock

    def register(
        self,
        actor: Actor,
        document: Any,
        weights: bytes,
        signature: bytes,
        *,
        claim: Claim = unclaimed,
    ) -> ModelDigest:
        """Take a model; its id is the SHA-256 of its exact bytes. Repeating it changes nothing.

        Raises:
            ModelRefused: a pickle, an archive or anything else but JSON and safetensors, refused by
                its first bytes; too large; or a card of an architecture that is not known here.
            DocumentMalformed: the document is malformed or names other bytes.
            SignatureInvalid: the card is not signed by this hospital.
        """
        # Deferred: numbers wake numpy, which nothing else in the api needs.
        from compute.models import ModelCard
        from compute.weights import recognise

        recognise(weights)
        signed = fields(document, MODEL_KIND, {"org", "card", "digest"})
        digest = hex_bytes(signed, "digest", 32)
        if signed["org"] != actor.id:
            raise DocumentMalformed("/org", "must be the hospital that registers")
        card = signed["card"]
        if sha256(weights) != digest or not isinstance(card, dict):
            raise DocumentMalformed("/digest", "must be the SHA-256 of the weights")
        if card.get("digest") != signed["digest"]:
            raise DocumentMalformed("/card/digest", "must be the SHA-256 of the weights")
        ModelCard.from_value(card)
        with self._store.reading() as conn:
            address = conn.execute(
                sa.select(schema.orgs.c.address).where(schema.orgs.c.org_id == actor.id)
            ).scalar_one_or_none()
        if address is None:
            raise NotFound("no such hospital")
        verify_document(
            MODEL_KIND, signed, signature, bytes.fromhex(str(address)[2:]), self._domain
        )
        model = ModelDigest(digest)
        self._vault.put(model_path(model), (weights,), size=len(weights), sha256=digest)

        def work(conn: Connection) -> None:
            claim(conn)
            known = conn.execute(
                sa.select(schema.models.c.digest).where(schema.models.c.digest == model.hex)
            ).first()
            if known is not None:
                return
            body = {
                "digest": model.hex,
                "card": card,
                "org": actor.id,
                "signature": "0x" + signature.hex(),
            }
            at_ms = self._clock.now_ms()
            entry = log.append(conn, kind=Kind.MODEL_REGISTERED, body=body, at_ms=at_ms)
            conn.execute(
                sa.insert(schema.models),
                {
                    "digest": model.hex,
                    "org_id": actor.id,
                    "card": canonical(card).decode(),
                    "path": model_path(model),
                    "signature": "0x" + signature.hex(),
                    "leaf_idx": entry.index,
                },
            )

        self._store.transact(work)
        return model

    def all(self) -> list[dict[str, Any]]:
        """Every model's card, with who registered it."""
        with self._store.reading() as conn:
            rows = conn.execute(
                sa.select(schema.models).order_by(schema.models.c.leaf_idx)
            ).mappings()
            return [_told(row) for row in rows]

    def one(self, model: ModelDigest) -> dict[str, Any]:
        """One model.

        Raises:
            NotFound: there is none of this digest.
        """
        with self._store.reading() as conn:
            row = (
                conn.execute(sa.select(schema.models).where(schema.models.c.digest == model.hex))
                .mappings()
                .first()
            )
        if row is None:
            raise NotFound("no such model")
        return _told(row)


def _told(row: Any) -> dict[str, Any]:
    return {
        "model": row["digest"],
        "org": row["org_id"],
        "card": parse_canonical(row["card"].encode()),
        "leaf": row["leaf_idx"],
    }
