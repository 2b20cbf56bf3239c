"""A legacy client, written from contract.md alone: raw PCM up, base64 float32 speech down, over one WebSocket.

It needs nothing but a WebSocket, JSON and base64, like the clients of the old system.
"""

from __future__ import annotations

import array
import asyncio
import base64
import contextlib
import json
import ssl
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.e2e.waiting import PATIENCE, Arrivals

SENT_RATE = 16_000
HEARD_RATE = 24_000
FRAME = 0.02
"""Seconds of microphone sound in a message."""


@dataclass
class Reply:
    """The sound between two `tts_stream_end`: pieces with the monotonic time each arrived."""

    pieces: list[tuple[float, array.array[float]]] = field(default_factory=list)
    ended: bool = False

    @property
    def samples(self) -> array.array[float]:
        """All of it, 24 kHz."""
        whole = array.array("f")
        for _, piece in self.pieces:
            whole.extend(piece)
        return whole

    @property
    def seconds(self) -> float:
        """Its length."""
        return sum(len(piece) for _, piece in self.pieces) / HEARD_RATE


class LegacyClient:
    """One caller; its microphone is always open and sends silence where nothing is said.

    Args:
        url: `ws://host:port` or `wss://host:port`.
        agent: Personality id.
        query: What to opt in to, such as `events=1`.
        trust: Whom to trust on `wss://`.
    """

    def __init__(
        self,
        url: str,
        session: str,
        *,
        agent: str = "",
        user: str = "tester",
        name: str = "",
        query: str = "",
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._trust = trust
        self._address = f"{url}/ws/{session}" + (f"?{query}" if query else "")
        self._hello = {"agentId": agent, "userId": user, "agentName": name}
        self._microphone: asyncio.Queue[tuple[bytes, asyncio.Future[float]]] = asyncio.Queue()
        self._arrivals = Arrivals(self._summary)
        self.replies: list[Reply] = [Reply()]
        self.messages: list[dict[str, Any]] = []
        """Every text message but sound, in order."""
        self.types: set[str] = set()

    async def __aenter__(self) -> LegacyClient:
        self._socket: ClientConnection = await connect(
            self._address, max_size=None, open_timeout=PATIENCE, ssl=self._trust
        )
        await self._socket.send(json.dumps(self._hello))
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._speak())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._socket.close()

    async def say(self, pcm: bytes) -> float:
        """Speak (16-bit PCM, 16 kHz) in real time; return the monotonic time its last sample was sent."""
        said: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        await self._microphone.put((pcm, said))
        return await asyncio.wait_for(said, PATIENCE + len(pcm) / 2 / SENT_RATE)

    async def send(self, message: dict[str, Any]) -> None:
        """Send a text message."""
        await self._socket.send(json.dumps(message))

    async def reply(self, number: int, patience: float = PATIENCE) -> Reply:
        """The reply with this number (from 0), once it has ended."""
        await self._arrivals.until(lambda: self.ended > number, f"end of reply {number}", patience)
        return self.replies[number]

    async def sound(self, number: int, seconds: float) -> None:
        """Return once this much of a reply has arrived."""
        await self._arrivals.until(
            lambda: len(self.replies) > number and self.replies[number].seconds >= seconds,
            f"{seconds} s of reply {number}",
        )

    async def message(self, kind: str, number: int = 0, **fields: object) -> dict[str, Any]:
        """The message of this type and these fields with this number (from 0)."""

        def found() -> list[dict[str, Any]]:
            return [m for m in self.messages if m["type"] == kind and all(m.get(k) == v for k, v in fields.items())]

        await self._arrivals.until(lambda: len(found()) > number, f"message {kind} {fields} {number}")
        return found()[number]

    async def closed(self) -> int | None:
        """The close code, once the server has closed the socket."""
        await asyncio.wait_for(self._socket.wait_closed(), PATIENCE)
        return self._socket.close_code

    @property
    def over(self) -> bool:
        """Whether the line has ended."""
        return self._arrivals.over

    @property
    def ended(self) -> int:
        """Replies that have ended."""
        return sum(reply.ended for reply in self.replies)

    def said(self, role: str) -> list[str]:
        """Final texts of a role, in order (with `events=1`)."""
        return [m["text"] for m in self.messages if m["type"] == "transcript" and m["role"] == role and m["final"]]

    async def _listen(self) -> None:
        try:
            async for message in self._socket:
                self._take(message)
                self._arrivals.notify()
        except ConnectionClosed:
            pass
        self._arrivals.end(f"the server closed the socket ({self._socket.close_code} {self._socket.close_reason})")

    def _take(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._hear(message)
            return
        taken = json.loads(message)
        self.types.add(taken["type"])
        if taken["type"] == "tts_stream":
            self._hear(base64.b64decode(taken["data"], validate=True))
        elif taken["type"] == "tts_stream_end":
            self.replies[-1].ended = True
            self.replies.append(Reply())
        else:
            self.messages.append(taken)

    def _hear(self, data: bytes) -> None:
        self.replies[-1].pieces.append((time.monotonic(), array.array("f", data)))

    async def _speak(self) -> None:
        """Send frame after frame when its time has come, as a microphone does."""
        size = int(SENT_RATE * FRAME) * 2
        pcm, said = b"", None
        due = time.monotonic()
        with contextlib.suppress(ConnectionClosed):
            while True:
                if not pcm and not self._microphone.empty():
                    pcm, said = self._microphone.get_nowait()
                    due = max(due, time.monotonic() - FRAME)  # speech isn't hurried after a stall of this machine
                frame, pcm = pcm[:size], pcm[size:]
                due += FRAME
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await self._socket.send(frame.ljust(size, b"\0"))
                if said is not None and not pcm:
                    said.set_result(time.monotonic())
                    said = None

    def _summary(self) -> str:
        heard = [f"{reply.seconds:.1f} s{'' if reply.ended else ' (not ended)'}" for reply in self.replies]
        return f"replies {heard}, messages {self.messages[-12:]}"
