"""The application: routers, handlers, the door around them, and the pages."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path, PurePath
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from exchange.api import (
    access,
    audit,
    auth,
    catalogue,
    consents,
    deployment,
    enrolment,
    events,
    health,
    jobs,
    models,
    participants,
    problems,
    releases,
)
from exchange.api.door import Door, Metrics
from exchange.wiring import Exchange

_PAGES: Final = Path(__file__).parent / "web"
#: A machine's own list of types must not decide whether a browser runs a module (``nosniff``).
_KINDS: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
_ROUTERS: Final = (
    health.router,
    deployment.router,
    auth.router,
    participants.router,
    enrolment.router,
    consents.router,
    events.router,
    catalogue.router,
    access.router,
    jobs.router,
    models.router,
    audit.router,
    releases.router,
)


class _Pages(StaticFiles):
    """Static pages: always asked for anew, so that pages and api never differ in version."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "no-cache"
        kind = _KINDS.get(PurePath(path).suffix)
        if kind is not None and response.status_code == HTTPStatus.OK:
            response.headers["content-type"] = kind
        return response


def create_app(exchange: Exchange, *, pages: Path | None = _PAGES) -> FastAPI:
    """The application over built parts; it opens and closes nothing itself.

    ``pages`` is the folder of static pages, shown at ``/`` where it exists.
    """
    app = _described()
    registry = CollectorRegistry()
    app.state.exchange = exchange
    app.state.registry = registry
    app.state.gauges = health.Gauges(registry)
    app.state.streams = events.Streams()
    problems.install(app)
    if pages is not None and pages.is_dir():
        app.mount("/", _Pages(directory=pages, html=True), name="pages")
    settings = exchange.settings
    app.add_middleware(
        Door,
        hosts=_own_names(exchange),
        max_body=settings.api.max_body,
        max_content=settings.api.max_content,
        tls=settings.base_url.startswith("https://"),
        metrics=Metrics(registry),
    )
    return app


def openapi() -> dict[str, Any]:
    """The API as OpenAPI 3.1, the same as ``GET /v1/openapi.json``; opens nothing."""
    return _described().openapi()


def _described() -> FastAPI:
    """The routes and how they are described, without anything behind them."""
    app = FastAPI(
        title="Assent",
        version="1",
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.operation_id or route.name,
        responses=_PROBLEM_RESPONSES,
    )
    for router in _ROUTERS:
        app.include_router(router)
    return app


def _own_names(exchange: Exchange) -> frozenset[str]:
    """The names under which clients may call, beside those of the loopback."""
    settings = exchange.settings
    named = {settings.api.host.lower(), (urlsplit(settings.base_url).hostname or "").lower()}
    return frozenset(name for name in named if name and name not in ("0.0.0.0", "::"))  # noqa: S104


_PROBLEM: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "next", "trace_id"],
    "properties": {
        "type": {"type": "string", "description": "/problems/<slug>, stable"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "next": {"type": "string", "description": "The next step."},
        "trace_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
_PROBLEM_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    status: {
        "description": description,
        "content": {problems.MEDIA_TYPE: {"schema": dict(_PROBLEM)}},
    }
    for status, description in (
        (400, "The request has not the required form"),
        (422, "Well formed, but it cannot be honoured"),
        ("default", "Any other problem (RFC 9457)"),
    )
}
