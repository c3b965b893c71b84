from __future__ import annotations

import hashlib
import os

import pytest

from exchange import vault as vaults
from exchange.errors import (
    BlobMissing,
    BodyTooLarge,
    Conflict,
    ContentMismatch,
    SettingsError,
    VaultError,
    VaultUnavailable,
)
from exchange.vault import Vault, content_path, input_path, model_path, result_path
from ledger.ids import DatasetId, JobId, ModelDigest

DATASET = DatasetId(bytes(16))
PATH = content_path(DATASET, 1)


@pytest.fixture(params=["file", "memory"])
def vault(request, tmp_path):
    return Vault.open(tmp_path.as_uri() if request.param == "file" else "memory://")


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_stream_is_stored_and_read_in_ranges(vault):
    body = os.urandom(3 << 20)
    stored = vault.put(PATH, (body[at : at + 9999] for at in range(0, len(body), 9999)))
    assert (stored.size, stored.sha256) == (len(body), hashlib.sha256(body).digest())
    assert vault.size(PATH) == len(body)
    assert vault.read(PATH) == body
    assert vault.read(PATH, offset=5, length=7) == body[5:12]
    assert vault.read(PATH, offset=len(body) - 2) == body[-2:]
    assert vault.read(PATH, offset=5, length=0) == b""
    assert b"".join(vault.stream(PATH, offset=1, length=2_000_001)) == body[1:2_000_002]
    assert max(len(piece) for piece in vault.stream(PATH)) == vaults.CHUNK_BYTES


def test_many_ranges_are_read_together(vault):
    blob = bytes(range(256)) * 40
    vault.put_bytes(PATH, blob)
    ranges = [(9_000, 1_240), (0, 1), (0, 1), (5, 300)]
    assert vault.read_ranges(PATH, ranges) == [blob[at : at + size] for at, size in ranges]
    assert vault.read_ranges(PATH, []) == []
    with pytest.raises(VaultError):
        vault.read_ranges(PATH, [(0, 1), (10_000, 1_000)])
    with pytest.raises(BlobMissing):
        vault.read_ranges(model_path(ModelDigest(bytes(32))), [(0, 1)])


def test_many_parts_of_an_upload_become_one_blob(tmp_path):
    vault = Vault.open(tmp_path.as_uri())
    piece = os.urandom(1 << 20)
    stored = vault.put(PATH, (piece for _ in range(20)), size=20 << 20)
    assert vault.size(PATH) == stored.size == 20 << 20
    assert files(tmp_path) == [PATH]


def test_the_same_bytes_again_are_welcome_and_others_are_not(vault):
    vault.put_bytes(PATH, b"sealed")
    vault.put_bytes(PATH, b"sealed")
    for other in (b"sealeD", b"sealed+"):
        with pytest.raises(Conflict):
            vault.put_bytes(PATH, other)
    assert vault.read(PATH) == b"sealed"


@pytest.mark.parametrize(
    ("promised", "error"),
    [
        ({"size": 5}, BodyTooLarge),
        ({"size": 7}, ContentMismatch),
        ({"limit": 5}, BodyTooLarge),
        ({"sha256": bytes(32)}, ContentMismatch),
    ],
)
def test_what_breaks_its_promise_leaves_nothing(tmp_path, promised, error):
    vault = Vault.open(tmp_path.as_uri())
    with pytest.raises(error):
        vault.put(PATH, [b"sea", b"led"], **promised)
    assert files(tmp_path) == []
    with pytest.raises(BlobMissing):
        vault.read(PATH)
    right = hashlib.sha256(b"sealed").digest()
    vault.put(PATH, [b"sea", b"led"], size=6, sha256=right, limit=6)


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path):
    vault = Vault.open(tmp_path.as_uri())

    def body():
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(VaultUnavailable):
        vault.put(PATH, body())
    assert files(tmp_path) == []


def test_missing_short_and_deleted(vault):
    for call in (vault.read, vault.size):
        with pytest.raises(BlobMissing):
            call(PATH)
    vault.put_bytes(PATH, b"sealed")
    with pytest.raises(VaultError):
        vault.read(PATH, offset=4, length=9)
    vault.delete(PATH)
    vault.delete(PATH)
    with pytest.raises(BlobMissing):
        vault.read(PATH)


def test_a_folder_that_cannot_be_written_is_said_to_be_unavailable(tmp_path):
    vault = Vault.open(tmp_path.as_uri())
    (tmp_path / "staging").write_bytes(b"a file where a folder has to be")
    with pytest.raises(VaultUnavailable):
        vault.put_bytes(PATH, b"sealed")


@pytest.mark.parametrize(
    "path",
    [
        "datasets/../keys/root.key",
        "../x",
        "/etc/passwd",
        "datasets/0x" + "0" * 32,
        "datasets/0x" + "0" * 32 + "/0",
        "datasets/0x" + "0" * 32 + "/1/x",
        "datasets/0x" + "0" * 32 + "/1\n",
        "datasets/0x" + "A" * 32 + "/1",
        "jobs/0x" + "0" * 32 + "/other",
        "staging/x",
        "",
    ],
)
def test_only_paths_of_ids_are_taken(vault, path):
    for call in (
        lambda: vault.put_bytes(path, b"x"),
        lambda: vault.read(path),
        lambda: vault.size(path),
        lambda: vault.delete(path),
    ):
        with pytest.raises(VaultError):
            call()


def test_each_thing_has_its_own_path(vault):
    job = JobId(bytes(16))
    paths = [PATH, input_path(job), result_path(job), model_path(ModelDigest(bytes(32)))]
    for number, path in enumerate(paths):
        vault.put_bytes(path, bytes([number]))
    assert [vault.read(path) for path in paths] == [b"\0", b"\1", b"\2", b"\3"]


@pytest.mark.parametrize("url", ["ftp://somewhere/x", "vault", "", "http://127.0.0.1/x"])
def test_other_kinds_of_address_are_refused(url):
    with pytest.raises(SettingsError) as caught:
        Vault.open(url)
    assert caught.value.variable == "ASSENT_VAULT_URL"


def test_s3_opens_by_url(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    assert Vault.open("s3://bucket/prefix")
