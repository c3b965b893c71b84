"""The key that carries signed messages to the chain. It holds no authority over anything it carries."""

from __future__ import annotations

from exchange.private_file import write_private
from exchange.settings import Settings
from ledger.signing import Key


def relayer_key(settings: Settings) -> Key:
    """The key that carries messages to the chain; made at first use, without authority over consents."""
    path = settings.data_dir / "worker" / "relayer.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, Key.new().to_bytes().hex().encode())
    return Key.from_bytes(bytes.fromhex(path.read_text(encoding="ascii").strip()))
