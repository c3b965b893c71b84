"""Who is at the door: log-in of subjects, tokens of machines, and the three actors as dependencies.

A missing or wrong token is a 401; a role that may not gets the same 404 as for a thing that is not.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from exchange.actor import Actor, Role
from exchange.api.door import BODY_DIGEST
from exchange.api.reading import Body, Hex32, Seconds, Signature
from exchange.claims import Once
from exchange.errors import Malformed, NotAuthenticated, UnsupportedMediaType
from exchange.idempotency import HEADER as IDEMPOTENCY_HEADER
from exchange.idempotency import require_key
from exchange.wiring import Exchange
from ledger.ids import SubjectId
from ledger.messages import from_hex, to_hex

router = APIRouter(prefix="/v1", tags=["log-in"])

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_TOKEN_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["grant_type", "client_assertion_type", "client_assertion"],
                    "properties": {
                        "grant_type": {"const": "client_credentials"},
                        "client_assertion_type": {"const": _ASSERTION_TYPE},
                        "client_assertion": {"type": "string"},
                        "client_id": {"type": "string"},
                    },
                }
            }
        },
    }
}


def exchange_of(request: Request) -> Exchange:
    """The parts of this exchange."""
    found: Exchange = request.app.state.exchange
    return found


House = Annotated[Exchange, Depends(exchange_of)]


def bearer(request: Request) -> str:
    """The bearer token (RFC 6750 §2.1; never from an address).

    Raises:
        NotAuthenticated: there is none.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token or len(token) > 512:
        raise NotAuthenticated("a bearer token is missing")
    return token


def anybody(house: House, token: Annotated[str, Depends(bearer)]) -> Actor:
    """Whoever has logged in.

    Raises:
        NotAuthenticated: the token is unknown or has expired.
    """
    return house.sessions.actor(token)


KnownActor = Annotated[Actor, Depends(anybody)]


def _subject(actor: KnownActor) -> Actor:
    return actor.require(Role.SUBJECT)


def _hospital(actor: KnownActor) -> Actor:
    return actor.require(Role.HOSPITAL)


def _auditor(actor: KnownActor) -> Actor:
    return actor.require(Role.AUDITOR)


SubjectActor = Annotated[Actor, Depends(_subject)]
HospitalActor = Annotated[Actor, Depends(_hospital)]
AuditorActor = Annotated[Actor, Depends(_auditor)]


class ChallengeBody(Body):
    """For whom a challenge is wanted."""

    subject: Hex32


class SessionBody(Body):
    """A signed challenge: the identity key's signature over ``Login``."""

    subject: Hex32
    challenge: Hex32
    expiry: Seconds
    signature: Signature


@router.post("/challenges", operation_id="challenge")
def challenge(house: House, body: ChallengeBody) -> dict[str, Any]:
    """A challenge to be signed as ``Login``; also for subjects that do not exist."""
    found, expires = house.sessions.challenge(SubjectId.parse(body.subject))
    return {"challenge": to_hex(found), "expires": expires}


@router.post("/sessions", operation_id="log_in", status_code=201)
def log_in(house: House, body: SessionBody) -> dict[str, Any]:
    """A bearer token for the subject whose identity key signed the challenge."""
    token = house.sessions.open(
        SubjectId.parse(body.subject),
        challenge=from_hex(body.challenge, 32),
        expiry=body.expiry,
        signature=from_hex(body.signature, 64),
    )
    return {"token": token.text, "expires_in": token.expires_in}


@router.delete("/sessions", operation_id="log_out", status_code=204)
def log_out(house: House, token: Annotated[str, Depends(bearer)]) -> None:
    """Forget the token."""
    house.sessions.close(token)


async def _form(request: Request) -> dict[str, str]:
    """The members of an urlencoded body; of one that stands twice, none (RFC 6749 §3.2)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType("the token endpoint takes application/x-www-form-urlencoded")
    try:
        pairs = parse_qsl(
            (await request.body()).decode("ascii"), keep_blank_values=True, max_num_fields=20
        )
    except ValueError:
        raise Malformed("the form cannot be read") from None
    names = [name for name, _ in pairs]
    return {name: value for name, value in pairs if names.count(name) == 1}


@router.post("/token", operation_id="token", openapi_extra=_TOKEN_FORM)
def token(
    request: Request,
    house: House,
    form: Annotated[dict[str, str], Depends(_form)],
) -> Response:
    """A bearer token for a hospital or an auditor (RFC 6749 §4.4, RFC 7523 ``private_key_jwt``)."""
    client_assertion = form.get("client_assertion", "")
    if form.get("grant_type") != "client_credentials":
        return _refused(400, "unsupported_grant_type", "only client_credentials is known here")
    if form.get("client_assertion_type") != _ASSERTION_TYPE or not client_assertion:
        return _refused(400, "invalid_request", "a jwt-bearer client_assertion is missing")
    # The Host header has passed the door's list of own names, so it is one of them.
    called = f"{request.url.scheme}://{request.headers.get('host', '')}"
    try:
        found = house.sessions.exchange_assertion(
            client_assertion,
            client_id=form.get("client_id"),
            audiences=[f"{base}/v1/token" for base in (house.settings.base_url, called)],
        )
    except NotAuthenticated as error:
        return _refused(401, "invalid_client", str(error))
    return JSONResponse(
        {"access_token": found.text, "token_type": "Bearer", "expires_in": found.expires_in},
        headers={"Pragma": "no-cache"},
    )


def _refused(status: int, error: str, description: str) -> Response:
    """An error as OAuth has it (RFC 6749 §5.2)."""
    return JSONResponse({"error": error, "error_description": description}, status)


def _once(request: Request, house: House, actor: KnownActor) -> Once:
    return claim_of(request, house, actor.key)


OnceActor = Annotated[Once, Depends(_once)]
"""The claim of a creating request's ``Idempotency-Key``, owned by who is at the door."""


def claim_of(request: Request, house: Exchange, owner: str) -> Once:
    """The claim of a request's ``Idempotency-Key``.

    Raises:
        IdempotencyKeyMissing, IdempotencyKeyMalformed: there is none, or it has another form.
    """
    route = getattr(request.scope.get("route"), "path", "")
    return Once(
        actor=owner,
        key=require_key(request.headers.get(IDEMPOTENCY_HEADER)),
        # The ids in an address are part of what was asked for.
        route=f"{request.method} {route} {sorted(request.path_params.items())}",
        digest=request.scope.get(BODY_DIGEST, b""),
        at_ms=house.clock.now_ms(),
    )
