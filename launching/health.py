"""Asks a part whether it can serve: one plain HTTP GET, without the weight of an HTTP library."""

from __future__ import annotations

import asyncio
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
        Status (0 where nobody answers) and the beginning of the body, or the reason.
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
                body = await reader.read(LONGEST_ANSWER)
            finally:
                writer.close()
        return int(head.split()[1]), " ".join(body.decode(errors="replace").split())
    except TimeoutError:
        return 0, f"no answer within {limit:g} s"
    except ssl.SSLError as error:  # somebody is there, and can't be believed
        return 495, f"its certificate isn't the one expected ({error.reason or error})"
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError) as error:
        return 0, f"no answer ({type(error).__name__})"
