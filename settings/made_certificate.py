"""A certificate for this machine where the user has none: an authority of its own, and what that signs.

Kept in `DATA_DIR/tls`, the keys for the owner only. The authority stays, so that a phone which was told to trust
`authority.pem` goes on trusting this machine; the certificate is made anew when the machine's names and addresses have
changed, or when it is about to expire.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import ipaddress
import os
import socket
import tempfile
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import psutil
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from settings.tls import Certificate, TlsError
from settings.tree import Settings

AUTHORITY_LIFE = datetime.timedelta(days=3650)
LIFE = datetime.timedelta(days=800)
"""Apple's systems take no certificate of more than 825 days from an authority that a user has added."""
REMAKE_BEFORE = datetime.timedelta(days=100)
SLOW_CLOCKS = datetime.timedelta(days=1)
"""Valid since before it was made: a phone's clock may be behind."""

Name: TypeAlias = x509.DNSName | x509.IPAddress


def made(settings: Settings) -> Certificate:
    """The kept certificate, made (anew) first where that is due.

    Raises:
        OSError: It can't be written.
        TlsError: What is kept can't be read.
    """
    folder = settings.storage.data_dir / "tls"
    chosen = Certificate(folder / "cert.pem", folder / "cert.key", folder / "authority.pem")
    wanted = names(settings)
    if _good(chosen, wanted):
        return chosen
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one of several processes makes it, the others wait
        if not _good(chosen, wanted):
            _make(folder, chosen, wanted)
    return chosen


def names(settings: Settings) -> set[Name]:
    """What this machine is called: localhost, its name, its addresses, and what PUBLIC_URL and HOST say."""
    host = socket.gethostname()
    found = {"localhost", "127.0.0.1", "::1", host, *addresses()}
    if "." not in host:
        found.add(f"{host}.local")
    found.add(urlsplit(settings.network.public_url).hostname or "")
    if settings.network.host not in ("0.0.0.0", "::"):  # noqa: S104 - named, not bound
        found.add(settings.network.host)
    return {name for name in map(_name, found) if name is not None}


def addresses() -> list[str]:
    """This machine's IPv4 addresses; of IPv6 ones a machine has many, which change every day."""
    return [
        one.address
        for found in psutil.net_if_addrs().values()
        for one in found
        if one.family is socket.AddressFamily.AF_INET
    ]


def _name(text: str) -> Name | None:
    name: Name | None = None
    try:
        name = x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        with contextlib.suppress(ValueError, UnicodeError):
            name = x509.DNSName(text.encode("idna").decode("ascii")) if text else None
    return name


def _good(chosen: Certificate, wanted: set[Name]) -> bool:
    """Whether what is kept is for all the names, and for long enough."""
    assert chosen.authority is not None
    try:
        cert = x509.load_pem_x509_certificate(chosen.cert.read_bytes())
        authority = x509.load_pem_x509_certificate(chosen.authority.read_bytes())
        cert.verify_directly_issued_by(authority)
        have = set(cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (OSError, ValueError, TypeError, x509.ExtensionNotFound, InvalidSignature):
        return False
    return wanted <= have and cert.not_valid_after_utc - _now() > REMAKE_BEFORE and chosen.key.exists()


def _make(folder: Path, chosen: Certificate, wanted: set[Name]) -> None:
    authority, authority_key = _authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    cert = (
        _builder(socket.gethostname(), authority.subject, key.public_key(), LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(sorted(wanted, key=lambda name: str(name.value))), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    _write(chosen.key, _pem(key))  # first: who finds the certificate finds its key
    _write(chosen.cert, cert.public_bytes(serialization.Encoding.PEM))


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The kept authority; a new one where there is none, or where it would end before what it signs."""
    cert_path, key_path = folder / "authority.pem", folder / "authority.key"
    try:
        cert = x509.load_pem_x509_certificate(cert_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    except FileNotFoundError:
        pass
    except (ValueError, TypeError) as error:
        raise TlsError(
            f"{folder} holds a damaged authority ({error}): delete the folder and a new one is made"
        ) from None
    else:
        if isinstance(key, ec.EllipticCurvePrivateKey) and cert.not_valid_after_utc > _now() + LIFE:
            return cert, key
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Voice Node on {socket.gethostname()}"[:64])])
    cert = (
        _builder(name, name, key.public_key(), AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(key_path, _pem(key))
    _write(cert_path, cert.public_bytes(serialization.Encoding.PEM))
    return cert, key


def _builder(
    subject: str | x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: datetime.timedelta
) -> x509.CertificateBuilder:
    if isinstance(subject, str):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject[:64])])
    now = _now()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SLOW_CLOCKS)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and for the owner only."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    written = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
