"""Runs one FastAPI part on uvicorn: a clear line when its port is taken, and a prompt, quiet stop."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import ssl
import sys
import threading
from types import FrameType

import uvicorn
import websockets.http11
from fastapi import FastAPI

from services.http_protocol import HttpProtocol, ServerConfig
from services.logs import setup_logging
from services.websocket_protocol import WebSocketProtocol
from settings import Settings
from settings.tls import Certificate, TlsError, certificate

logger = logging.getLogger("voice_node.services")

GRACE = 1
"""Seconds that answers under way are given at a stop; open WebSockets are closed at once (1012)."""

LAST_RESORT = 5.0
"""Seconds after a stop was asked for at which the process ends, whatever still holds it (a thread in native code)."""

_LOCAL = ("127.0.0.1", "localhost", "::1")

LINE = len("GET  HTTP/1.1\r\n")
"""Bytes of a request's first line besides the address."""

RENEWAL_TICKS = 300
"""Tenths of a second between two looks whether the certificate's file has been renewed."""


class Server(uvicorn.Server):
    """uvicorn's server; SIGTERM and SIGINT end it with exit code 0, and no signal is raised again afterwards.

    Args:
        config: uvicorn's.
        chosen: The certificate to serve; one that is renewed on disk is taken up without a restart.
    """

    def __init__(self, config: uvicorn.Config, chosen: Certificate | None = None) -> None:
        super().__init__(config)
        self._chosen = chosen
        if chosen is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(chosen.cert, chosen.key)
            self._renewed = chosen.cert.stat().st_mtime_ns
            config.ssl_context_factory = lambda config, default: self._context

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second."""
        if self._chosen is not None and counter % RENEWAL_TICKS == 0:
            self._renew(self._chosen)
        return await super().on_tick(counter)

    def _renew(self, chosen: Certificate) -> None:
        try:
            changed = chosen.cert.stat().st_mtime_ns
            if changed == self._renewed:
                return
            self._context.load_cert_chain(chosen.cert, chosen.key)  # connections that stand keep the old one
        except (OSError, ssl.SSLError) as error:  # half of it is written, perhaps: the next look tells
            logger.warning("the renewed certificate can't be used yet", extra={"reason": str(error)})
        else:
            self._renewed = changed
            logger.info("the certificate was renewed", extra={"cert": str(chosen.cert)})

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; a second Ctrl-C stops without waiting for answers under way."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        if not self.should_exit:
            watchdog = threading.Timer(LAST_RESORT, os._exit, (1,))
            watchdog.daemon = True
            watchdog.start()
        self.should_exit = True


def make_server(app: FastAPI, chosen: Certificate | None = None) -> Server:
    """A server for `app`; run it with `await server.serve(sockets=[bind(host, port)])`.

    Args:
        app: Made by `services.http.create_app`.
        chosen: The certificate to serve; plain HTTP without one.
    """
    settings: Settings = app.state.settings
    # The library that reads WebSocket handshakes again has one limit for the whole process.
    websockets.http11.MAX_LINE_LENGTH = max(websockets.http11.MAX_LINE_LENGTH, app.state.longest_address + LINE)
    config = ServerConfig(
        app,
        http=HttpProtocol,
        ws=WebSocketProtocol,
        ws_max_size=app.state.message_limit,
        max_connections=_connections(settings),
        longest_address=app.state.longest_address,
        # A proxy on this machine says for whom it asks, so that callers behind it are told apart.
        forwarded_allow_ips=list(settings.limits.trusted_proxies),
        # Sound doesn't shrink by it; it costs time on every message.
        ws_per_message_deflate=False,
        # Our own: services/half_open.py.
        ws_ping_interval=None,
        ws_ping_timeout=None,
        # uvicorn's own lines at info hold query strings, and those may hold keys.
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Longer than our own clients keep a connection, so that they never write into one that is being closed.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE,
    )
    return Server(config, chosen)


def _connections(settings: Settings) -> int:
    """How many connections this process holds: as set, but never so many that it runs out of file descriptors."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = sys.maxsize if descriptors == resource.RLIM_INFINITY else max(16, descriptors * 3 // 4)
    return min(settings.limits.max_connections or most, most)


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to `host` and `port` (0: any free one), not yet listening.

    Raises:
        OSError: The port is taken or the address isn't this machine's.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def serve(app: FastAPI, host: str, port: int, log_level: str, *, setting: str = "", tls: bool = False) -> int:
    """Serve `app` until SIGTERM or SIGINT; blocks.

    Args:
        app: Made by `services.http.create_app`.
        host: Address to listen on.
        port: Port; 0 takes a free one and logs it.
        log_level: `debug` ... `error`; sets up this process's log.
        setting: Name of the variable that sets the port, for the line that says that it is taken.
        tls: Whether this part speaks TLS where the setting `TLS` is on.

    Returns:
        The exit code: 0 after a stop, 1 when the port is taken or the app failed to start.
    """
    setup_logging(log_level)
    settings: Settings = app.state.settings
    try:
        chosen = certificate(settings) if tls else None
    except (TlsError, OSError) as error:
        print(f"{app.title}: TLS: {error}", file=sys.stderr, flush=True)
        return 1
    try:
        sock = bind(host, port)
    except OSError as error:
        fix = f"choose another one with {setting}" if setting else "choose another one"
        print(
            f"{app.title}: can't listen on {host}:{port} ({error.strerror or error}). "
            f"Stop the program that holds the port, or {fix}.",
            file=sys.stderr,
            flush=True,
        )
        return 1
    if host not in _LOCAL and not settings.network.api_keys:
        logger.warning(
            "OPEN TO ANYONE: listening beyond this machine without API_KEYS; set API_KEYS, or HOST=127.0.0.1",
            extra={"part": app.title, "host": host},
        )
    if chosen:
        from services.certificate_metric import measure_certificate  # needs cryptography, which is slow to import

        measure_certificate(app.state.metrics.registry, chosen.cert)
    address = f"[{host}]" if ":" in host else host
    scheme = "https" if chosen else "http"
    logger.info("listening", extra={"part": app.title, "url": f"{scheme}://{address}:{sock.getsockname()[1]}"})
    server = make_server(app, chosen)
    try:
        server.run(sockets=[sock])
    except SystemExit:
        logger.error("could not start", extra={"part": app.title})
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
    logger.info("stopped", extra={"part": app.title})
    return 0
