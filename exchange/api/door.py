"""What every request passes, whatever its route: host, trace id, size, strict JSON, headers, one log line.

Pure ASGI, so that streams pass through without being gathered. Nothing here decides who may do what:
no security decision rests on a path (``threats.md`` M4); routes authorise in their dependencies.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

import anyio
from anyio.to_thread import run_sync
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exchange.api import problems
from exchange.errors import BodyTooLarge, ExchangeError, Malformed
from exchange.strict_json import parse

_log = logging.getLogger(__name__)

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'"
)
_HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
BODY_DIGEST: Final = "assent.body_sha256"
"""Where the SHA-256 of a gathered body stands in the scope, for idempotency keys."""
_TRACE: Final = re.compile(r"[0-9A-Za-z-]{8,64}", re.ASCII)
#: Bodies that routes read as a stream, under a limit of their own (``max_content``).
_STREAMED: Final = ("application/octet-stream", "application/vnd.assent.")
_BODY_SECONDS: Final = 30
_INLINE: Final = 16 << 10
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1", "[::1]", "testserver"})


class Metrics:
    """Counts of requests, by route template and status: ids and counts, never contents."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "assent_http_requests",
            "Requests answered",
            ["method", "route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "assent_http_seconds", "Time to the end of the answer", ["route"], registry=registry
        )


class Door:
    """The outermost middleware of ours."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: frozenset[str],
        max_body: int,
        max_content: int,
        tls: bool,
        metrics: Metrics,
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._max_body = max_body
        self._max_content = max_content
        self._tls = tls
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        trace = given if _TRACE.fullmatch(given) else secrets.token_hex(16)
        token = problems.trace_id.set(trace)
        began = time.perf_counter()
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._dress(MutableHeaders(scope=message), trace)
            await send(message)

        try:
            await self._serve(scope, headers, receive, answer)
        except Exception as error:  # noqa: BLE001 - whatever it is, its text must not leave
            failed = problems.unexpected(error)
            if status:
                # The answer has begun: all that is left is to break it off, so that nobody takes
                # a part for the whole. The server closes the connection.
                raise ConnectionAbortedError("the answer broke off") from None
            await failed(scope, receive, answer)
        finally:
            problems.trace_id.reset(token)
            self._note(scope, status, time.perf_counter() - began, trace)

    async def _serve(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        refused, receive = await self._body(scope, headers, receive)
        if refused is not None:
            await refused(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _body(
        self, scope: Scope, headers: Headers, receive: Receive
    ) -> tuple[Response | None, Receive]:
        try:
            self._check_host(headers)
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            # Only PUT streams: a POST's body is gathered by the framework before anybody is
            # authenticated, so its limit must not depend on what the caller calls it.
            streamed = scope["method"] == "PUT" and kind.startswith(_STREAMED)
            limit = self._max_content if streamed else self._max_body
            self._check_length(headers, limit)
            if streamed:
                return None, _capped(receive, limit)
            if scope["method"] in ("GET", "HEAD", "OPTIONS"):
                return None, receive
            with anyio.move_on_after(_BODY_SECONDS) as patience:
                body = await _gathered(receive, limit)
            if patience.cancelled_caught:
                raise Malformed(f"the body did not arrive within {_BODY_SECONDS} seconds")
            if body and (kind == "application/json" or kind.endswith("+json")):
                if len(body) > _INLINE:
                    # Beside the loop, so that it delays nobody else.
                    await run_sync(parse, body)
                else:
                    parse(body)
            scope[BODY_DIGEST] = sha256(body).digest()
            return None, _replayed(body, receive)
        except ExchangeError as error:
            return problems.of(error), receive

    def _check_host(self, headers: Headers) -> None:
        name = headers.get("host", "").strip().lower()
        host = name.rsplit(":", 1)[0] if not name.endswith("]") else name
        if not host or (host not in self._hosts and host not in _LOOPBACK):
            raise Malformed(
                "the Host header names another service",
                next_step="use the address that GET /v1/deployment is published under",
            )

    @staticmethod
    def _check_length(headers: Headers, limit: int) -> None:
        length = headers.get("content-length")
        if length is None:
            return
        if not length.isascii() or not length.isdigit() or len(length) > 18:
            raise Malformed("Content-Length is not a number of bytes")
        if int(length) > limit:
            raise BodyTooLarge(limit)

    def _dress(self, headers: MutableHeaders, trace: str) -> None:
        for name, value in _HEADERS.items():
            headers[name] = value
        headers["x-request-id"] = trace
        if "cache-control" not in headers:
            # Answers speak of people; pages and health do not, and say so themselves.
            headers["cache-control"] = "no-store"
        if self._tls:
            headers["strict-transport-security"] = "max-age=63072000"

    def _note(self, scope: Scope, status: int, seconds: float, trace: str) -> None:
        template = getattr(scope.get("route"), "path", None) or "-"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(method, template, str(status)).inc()
        self._metrics.seconds.labels(template).observe(seconds)
        _log.info(
            "request",
            extra={
                "method": method,
                "path_template": template,
                "status": status,
                "duration_ms": round(seconds * 1000, 1),
                "trace_id": trace,
            },
        )


_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


async def _gathered(receive: Receive, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Malformed("the connection ended before the body did")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise BodyTooLarge(limit)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    handed = False

    async def again() -> Message:
        nonlocal handed
        if handed:
            return await receive()
        handed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _capped(receive: Receive, limit: int) -> Receive:
    size = 0

    async def counted() -> Message:
        nonlocal size
        message: dict[str, Any] = dict(await receive())
        size += len(message.get("body", b""))
        if size > limit:
            raise BodyTooLarge(limit)
        return message

    return counted
