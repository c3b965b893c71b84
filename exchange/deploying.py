"""``assent deploy``: contracts on the chain, and the file by which every process knows this deployment.

Runs once, after node and ``keys`` are up; repeating it changes nothing. Founders are the hospitals whose
signed cards are given; their addresses are constructor arguments of the participants' contract.
"""

from __future__ import annotations

import json
import secrets
import time
from pathlib import Path
from typing import Any

from exchange.deployment import VERSION, Deployment, load_deployment
from exchange.documents import check_card
from exchange.errors import Conflict, KeysUnavailable, SettingsError
from exchange.keys.client import KeysClient
from exchange.private_file import write_private
from exchange.relayer import relayer_key
from exchange.settings import Settings
from ledger.deploy import deploy
from ledger.errors import ChainUnreachable

_PATIENCE_SECONDS = 30.0


def deploy_once(settings: Settings, founders: list[Path], auditors: list[Path]) -> Deployment:
    """Deploy and write ``deployment.json``; where it is already there, only check the chain.

    ``founders`` are files of signed cards, ``auditors`` files ``{id, name, jwk}``; a folder stands
    for every ``*.json`` in it.

    Raises:
        SettingsError: a card cannot be read, or no founder is given.
        Conflict: the deployment that exists was made by another keys process.
        ChainError: the node did not answer.
    """
    exchange_address = _exchange_address(settings)
    found = None
    if settings.deployment_file.exists():
        found = load_deployment(settings.deployment_file)
        if found.exchange != exchange_address:
            raise Conflict(
                "deployment.json was made with another exchange key: "
                "restore the keys process's own database, or start in another data folder"
            )
    cards = list(found.founders) if found else [_card(path) for path in _files(founders)]
    if not cards:
        raise SettingsError(
            "a deployment needs founding hospitals",
            next_step="run `assent hospital init` and pass its card.json with --founder",
        )
    addresses = [bytes.fromhex(check_card(card)["address"][2:]) for card in cards]
    identity = found.id if found else secrets.token_bytes(32)
    on_chain = _deploy(settings, identity, addresses, exchange_address)
    if found:
        return found
    document: dict[str, Any] = {
        "version": VERSION,
        **on_chain,
        "exchange": "0x" + exchange_address.hex(),
        "founders": cards,
        "auditors": [json.loads(path.read_text(encoding="utf-8")) for path in _files(auditors)],
    }
    write_private(settings.deployment_file, json.dumps(document, indent=2).encode() + b"\n")
    return load_deployment(settings.deployment_file)


def _deploy(
    settings: Settings, identity: bytes, founders: list[bytes], log_key: bytes
) -> dict[str, Any]:
    end = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return deploy(
                settings.rpc_url, identity, founders, log_key, relayer_key(settings)
            ).to_json()
        except ChainUnreachable:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _exchange_address(settings: Settings) -> bytes:
    """The exchange key's address, once the keys process answers."""
    client = KeysClient(settings.keys_socket)
    end = time.monotonic() + _PATIENCE_SECONDS
    try:
        while True:
            try:
                return client.status().exchange
            except KeysUnavailable:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)
    finally:
        client.close()


def _files(paths: list[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        found += sorted(path.glob("*.json")) if path.is_dir() else [path]
    return found


def _card(path: Path) -> dict[str, Any]:
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"{path} is not a readable card ({type(error).__name__})",
            next_step="pass the card.json that `assent hospital init` wrote",
        ) from None
    check_card(card)
    return card
