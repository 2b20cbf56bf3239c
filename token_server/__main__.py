"""Command line of the token server: `python -m token_server`."""

from __future__ import annotations

import argparse
import asyncio
import sys

from library import Library, LibraryError
from services.http import serve
from settings import Settings
from settings.livekit_keys import KeysError
from token_server.app import build


def main() -> int:
    """Serve until stopped.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="python -m token_server",
        description="Serves the page, room tokens, personalities and voices, and has agents that died replaced. "
        "Settings come from the environment and .env; .env.example explains them.",
    )
    parser.add_argument("--host", help="address to listen on (default: HOST)")
    parser.add_argument("--port", type=int, help="port to listen on, 0 for any free one (default: PAGE_PORT)")
    given = parser.parse_args()
    settings = Settings()
    network = settings.network
    try:
        app = build(settings)
        asyncio.run(_try_library(settings))
    except (KeysError, LibraryError) as error:
        print(f"token server: {error}", file=sys.stderr, flush=True)
        return 1
    port = network.page_port if given.port is None else given.port
    return serve(app, given.host or network.host, port, settings.operations.log_level, setting="PAGE_PORT", tls=True)


async def _try_library(settings: Settings) -> None:
    """Open the database once before serving, so that what is wrong with it is one line and no traceback."""
    library = await Library.open(settings)
    await library.aclose()


if __name__ == "__main__":
    sys.exit(main())
