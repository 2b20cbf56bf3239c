"""One reply between its caller's event loop and the worker's thread: text goes in, sound or an error comes out.

The caller's side is used in its loop only, the worker's in the worker's thread only. What both touch are queues, and
flags that are set once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from engines.tts.xtts.latents import Latents
from engines.types import SPOKEN_RATE, Audio, EngineError

MOST_AHEAD = 20.0
"""Seconds of sound that may lie waiting for the caller; with more no further piece of its text is begun."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A piece of a reply's text, as long as XTTS speaks well at once."""

    ids: list[int]
    """Token ids, with the language's tag."""
    characters: float
    """How long it is when spoken."""


class Reply:
    """What one call of `speak` says.

    Args:
        latents: The voice.
        language: XTTS's tag; what is learnt of a voice's rate holds for one language.
        rate: Speed against the voice's own.
        wake: Tells the worker that something is new.
    """

    def __init__(self, latents: Latents, language: str, rate: float, wake: Callable[[], None]) -> None:
        self.latents = latents
        self.language = language
        self.rate = rate
        self.cancelled = False
        self.text_ended = False
        self.pieces: deque[Prompt] = deque()
        """Not yet begun; the caller adds at the right, the worker takes from the left."""
        self.codes_before_it = 0.0
        """Codes that it is expected to have before it; set by the worker."""
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._sound: asyncio.Queue[Audio | Exception | None] = asyncio.Queue()
        self._handed_over = 0
        self._taken = 0

    # --- the caller's side ---

    def add(self, piece: Prompt) -> None:
        """Add a piece of text."""
        self.pieces.append(piece)
        self._wake()

    def end_text(self) -> None:
        """Nothing more will be added."""
        self.text_ended = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """The text broke off: so does the reply, with the same error."""
        self._sound.put_nowait(error)
        self.cancel()

    def cancel(self) -> None:
        """Stop it before the next step; idempotent."""
        self.cancelled = True
        self._wake()

    async def sound(self) -> AsyncGenerator[Audio, None]:
        """Its sound as it is made.

        Raises:
            Exception: It broke off: an `EngineError`, or what the source of its text raised.
        """
        while (made := await self._sound.get()) is not None:
            if isinstance(made, Exception):
                raise made
            self._taken += len(made)
            yield made

    # --- the worker's side ---

    @property
    def ahead(self) -> float:
        """Seconds of sound that the caller hasn't taken yet."""
        return (self._handed_over - self._taken) / SPOKEN_RATE

    def hand_over(self, made: Audio | EngineError | None) -> None:
        """Give the caller sound, an error that ends it, or None at its end."""
        if not isinstance(made, EngineError) and made is not None:
            self._handed_over += len(made)
        try:
            self._loop.call_soon_threadsafe(self._sound.put_nowait, made)
        except RuntimeError:
            # Its loop was closed while it spoke.
            self.cancelled = True
