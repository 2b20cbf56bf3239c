"""The certificate of the parts that people reach: one of the user's, or one made here; and how our own parts know it.

The page and the WebSocket serve it where `TLS` is on. Our own parts ask them on loopback, under an address that a
certificate for voice.example says nothing about: so they trust exactly the certificate that is served, and no other.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from settings.tree import Settings

_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME: an expired certificate is for the doctor to tell, no reason to restart parts."""


class TlsError(ValueError):
    """The certificate or its key cannot be used; the message names the fix."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The files that are served with TLS."""

    cert: Path
    key: Path
    authority: Path | None
    """What browsers have to trust where the certificate was made here; None for one of the user's."""


def certificate(settings: Settings) -> Certificate | None:
    """The certificate to serve, made on the first call where the settings name none; None where TLS is off.

    Safe to call from several processes at once.

    Raises:
        TlsError: One of `TLS_CERT` and `TLS_KEY` is missing, can't be read, or they don't belong together.
        OSError: None is there yet and none can be written.
    """
    network = settings.network
    if not network.tls:
        return None
    if bool(network.tls_cert) != bool(network.tls_key):
        missing = "TLS_KEY" if network.tls_cert else "TLS_CERT"
        raise TlsError(f"{missing} is not set: set both the certificate and its key, or neither")
    if network.tls_cert:
        chosen = Certificate(Path(network.tls_cert), Path(network.tls_key), None)
    else:
        from settings.made_certificate import made  # needs cryptography, which nobody else does

        chosen = made(settings)
    _fit(chosen)
    return chosen


def _fit(chosen: Certificate) -> None:
    for variable, path in (("TLS_CERT", chosen.cert), ("TLS_KEY", chosen.key)):
        try:
            path.open("rb").close()
        except OSError as error:
            raise TlsError(f"{variable}: {path} can't be read ({error.strerror})") from None
    try:
        # Without a password given, OpenSSL would ask for one on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chosen.cert, chosen.key, password=lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        if reason == "KEY_VALUES_MISMATCH":
            raise TlsError(f"{chosen.key} is not the key of {chosen.cert}") from None
        raise TlsError(
            f"{chosen.cert} and {chosen.key} can't be used ({reason}): both must be PEM, the key without a password"
        ) from None


class Trust:
    """Trusts the certificate in one file, and its successor once the file is renewed.

    Args:
        cert: The file that is served.
    """

    def __init__(self, cert: Path) -> None:
        self._cert = cert
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = False  # this very certificate, whatever it is named after
        self._context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
        self._seen = 0

    def context(self) -> ssl.SSLContext:
        """For the next connection.

        Raises:
            OSError: The file is gone or holds no certificate.
        """
        changed = self._cert.stat().st_mtime_ns
        if changed != self._seen:
            # The first one alone: those behind it are its issuers, who sign for others too.
            first, end, _ = self._cert.read_text(encoding="ascii", errors="replace").partition(ssl.PEM_FOOTER)
            self._context.load_verify_locations(cadata=first + end)
            self._seen = changed
        return self._context


def trust(settings: Settings) -> Trust | None:
    """How our own parts reach those with TLS; None where TLS is off.

    Raises:
        TlsError: See `certificate`.
        OSError: See `certificate`.
    """
    chosen = certificate(settings)
    return Trust(chosen.cert) if chosen else None
