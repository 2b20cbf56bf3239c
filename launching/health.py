"""Asks a part whether it can serve: one plain HTTP GET, without the weight of an HTTP library."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from urllib.parse import urlsplit

LONGEST_ANSWER = 16 * 1024
"""Bytes of an answer that are looked at."""


async def ask(address: str, limit: float, context: ssl.SSLContext | None = None) -> tuple[int, str]:
    """The answer of `address`.

    Args:
        address: An `http://` or `https://` address on this machine.
        limit: Seconds it may take.
        context: Which certificates are trusted, for `https://`.

    Returns:
        Status (0 where nobody answers) and the reason; where the answer names none, the beginning of its body.
    """
    url = urlsplit(address)
    try:
        async with asyncio.timeout(limit):
            secured = context if url.scheme == "https" else None
            reader, writer = await asyncio.open_connection(url.hostname, url.port, ssl=secured)
            try:
                writer.write(
                    f"GET {url.path or '/'} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n".encode()
                )
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                body = b""
                while len(body) < LONGEST_ANSWER and (piece := await reader.read(LONGEST_ANSWER)):
                    body += piece
            finally:
                writer.close()
        return int(head.split()[1]), _reason(body.decode(errors="replace"))
    except TimeoutError:
        return 0, f"no answer within {limit:g} s"
    except ssl.SSLError as error:  # somebody is there, and can't be believed
        return 495, f"its certificate isn't the one expected ({error.reason or error})"
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError) as error:
        return 0, f"no answer ({type(error).__name__})"


def _reason(body: str) -> str:
    """What our parts give as the reason, or the body in one line."""
    with contextlib.suppress(ValueError):
        said = json.loads(body)
        if isinstance(said, dict) and isinstance(said.get("reason"), str):
            body = said["reason"]
    return " ".join(body.split())
