"""Serve the compat WebSocket: `python -m compat_ws`."""

from __future__ import annotations

import argparse
import gc
import sys

from settings import Settings


def main() -> int:
    """Read the command line and serve until stopped; gives the exit code."""
    settings = Settings()
    network = settings.network
    parser = argparse.ArgumentParser(
        prog="python -m compat_ws",
        description="Serves conversations over WebSocket, ws://HOST:PORT/ws/SESSION: raw 16-bit 16 kHz sound in, "
        "32-bit float 24 kHz sound out. All settings come from the environment or .env; see .env.example.",
    )
    parser.add_argument("--host", default=network.host, help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=network.compat_port, help="port (%(default)s)")
    given = parser.parse_args()
    return serve(settings, given.host, given.port)


def serve(settings: Settings, host: str, port: int) -> int:
    """Choose the engines and serve; gives the exit code."""
    # Imported here, so that a question about the command line isn't answered seconds later.
    from compat_ws.service import create
    from engines.select import choose
    from engines.types import EngineError
    from services import http

    try:
        engines = choose(settings, "conversation")
    except EngineError as error:
        print(f"compat_ws: {error.message}", file=sys.stderr)
        return 1
    for line in engines.why:
        print(line, flush=True)
    app = create(settings, engines)
    # A collection of all that was imported would hold up every conversation for 0.1 s and more.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        return http.serve(app, host, port, settings.operations.log_level, setting="COMPAT_PORT", tls=True)
    finally:
        gc.unfreeze()  # native modules complain of leaks where their objects are kept from the last collection


if __name__ == "__main__":
    raise SystemExit(main())
