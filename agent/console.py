"""The terminal as a transport, typed: lines from standard input, the agent's words on standard output as they come."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TextIO

from conversation.builder import Caller, Conversation, Events, Role
from conversation.tracing import TurnTracer
from engines.select import Chosen, choose
from library import Library
from library.leases import LeaseHolder
from settings import Settings

ANSWER_WITHIN = 120.0
"""Seconds an answer is waited for, where the next line or the end waits for it."""


class TextScreen:
    """Prints a conversation's words as they grow.

    Args:
        write: Puts text on the screen, without a line end of its own.
        show_user: Whether the user's words are shown too: spoken ones are, typed ones are on the screen already.
    """

    def __init__(self, write: Callable[[str], None], *, show_user: bool = False) -> None:
        self._write = write
        self._show_user = show_user
        self._shown = ""

    def transcript(self, role: Role, text: str, final: bool) -> None:
        """Words of either side, the whole reply or turn so far."""
        if role == "user":
            if self._show_user and final:
                self._write(f"you:   {text}\n")
            return
        if not self._shown:
            self._write("agent: ")
        self._write(text[len(self._shown) :])
        self._shown = text
        if final:
            self._write("\n")
            self._shown = ""

    def error(self, code: str, message: str) -> None:
        """Something failed."""
        self._write(f"error: {message} ({code})\n")

    def note(self, text: str) -> None:
        """A line of our own."""
        self._write(f"{text}\n")


@asynccontextmanager
async def conversation_here(
    settings: Settings, engines: Chosen, events: Events, *, personality: str | None, session_id: str | None
) -> AsyncIterator[Conversation]:
    """A conversation of this terminal, not started yet; its parts are opened before and closed after.

    Args:
        settings: The settings tree.
        engines: What listens, answers and speaks; closed here.
        events: What the terminal wants to know.
        personality: Personality id, or None for the conversation's own or the default.
        session_id: The conversation; None for a new one.
    """
    library = await Library.open(settings)
    holder = LeaseHolder(library, "console", 1)
    tracer = TurnTracer.of(settings)
    conversation: Conversation | None = None
    try:
        await holder.start()
        session_id = session_id or f"console-{uuid.uuid4().hex[:8]}"
        lease = await holder.claim(session_id, "console")
        conversation = Conversation(
            engines,
            library,
            settings,
            Caller(session_id, personality=personality, user="console"),
            "console",
            lease=lease,
            tracer=tracer,
            events=events,
        )
        yield conversation
    finally:
        if conversation is not None:
            await conversation.aclose()
        await holder.aclose()
        await library.aclose()
        if tracer is not None:
            await tracer.aclose()
        for engine in (engines.stt, engines.chat, engines.tts):
            await engine.aclose()


async def talk_by_text(
    settings: Settings,
    *,
    personality: str | None = None,
    session_id: str | None = None,
    lines: TextIO | None = None,
    write: Callable[[str], None] | None = None,
) -> int:
    """Hold a typed conversation until the input ends (Ctrl-D); gives the exit code.

    Args:
        settings: The settings tree.
        personality: Personality id, or None for the default.
        session_id: The conversation to go on with; None for a new one.
        lines: Where the lines come from; standard input where None.
        write: Where the words go; standard output where None.
    """
    screen = TextScreen(write or write_out)
    engines = choose(settings, "conversation")
    for why in engines.why:
        screen.note(why)
    lost = asyncio.Event()
    events = Events(transcript=screen.transcript, error=screen.error, lost=lost.set)
    async with conversation_here(
        settings, engines, events, personality=personality, session_id=session_id
    ) as conversation:
        await engines.chat.start()
        await conversation.start(None, None)
        screen.note(f"You talk to {conversation.personality.name}; Ctrl-D ends.")
        reading = asyncio.create_task(_read(conversation, lines or sys.stdin))
        losing = asyncio.create_task(lost.wait())
        await asyncio.wait({reading, losing}, return_when=asyncio.FIRST_COMPLETED)
        if lost.is_set():
            screen.note("Another one took this conversation over.")
        losing.cancel()
        reading.cancel()
        await asyncio.gather(reading, losing, return_exceptions=True)
    return 0


async def _read(conversation: Conversation, lines: TextIO) -> None:
    """Type line after line; piped ones are a script, in which each waits until all before it is answered."""
    scripted = not lines.isatty()
    async for line in read_lines(lines):
        if scripted:
            await _answered(conversation)
        await conversation.type(line)
    await _answered(conversation)


async def _answered(conversation: Conversation) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ANSWER_WITHIN):
            await conversation.session.wait_for_idle()


async def read_lines(lines: TextIO) -> AsyncIterator[str]:
    """The lines of a file or terminal as they come.

    A thread of its own reads, since neither a terminal nor a file can be waited for on every system; it
    doesn't keep the program from ending.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[str | None] = asyncio.Queue()

    def read() -> None:
        with contextlib.suppress(RuntimeError, ValueError):  # the loop or the file is closed already
            for line in lines:
                loop.call_soon_threadsafe(queue.put_nowait, line)
            loop.call_soon_threadsafe(queue.put_nowait, None)

    threading.Thread(target=read, name="standard input", daemon=True).start()
    while (line := await queue.get()) is not None:
        yield line


def write_out(text: str) -> None:
    """Put text on standard output at once."""
    sys.stdout.write(text)
    sys.stdout.flush()
