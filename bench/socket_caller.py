"""A caller over the WebSocket who costs little: sound is made once, and only what a turn waits for is looked at."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from functools import lru_cache
from types import TracebackType
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from bench.questions import FRAME, PATIENCE, ended_at, question
from bench.turn import Turn
from tests.sound import first_audible
from tests.spoken import pcm

HEARD_RATE = 24_000
SECONDS = FRAME / 16_000
"""Of a frame."""
SILENCE = bytes(FRAME * 2)
LONGEST_REPLY = 60.0
"""Seconds until a reply that goes on and on counts as one that doesn't end."""


ENDS = {"replaced", "too_fast", "internal"}
"""Codes of errors that end a call which stood, and excuse nothing."""


class CallRefused(Exception):
    """The call wasn't taken; says with which code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@lru_cache(maxsize=64)
def frames(number: int) -> tuple[str, int, tuple[bytes, ...]]:
    """Text of a question, its samples, and its sound as the microphone's messages."""
    text, _, speech = question(number)
    whole = pcm(speech)
    size = FRAME * 2
    return text, len(speech), tuple(whole[at : at + size].ljust(size, b"\0") for at in range(0, len(whole), size))


@dataclass
class _Waited:
    """What a turn waits for, as it comes."""

    turn: Turn
    former: bool
    """The reply before it is still on its way; nothing of it counts."""
    ended_at: float = 0.0
    """Monotonic moment of the question's last audible sample; 0 while it is being spoken."""
    heard_at: float | None = None
    plays_from: float = 0.0
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    done: asyncio.Event = field(default_factory=asyncio.Event)


class SocketCaller:
    """One call; its microphone is always open.

    Args:
        url: `ws://host:port`.
        session: Names the conversation.
        number: The caller's, for its turns.
        began: Monotonic moment at which the run began.
        patience: Seconds after which the call counts as not taken, and a question as unanswered.
    """

    def __init__(self, url: str, session: str, number: int, began: float, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._address = f"{url}/ws/{session}?events=1&audio=binary"
        self._number = number
        self._began = began
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._speech: tuple[tuple[bytes, ...], asyncio.Future[float]] | None = None
        self._waited: _Waited | None = None
        self._replying = False
        self._plays_until = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._over = ""

    async def __aenter__(self) -> SocketCaller:
        """Call; returns once the conversation is ready.

        Raises:
            CallRefused: It wasn't taken.
        """
        try:
            self._socket: ClientConnection = await connect(
                self._address, compression=None, max_size=None, open_timeout=self._patience
            )
        except (OSError, InvalidHandshake, TimeoutError) as error:
            raise CallRefused("unreachable", str(error)) from error
        try:
            await self._socket.send(json.dumps({"agentId": "", "userId": f"load-{self._number}", "agentName": ""}))
            self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._speak())]
            await asyncio.wait_for(self._ready, self._patience)
        except BaseException as error:
            await self._hang_up()
            if isinstance(error, TimeoutError | ConnectionClosed):
                raise CallRefused("unready", f"no 'ready' came within {self._patience:.0f} s") from error
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._hang_up()

    async def _hang_up(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._socket.close(), 5)

    @property
    def over(self) -> str:
        """Why the server has closed the socket; empty while it stands."""
        return self._over

    async def quiet(self) -> None:
        """Return once the agent has said what it says, as a player would have played it."""
        deadline = time.monotonic() + LONGEST_REPLY
        while (self._replying or time.monotonic() < self._plays_until) and time.monotonic() < deadline:
            if self._over:
                return
            await asyncio.sleep(0.05)

    async def ask(self, number: int, barge: bool) -> Turn:
        """Ask a question; returns once its answer has begun to sound, or won't.

        Args:
            number: Of the question.
            barge: Whether it is spoken over the reply before it.
        """
        text, samples, spoken = frames(number)
        turn = Turn("websocket", self._number, 0.0, text, barged_in=barge)
        waited = self._waited = _Waited(turn, former=self._replying)
        if barge:
            turn.yielded = not self._replying
        loop = asyncio.get_running_loop()
        said: asyncio.Future[float] = loop.create_future()
        self._speech = (spoken, said)
        try:
            waited.ended_at = ended_at(samples, await asyncio.wait_for(said, self._patience + samples / 16_000))
            turn.at = waited.ended_at - self._began
            if waited.heard_at is None:
                await asyncio.wait_for(waited.heard.wait(), self._patience)
        except TimeoutError:
            turn.at = turn.at or time.monotonic() - self._began
            turn.why = self._over or f"nothing audible came within {self._patience:.0f} s"
            return turn
        if waited.heard_at is not None:
            waited.heard.set()
            turn.first_audible = waited.heard_at - waited.ended_at
            turn.outcome = "answered"
        elif not turn.why:
            turn.why = self._over
        return turn

    async def answered(self) -> bool:
        """Whether the answer that began to sound came to its end; waits for that."""
        assert self._waited is not None
        try:
            await asyncio.wait_for(self._waited.done.wait(), LONGEST_REPLY)
        except TimeoutError:
            return False
        return True

    # --- what comes ---------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in self._socket:
                if isinstance(message, bytes):
                    self._hear(message)
                else:
                    self._take(json.loads(message))
        self._over = f"the server closed the socket ({self._socket.close_code} {self._socket.close_reason})"
        if not self._ready.done():
            self._ready.set_exception(CallRefused("closed", self._over))
        self._give_up()

    def _hear(self, message: bytes) -> None:
        now = time.monotonic()
        self._replying = True
        self._plays_until = max(now, self._plays_until) + len(message) / 4 / HEARD_RATE
        waited = self._waited
        if waited is None or waited.former or waited.heard_at is not None:
            return
        samples = np.frombuffer(message, dtype="<f4")
        start = max(now, waited.plays_from)
        waited.plays_from = start + len(samples) / HEARD_RATE
        index = first_audible(samples, HEARD_RATE)
        if index is not None:
            waited.heard_at = start + index / HEARD_RATE
            if waited.ended_at:
                waited.heard.set()

    def _take(self, message: dict[str, Any]) -> None:
        waited = self._waited
        match message["type"]:
            case "ready":
                if not self._ready.done():
                    self._ready.set_result(None)
            case "interrupted":
                self._plays_until = 0.0
                if waited is not None and waited.former:
                    waited.turn.yielded = True
                elif waited is not None and not waited.heard.is_set():
                    # It began to answer before the question was over, and took it back.
                    waited.heard_at, waited.plays_from = None, 0.0
            case "tts_stream_end":
                self._replying = False
                if waited is not None and waited.former:
                    waited.former = False
                elif waited is not None and waited.heard_at is not None:
                    waited.done.set()
            case "turn":
                if waited is not None and not waited.former:
                    waited.turn.record(message)
            case "error":
                self._failed(str(message.get("code")), str(message.get("message")))

    def _failed(self, code: str, message: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(CallRefused(code, message))
        elif self._waited is not None and self._waited.heard_at is None:
            if code in ENDS:  # the socket is closed next; the person has to call anew
                self._waited.turn.why = f"{code}: {message}"
            else:
                self._waited.turn.refuse(code, message)
                self._waited.heard.set()

    def _give_up(self) -> None:
        if self._waited is not None:
            self._waited.heard.set()
            self._waited.done.set()

    # --- what goes ----------------------------------------------------------------------------------------

    async def _speak(self) -> None:
        """Send frame after frame when its time has come, as a microphone does."""
        with contextlib.suppress(ConnectionClosed):
            due = time.monotonic()
            while True:
                speech, self._speech = self._speech, None
                if speech is None:
                    due = await self._frame(SILENCE, due)
                    continue
                due = max(due, time.monotonic() - SECONDS)  # speech isn't hurried after a stall of this machine
                for frame in speech[0]:
                    due = await self._frame(frame, due)
                if not speech[1].done():
                    speech[1].set_result(time.monotonic())

    async def _frame(self, frame: bytes, due: float) -> float:
        due += SECONDS
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await self._socket.send(frame)
        return due
