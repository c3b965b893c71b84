"""What must exist before every process has a container of its own: a key, a list, a certificate."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from exchange.errors import SettingsError
from exchange.password_files import with_password
from exchange.settings import Settings, load_settings
from exchange.up.preparing import make_certificate, prepare

URL = "postgresql://user@db:5433/exchange?sslmode=require"


def door(folder: Path) -> Settings:
    return load_settings(
        {
            "ASSENT_DATA_DIR": str(folder),
            "ASSENT_API__HOST": "0.0.0.0",
            "ASSENT_API__BASE_URL": "https://exchange.example:8420",
            "ASSENT_API__TLS_CERT": str(folder / "tls" / "cert.pem"),
            "ASSENT_API__TLS_KEY": str(folder / "tls" / "key.pem"),
        }
    )


def test_what_is_prepared_once_stays(tmp_path: Path) -> None:
    settings, senders = door(tmp_path), tmp_path / "senders" / "relayer"
    lines = prepare(settings, senders)
    address = senders.read_text().strip()
    assert len(bytes.fromhex(address.removeprefix("0x"))) == 20
    assert lines[0] == f"the relayer is {address}"
    assert "made a certificate for exchange.example" in lines[1]
    before = (tmp_path / "tls" / "cert.pem").read_bytes()
    again = prepare(settings, senders)
    assert again[0] == lines[0]
    assert "stays" in again[1]
    assert (tmp_path / "tls" / "cert.pem").read_bytes() == before
    assert senders.read_text().strip() == address


def test_without_tls_no_certificate_is_made(tmp_path: Path) -> None:
    settings = load_settings({"ASSENT_DATA_DIR": str(tmp_path)})
    assert len(prepare(settings, tmp_path / "relayer")) == 1
    assert not list(tmp_path.rglob("*.pem"))


def test_the_certificate_is_what_clients_check(tmp_path: Path) -> None:
    cert, key = tmp_path / "tls" / "cert.pem", tmp_path / "tls" / "key.pem"
    make_certificate(cert, key, "exchange.example")
    # The two belong together, and a client can be told to trust this one alone.
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key)
    ssl.create_default_context(cafile=str(cert))
    made = x509.load_pem_x509_certificate(cert.read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["exchange.example", "localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert (made.not_valid_after_utc - made.not_valid_before_utc).days <= 399
    private = load_pem_private_key(key.read_bytes(), None)
    assert private.public_key() == made.public_key()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_password_comes_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p/w@:\n")
    found = with_password(URL, file, "ASSENT_DATABASE_PASSWORD_FILE")
    assert found == "postgresql://user:p%2Fw%40%3A@db:5433/exchange?sslmode=require"
    # One that the address holds already gives way: the file is the newer secret.
    other = URL.replace("user@", "user:old@")
    assert with_password(other, file, "ASSENT_DATABASE_PASSWORD_FILE") == found
    assert with_password(URL, None, "ASSENT_DATABASE_PASSWORD_FILE") == URL


@pytest.mark.parametrize(
    ("url", "content", "said"),
    [
        (URL, None, "cannot be read or is empty"),
        (URL, b"\n", "cannot be read or is empty"),
        (URL, b"\xff\xfe", "cannot be read or is empty"),
        ("postgresql://db/exchange", b"canary", "an address without a user"),
        ("", b"canary", "an address without a user"),
    ],
)
def test_a_password_that_cannot_be_used_is_named_and_not_shown(
    tmp_path: Path, url: str, content: bytes | None, said: str
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=said) as seen:
        with_password(url, file, "ASSENT_DATABASE_PASSWORD_FILE")
    assert seen.value.variable == "ASSENT_DATABASE_PASSWORD_FILE"
    assert seen.value.next_step
    assert "canary" not in str(seen.value)
