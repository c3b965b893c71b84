"""Where sealed bytes lie: a local folder by default, S3 by URL, memory for tests.

The vault is not trusted for secrecy: whoever copies it holds ciphertext. Paths are made from ids
alone and checked against the four shapes below, so that no text of a user ever becomes a path::

    datasets/<dataset id>/<version>      the sealed parts of one dataset version, in subject order
    jobs/<job id>/input                  an encrypted request
    jobs/<job id>/result                 a sealed result
    models/<sha-256>                     a model's weights

A path is written once. Bytes arrive in parts under a staging name and take their real name only
when size and digest are the promised ones, so a reader never sees half of an upload.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, from_url

from exchange.errors import (
    BlobMissing,
    BodyTooLarge,
    Conflict,
    ContentMismatch,
    SettingsError,
    VaultError,
    VaultUnavailable,
)
from ledger.ids import DatasetId, JobId, ModelDigest

CHUNK_BYTES = 1 << 20
_PART_BYTES = 8 << 20
_PATH = re.compile(
    r"datasets/0x[0-9a-f]{32}/[1-9][0-9]{0,9}"
    r"|jobs/0x[0-9a-f]{32}/(?:input|result)"
    r"|models/0x[0-9a-f]{64}"
)


def content_path(dataset: DatasetId, version: int) -> str:
    """Where the sealed parts of a dataset version lie."""
    return f"datasets/{dataset.hex}/{version}"


def input_path(job: JobId) -> str:
    """Where a job's encrypted input lies."""
    return f"jobs/{job.hex}/input"


def result_path(job: JobId) -> str:
    """Where a job's sealed result lies."""
    return f"jobs/{job.hex}/result"


def model_path(digest: ModelDigest) -> str:
    """Where a model's weights lie."""
    return f"models/{digest.hex}"


@dataclass(frozen=True, slots=True)
class Stored:
    """What was stored: its size in bytes and SHA-256 (32 bytes)."""

    path: str
    size: int
    sha256: bytes


class Vault:
    """Sealed bytes under paths made from ids.

    Every method raises VaultUnavailable where the storage does not answer or cannot write.
    """

    def __init__(self, store: Any, *, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder

    @classmethod
    def open(cls, url: str) -> Vault:
        """Open ``file:///folder``, ``s3://bucket/prefix`` (options from ``AWS_…``) or ``memory://``.

        Raises:
            SettingsError: the URL is of another kind or cannot be used.

        """
        scheme = urlsplit(url).scheme
        try:
            if scheme == "memory":
                return cls(MemoryStore())
            if scheme == "file":
                folder = Path(url2pathname(urlsplit(url).path))
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                return cls(LocalStore(folder, mkdir=True), folder=folder)
            if scheme == "s3":
                # S3 has no rename that fails where the target exists; a multipart copy has one.
                return cls(from_url(url, config={"copy_if_not_exists": "multipart"}))
        except (BaseError, OSError, ValueError) as error:
            raise SettingsError(
                f"cannot be opened ({type(error).__name__})",
                variable="ASSENT_VAULT_URL",
                next_step="check that the place exists and may be written",
            ) from None
        raise SettingsError(
            "unknown kind of address",
            variable="ASSENT_VAULT_URL",
            next_step="use file:///… or s3://…",
        )

    def put(
        self,
        path: str,
        chunks: Iterable[bytes],
        *,
        size: int | None = None,
        sha256: bytes | None = None,
        limit: int | None = None,
    ) -> Stored:
        """Store a stream under ``path``, all of it or nothing; the path is written once.

        Storing the same bytes again succeeds. Without a promised ``sha256`` the same bytes are
        recognised by what was computed on the way.

        Raises:
            ContentMismatch: size or digest differ from the promised ones; nothing is kept.
            BodyTooLarge: more than ``limit`` bytes (or than the promised ``size``) came.
            Conflict: other bytes are already stored under this path.

        """
        _check(path)
        staging = f"staging/{secrets.token_hex(16)}"
        most = min(value for value in (size, limit, 1 << 62) if value is not None)
        try:
            stored = self._upload(path, staging, chunks, most=most)
            if size is not None and stored.size != size:
                raise ContentMismatch(f"{stored.size} bytes came, {size} were promised")
            if sha256 is not None and stored.sha256 != sha256:
                raise ContentMismatch("the bytes have another SHA-256 than promised")
            self._settle(staging)
            try:
                obstore.rename(self._store, staging, path, overwrite=False)
            except AlreadyExistsError:
                self._same(path, stored)
            self._settle(path)
        except (BaseError, OSError) as error:
            raise VaultUnavailable(f"the vault cannot store ({type(error).__name__})") from None
        finally:
            self._discard(staging)
        return stored

    def put_bytes(self, path: str, blob: bytes) -> Stored:
        """Store ``blob``. Raises as :meth:`put`."""
        return self.put(path, (blob,), size=len(blob))

    def read(self, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """Return ``length`` bytes from ``offset``, or everything.

        Raises:
            BlobMissing: nothing is stored under ``path``.
            VaultError: it holds fewer bytes.

        """
        _check(path)
        try:
            if length is None and offset == 0:
                return bytes(obstore.get(self._store, path).bytes())
            if length == 0:
                return b""
            if length is None:
                length = self.size(path) - offset
            found = bytes(obstore.get_range(self._store, path, start=offset, length=length))
        except FileNotFoundError:
            raise BlobMissing(f"nothing is stored under {path}") from None
        except (BaseError, OSError) as error:
            raise VaultUnavailable(f"the vault cannot read ({type(error).__name__})") from None
        if len(found) != length:
            raise VaultError(f"{path} is shorter than the range asked for")
        return found

    def read_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes of many (offset, length), read together. Raises as :meth:`read`."""
        _check(path)
        try:
            found = obstore.get_ranges(
                self._store,
                path,
                starts=[offset for offset, _ in ranges],
                lengths=[length for _, length in ranges],
            )
        except FileNotFoundError:
            raise BlobMissing(f"nothing is stored under {path}") from None
        except (BaseError, OSError) as error:
            raise VaultUnavailable(f"the vault cannot read ({type(error).__name__})") from None
        pieces = [bytes(piece) for piece in found]
        if [len(piece) for piece in pieces] != [length for _, length in ranges]:
            raise VaultError(f"{path} is shorter than the ranges asked for")
        return pieces

    def stream(
        self, path: str, *, offset: int = 0, length: int | None = None, chunk: int = CHUNK_BYTES
    ) -> Iterator[bytes]:
        """Yield a range in pieces of at most ``chunk`` bytes. Raises as :meth:`read`."""
        end = self.size(path) if length is None else offset + length
        while offset < end:
            piece = self.read(path, offset=offset, length=min(chunk, end - offset))
            yield piece
            offset += len(piece)

    def size(self, path: str) -> int:
        """Return the stored size in bytes. Raises BlobMissing."""
        _check(path)
        try:
            return int(obstore.head(self._store, path)["size"])
        except FileNotFoundError:
            raise BlobMissing(f"nothing is stored under {path}") from None
        except (BaseError, OSError) as error:
            raise VaultUnavailable(f"the vault cannot read ({type(error).__name__})") from None

    def delete(self, path: str) -> None:
        """Remove what lies under ``path``; nothing there is success."""
        _check(path)
        self._discard(path)

    def _upload(self, path: str, staging: str, chunks: Iterable[bytes], *, most: int) -> Stored:
        running = hashlib.sha256()
        count = 0
        writer = obstore.open_writer(self._store, staging, buffer_size=_PART_BYTES)
        try:
            for chunk in chunks:
                count += len(chunk)
                if count > most:
                    raise BodyTooLarge(most)
                running.update(chunk)
                writer.write(chunk)
        finally:
            # An abandoned writer would leave its parts behind; closed, they are one object that
            # the caller discards.
            writer.close()
        return Stored(path, count, running.digest())

    def _same(self, path: str, stored: Stored) -> None:
        if self.size(path) == stored.size:
            running = hashlib.sha256()
            for piece in self.stream(path):
                running.update(piece)
            if running.digest() == stored.sha256:
                return
        raise Conflict(f"other bytes are already stored under {path}")

    def _settle(self, path: str) -> None:
        """Make a local file and its name survive a power loss; object stores do that themselves."""
        if self._folder is None:
            return
        target = self._folder / path
        for place, flags in ((target, os.O_RDONLY), (target.parent, os.O_RDONLY | os.O_DIRECTORY)):
            descriptor = os.open(place, flags)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _discard(self, path: str) -> None:
        try:
            obstore.delete(self._store, path)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise VaultUnavailable(f"the vault cannot delete ({type(error).__name__})") from None


def _check(path: str) -> None:
    if _PATH.fullmatch(path) is None:
        raise VaultError("not a path of this vault")
