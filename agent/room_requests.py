"""What people ask of the agent in a room: typed messages, another personality or voice, the clock, what was heard."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from livekit import rtc
from livekit.agents.types import TOPIC_CHAT

from agent.room_audio import is_human
from conversation.moments import Moments
from engines.types import Voice
from library.errors import LibraryError
from library.personalities import Personality
from library.text import storable

logger = logging.getLogger("voice_node.agent")

TOPIC_HEARD = "voice.heard"
LONGEST = 16_000
"""Characters of a typed message that are read; what is longer isn't conversation."""
WHOLE_WITHIN = 30.0
"""Seconds within which a text that has begun must be there; nobody types one piece by piece."""
AT_ONCE = 200
"""Texts that are read or wait to be answered; of more, the newest are dropped."""
KNOWN_WITHIN = 2.0
"""Seconds within which a text's sender must turn out to be in the room."""
CLOCK_ERROR = 0.25
"""Seconds of doubt about a client's clock beyond which its report of what it heard measures nothing."""


class Asked(Protocol):
    """The part of a conversation that people ask things of (conversation.builder.Conversation)."""

    async def type(self, text: str) -> None:
        """Answer a typed message."""

    async def use_personality(self, personality_id: str) -> Personality:
        """Go on as another personality; LookupError where there is none."""
        ...

    async def use_voice(self, voice_id: str) -> Voice:
        """Go on in another voice; LookupError where there is none."""
        ...

    def heard(self, turn: int, at: float) -> None:
        """Note when a turn's answer was heard; LookupError where there is no such turn."""


class RoomRequests:
    """Answers the requests of a room's people on behalf of its conversation, as contract.md words them.

    Args:
        room: Connected.
        conversation: Has the conversation once it has been started; requests that come earlier wait for it.
        moments: The conversation's clock, in which the client reports what it heard.
    """

    def __init__(self, room: rtc.Room, conversation: asyncio.Future[Asked], moments: Moments) -> None:
        self._room = room
        self._moments = moments
        self._conversation = conversation
        self._typing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._joined = asyncio.Event()
        room.on("participant_connected", self._on_joined)
        room.register_text_stream_handler(TOPIC_CHAT, self._on_chat)
        room.register_text_stream_handler(TOPIC_HEARD, self._on_heard)
        methods: dict[str, Callable[[rtc.RpcInvocationData], Awaitable[str]]] = {
            "voice.clock": self._clock,
            "voice.personality": self._personality,
            "voice.voice": self._voice,
        }
        for name, answer in methods.items():
            room.local_participant.register_rpc_method(name, answer)
        self._methods = tuple(methods)

    async def aclose(self) -> None:
        """Answer no more."""
        self._room.off("participant_connected", self._on_joined)
        for topic in (TOPIC_CHAT, TOPIC_HEARD):
            self._room.unregister_text_stream_handler(topic)
        if self._room.isconnected():
            for name in self._methods:
                self._room.local_participant.unregister_rpc_method(name)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- text --------------------------------------------------------------------------------------------

    def _on_chat(self, reader: rtc.TextStreamReader, identity: str) -> None:
        self._read(reader, identity, self._typed)

    def _on_heard(self, reader: rtc.TextStreamReader, identity: str) -> None:
        self._read(reader, identity, self._heard)

    def _read(self, reader: rtc.TextStreamReader, identity: str, then: Callable[[str], Awaitable[None]]) -> None:
        if len(self._tasks) >= AT_ONCE:
            logger.debug("too many texts from the room at once")
            reader.close()
            return
        task = asyncio.create_task(self._read_all(reader, identity, then), name="room request")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read_all(
        self, reader: rtc.TextStreamReader, identity: str, then: Callable[[str], Awaitable[None]]
    ) -> None:
        try:
            text = await self._whole(reader) if await self._human(identity) else None
            if text is not None:
                await then(text)
        except rtc.StreamError as error:
            logger.debug("a text from the room broke off: %s", error)
        except Exception:
            logger.exception("a text from the room could not be answered")
        finally:
            reader.close()

    async def _whole(self, reader: rtc.TextStreamReader) -> str | None:
        """A text once all of it is there; None where it is too long, or never ends."""
        text = ""
        try:
            async with asyncio.timeout(WHOLE_WITHIN):
                async for piece in reader:
                    text += piece
                    if len(text) > LONGEST:
                        logger.warning("a text from the room is too long", extra={"limit": LONGEST})
                        return None
        except TimeoutError:
            logger.debug("a text from the room doesn't end")
            return None
        return text

    def _on_joined(self, participant: rtc.RemoteParticipant) -> None:
        self._joined.set()

    async def _human(self, identity: str) -> bool:
        """Whether a text's sender is a person; what somebody sends as they join comes before news of them does."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KNOWN_WITHIN):
                while identity not in self._room.remote_participants:
                    self._joined.clear()
                    await self._joined.wait()
        sender = self._room.remote_participants.get(identity)
        return sender is not None and is_human(sender)

    async def _typed(self, text: str) -> None:
        async with self._typing:
            conversation = await self._asked()
            if text.strip():
                await conversation.type(text)

    async def _heard(self, text: str) -> None:
        try:
            report = json.loads(text)
            turn, at, error = int(report["turn"]), float(report["at"]), float(report.get("error", 0.0))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            logger.debug("an unreadable report of what was heard")
            return
        if not math.isfinite(at) or not abs(error) <= CLOCK_ERROR:
            return
        try:
            (await self._asked()).heard(turn, at)
        except LookupError as unknown:
            logger.debug("%s", unknown)

    # --- calls -------------------------------------------------------------------------------------------

    async def _clock(self, call: rtc.RpcInvocationData) -> str:
        arrived = self._moments()
        request = _payload(call)
        return json.dumps({"t0": request.get("t0"), "t1": arrived, "t2": self._moments()})

    async def _personality(self, call: rtc.RpcInvocationData) -> str:
        wanted = _wanted_id(call)
        try:
            found = await (await self._asked()).use_personality(wanted)
        except LookupError as unknown:
            raise _refusal(404, "unknown", str(unknown)) from None
        except LibraryError as error:
            logger.error("a choice could not be kept: %s", error)
            raise _refusal(503, "unavailable", "this can't be kept now; try again later") from None
        return json.dumps({"id": found.id, "name": found.name, "voice": found.voice})

    async def _voice(self, call: rtc.RpcInvocationData) -> str:
        wanted = _wanted_id(call)
        try:
            found = await (await self._asked()).use_voice(wanted)
        except LookupError as unknown:
            raise _refusal(404, "unknown", str(unknown)) from None
        except LibraryError as error:
            logger.error("a choice could not be kept: %s", error)
            raise _refusal(503, "unavailable", "this can't be kept now; try again later") from None
        return json.dumps({"id": found.id, "name": found.name})

    async def _asked(self) -> Asked:
        return await asyncio.shield(self._conversation)


def _payload(call: rtc.RpcInvocationData) -> dict[str, Any]:
    try:
        payload = json.loads(call.payload or "{}")
    except (ValueError, RecursionError):
        payload = None
    if not isinstance(payload, dict):
        raise _refusal(400, "bad_input", "the payload must be a JSON object")
    return payload


def _wanted_id(call: rtc.RpcInvocationData) -> str:
    wanted = _payload(call).get("id")
    if not isinstance(wanted, str) or not wanted:
        raise _refusal(400, "bad_input", 'the payload must be {"id": "..."}')
    # JSON can write halves of surrogate pairs, which the answer could not.
    return storable(wanted)


def _refusal(status: int, code: str, message: str) -> rtc.RpcError:
    return rtc.RpcError(status, message, json.dumps({"error": {"code": code, "message": message}}))
