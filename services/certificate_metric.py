"""When the certificate that a part serves ends, on `/metrics`: an expired one locks people out of the page."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from prometheus_client import CollectorRegistry, Gauge


def measure_certificate(registry: CollectorRegistry, file: Path) -> None:
    """Add the end of a certificate's validity, as it was when the part began to serve it.

    Args:
        registry: The part's.
        file: PEM; its first certificate is the part's own.
    """
    end = x509.load_pem_x509_certificates(file.read_bytes())[0].not_valid_after_utc
    Gauge(
        "voice_node_certificate_end_timestamp_seconds",
        "When the certificate that is served ends, unix seconds",
        registry=registry,
    ).set(end.timestamp())
