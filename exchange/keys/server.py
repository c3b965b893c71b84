"""The socket of the keys process: one thread per connection, one answer per question.

Only processes of the same user are answered, as the kernel names them; a lock beside the socket
keeps a second process away, also after the first was killed.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from exchange.errors import SettingsError
from exchange.keys.wire import FrameInvalid, reachable, receive, send

log = logging.getLogger(__name__)

_CONNECTIONS = 128
_PEER = struct.Struct("3i")


class KeysServer:
    """Answers questions on a Unix socket that only this user may reach."""

    def __init__(self, answer: Callable[[Mapping[str, Any]], dict[str, Any]], path: Path) -> None:
        self._answer = answer
        self._path = path
        self._stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # The lock outlives a killed process no longer than the kernel needs; the socket's file may.
        self._alone = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._alone, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._alone)
            raise SettingsError(
                f"another keys process serves {path}", next_step="stop it, or use another data_dir"
            ) from None
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with reachable(path) as name:
            self._listener.bind(name)
        path.chmod(0o600)
        self._listener.listen(_CONNECTIONS)

    def serve(self) -> None:
        """Answer until :meth:`stop`; then finish the questions under way."""
        while not self._stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break
            if not _is_ours(connection):
                log.warning("another user's connection was refused")
                connection.close()
                continue
            with self._lock:
                if len(self._connections) >= _CONNECTIONS or self._stopping.is_set():
                    connection.close()
                    continue
                self._connections.add(connection)
                thread = threading.Thread(target=self._converse, args=(connection,), daemon=True)
                self._threads.add(thread)
            thread.start()
        self._path.unlink(missing_ok=True)
        for thread in list(self._threads):
            thread.join(timeout=10.0)
        self._listener.close()
        os.close(self._alone)

    def stop(self) -> None:
        """Take no new question. May be called from a signal handler's thread."""
        self._stopping.set()
        # Waking a blocked accept: shutting a listening socket down makes it return.
        for one in (self._listener, *tuple(self._connections)):
            try:
                one.shutdown(socket.SHUT_RD)
            except OSError:
                continue

    def _converse(self, connection: socket.socket) -> None:
        try:
            while not self._stopping.is_set():
                question = receive(connection)
                if question is None:
                    return
                send(connection, self._answer(question))
        except (OSError, FrameInvalid) as error:
            if not self._stopping.is_set():
                log.info("a connection ended", extra={"error_code": type(error).__name__})
        finally:
            connection.close()
            with self._lock:
                self._connections.discard(connection)
                self._threads.discard(threading.current_thread())


def _is_ours(connection: socket.socket) -> bool:
    """Whether the other end runs as this user, as the kernel has it."""
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _, user, _ = _PEER.unpack(peer)
    return bool(user == os.geteuid())
