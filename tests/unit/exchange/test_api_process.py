"""The process itself: it starts, answers, and on SIGTERM closes what it opened."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2

from exchange.api.process import listen
from exchange.settings import ApiSettings
from tests.served import Served

START = (
    "from exchange.settings import load_settings; from exchange.api.process import main; "
    "raise SystemExit(main(load_settings()))"
)


def answer_of(url: str, process: subprocess.Popen[bytes]) -> int:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            return httpx2.get(f"{url}/livez", trust_env=False).status_code
        except httpx2.TransportError:
            time.sleep(0.05)
    return 0


def test_it_serves_until_a_signal_and_then_ends_in_order(tmp_path):
    with Served(tmp_path) as served:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        environ = {
            **os.environ,
            "ASSENT_DATA_DIR": str(served.settings.data_dir),
            "ASSENT_API__PORT": str(port),
        }
        root = Path(__file__).parents[3]
        process = subprocess.Popen([sys.executable, "-c", START], env=environ, cwd=root)
        try:
            assert answer_of(f"http://127.0.0.1:{port}", process) == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def unsent(door: socket.socket) -> int:
    """Bytes that a connection takes although nobody reads at its other end."""
    with door, socket.create_connection(door.getsockname()) as client:
        served, _ = door.accept()
        with served:
            served.setblocking(False)
            taken = 0
            try:
                while taken < 64 << 20:
                    taken += served.send(bytes(16 << 10))
            except BlockingIOError:
                return taken
            finally:
                client.close()
    return taken


def test_little_waits_in_the_kernel_where_no_withdrawal_reaches_it():
    usual = socket.create_server(("127.0.0.1", 0))
    bounded, free = unsent(listen(ApiSettings(port=0))), unsent(usual)
    assert bounded < free
