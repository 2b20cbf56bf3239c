"""Where a browser reaches livekit-server, seen from the address under which it reached us."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request

from settings import Settings, reachable


def server_url(request: Request, settings: Settings) -> str:
    """LiveKit's WebSocket address for the caller.

    `LIVEKIT_URL` where it is set. Else our own address where the caller has to stay with it, since livekit-server
    speaks no TLS and may not be open to the world: `PUBLIC_URL`, or the https address that was used for us; signalling
    is passed on from there (signalling.py). Else, on plain http, livekit-server itself on the host that the caller used
    for us, so that a phone in the same network gets an address that means something to it.
    """
    if settings.livekit.livekit_url:
        return settings.livekit.livekit_url
    if settings.network.public_url:
        return ws_form(settings.network.public_url)
    host, port = _host(request, settings)
    if request.url.scheme == "https":
        return f"wss://{host}{port}"
    return f"ws://{host}:{settings.livekit.livekit_port}"


def ws_form(url: str) -> str:
    """The same address for WebSockets: `http` becomes `ws`, `https` becomes `wss`."""
    return f"ws{url[4:]}" if url.startswith("http") else url


def http_form(url: str) -> str:
    """The same address for plain requests: `ws` becomes `http`, `wss` becomes `https`."""
    return f"http{url[2:]}" if url.startswith("ws") else url


def _host(request: Request, settings: Settings) -> tuple[str, str]:
    """The host that the caller used for us, and `:port` where it named one."""
    try:
        used = urlsplit(f"//{request.headers.get('host', '')}")
        host, port = used.hostname or "", f":{used.port}" if used.port else ""
    except ValueError:
        host, port = "", ""
    if not host or not all(letter.isalnum() or letter in "-._:" for letter in host):
        host, port = reachable(settings.network.host), f":{settings.network.page_port}"
    return f"[{host}]" if ":" in host else host, port
