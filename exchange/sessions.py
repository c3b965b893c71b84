"""Who is at the door: challenges and sessions of subjects, ``private_key_jwt`` of machines, tokens.

Tokens are opaque: 32 random bytes, stored only as their SHA-256. A challenge is good once, for two
minutes; it is also given to unknown subjects, so that asking teaches nothing. A hospital or an auditor
signs a JWT (RFC 7523, ES256 or ES384) whose ``jti`` is remembered until it expires.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey
from joserfc.jwt import JWTClaimsRegistry

from exchange.actor import Actor, Role
from exchange.clock import Clock
from exchange.errors import BodyMalformed, NotAuthenticated
from exchange.store import schema
from exchange.store.database import Store
from exchange.strict_json import parse
from ledger.commitment import parse_canonical, sha256
from ledger.errors import SignatureInvalid
from ledger.ids import SubjectId
from ledger.signing import Domain, Login, from_hex, to_hex, verify

CHALLENGE_SECONDS: Final = 120
#: Challenges that one subject may have open; the oldest gives way.
_OPEN_CHALLENGES: Final = 8
_ASSERTION_SECONDS: Final = 300
_LEEWAY_SECONDS: Final = 5
_ALGORITHMS: Final = ("ES256", "ES384")


@dataclass(frozen=True)
class Token:
    """A bearer token and how long it is good."""

    text: str
    expires_in: int


class Sessions:
    """Proofs of identity in, tokens out; tokens in, actors out."""

    def __init__(self, store: Store, domain: Domain, clock: Clock, *, token_seconds: int) -> None:
        self._store = store
        self._domain = domain
        self._clock = clock
        self._token_seconds = token_seconds

    def challenge(self, subject: SubjectId) -> tuple[bytes, int]:
        """32 random bytes to be signed as ``Login``, and the epoch second after which they are void."""
        challenge = secrets.token_bytes(32)
        now = self._now()
        expires = now + CHALLENGE_SECONDS
        table = schema.challenges

        def work(conn: sa.Connection) -> None:
            conn.execute(sa.delete(table).where(table.c.expires < now))
            known = conn.execute(
                sa.select(schema.subjects.c.subject).where(schema.subjects.c.subject == subject.hex)
            ).first()
            if known is None:
                return
            mine = (
                conn.execute(
                    sa.select(table.c.challenge)
                    .where(table.c.subject == subject.hex)
                    .order_by(table.c.expires.desc())
                )
                .scalars()
                .all()
            )
            if crowded := mine[_OPEN_CHALLENGES - 1 :]:
                conn.execute(sa.delete(table).where(table.c.challenge.in_(crowded)))
            conn.execute(
                sa.insert(table),
                {"challenge": to_hex(challenge), "subject": subject.hex, "expires": expires},
            )

        self._store.transact(work)
        return challenge, expires

    def open(self, subject: SubjectId, *, challenge: bytes, expiry: int, signature: bytes) -> Token:
        """A token for the subject whose identity key signed ``Login{subject, challenge, expiry}``.

        Raises:
            NotAuthenticated: whatever is wrong; the answer does not say what.
        """
        now = self._now()
        with self._store.reading() as conn:
            known = conn.execute(
                sa.select(schema.subjects.c.identity_key).where(
                    schema.subjects.c.subject == subject.hex
                )
            ).scalar_one_or_none()
        refusal = NotAuthenticated(
            "this log-in is not valid", next_step="ask for a new challenge and sign it"
        )
        if known is None or not now <= expiry <= now + CHALLENGE_SECONDS + _LEEWAY_SECONDS:
            raise refusal
        try:
            verify(Login(subject, challenge, expiry), signature, from_hex(known, 20), self._domain)
        except SignatureInvalid:
            raise refusal from None
        table = schema.challenges

        def work(conn: sa.Connection) -> Token | None:
            used = conn.execute(
                sa.delete(table).where(
                    table.c.challenge == to_hex(challenge),
                    table.c.subject == subject.hex,
                    table.c.expires >= now,
                )
            )
            if used.rowcount != 1:
                return None
            return self._issue(conn, Actor(Role.SUBJECT, subject.hex), now)

        token = self._store.transact(work)
        if token is None:
            raise refusal
        return token

    def exchange_assertion(
        self, assertion: str, *, client_id: str | None, audiences: Sequence[str]
    ) -> Token:
        """A token for the hospital or auditor that signed the JWT (RFC 7523 §3, SMART backend).

        ``audiences`` are the addresses of the token endpoint under which this service is known.

        Raises:
            NotAuthenticated: whatever is wrong; the answer does not say what.
        """
        now = self._now()
        refusal = NotAuthenticated("the client assertion is not valid")
        claims = _unverified(assertion)
        name = claims.get("sub")
        if not isinstance(name, str) or claims.get("iss") != name:
            raise refusal
        if client_id is not None and client_id != name:
            raise refusal
        found = self._client(name)
        if found is None:
            raise refusal
        role, jwk = found
        try:
            signed = jws.deserialize_compact(assertion, ECKey.import_key(jwk), [*_ALGORITHMS])
            JWTClaimsRegistry(
                now=now,
                leeway=_LEEWAY_SECONDS,
                iss={"essential": True, "value": name},
                sub={"essential": True, "value": name},
                aud={"essential": True, "values": list(audiences)},
                exp={"essential": True},
                jti={"essential": True},
            ).validate(claims)
        except (JoseError, ValueError):
            raise refusal from None
        if signed.payload is None or _object(signed.payload) != claims:
            raise refusal
        jti, expires = str(claims["jti"]), int(claims["exp"])
        if expires > now + _ASSERTION_SECONDS + _LEEWAY_SECONDS or not 0 < len(jti) <= 128:
            raise refusal
        table = schema.jtis

        def work(conn: sa.Connection) -> Token | None:
            conn.execute(sa.delete(table).where(table.c.expires < now - 2 * _LEEWAY_SECONDS))
            digest = sha256(jti.encode()).hex()
            seen = conn.execute(
                sa.select(table.c.jti).where(table.c.client_id == name, table.c.jti == digest)
            ).first()
            if seen is not None:
                return None
            conn.execute(sa.insert(table), {"client_id": name, "jti": digest, "expires": expires})
            return self._issue(conn, Actor(role, name), now)

        token = self._store.transact(work)
        if token is None:
            raise refusal
        return token

    def actor(self, token: str) -> Actor:
        """Whose token this is.

        Raises:
            NotAuthenticated: nobody's, or it has expired.
        """
        table = schema.tokens
        with self._store.reading() as conn:
            row = conn.execute(
                sa.select(table.c.role, table.c.actor_id, table.c.expires).where(
                    table.c.token_hash == _hash(token)
                )
            ).first()
        if row is None or row.expires <= self._now():
            raise NotAuthenticated("the bearer token is unknown or has expired")
        return Actor(Role(row.role), row.actor_id)

    def close(self, token: str) -> None:
        """Forget a token; closing an unknown one changes nothing."""
        table = schema.tokens
        self._store.transact(
            lambda conn: conn.execute(sa.delete(table).where(table.c.token_hash == _hash(token)))
        )

    def _client(self, name: str) -> tuple[Role, dict[str, Any]] | None:
        with self._store.reading() as conn:
            card = conn.execute(
                sa.select(schema.orgs.c.card).where(
                    schema.orgs.c.org_id == name, schema.orgs.c.status == "member"
                )
            ).scalar_one_or_none()
            if card is not None:
                return Role.HOSPITAL, _auth_key(card)
            jwk = conn.execute(
                sa.select(schema.auditors.c.jwk).where(schema.auditors.c.client_id == name)
            ).scalar_one_or_none()
        return None if jwk is None else (Role.AUDITOR, _members(jwk))

    def _issue(self, conn: sa.Connection, actor: Actor, now: int) -> Token:
        text = secrets.token_urlsafe(32)
        table = schema.tokens
        conn.execute(sa.delete(table).where(table.c.expires <= now))
        conn.execute(
            sa.insert(table),
            {
                "token_hash": _hash(text),
                "role": actor.role.value,
                "actor_id": actor.id,
                "expires": now + self._token_seconds,
            },
        )
        return Token(text, self._token_seconds)

    def _now(self) -> int:
        return self._clock.now_ms() // 1000


def _hash(token: str) -> str:
    return sha256(token.encode("utf-8", "replace")).hex()


def _members(text: str) -> dict[str, Any]:
    value = parse_canonical(text.encode())
    assert isinstance(value, dict)
    return value


def _auth_key(card: str) -> dict[str, Any]:
    stored = _members(card)
    key = stored.get("card", stored)["authJwk"]
    assert isinstance(key, dict)
    return key


def _unverified(assertion: str) -> dict[str, Any]:
    """The claims as they are written, to find the key by which they must be signed."""
    parts = assertion.split(".")
    if len(parts) != 3 or len(assertion) > 4096:
        raise NotAuthenticated("the client assertion is not valid")
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
    except ValueError:
        raise NotAuthenticated("the client assertion is not valid") from None
    return _object(payload)


def _object(payload: bytes) -> dict[str, Any]:
    try:
        value = parse(payload)
    except BodyMalformed:
        raise NotAuthenticated("the client assertion is not valid") from None
    if not isinstance(value, dict):
        raise NotAuthenticated("the client assertion is not valid")
    return value
