"""How the test servers "speak": ten milliseconds a letter, at a level that tells whose sound it is."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import numpy as np
from aiohttp import web

from tests.vendors.trouble import KEY, Trouble, forever

LETTER = 240
"""Samples at 24 kHz."""
PIECE = 10
"""Letters in a message."""
VOICE, OTHER_VOICE = "a-voice", "another-voice"


def seconds(*clauses: str) -> float:
    """How long the servers speak these."""
    return sum(len(clause) for clause in clauses) * LETTER / 24_000


@dataclass
class SpeakingServer:
    """What a vendor's server was asked, and what goes wrong."""

    key: str = KEY
    voices: tuple[str, ...] = (VOICE, OTHER_VOICE)
    model: str = "a-model"
    level: float = 0.25
    pause: float = 0.0
    """Seconds between messages."""
    trouble: Trouble = field(default_factory=Trouble)
    texts: list[tuple[str, str]] = field(default_factory=list)
    """Context and text, as they came."""
    contexts: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    opened: int = 0
    open: int = 0
    sent: int = 0
    requests: list[str] = field(default_factory=list)
    """Addresses of all requests."""
    asked: list[dict[str, object]] = field(default_factory=list)
    """All messages."""
    sockets: list[web.WebSocketResponse] = field(default_factory=list)

    async def pieces(self, request: web.Request, text: str) -> AsyncIterator[str]:
        """The sound of a text in base64, and what goes wrong on the way."""
        for start in range(0, len(text), PIECE):
            if self.sent == self.trouble.hangs_after:
                await forever()
            if self.sent == self.trouble.cut_after:
                assert request.transport is not None
                request.transport.abort()
                return
            samples = np.full(len(text[start : start + PIECE]) * LETTER, self.level * 32768, "<i2")
            self.sent += 1
            yield base64.b64encode(samples.tobytes()).decode()
            await asyncio.sleep(self.pause)

    def begin(self) -> None:
        """Count pieces anew, for the next reply."""
        self.sent = 0

    async def drop_all(self) -> None:
        """Close all connections, as a vendor does with idle ones."""
        for socket in self.sockets:
            await socket.close()
        self.sockets.clear()
