"""Ends a reply that is silent and shouldn't be, so that its conversation goes on listening."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass

from livekit.agents import AgentSession

from conversation.ear import Ear
from conversation.paced_output import PacedOutput
from conversation.silent_reply import LOOK_EVERY, Cause, Seen, SilentReply
from engines.watchdog import bite

logger = logging.getLogger("voice_node.conversation")

ENDS_WITHIN = 2.0
"""Seconds that an interrupted reply has to end, before sound that is held back is let go of all the same."""
CODE = "no_sound"
MESSAGE = "The reply could not be played and was ended; say it again."


@dataclass
class Making:
    """The making of one reply's sound.

    Attributes:
        running: The voice is at work.
        writing: Its text isn't all there yet.
    """

    running: bool = True
    writing: bool = True

    async def reading(self, text: AsyncIterable[str]) -> AsyncIterator[str]:
        """Pass a text on and note its end."""
        async for piece in text:
            yield piece
        self.writing = False


class ReplyWatch:
    """Looks at a conversation's replies while it is held; start it on the event loop.

    Args:
        session: Interrupts.
        output: Plays.
        ear: Says whether somebody speaks.
        making: Gives what is known of the newest reply's sound; None before the first.
        voice_deadline: Seconds that a voice has for a piece of sound.
        name: The conversation, for the log.
        tell: Told an error's code and message.
    """

    def __init__(
        self,
        session: AgentSession[None],
        output: PacedOutput,
        ear: Ear,
        making: Callable[[], Making | None],
        voice_deadline: float,
        name: str,
        tell: Callable[[str, str], None],
    ) -> None:
        self._session = session
        self._output = output
        self._ear = ear
        self._making = making
        self._policy = SilentReply(voice_deadline)
        self._name = name
        self._tell = tell
        self._task = asyncio.create_task(self._watch(), name="reply watch")

    async def aclose(self) -> None:
        """Look no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(LOOK_EVERY)
            now = loop.time()
            cause = self._policy.look(self._seen(), now - last)
            last = now
            if cause is not None:
                await self._end(cause)

    def _seen(self) -> Seen:
        speech, making, output = self._session.current_speech, self._making(), self._output
        return Seen(
            under_way=speech is not None and not speech.done(),
            hearing=self._ear.hearing,
            paused=output.paused,
            playing=output.playing,
            waiting=output.waiting,
            open=output.open,
            making=making is not None and making.running,
            writing=making is not None and making.running and making.writing,
        )

    async def _end(self, cause: Cause) -> None:
        bite("silent_reply", "a reply that was silent was ended", session=self._name, cause=cause)
        self._tell(CODE, MESSAGE)
        if cause == "not played":
            self._output.give_up_frame()
        with contextlib.suppress(RuntimeError, TimeoutError):
            async with asyncio.timeout(ENDS_WITHIN):
                await asyncio.shield(self._session.interrupt(force=True))
        if self._output.paused and not self._ear.hearing:
            self._output.resume()  # else the next reply would be held back as well
