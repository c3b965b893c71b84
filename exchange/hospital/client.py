"""HTTP to the exchange as one hospital: log-in by ``private_key_jwt``, problems as errors, retries.

A POST carries an idempotency key of its own, so that a repeated one has one effect.
"""

from __future__ import annotations

import ssl
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from joserfc import jwt
from joserfc.jwk import ECKey

from exchange.errors import ExchangeError
from exchange.hospital.identity import Identity

_TIMEOUT = httpx2.Timeout(connect=5.0, read=120.0, write=120.0, pool=5.0)
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
#: Log in again this many seconds before a token ends.
_EARLY_SECONDS = 30


class Problem(ExchangeError):
    """The exchange refused, and said why (RFC 9457).

    ``status`` is HTTP's, ``slug`` the last word of the problem's type, ``document`` all of it.
    """

    def __init__(self, status: int, document: dict[str, Any]) -> None:
        title = str(document.get("title") or f"the exchange answered {status}")
        detail = str(document.get("detail") or "")
        super().__init__(
            f"{title}: {detail}" if detail and detail != title else title,
            next_step=str(document.get("next") or ""),
        )
        self.status = status
        self.slug = str(document.get("type", "")).rsplit("/", 1)[-1]
        self.document = document


class ExchangeClient:
    """One hospital's (or auditor's) connection; not shared between threads."""

    def __init__(
        self, url: str, *, client_id: str, auth: dict[str, Any], ca: Path | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self._client_id = client_id
        self._auth = auth
        self._http = httpx2.Client(
            base_url=self.url, timeout=_TIMEOUT, verify=_trust(ca), trust_env=False
        )
        self._token = ""
        self._until = 0.0

    @classmethod
    def of(cls, identity: Identity) -> ExchangeClient:
        """The connection of a hospital that has joined an exchange.

        Raises:
            Malformed: it has not joined one.
        """
        pins = identity.pins()
        return cls(pins.url, client_id=identity.org.hex, auth=identity.auth, ca=pins.ca)

    def close(self) -> None:
        """Give the connection back."""
        self._http.close()

    def token(self) -> str:
        """A bearer token, fetched anew when the last one is about to end."""
        if time.time() > self._until - _EARLY_SECONDS:
            now = int(time.time())
            key = ECKey.import_key(self._auth)
            audience = f"{self.url}/v1/token"
            claims = {
                "iss": self._client_id,
                "sub": self._client_id,
                "aud": audience,
                "iat": now,
                "exp": now + 240,
                "jti": uuid.uuid4().hex,
            }
            header = {"alg": "ES256", "kid": self._auth["kid"], "typ": "JWT"}
            response = self._http.post(
                "/v1/token",
                data={
                    "grant_type": "client_credentials",
                    "client_assertion_type": _ASSERTION,
                    "client_assertion": jwt.encode(header, claims, key, algorithms=["ES256"]),
                },
            )
            body = _answer(response)
            self._token = str(body["access_token"])
            self._until = time.time() + int(body["expires_in"])
        return self._token

    def get(self, path: str, **params: Any) -> Any:
        """The JSON at ``path``.

        Raises:
            Problem: the exchange refused, with its problem document.
        """
        given = {name: value for name, value in params.items() if value is not None}
        return _answer(self._http.get(path, params=given, headers=self._headers()))

    def get_bytes(self, path: str) -> bytes:
        """The bytes at ``path``.

        Raises:
            Problem: the exchange refused, with its problem document.
        """
        response = self._http.get(path, headers=self._headers())
        if response.status_code >= 400:
            _answer(response)
        return response.content

    def post(self, path: str, body: Any, *, key: str | None = None) -> Any:
        """Post JSON; ``key`` is the idempotency key (a fresh one by default).

        Raises:
            Problem: the exchange refused, with its problem document.
        """
        headers = self._headers() | {"Idempotency-Key": key or uuid.uuid4().hex}
        return _answer(self._http.post(path, json=body, headers=headers))

    def put(self, path: str, body: bytes | Iterable[bytes]) -> Any:
        """Put octets, streamed when they are an iterable.

        Raises:
            Problem: the exchange refused, with its problem document.
        """
        headers = self._headers() | {"Content-Type": "application/octet-stream"}
        return _answer(self._http.put(path, content=body, headers=headers))

    @contextmanager
    def stream(self, path: str) -> Iterator[Iterator[bytes]]:
        """The octets at ``path``, as they come.

        Raises:
            Problem: the exchange refused, with its problem document.
        """
        with self._http.stream("GET", path, headers=self._headers()) as response:
            if response.status_code >= 400:
                response.read()
                _answer(response)
            yield response.iter_bytes()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token()}"}


def fetch_deployment(url: str, *, ca: Path | None = None) -> dict[str, Any]:
    """What ``GET /v1/deployment`` at ``url`` says; nothing in it is believed yet.

    Raises:
        Problem: the exchange refused.
    """
    with httpx2.Client(timeout=_TIMEOUT, verify=_trust(ca), trust_env=False) as http:
        found: dict[str, Any] = _answer(http.get(url.rstrip("/") + "/v1/deployment"))
    return found


def _trust(ca: Path | None) -> ssl.SSLContext | bool:
    return True if ca is None else ssl.create_default_context(cafile=str(ca))


def _answer(response: httpx2.Response) -> Any:
    if response.status_code < 400:
        return response.json() if response.content else None
    try:
        document = response.json()
    except ValueError:
        document = {}
    raise Problem(response.status_code, document if isinstance(document, dict) else {})
