"""The process ``assent api``: builds the parts, serves them, and closes them."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys

import uvicorn

from exchange import logs
from exchange.app import create_app
from exchange.errors import SettingsError
from exchange.settings import ApiSettings, Settings
from exchange.wiring import build

_GRACE_SECONDS = 5
_BACKLOG = 2048
_UNSENT_BYTES = 256 << 10


def main(settings: Settings) -> int:
    """Serve until a signal comes; prints one JSON line when ready; returns the exit code.

    That an address others can reach has TLS is a law of the settings themselves.

    Raises:
        SettingsError: there is no deployment yet, or the port is taken.
        StoreUnavailable, SchemaUnknown, VaultUnavailable: a part cannot be opened.
    """
    logs.set_up("api", level=settings.log_level)
    exchange = build(settings)
    try:
        exchange.releases.close_interrupted()
        config = server_config(settings, create_app(exchange))
        config.load()
        server = uvicorn.Server(config)
        # uvicorn raises the signal again once it has stopped; what is open must be closed first.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _seen)
        listener = listen(settings.api)
        # Whoever connects from now on waits in the kernel until the server takes them.
        sys.stdout.write(json.dumps({"ready": "api", "pid": os.getpid()}) + "\n")
        sys.stdout.flush()
        server.run(sockets=[listener])
    finally:
        exchange.close()
    return 0 if server.started else 1


def listen(api: ApiSettings) -> socket.socket:
    """The listening socket of the door.

    Raises:
        SettingsError: the address cannot be listened on; it names the variable.
    """
    family = socket.AF_INET6 if ":" in api.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # No withdrawal calls back what waits in the kernel; connections inherit the bound.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        listener.bind((api.host, api.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"port {api.port} cannot be listened on ({error.strerror})",
            variable="ASSENT_API__PORT",
            next_step="stop the program that uses it, or set another address or port",
        ) from None
    return listener


def _seen(_number: int, _frame: object) -> None:
    """A signal that the server has obeyed already."""


def server_config(settings: Settings, app: object) -> uvicorn.Config:
    """How uvicorn serves: bounded, without a line per request of its own, without its name."""
    api = settings.api
    return uvicorn.Config(
        app,  # type: ignore[arg-type]  # uvicorn's own alias does not know FastAPI's class
        host=api.host,
        port=api.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        ssl_certfile=None if api.tls_cert is None else str(api.tls_cert),
        ssl_keyfile=None if api.tls_key is None else str(api.tls_key),
        limit_concurrency=1024,
        backlog=_BACKLOG,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        h11_max_incomplete_event_size=64 << 10,
    )
