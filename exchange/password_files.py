"""Passwords of databases from files, as containers' secrets come, put into the databases' addresses."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, urlsplit

from exchange.errors import SettingsError


def with_password(url: str, file: Path | None, variable: str) -> str:
    """The address with the password that ``file`` holds; a trailing line end is not part of it.

    Raises:
        SettingsError: the file cannot be read or is empty, or the address has no user; it names
            ``variable``.
    """
    if file is None:
        return url
    parts = urlsplit(url)
    if not parts.username:
        raise SettingsError(
            "names a password for an address without a user",
            variable=variable,
            next_step="give the address as postgresql://USER@HOST/DATABASE, or unset it",
        )
    try:
        password = file.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        password = ""
    if not password:
        raise SettingsError(
            "names a file that cannot be read or is empty",
            variable=variable,
            next_step="make the file readable by this process, or unset it",
        )
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username}:{quote(password, safe='')}@{host}").geturl()
