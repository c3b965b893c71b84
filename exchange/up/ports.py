"""The TCP ports that one installation serves on this machine, and whether they are free."""

from __future__ import annotations

import socket

from exchange.errors import SettingsError
from exchange.settings import Settings


def served_ports(settings: Settings) -> list[tuple[str, str, str, int]]:
    """(process, variable, host, port) of each; port 0 stands for any that is free."""
    ports = [("api", "ASSENT_API__PORT", settings.api.host, settings.api.port)]
    if settings.ledger.rpc_url is None:
        ports.append(("node", "ASSENT_LEDGER__PORT", "127.0.0.1", settings.ledger.port))
    return ports


def require_ports(settings: Settings) -> None:
    """Return if the ports that will be served are free.

    Raises:
        SettingsError: one is taken; it names the variable.
    """
    for _name, variable, host, port in served_ports(settings):
        if port and not is_free(host, port):
            raise SettingsError(
                f"names port {port}, which another program uses",
                variable=variable,
                next_step="stop that program, or set another port (0 takes any that is free)",
            )


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
