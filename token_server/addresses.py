"""Where a browser reaches livekit-server, seen from the address under which it reached us."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request

from settings import Settings, reachable


def server_url(request: Request, settings: Settings) -> str:
    """LiveKit's WebSocket address for the caller.

    `LIVEKIT_URL` where it is set; else the host the caller used for us, with livekit-server's port, so that a phone
    in the same network gets an address that means something to it.
    """
    if settings.livekit.livekit_url:
        return settings.livekit.livekit_url
    scheme = "wss" if request.url.scheme == "https" else "ws"
    return f"{scheme}://{_host(request, settings)}:{settings.livekit.livekit_port}"


def http_form(url: str) -> str:
    """The same address for plain requests: `ws` becomes `http`, `wss` becomes `https`."""
    return f"http{url[2:]}" if url.startswith("ws") else url


def _host(request: Request, settings: Settings) -> str:
    try:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        host = ""
    if not host or not all(letter.isalnum() or letter in "-._:" for letter in host):
        host = reachable(settings.network.host)
    return f"[{host}]" if ":" in host else host
