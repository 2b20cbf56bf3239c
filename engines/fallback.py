"""Ordered engines as one: an engine that fails, hangs or is full is left within the same turn.

Every engine of a conversation stands in such a line, alone or not: the line is where its deadlines are kept.

What was said so far is kept and given to the next engine, as long as nothing of a reply has come out. After the first
piece of a reply a failure is raised: half a reply from one engine doesn't go on in another's words or voice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Sequence
from contextlib import aclosing

from engines.failover import BoundedLine, OnFailure, answering
from engines.fallback_stt import FallbackTranscriber
from engines.shared_text import SharedText
from engines.types import DEFAULT_VOICE, Audio, ChatModel, Message, Synthesizer, Voice

__all__ = ["FallbackChat", "FallbackSynthesizer", "FallbackTranscriber"]

FIRST_TOKEN_DEADLINE = 10.0
NEXT_TOKEN_DEADLINE = 5.0
FIRST_AUDIO_DEADLINE = 5.0


class FallbackChat(BoundedLine[ChatModel]):
    """Replies of the first of several chat models that can.

    Args:
        engines: In the order of preference.
        deadline: Seconds for the first piece of a reply.
        clock: Seconds that only grow.
        on_failure: Told each failure, for metrics.
        next_deadline: Seconds for each further piece.
    """

    def __init__(
        self,
        engines: Sequence[ChatModel],
        deadline: float = FIRST_TOKEN_DEADLINE,
        clock: Callable[[], float] = time.monotonic,
        on_failure: OnFailure | None = None,
        *,
        next_deadline: float = NEXT_TOKEN_DEADLINE,
    ) -> None:
        super().__init__(engines, deadline, clock, on_failure)
        self.next_deadline = next_deadline

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        conversation: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> AsyncGenerator[str, None]:
        """Yield the reply's text; see `ChatModel.reply`."""
        for attempt in self.attempts():
            pieces = attempt.engine.reply(
                messages, conversation=conversation, max_tokens=max_tokens, temperature=temperature
            )
            begun = False
            async with aclosing(pieces):
                try:
                    while True:
                        with answering(attempt.name):
                            async with asyncio.timeout(self.next_deadline if begun else self.deadline):
                                piece = await anext(pieces, None)
                        if not begun:
                            attempt.succeeded()
                            begun = True
                        if piece is None:
                            return
                        yield piece
                except Exception as error:
                    problem = attempt.failed(error)
                    if begun:
                        raise problem from error


class FallbackSynthesizer(BoundedLine[Synthesizer]):
    """Speech by the first of several voices that can.

    The deadline is for the first and for every next piece of sound; time in which the text itself has yet to be
    written doesn't count.
    """

    def __init__(
        self,
        engines: Sequence[Synthesizer],
        deadline: float = FIRST_AUDIO_DEADLINE,
        clock: Callable[[], float] = time.monotonic,
        on_failure: OnFailure | None = None,
    ) -> None:
        super().__init__(engines, deadline, clock, on_failure)

    async def speak(
        self, text: str | AsyncIterable[str], voice: Voice = DEFAULT_VOICE, language: str | None = None
    ) -> AsyncGenerator[Audio, None]:
        """Yield 24 kHz chunks; see `Synthesizer.speak`."""
        shared = None if isinstance(text, str) else SharedText(text)
        try:
            for attempt in self.attempts():
                source = text if shared is None else shared.read()
                begun = False
                async with aclosing(attempt.engine.speak(source, voice, language)) as chunks:
                    try:
                        while True:
                            with answering(attempt.name):
                                chunk = await self._next(chunks, shared)
                            if not begun:
                                attempt.succeeded()
                                begun = True
                            if chunk is None:
                                return
                            yield chunk
                    except Exception as error:
                        if shared is not None and shared.failure is not None:
                            # The text broke off, not the voice.
                            raise shared.failure from None
                        problem = attempt.failed(error)
                        if begun:
                            raise problem from error
        finally:
            if shared is not None:
                await shared.aclose()

    async def _next(self, chunks: AsyncGenerator[Audio, None], shared: SharedText | None) -> Audio | None:
        async with asyncio.timeout(None if shared else self.deadline) as limit:
            if shared is not None:
                shared.bound(limit, self.deadline)
            try:
                return await anext(chunks, None)
            finally:
                if shared is not None:
                    shared.release()
