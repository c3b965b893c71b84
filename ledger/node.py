"""The managed node's door: JSON-RPC 2.0 over HTTP/1.1, and the process ``assent node``.

``POST /`` takes a call or a batch; ``GET /`` tells ``{"ready", "block"}`` for health checks. A
request from a web page (one with an ``Origin``) is refused, since a page on the same machine could
otherwise talk to the chain. What a caller may do is settled by ``ledger.managed``.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from ledger.errors import LedgerError, NodeUnavailable
from ledger.managed import CHAIN_ID, READ_METHODS, ManagedNode, TransactionRefused

MAX_BODY: Final = 8 * 1024 * 1024
MAX_BATCH: Final = 1_000
_SEND: Final = "eth_sendRawTransaction"


def answer_rpc(node: ManagedNode, body: bytes) -> bytes:
    """Answer one JSON-RPC body: a call or a batch. Never raises for what a caller sent."""
    try:
        request = json.loads(body)
    except ValueError:
        return json.dumps(_error(None, -32700, "parse error")).encode()
    if isinstance(request, dict):
        if _readable(request) and not _asks_pending_nonce(request):
            # The engine's own bytes: an answer of many logs is not parsed and written again.
            try:
                return node.read(json.dumps(request).encode())
            except NodeUnavailable as error:
                return json.dumps(_error(request.get("id"), -32000, str(error))).encode()
        return json.dumps(_answer_all(node, [request])[0]).encode()
    if not isinstance(request, list) or not request or len(request) > MAX_BATCH:
        return json.dumps(_error(None, -32600, "a batch has 1 to 1000 calls")).encode()
    return json.dumps(_answer_all(node, request)).encode()


def _error(call_id: object, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call_id, "error": {"code": code, "message": message}}


def _result(call_id: object, result: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": call_id, "result": result}


def _readable(call: object) -> bool:
    return (
        isinstance(call, dict)
        and isinstance(call.get("method"), str)
        and call["method"] in READ_METHODS
        and isinstance(call.get("params", []), list)
        and isinstance(call.get("id"), int | str)
    )


def _asks_pending_nonce(call: dict[str, Any]) -> bool:
    params = call.get("params", [])
    return bool(call["method"] == "eth_getTransactionCount" and params[1:] == ["pending"])


def _answer_all(node: ManagedNode, calls: Sequence[Any]) -> list[dict[str, Any]]:
    """Take the submissions first, in order and in one durable write, then the readings."""
    answers: dict[int, dict[str, Any]] = {}
    sends: list[tuple[int, bytes]] = []
    reads: list[int] = []
    for index, call in enumerate(calls):
        call_id = call.get("id") if isinstance(call, dict) else None
        if _readable(call):
            if _asks_pending_nonce(call):
                answers[index] = _pending_nonce(node, call)
            else:
                reads.append(index)
        elif isinstance(call, dict) and call.get("method") == _SEND:
            raw = _raw_of(call.get("params"))
            if raw is None:
                answers[index] = _error(call_id, -32602, "one 0x-hex transaction is expected")
            else:
                sends.append((index, raw))
        elif isinstance(call, dict) and isinstance(call.get("method"), str):
            answers[index] = _error(call_id, -32601, "this node does not offer that method")
        else:
            answers[index] = _error(call_id, -32600, "not a JSON-RPC call")
    for (index, _), taken in zip(sends, node.submit([raw for _, raw in sends]), strict=True):
        call_id = calls[index].get("id")
        if isinstance(taken, TransactionRefused):
            answers[index] = _error(call_id, -32003, str(taken))
        else:
            answers[index] = _result(call_id, "0x" + taken.hex())
    if reads:
        answers.update(_read_all(node, calls, reads))
    return [answers[index] for index in range(len(calls))]


def _read_all(
    node: ManagedNode, calls: Sequence[Any], reads: Sequence[int]
) -> dict[int, dict[str, Any]]:
    numbered = [{**calls[index], "id": index} for index in reads]
    try:
        by_index = {
            answer["id"]: answer for answer in json.loads(node.read(json.dumps(numbered).encode()))
        }
    except NodeUnavailable as error:
        return {index: _error(calls[index]["id"], -32000, str(error)) for index in reads}
    return {index: {**by_index[index], "id": calls[index]["id"]} for index in reads}


def _pending_nonce(node: ManagedNode, call: dict[str, Any]) -> dict[str, Any]:
    try:
        sender = bytes.fromhex(call["params"][0].removeprefix("0x"))
    except (AttributeError, TypeError, ValueError):
        return _error(call["id"], -32602, "an address is expected")
    return _result(call["id"], hex(node.next_nonce(sender)))


def _raw_of(params: object) -> bytes | None:
    if not isinstance(params, list) or len(params) != 1 or not isinstance(params[0], str):
        return None
    try:
        return bytes.fromhex(params[0].removeprefix("0x"))
    except ValueError:
        return None


class _Door(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "assent-node"
    sys_version = ""
    timeout = 75
    disable_nagle_algorithm = True
    wbufsize = -1
    node: ManagedNode

    def do_GET(self) -> None:
        ready = self.node.failure is None
        body = json.dumps({"ready": ready, "block": self.node.head.number}).encode()
        self._send(200 if ready else 503, body)

    def do_POST(self) -> None:
        if self.headers.get("Origin") is not None:
            self._refuse(403, "pages have no business here")
            return
        if self.headers.get_content_type() != "application/json":
            self._refuse(415, "application/json is expected")
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self._refuse(411, "a length is expected")
            return
        if int(length) > MAX_BODY:
            self._refuse(413, "the body is too long")
            return
        self._send(200, answer_rpc(self.node, self.rfile.read(int(length))))

    def _refuse(self, status: int, why: str) -> None:
        # The body was not read, so the connection cannot go on.
        self.close_connection = True
        self._send(status, json.dumps(_error(None, -32600, why)).encode())

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library names it
        """Keep quiet: requests carry addresses and signed messages."""


class NodeServer:
    """A managed node and its door, in threads of this process."""

    def __init__(self, node: ManagedNode, *, host: str = "127.0.0.1", port: int = 0) -> None:
        """Bind the door; port 0 takes a free one."""
        self.node = node
        self._server = _Server((host, port), type("Door", (_Door,), {"node": node}))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Address of the JSON-RPC endpoint."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> None:
        """Rebuild the chain, then open the door. Raises NodeError."""
        try:
            self.node.start()
        except LedgerError:
            self._server.server_close()
            raise
        self._thread.start()

    def stop(self) -> None:
        """Close the door, then stop the node."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.node.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64


def _address(text: str) -> bytes:
    try:
        address = bytes.fromhex(text.strip().removeprefix("0x"))
    except ValueError:
        address = b""
    if len(address) != 20:
        raise argparse.ArgumentTypeError("an address is 0x and 40 hex digits")
    return address


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of ``assent node``."""
    parser = argparse.ArgumentParser(
        prog="assent node",
        description="Run the managed chain: anvil, its journal, and a JSON-RPC endpoint.",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of journal and snapshots")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8545, help="port; 0 takes a free one")
    parser.add_argument("--anvil", type=Path, help="the anvil binary, where it is not installed")
    parser.add_argument("--chain-id", type=int, default=CHAIN_ID, help="chain id (%(default)s)")
    parser.add_argument(
        "--sender",
        type=_address,
        action="append",
        default=[],
        help="address of a relayer that may submit; may be repeated",
    )
    parser.add_argument(
        "--senders-file", type=Path, help="more of them, one a line; read once, at start"
    )
    parser.add_argument(
        "--snapshot-every", type=int, default=500, help="blocks between snapshots (%(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``assent node`` until SIGTERM or SIGINT; prints one JSON line when ready."""
    parser = build_parser()
    chosen = parser.parse_args(argv)
    try:
        listed = chosen.senders_file.read_text(encoding="utf-8") if chosen.senders_file else ""
        senders = [*chosen.sender, *(_address(line) for line in listed.split())]
    except (OSError, UnicodeDecodeError, argparse.ArgumentTypeError) as error:
        parser.error(f"--senders-file: {error}")
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    try:
        node = ManagedNode(
            chosen.data,
            anvil_path=chosen.anvil,
            chain_id=chosen.chain_id,
            senders=senders,
            snapshot_every=chosen.snapshot_every,
        )
        node.on_failure = done.set
        server = NodeServer(node, host=chosen.host, port=chosen.port)
        server.start()
    except (LedgerError, OSError) as error:
        print(f"assent node: {error}", file=sys.stderr)
        return 1
    head = node.head
    ready = {
        "ready": True,
        "rpc": server.url,
        "chainId": node.chain_id,
        "head": {"number": head.number, "hash": "0x" + head.hash.hex()},
        "anvil": node.engine_pid,
    }
    print(json.dumps(ready), flush=True)
    done.wait()
    server.stop()
    if node.failure is not None:
        print(f"assent node: {node.failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
