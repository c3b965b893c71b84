"""What must exist before the first start where every process has a container of its own.

The node takes transactions from the relayer alone, so the relayer's key comes before the node; the
api answers beyond the loopback over TLS alone, so its certificate comes before the api.
"""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from exchange.private_file import write_private
from exchange.relayer import relayer_key
from exchange.settings import Settings

#: Browsers refuse certificates that are valid for longer.
VALID_DAYS = 398


def prepare(settings: Settings, senders: Path) -> list[str]:
    """Make the relayer's key, write its address to ``senders``, and make a missing certificate.

    What exists stays. Returns one line per thing, without secrets.

    Raises:
        OSError: a folder cannot be written.
    """
    address = "0x" + relayer_key(settings).address.hex()
    senders.parent.mkdir(parents=True, exist_ok=True)
    senders.write_text(address + "\n", encoding="ascii")
    lines = [f"the relayer is {address}"]
    cert, key = settings.api.tls_cert, settings.api.tls_key
    if cert is not None and key is not None:
        if cert.exists() and key.exists():
            lines.append(f"the certificate {cert} stays")
        else:
            host = urlsplit(settings.base_url).hostname or settings.api.host
            make_certificate(cert, key, host)
            lines.append(f"made a certificate for {host} at {cert}: give it to those who connect")
    return lines


def make_certificate(cert: Path, key: Path, host: str) -> None:
    """Write a self-signed server certificate for ``host`` and this machine, and its P-256 key.

    The key's file (mode 0600) is written first: a certificate never stands without its key.
    """
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    hosts = list(dict.fromkeys((host, "localhost", "127.0.0.1", "::1")))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        # A client whose clock is a little behind must not find it in the future.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([_name(one) for one in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(private, hashes.SHA256())
    )
    for path in (key, cert):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = serialization.Encoding.PEM
    write_private(
        key,
        private.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    write_private(cert, made.public_bytes(pem))
    cert.chmod(0o644)


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
