"""Keeps the tests on this machine: no socket but to loopback, no look-up of another host's name."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any


class LeftTheMachine(Exception):
    """A test tried to reach another machine."""


def is_local(family: int, address: Any) -> bool:
    """Whether an address, as `socket.connect` takes it, stays on this machine."""
    if family == socket.AF_UNIX:
        return True
    if family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
        return False
    return is_local_host(address[0])


def is_local_host(host: object) -> bool:
    """Whether a host's name or address is loopback; no name but localhost is looked up."""
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host is None or host in ("", "localhost", "0.0.0.0", "::"):
        return True
    try:
        return ipaddress.ip_address(str(host).split("%")[0]).is_loopback
    except ValueError:
        return False


def install() -> None:
    """Make every socket of this process refuse to leave it, for good."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex
    sendto, getaddrinfo = socket.socket.sendto, socket.getaddrinfo

    def guarded(self: socket.socket, address: Any) -> None:
        if not is_local(self.family, address):
            raise LeftTheMachine("a test tried to connect to another machine")
        connect(self, address)

    def guarded_ex(self: socket.socket, address: Any) -> int:
        if not is_local(self.family, address):
            raise LeftTheMachine("a test tried to connect to another machine")
        return connect_ex(self, address)

    def guarded_sendto(self: socket.socket, data: Any, *rest: Any) -> int:
        if not is_local(self.family, rest[-1]):
            raise LeftTheMachine("a test tried to send to another machine")
        return sendto(self, data, *rest)

    def guarded_getaddrinfo(host: Any, *rest: Any, **options: Any) -> Any:
        if not is_local_host(host):
            raise LeftTheMachine("a test tried to look up another machine")
        return getaddrinfo(host, *rest, **options)

    socket.socket.connect = guarded  # type: ignore[method-assign]
    socket.socket.connect_ex = guarded_ex  # type: ignore[method-assign]
    socket.socket.sendto = guarded_sendto  # type: ignore[assignment,method-assign]
    socket.getaddrinfo = guarded_getaddrinfo
