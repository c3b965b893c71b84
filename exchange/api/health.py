"""Is it alive, is it ready, and what do the counters say. Ids and counts only."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from starlette.responses import Response

from exchange import log, outbox
from exchange.api import problems
from exchange.api.auth import House
from exchange.errors import KeysError, NotFound, StoreError
from exchange.store import schema
from exchange.wiring import Exchange

router = APIRouter(tags=["operation"])


class Gauges:
    """Figures that are read from the store when somebody asks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._size = Gauge("assent_log_tree_size", "Leaves in the log", registry=registry)
        self._outbox = Gauge(
            "assent_outbox_depth", "Promises that the chain has not recorded", registry=registry
        )
        self._keys = Gauge("assent_keys_up", "Whether the keys process answers", registry=registry)
        self._lag = Gauge(
            "assent_chain_lag_seconds", "Since the node last answered", registry=registry
        )

    def read(self, house: Exchange) -> None:
        """Set every gauge."""
        with house.store.reading() as conn:
            self._size.set(log.head(conn)[0])
            self._outbox.set(outbox.waiting(conn))
            lag = _chain_lag(house, conn)
        self._keys.set(1 if _keys_up(house) else 0)
        self._lag.set(-1 if lag is None else lag)


@router.get("/livez", operation_id="livez")
def livez() -> dict[str, str]:
    """Whether the process answers at all."""
    return {"status": "ok"}


@router.get("/readyz", operation_id="readyz")
def readyz(house: House) -> Response:
    """Whether it can do its work: 503 without its store, ``degraded`` without keys or chain."""
    try:
        house.store.transact(log.lock_head)
        with house.store.reading() as conn:
            lag = _chain_lag(house, conn)
    except StoreError:
        return JSONResponse({"status": "down", "store": False}, 503)
    keys = _keys_up(house)
    chain = lag is not None and lag <= house.settings.ledger.stale_seconds
    body: dict[str, Any] = {
        "status": "ok" if keys and chain else "degraded",
        "store": True,
        "keys": keys,
        "chain": chain,
    }
    return JSONResponse(body)


@router.get("/metrics", operation_id="metrics", response_class=PlainTextResponse)
def metrics(request: Request, house: House) -> Response:
    """Counters for Prometheus."""
    request.app.state.gauges.read(house)
    return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/problems/{slug}", operation_id="problem")
def problem(slug: str) -> dict[str, Any]:
    """What a problem's type means, and the step that usually follows."""
    for row in problems.TABLE.values():
        if row.slug == slug:
            return {
                "type": problems.TYPE_PREFIX + slug,
                "status": row.status,
                "next": row.next_step,
            }
    raise NotFound("no such problem")


def _keys_up(house: Exchange) -> bool:
    try:
        house.keys.status()
    except KeysError:
        return False
    return True


def _chain_lag(house: Exchange, conn: sa.Connection) -> float | None:
    """Seconds since the node last answered; None if it never did."""
    answered = conn.execute(sa.select(schema.chain_cursor.c.answered_ms)).scalar_one_or_none()
    return None if answered is None else max(0, house.clock.now_ms() - answered) / 1000
