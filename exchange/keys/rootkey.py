"""The root key, in a file of its own, and the two secrets that lie wrapped under it.

The root key wraps the exchange key, the HPKE key and every hospital's key-encryption key. It stands
beside the database, never in it: a copy of the database alone opens nothing. Source: decision D5,
``threats.md`` §5.2.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange.errors import SettingsError
from exchange.keys import database
from exchange.keys.database import KeysDatabase
from exchange.sealing import KEY_BYTES, new_key, new_receive_key, public_of, unwrap, wrap
from ledger.signing import Key

_EXCHANGE_KEY = "exchange-key"
_HPKE_KEY = "hpke-key"


def secret_aad(name: str) -> bytes:
    """Return what a wrapped secret is bound to."""
    return b"assent secret/1" + name.encode()


def kek_aad(org: str) -> bytes:
    """Return what a hospital's wrapped key-encryption key is bound to."""
    return b"assent kek/1" + org.encode()


def load_root_key(path: Path, *, may_make: bool) -> bytes:
    """Return the root key's 32 bytes; make it at the first start, readable by its owner alone.

    Raises:
        SettingsError: it is missing although secrets are wrapped under it, has another size, or
            others may read it.

    """
    if not path.exists():
        if not may_make:
            raise SettingsError(
                f"{path} is missing, and without it the keys database cannot be opened",
                next_step="bring the file back from its backup; a new one would open nothing",
            )
        _make(path)
    found = path.stat()
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise SettingsError(f"{path} may be read by others", next_step=f"chmod 600 {path}")
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise SettingsError(
            f"{path} is not a root key of {KEY_BYTES} bytes",
            next_step="bring the file back from its backup",
        )
    return key


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(path.name + ".partial")
    # A start that was killed halfway leaves the partial file; nothing was wrapped under it yet.
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, new_key())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Secrets:
    """The exchange key and the HPKE key, made once and then the same for ever."""

    def __init__(self, own: KeysDatabase, path: Path) -> None:
        with own.reading() as conn:
            known = conn.execute(sa.select(database.secrets.c.name)).first() is not None
        self.root = load_root_key(path, may_make=not known)
        scalar, self.hpke_private = own.transact(self._load_or_make)
        self.exchange_key = Key.from_bytes(scalar)
        self.hpke_public = public_of(self.hpke_private)

    def _load_or_make(self, conn: Connection) -> tuple[bytes, bytes]:
        return (
            self._secret(conn, _EXCHANGE_KEY, lambda: Key.new().to_bytes()),
            self._secret(conn, _HPKE_KEY, lambda: new_receive_key()[0]),
        )

    def _secret(self, conn: Connection, name: str, make: Callable[[], bytes]) -> bytes:
        table = database.secrets
        wrapped = conn.execute(
            sa.select(table.c.wrapped).where(table.c.name == name)
        ).scalar_one_or_none()
        if wrapped is not None:
            return unwrap(self.root, bytes(wrapped), aad=secret_aad(name))
        made = make()
        conn.execute(
            sa.insert(table).values(name=name, wrapped=wrap(self.root, made, aad=secret_aad(name)))
        )
        return made
