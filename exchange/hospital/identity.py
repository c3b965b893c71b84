"""A hospital's keys, and what it pinned of the exchange (decision D7).

``assent hospital init`` makes four keys and never gives them away: the signing key (secp256k1), the
receive key (X25519, for HPKE), the de-identification key (32 random bytes) and the key by which it logs
in (EC P-256, ``private_key_jwt``). The CKKS secret key is made per study by ``assent hospital encrypt``.
The *card* is what others may know of a hospital; it is signed by the hospital itself.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from joserfc.jwk import ECKey

from exchange.documents import CARD_DOMAIN, CARD_KIND, KEYS_KEY_KIND
from exchange.errors import Conflict, Malformed
from exchange.private_file import write_private
from ledger.ids import OrgId
from ledger.signing import Domain, Key, sign_document, verify_document

_IDENTITY = "identity.json"
_CARD = "card.json"
_PINS = "exchange.json"
_CA = "exchange-ca.pem"


@dataclass(frozen=True)
class SignedCard:
    """A card and the hospital's own signature over it."""

    card: dict[str, Any]
    signature: bytes

    def to_json(self) -> dict[str, Any]:
        """The shape that stands in files and in ``deployment.json``."""
        return {"card": self.card, "signature": "0x" + self.signature.hex()}


@dataclass(frozen=True)
class Pins:
    """What this hospital believes of one exchange, fixed when it first joined.

    ``exchange`` is the address (20 bytes) of the key that signs receipts, trailers and the ``keys``
    process's HPKE key. ``ca`` is the certificate to trust where the exchange's own has no public
    authority.
    """

    url: str
    domain: Domain
    exchange: bytes
    keys_key: bytes
    ca: Path | None = None


@dataclass(frozen=True)
class Identity:
    """The hospital's keys, as they lie in its own folder (mode 0700, files 0600)."""

    home: Path
    name: str
    signing: Key = field(repr=False)
    receive: bytes = field(repr=False)
    deidentification: bytes = field(repr=False)
    auth: dict[str, Any] = field(repr=False)

    @property
    def org(self) -> OrgId:
        """The id that every subject of this hospital carries: from its first signing address."""
        return OrgId.parse(json.loads((self.home / _CARD).read_text())["card"]["org"])

    @property
    def receive_public(self) -> bytes:
        """The public half of the receive key, 32 bytes (X25519)."""
        private = x25519.X25519PrivateKey.from_private_bytes(self.receive)
        return private.public_key().public_bytes_raw()

    def card(self) -> SignedCard:
        """The signed card as it was made by ``init``."""
        stored = json.loads((self.home / _CARD).read_text())
        return SignedCard(stored["card"], bytes.fromhex(stored["signature"][2:]))

    def pins(self) -> Pins:
        """What was pinned of the exchange.

        Raises:
            Malformed: this hospital has not joined an exchange yet.
        """
        path = self.home / _PINS
        if not path.exists():
            raise Malformed(
                f"{path} is missing: join an exchange first with `assent hospital join --exchange URL`"
            )
        stored = json.loads(path.read_text())
        return Pins(
            url=stored["url"],
            domain=Domain(bytes.fromhex(stored["deployment"][2:])),
            exchange=bytes.fromhex(stored["exchange"][2:]),
            keys_key=bytes.fromhex(stored["keysKey"][2:]),
            ca=self.home / _CA if (self.home / _CA).exists() else None,
        )

    def pin(
        self,
        url: str,
        deployment: dict[str, Any],
        *,
        fingerprint: str | None = None,
        ca: Path | None = None,
    ) -> Pins:
        """Believe this exchange from now on; refuse another one under the same folder.

        ``deployment`` is the answer of ``GET /v1/deployment``. The ``keys`` process's HPKE key must be
        signed by the exchange key, and the exchange key must have the ``fingerprint`` (its address) if
        one was given out of band. ``ca`` is copied, and trusted for this exchange alone.

        Raises:
            SignatureInvalid: the HPKE key is not vouched for by the exchange key.
            Conflict: another exchange was pinned before, or the fingerprint differs.
        """
        domain = Domain(bytes.fromhex(deployment["deployment"][2:]))
        exchange = bytes.fromhex(deployment["exchange"][2:])
        if fingerprint is not None and fingerprint.lower() != "0x" + exchange.hex():
            raise Conflict("the exchange's key differs from the fingerprint given: do not join it")
        keys_key = deployment["keysKey"]
        document = {"kind": KEYS_KEY_KIND, "publicKey": keys_key["publicKey"]}
        signature = bytes.fromhex(keys_key["signature"][2:])
        verify_document(KEYS_KEY_KIND, document, signature, exchange, domain)
        record = {
            "url": url.rstrip("/"),
            "deployment": deployment["deployment"],
            "exchange": deployment["exchange"],
            "keysKey": keys_key["publicKey"],
        }
        path = self.home / _PINS
        if path.exists():
            before = json.loads(path.read_text())
            if any(
                before[field] != record[field] for field in ("deployment", "exchange", "keysKey")
            ):
                raise Conflict(
                    f"{path} pins another exchange or another key of it: "
                    "ask the operator, and remove the file only if you believe the answer"
                )
        if ca is not None:
            write_private(self.home / _CA, ca.read_bytes())
        write_private(path, json.dumps(record, indent=2).encode() + b"\n")
        return self.pins()

    @classmethod
    def make(cls, home: Path, name: str) -> Identity:
        """Make a hospital's keys in ``home``; a second call there is refused.

        Raises:
            Conflict: ``home`` holds an identity already.
            Malformed: the name is empty or longer than 120 characters.
        """
        if not name.strip() or len(name) > 120:
            raise Malformed("a hospital's name has 1 to 120 characters")
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        home.chmod(0o700)
        if (home / _IDENTITY).exists():
            raise Conflict(f"{home} holds a hospital's keys already: use another --home")
        signing = Key.new()
        receive = x25519.X25519PrivateKey.generate()
        org = OrgId.of_address(signing.address)
        auth = _new_jwk(org.hex)
        card = {
            "kind": CARD_KIND,
            "org": org.hex,
            "name": name.strip(),
            "address": "0x" + signing.address.hex(),
            "receiveKey": "0x" + receive.public_key().public_bytes_raw().hex(),
            "authJwk": {field: auth[field] for field in ("kty", "crv", "x", "y", "kid")},
            "made": int(time.time()),
        }
        secrets = {
            "name": name.strip(),
            "signing": signing.to_bytes().hex(),
            "receive": receive.private_bytes_raw().hex(),
            "deidentification": os.urandom(32).hex(),
            "auth": auth,
        }
        # A card belongs to a hospital, not to a deployment: the same card may found several.
        signature = sign_document(signing, CARD_KIND, card, CARD_DOMAIN)
        signed = SignedCard(card, signature)
        write_private(home / _CARD, json.dumps(signed.to_json(), indent=2).encode() + b"\n")
        write_private(home / _IDENTITY, json.dumps(secrets, indent=2).encode() + b"\n")
        return cls.load(home)

    @classmethod
    def load(cls, home: Path) -> Identity:
        """Read a hospital's keys.

        Raises:
            Malformed: there is none in ``home``.
        """
        path = home / _IDENTITY
        if not path.exists():
            raise Malformed(f"{home} holds no hospital: make one with `assent hospital init`")
        stored = json.loads(path.read_text())
        return cls(
            home=home,
            name=stored["name"],
            signing=Key.from_bytes(bytes.fromhex(stored["signing"])),
            receive=bytes.fromhex(stored["receive"]),
            deidentification=bytes.fromhex(stored["deidentification"]),
            auth=stored["auth"],
        )


def _new_jwk(kid: str) -> dict[str, Any]:
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    jwk = dict(ECKey.import_key(pem).as_dict(private=True))
    jwk["kid"] = kid
    return jwk
