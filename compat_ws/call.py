"""One socket's life: first message, a lease on the conversation, sound both ways, and an end that says why."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

from fastapi import WebSocket
from livekit.agents import CloseEvent, CloseReason
from livekit.agents.voice import io
from starlette.websockets import WebSocketDisconnect

from compat_ws import messages
from compat_ws.ending import Replaced, TooBig, tell_end
from compat_ws.equipment import Equipment
from compat_ws.messages import Command, Hello, Options, Typed, UsePersonality, WrongMessage
from compat_ws.microphone import Microphone
from compat_ws.outbox import Outbox
from compat_ws.places import Place
from compat_ws.speaker import Speaker
from conversation.builder import Caller, Conversation, Events
from conversation.latency import Record
from conversation.paced_output import PacedOutput
from engines.types import EngineUnavailable
from library import LibraryError, check_session_id
from library.leases import Lease
from services.http import accept

logger = logging.getLogger("voice_node.compat_ws")

HELLO_WITHIN = 10.0
"""Seconds a client has for its first message."""
LARGEST = 1024 * 1024
"""Bytes of the largest message taken."""
FRAME = 0.04
"""Seconds of sound in a message to the client."""
COMMANDS = 32
"""Text messages that may wait while one is carried out."""
STARTS_WITHIN = 2.0
"""Seconds that a call which is over waits for its conversation to have started."""
REPLACED = "this conversation goes on elsewhere now: another connection took it over"
FAILED = "the engines fail again and again; GET /health says which"


class Talk(Protocol):
    """What a socket needs of a conversation; `conversation.builder.Conversation` is one."""

    @property
    def session(self) -> Any:
        """Emits `close`."""
        ...

    async def start(self, audio_input: io.AudioInput | None, audio_output: PacedOutput | None) -> None:
        """Begin to listen."""
        ...

    async def type(self, text: str) -> None:
        """A typed message."""
        ...

    async def use_personality(self, personality_id: str) -> object:
        """Go on as another personality."""
        ...

    async def use_voice(self, voice_id: str) -> object:
        """Go on in another voice."""
        ...

    async def aclose(self) -> None:
        """End it."""
        ...


Converse = Callable[[Equipment, Caller, Lease, Events], Talk]


def converse(equipment: Equipment, caller: Caller, lease: Lease, events: Events) -> Talk:
    """A conversation over a WebSocket."""
    return Conversation(
        equipment.engines,
        equipment.library,
        equipment.settings,
        caller,
        "websocket",
        lease=lease,
        histograms=equipment.histograms,
        tracer=equipment.tracer,
        events=events,
    )


async def serve_call(ws: WebSocket, session_id: str, equipment: Equipment, begin: Converse) -> None:
    """Serve one socket from its handshake to its end."""
    if not await accept(ws, equipment.settings):
        return
    try:
        wanted = messages.options(ws.query_params)
        check_session_id(session_id)
        hello = await _hello(ws)
        equipment.check_database()  # a socket that holds this conversation keeps it while nobody can take it up
        async with equipment.places.take(session_id) as place:
            await equipment.check_services()
            equipment.check_database()
            lease = await equipment.leases.claim(session_id, "websocket")
            try:
                await _Call(ws, session_id, equipment, wanted, place, lease).hold(hello, begin)
            finally:
                await lease.release()
    except Exception as why:
        await tell_end(ws, session_id, why)


async def _hello(ws: WebSocket) -> Hello:
    try:
        async with asyncio.timeout(HELLO_WITHIN):
            return messages.hello(await _receive(ws))
    except TimeoutError as error:
        raise WrongMessage(f"no first message came within {HELLO_WITHIN:g} s; {messages.HELLO}") from error


async def _receive(ws: WebSocket) -> str | bytes:
    """The client's next message.

    Raises:
        WebSocketDisconnect: It has left.
        TooBig: The message is.
    """
    event: Mapping[str, Any] = await ws.receive()
    if event["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(event.get("code") or 1006, event.get("reason"))
    data: bytes | None = event.get("bytes")
    message = data if data is not None else str(event.get("text") or "")
    if len(message) > LARGEST:
        raise TooBig(f"a message has at most {LARGEST} bytes; send sound as it is spoken")
    return message


class _Call:
    """A socket with a conversation on it."""

    def __init__(
        self, ws: WebSocket, session_id: str, equipment: Equipment, wanted: Options, place: Place, lease: Lease
    ) -> None:
        self._ws = ws
        self._session_id = session_id
        self._equipment = equipment
        self._wanted = wanted
        self._place = place
        self._lease = lease
        self._outbox = Outbox(self._send)
        self._microphone = Microphone()
        self._commands: asyncio.Queue[Command] = asyncio.Queue(COMMANDS)
        self._failed = asyncio.Event()
        self._starting: asyncio.Task[None] | None = None

    async def hold(self, hello: Hello, begin: Converse) -> None:
        """Hold the conversation until either side ends it, and tell the client why it ended."""
        caller = Caller(self._session_id, hello.agent_id or None, hello.agent_name or None, hello.user_id or None)
        talk = begin(self._equipment, caller, self._lease, self._events())
        lead = self._equipment.settings.conversations.audio_lead
        output = PacedOutput(Speaker(self._outbox, self._wanted), lead=lead, frame=min(FRAME, lead), label="websocket")
        # None of these returns: the first to fail says why the call is over.
        works = [
            self._listen(),
            self._outbox.run(),
            self._talk(talk, output),
            _until(self._place.replaced, Replaced, REPLACED),
            _until(self._lease.lost, Replaced, REPLACED),
            _until(self._failed, EngineUnavailable, FAILED),
        ]
        tasks = [asyncio.create_task(work) for work in works]
        try:
            over, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await _stop(tasks)  # so that nobody else sends
            # Told before the conversation is closed, which takes a moment.
            await tell_end(self._ws, self._session_id, over.pop().exception() or RuntimeError("a call's task returned"))
        finally:
            await _stop(tasks)
            self._microphone.close()
            await self._started()
            output.settle()  # what the client was sent whole, it has; it may have left before its sound was over
            await talk.aclose()
            await output.aclose()

    # --- what comes ---------------------------------------------------------------------------------------

    async def _listen(self) -> NoReturn:
        while True:
            message = await _receive(self._ws)
            if isinstance(message, bytes):
                self._microphone.push(message)
                continue
            try:
                self._commands.put_nowait(messages.command(message, self._wanted))
            except WrongMessage as error:
                self._error("bad_request", str(error))
            except asyncio.QueueFull:
                self._error("too_fast", f"{COMMANDS} messages wait already; send the next one later")

    async def _talk(self, talk: Talk, output: PacedOutput) -> NoReturn:
        await self._equipment.start_engines()
        # Broken off in the middle it would leave tasks behind that nobody can end.
        self._starting = asyncio.create_task(talk.start(self._microphone, output), name="start the conversation")
        await asyncio.shield(self._starting)
        talk.session.on("close", self._on_session_closed)
        self._event("ready")
        while True:
            await self._carry_out(talk, await self._commands.get())

    async def _started(self) -> None:
        """Let a conversation that is just starting be whole, so that it can be closed."""
        if self._starting is None:
            return
        await asyncio.wait({self._starting}, timeout=STARTS_WITHIN)
        self._starting.cancel()
        await asyncio.gather(self._starting, return_exceptions=True)

    async def _carry_out(self, talk: Talk, command: Command) -> None:
        try:
            match command:
                case Typed(text):
                    await talk.type(text)
                case UsePersonality(personality_id):
                    await talk.use_personality(personality_id)
                case messages.UseVoice(voice_id):
                    await talk.use_voice(voice_id)
        except LookupError as error:
            self._error("not_found", str(error))
        except LibraryError as error:
            logger.error("the library failed: %s", error, extra={"session": self._session_id})
            self._error("unavailable", "this can't be kept now; try again later")

    # --- what goes ----------------------------------------------------------------------------------------

    def _events(self) -> Events:
        return Events(
            transcript=lambda role, text, final: self._event("transcript", role=role, text=text, final=final),
            turn=self._on_turn,
            error=self._error,
            lost=self._lease.lost.set,
        )

    def _on_turn(self, record: Record) -> None:
        self._event("turn", **record)

    def _on_session_closed(self, event: CloseEvent) -> None:
        if event.reason is CloseReason.ERROR:
            self._failed.set()

    def _event(self, kind: str, **fields: object) -> None:
        if self._wanted.events:
            self._outbox.put(messages.text(kind, **fields))

    def _error(self, code: str, message: str) -> None:
        self._outbox.put(messages.text("error", code=code, message=message))

    async def _send(self, message: str | bytes) -> None:
        try:
            if isinstance(message, bytes):
                await self._ws.send_bytes(message)
            else:
                await self._ws.send_text(message)
        except (RuntimeError, OSError) as error:  # the line is gone, or is being closed
            raise WebSocketDisconnect(1006) from error


async def _until(happened: asyncio.Event, end: type[Replaced] | type[EngineUnavailable], message: str) -> NoReturn:
    await happened.wait()
    raise end(message)


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
