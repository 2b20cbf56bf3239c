"""What the doctor says of the network: ports, livekit-server, the certificate, and how browsers see the page."""

from __future__ import annotations

import datetime
import json
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from launching import parts as parts_module
from launching.addresses import gives_microphone, page_addresses
from launching.checks import IN_USE, open_to_others, why_taken
from launching.finding import Finding, fail, ok, warn
from launching.holders import holder
from launching.parts import Part
from settings import Settings
from settings.livekit_keys import KeysError, keys_path, livekit_keys
from settings.tls import TlsError
from settings.tls import certificate as chosen_certificate

WITHIN = 5.0
"""Seconds for an answer over the network."""

CLOCKS_APART = 60.0
"""Seconds between our clock and livekit-server's beyond which its judgement of our tokens is in danger."""

SOON = 21
"""Days of a certificate left below which somebody should know."""


def openness(settings: Settings) -> Iterator[Finding]:
    """Whether strangers can come in."""
    if warning := open_to_others(settings):
        yield warn(warning)
    network = settings.network
    if network.host not in ("127.0.0.1", "localhost", "::1") and not network.tls and not network.public_url:
        yield warn(f"HOST={network.host} without TLS: keys and voices can be listened to on the way. Set TLS=1")


def ports(parts: Sequence[Part]) -> Iterator[Finding]:
    """Whether the ports are free, or held by this very Voice Node."""
    free, running = True, []
    for part in parts:
        for port in part.ports:
            why = why_taken(port)
            if why is None:
                continue
            free = False
            held = holder(port) if why == IN_USE else None
            if held is not None and held.ours:
                running.append(f"{port.number} ({part.name})")
            else:
                by = f" by {held}" if held else ""
                yield fail(f"port {port.number} ({part.name}): {why}{by}. Stop that, or set {port.variable}")
    if running:
        yield ok(f"ports: in use by Voice Node (running): {', '.join(running)}")
    elif free:
        yield ok("ports: all free")


def livekit(settings: Settings, parts: Sequence[Part]) -> Iterator[Finding]:
    """Whether livekit-server is there and knows our key: asked where it runs, else looked at."""
    theirs = settings.livekit.livekit_url
    needed = any(part.name == "livekit" for part in parts)
    if theirs or _is_running(parts, "livekit"):
        yield from _ask_livekit(settings, theirs or settings.livekit_url)
        return
    program = parts_module.livekit_server()
    if program is None:
        missing = "livekit-server: not on PATH or in .tools/bin; 'make setup' gets it"
        yield fail(missing) if needed else warn(missing)
        return
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        yield fail(f"livekit-server: {program} doesn't start ({type(error).__name__}); 'make setup' gets it anew")
        return
    good = said.returncode == 0
    line = f"livekit-server: {said.stdout.strip().removeprefix('livekit-server ') or 'does not start'}, {program}"
    yield ok(f"{line}, not running") if good else fail(f"{line}; 'make setup' gets it anew")


def _ask_livekit(settings: Settings, url: str) -> Iterator[Finding]:
    from livekit import api  # heavy, and needed by nobody else here

    name = f"livekit-server at {url}"
    plain = f"http{url[2:]}" if url.startswith("ws") else url
    if not settings.livekit.livekit_api_key and not keys_path(settings).exists():
        return  # looking makes no keys; that they are missing is told elsewhere
    try:
        key, secret = livekit_keys(settings)
    except KeysError:
        return
    grants = api.VideoGrants(room_join=True, room="doctor")
    token = api.AccessToken(key, secret).with_identity("doctor").with_grants(grants).to_jwt()
    status, body, headers = _get(f"{plain.rstrip('/')}/rtc/validate?access_token={token}", ssl.create_default_context())
    if status == 0:
        yield fail(f"{name}: no answer ({body}). Is it running, and LIVEKIT_URL right?")
        return
    try:
        apart = abs(parsedate_to_datetime(headers.get("date", "")).timestamp() - time.time())
    except ValueError:
        apart = 0.0
    if apart > CLOCKS_APART:
        yield fail(f"{name}: its clock and ours are {apart:.0f} s apart; set both by NTP")
    if status == 401:
        yield fail(
            f"{name}: it refuses our key and secret. Set LIVEKIT_API_KEY and LIVEKIT_API_SECRET to a pair of its"
        )
    elif status >= 500:
        yield fail(f"{name}: it answers {status}; see its log")
    else:
        yield ok(f"{name}: it answers and knows our key")


def certificate(settings: Settings) -> Iterator[Finding]:
    """Whether the certificate can be served, for which names, and for how long."""
    network = settings.network
    if not network.tls:
        return
    if not network.tls_cert and not network.tls_key:
        path = settings.storage.data_dir / "tls" / "cert.pem"
        if not path.exists():
            yield ok(f"TLS: a certificate will be made at the first start, {path}")
            return
        yield from _dates_and_names(settings, path, "made here; browsers warn until they trust its authority.pem")
        return
    try:
        chosen = chosen_certificate(settings)
    except (TlsError, OSError) as error:
        yield fail(f"TLS: {error}")
        return
    assert chosen is not None
    yield from _dates_and_names(settings, chosen.cert, "its key fits")


def _dates_and_names(settings: Settings, path: Path, remark: str) -> Iterator[Finding]:
    from cryptography import x509

    try:
        cert = x509.load_pem_x509_certificate(path.read_bytes())
        names = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        yield fail(f"TLS: {path} holds no certificate with names ({error}); browsers refuse that. Get another one")
        return
    now = datetime.datetime.now(datetime.UTC)
    days = (cert.not_valid_after_utc - now).days
    known = [str(name.value) for name in names]
    host = urlsplit(settings.network.public_url).hostname or ""
    remedy = "restart: it is made anew" if not settings.network.tls_cert else "renew it; it is taken up by itself"
    if cert.not_valid_before_utc > now:
        yield fail(f"TLS: {path} is valid from {cert.not_valid_before_utc:%Y-%m-%d} on. Is the clock right?")
    elif days < 0:
        yield fail(f"TLS: {path} expired {-days} days ago; {remedy}")
    elif host and not any(_matches(host, name) for name in known):
        yield fail(
            f"TLS: {path} is for {', '.join(known)}, not for {host} (PUBLIC_URL): "
            + ("get one for that name" if settings.network.tls_cert else remedy)
        )
    elif days < SOON:
        yield warn(f"TLS: {path} expires in {days} days; {remedy}")
    else:
        yield ok(f"TLS: {path}, for {', '.join(known)}, {days} days left, {remark}")


def _matches(host: str, name: str) -> bool:
    if name.startswith("*."):
        return host.lower().partition(".")[2] == name[2:].lower()
    return host.lower() == name.lower()


def browsers(settings: Settings, parts: Sequence[Part]) -> Iterator[Finding]:
    """How the page looks from a browser: whether it gets the microphone, and, where it runs, whether it is reached."""
    if not any(part.name == "page" for part in parts):
        return
    address = page_addresses(settings)[0]
    if gives_microphone(address):
        yield ok(f"browsers: {address}, where pages get the microphone")
    else:
        yield fail(
            f"browsers: {address} is plain http, where pages get no microphone. Set TLS=1, or a PUBLIC_URL of https"
        )
    if not _is_running(parts, "page"):
        return
    status, body, _ = _get(f"{address}/health", ssl.create_default_context())
    if status == 200 and _ours(body):
        yield ok(f"browsers: {address} is reached from here, as browsers reach it")
    elif status == 0 and "certificate" in body.lower():
        yield warn(
            f"browsers: {address} is reached, but they will warn ({body}). Use a certificate of a public authority, or"
            " have them trust the one that signed it (README, TLS)"
        )
    elif status == 0:
        yield fail(f"browsers: {address} isn't reached from here ({body}). Look at DNS, the router and the proxy")
    else:
        yield fail(
            f"browsers: at {address} somebody else answers ({status}), or a part is unwell; see {address}/health"
        )


def _ours(body: str) -> bool:
    try:
        return isinstance(said := json.loads(body), dict) and said.get("status") == "ok"
    except ValueError:
        return False


def _is_running(parts: Sequence[Part], name: str) -> bool:
    """Whether this part of this Voice Node listens on its first port."""
    for part in parts:
        if part.name == name and part.ports:
            held = holder(part.ports[0])
            return held is not None and held.ours
    return False


def _get(address: str, context: ssl.SSLContext) -> tuple[int, str, dict[str, str]]:
    """Status, body and headers; status 0 and the reason where nobody can be asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(address, timeout=WITHIN) as answer:
            return answer.status, answer.read(64 * 1024).decode(errors="replace"), _lower(answer.headers.items())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(64 * 1024).decode(errors="replace"), _lower(error.headers.items())
    except urllib.error.URLError as error:
        reason = error.reason
        if isinstance(reason, ssl.SSLCertVerificationError):
            return 0, f"certificate: {reason.verify_message}", {}
        return 0, getattr(reason, "strerror", None) or str(reason), {}
    except (OSError, ValueError) as error:
        return 0, str(error), {}


def _lower(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers}
