"""The certificate that is served: made, kept, made anew, or the user's own; and who trusts it."""

from __future__ import annotations

import asyncio
import datetime
import multiprocessing
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from settings import GROUPS, Settings, made_certificate
from settings.tls import TlsError, Trust, certificate, trust


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in (name.upper() for group in GROUPS for name in group.model_fields):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TLS", "1")
    return monkeypatch


def served() -> x509.Certificate:
    chosen = certificate(Settings())
    assert chosen is not None
    return x509.load_pem_x509_certificate(chosen.cert.read_bytes())


def names() -> set[str]:
    return {str(name.value) for name in served().extensions.get_extension_for_class(x509.SubjectAlternativeName).value}


async def handshake(server_files: tuple[Path, Path], client: ssl.SSLContext, name: str | None) -> None:
    """Connect to a server with these files; raises what the client finds wrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*server_files)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=name)
        writer.close()


def test_without_tls_nothing_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TLS", "0")
    assert certificate(Settings()) is None
    assert trust(Settings()) is None
    assert list(tmp_path.iterdir()) == []


def test_one_is_made_for_this_machine_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PUBLIC_URL", "https://voice.example:8443")
    first = served()
    assert {"localhost", "127.0.0.1", "::1", "voice.example"} <= names()
    assert served().serial_number == first.serial_number
    for file in (tmp_path / "data" / "tls").iterdir():
        assert file.stat().st_mode & 0o077 == 0 or file.name == ".lock"


async def test_who_trusts_the_authority_trusts_it_under_all_its_names() -> None:
    chosen = certificate(Settings())
    assert chosen is not None and chosen.authority is not None
    client = ssl.create_default_context(cafile=str(chosen.authority))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    for name in ("localhost", "127.0.0.1"):
        await handshake((chosen.cert, chosen.key), client, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake((chosen.cert, chosen.key), client, "elsewhere.example")


def test_a_new_name_makes_a_new_certificate_of_the_same_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    first = served()
    monkeypatch.setenv("PUBLIC_URL", "https://voice.example")
    second = served()
    assert "voice.example" in names()
    assert second.serial_number != first.serial_number
    assert second.issuer == first.issuer
    chosen = certificate(Settings())
    assert chosen is not None and chosen.authority is not None
    authority = x509.load_pem_x509_certificate(chosen.authority.read_bytes())
    for one in (first, second):
        one.verify_directly_issued_by(authority)


def test_one_that_is_about_to_expire_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    first = served()
    later = datetime.datetime.now(datetime.UTC) + made_certificate.LIFE - datetime.timedelta(days=90)
    monkeypatch.setattr(made_certificate, "_now", lambda: later)
    assert served().not_valid_after_utc > first.not_valid_after_utc


def _make(folder: str) -> bytes:
    chosen = certificate(Settings())
    assert chosen is not None
    return chosen.cert.read_bytes()


def test_processes_that_come_at_once_serve_the_same(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        made = pool.map(_make, ["", "", ""], chunksize=1)
    assert len(set(made)) == 1


async def test_our_own_parts_trust_what_is_served_under_any_name_and_nothing_else(tmp_path: Path) -> None:
    mine = certificate(Settings())
    assert mine is not None
    context = Trust(mine.cert).context()
    await handshake((mine.cert, mine.key), context, "whatever.example")
    other = _another(mine.cert, mine.key, tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(other, context, "localhost")


def _another(cert: Path, key: Path, folder: Path) -> tuple[Path, Path]:
    """Copies of a certificate and its key, in whose place the same authority then makes new ones."""
    kept = folder / "kept.pem", folder / "kept.key"
    kept[0].write_bytes(cert.read_bytes())
    kept[1].write_bytes(key.read_bytes())
    cert.unlink()
    certificate(Settings())
    return cert, key


async def test_a_renewed_certificate_is_trusted_without_a_restart(tmp_path: Path) -> None:
    mine = certificate(Settings())
    assert mine is not None
    known = Trust(mine.cert)
    known.context()
    renewed = _another(mine.cert, mine.key, tmp_path)
    await handshake(renewed, known.context(), "localhost")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "mine.pem").unlink(), "mine.pem can't be read"),
        (lambda folder: (folder / "mine.key").write_text("nothing"), "must be PEM"),
        (lambda folder: (folder / "mine.key").write_bytes((folder / "other.key").read_bytes()), "is not the key of"),
    ],
)
def test_a_certificate_of_ones_own_is_looked_at_and_what_is_wrong_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spoil: Callable[[Path], object], says: str
) -> None:
    made = certificate(Settings())
    assert made is not None and made.authority is not None
    (tmp_path / "mine.pem").write_bytes(made.cert.read_bytes())
    (tmp_path / "mine.key").write_bytes(made.key.read_bytes())
    (tmp_path / "other.key").write_bytes(made.authority.with_suffix(".key").read_bytes())
    monkeypatch.setenv("TLS_CERT", "mine.pem")
    with pytest.raises(TlsError, match="TLS_KEY is not set"):
        certificate(Settings())
    monkeypatch.setenv("TLS_KEY", "mine.key")
    mine = certificate(Settings())
    assert mine is not None and mine.cert == Path("mine.pem")
    spoil(tmp_path)
    with pytest.raises(TlsError, match=says):
        certificate(Settings())
