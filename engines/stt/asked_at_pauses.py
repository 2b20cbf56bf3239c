"""A live utterance for recognizers that take whole recordings only: asked when the speaker pauses, from the start.

The same sound is asked for once, however often its text is wanted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np

from engines.types import Audio, EngineUnavailable, Transcript


class AskedAtPauses:
    """A `LiveTranscription` over a recognizer of whole recordings.

    Args:
        transcribe: The recognizer.
        on_end: Told once when the utterance is finished or cancelled.
    """

    def __init__(
        self, transcribe: Callable[[Audio], Awaitable[Transcript]], on_end: Callable[[AskedAtPauses], None]
    ) -> None:
        self._transcribe = transcribe
        self._on_end = on_end
        self._heard: list[Audio] = []
        self._text = ""
        self._asked: tuple[int, asyncio.Task[Transcript]] | None = None
        """How many pieces of sound the newest question was about, and the question."""
        self._tasks: set[asyncio.Task[Transcript]] = set()
        self._over = False

    def push(self, audio: Audio) -> None:
        """Hand over more speech, 16 kHz; returns at once."""
        if not self._over and len(audio):
            self._heard.append(audio)

    @property
    def text(self) -> str:
        """The words understood at the last pause."""
        return self._text

    async def settle(self) -> str:
        """The text of all sound so far.

        Raises:
            EngineError: The recognizer failed, or the utterance is over.
        """
        return (await self._settled()).text

    async def finish(self) -> Transcript:
        """End the utterance and give its text.

        Raises:
            EngineError: The recognizer failed, or the utterance is over.
        """
        try:
            return await self._settled()
        finally:
            await self.cancel()

    async def cancel(self) -> None:
        """Drop the utterance, and the questions under way; idempotent."""
        if self._over:
            return
        self._over = True
        for task in self._tasks:
            task.cancel()
        self._on_end(self)

    async def _settled(self) -> Transcript:
        if self._over:
            raise EngineUnavailable("the utterance is over; open a new one")
        pieces = len(self._heard)
        if self._asked is None or self._asked[0] != pieces or _failed(self._asked[1]):
            audio = np.concatenate(self._heard) if self._heard else np.zeros(0, np.float32)
            task = asyncio.create_task(self._ask(audio), name="ask for a transcript")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            self._asked = (pieces, task)
        task = self._asked[1]
        # A caller that gives up leaves the answer to the next one who wants it.
        await asyncio.wait({task})
        if task.cancelled():
            raise EngineUnavailable("the utterance was cancelled")
        transcript = task.result()
        self._text = transcript.text
        return transcript

    async def _ask(self, audio: Audio) -> Transcript:
        return await self._transcribe(audio)


def _failed(task: asyncio.Task[Transcript]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
