"""What a room reads: transcripts of both sides, the agent's state, latency records and errors, sent in order.

Formats are those that LiveKit's client SDKs expect (topic `lk.transcription`, attribute
`lk.agent.state`) and those of contract.md (topic `voice.turn`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from livekit import rtc
from livekit.agents.types import (
    ATTRIBUTE_AGENT_STATE,
    ATTRIBUTE_TRANSCRIPTION_FINAL,
    ATTRIBUTE_TRANSCRIPTION_SEGMENT_ID,
    ATTRIBUTE_TRANSCRIPTION_TRACK_ID,
    TOPIC_TRANSCRIPTION,
)

logger = logging.getLogger("voice_node.agent")

TOPIC_TURN = "voice.turn"
TOPIC_ERROR = "voice.error"

ANSWERED_WITHIN = 0.25
"""Seconds to wait for the answer to a change of state before the next one is sent. Of 400 changes, all of which
arrived, livekit 1.1.21 missed two answers, and waits 5 s for them."""

Role = Literal["user", "agent"]


@dataclass(frozen=True, slots=True)
class _Words:
    """A segment's whole text so far; a later one of the same segment replaces it."""

    segment: str
    identity: str
    text: str
    final: bool


@dataclass(slots=True)
class _Written:
    """The stream of a reply that is still being written, and what it holds already."""

    writer: rtc.TextStreamWriter
    segment: str
    identity: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class _Note:
    topic: str
    body: str


class RoomText:
    """Sends what a room reads; every method returns at once.

    Args:
        room: Connected. What can't be sent (nobody there, connection lost) is dropped.
    """

    def __init__(self, room: rtc.Room) -> None:
        self._room = room
        self._waiting: deque[_Words | _Note] = deque()
        self._more = asyncio.Event()
        self._state = ""
        self._state_changed = asyncio.Event()
        self._segments: dict[Role, str] = {}
        self._written: _Written | None = None
        self._said = ""
        self._last_reply: str | None = None
        self._cut = False
        self._closing = False
        self._tasks = [
            asyncio.create_task(self._send_all(), name="room text"),
            asyncio.create_task(self._follow_state(), name="agent state"),
        ]

    def user(self, text: str, final: bool, identity: str) -> None:
        """Words of a person, the whole turn so far."""
        self._words("user", identity, text, final)

    def agent(self, text: str, final: bool) -> None:
        """Words of the agent, the whole reply so far."""
        if self._cut:
            self._cut = not final
            return
        self._last_reply = self._words("agent", self._room.local_participant.identity, text, final)
        self._said = text

    def reply_cut(self, heard: str) -> None:
        """The agent's newest reply was interrupted after these words: what is shown is what was heard."""
        if self._last_reply is None or heard == self._said:
            return
        self._cut = "agent" in self._segments
        self._segments.pop("agent", None)
        self._put(_Words(self._last_reply, self._room.local_participant.identity, heard, True))
        self._last_reply = None

    def state(self, state: str) -> None:
        """`initializing`, `listening`, `thinking` or `speaking`."""
        self._state = state
        self._state_changed.set()

    def record(self, record: Mapping[str, object]) -> None:
        """A turn's latency record."""
        self._put(_Note(TOPIC_TURN, json.dumps(record)))

    def error(self, code: str, message: str) -> None:
        """Something failed; `message` is for a person."""
        self._put(_Note(TOPIC_ERROR, json.dumps({"code": code, "message": message})))

    async def aclose(self) -> None:
        """Send what is waiting, for a second at most, and stop."""
        self._closing = True
        self._more.set()
        self._tasks[1].cancel()
        await asyncio.wait({self._tasks[0]}, timeout=1.0)
        self._tasks[0].cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _words(self, role: Role, identity: str, text: str, final: bool) -> str:
        segment = self._segments.get(role) or f"SG_{uuid.uuid4().hex[:12]}"
        if final:
            self._segments.pop(role, None)
        else:
            self._segments[role] = segment
        self._put(_Words(segment, identity, text, final))
        return segment

    def _put(self, item: _Words | _Note) -> None:
        newest = self._waiting[-1] if self._waiting else None
        if isinstance(item, _Words) and isinstance(newest, _Words) and newest.segment == item.segment:
            self._waiting[-1] = item
        else:
            self._waiting.append(item)
        self._more.set()

    # --- sending -----------------------------------------------------------------------------------------

    async def _send_all(self) -> None:
        while True:
            while self._waiting:
                item = self._waiting.popleft()
                try:
                    if isinstance(item, _Note):
                        await self._room.local_participant.send_text(item.body, topic=item.topic)
                    else:
                        await self._send_words(item)
                except Exception as error:
                    self._written = None
                    if self._room.isconnected():
                        logger.warning("text could not be sent to the room: %s", error)
            if self._closing:
                return
            self._more.clear()
            await self._more.wait()

    async def _send_words(self, words: _Words) -> None:
        """Go on with the stream of a reply being written; anything else is a stream of its own, whole each time."""
        written = self._written
        if written is not None and (written.segment != words.segment or not words.text.startswith(written.text)):
            await self._finish(written)
            written = None
        if written is None:
            writer = await self._room.local_participant.stream_text(
                topic=TOPIC_TRANSCRIPTION, attributes=self._attributes(words), sender_identity=words.identity
            )
            written = _Written(writer, words.segment, words.identity)
        if len(words.text) > len(written.text):
            await written.writer.write(words.text[len(written.text) :])
            written.text = words.text
        if words.final or words.identity != self._room.local_participant.identity:
            await written.writer.aclose(attributes=self._attributes(words))
            written = None
        self._written = written

    async def _finish(self, written: _Written) -> None:
        self._written = None
        words = _Words(written.segment, written.identity, written.text, True)
        await written.writer.aclose(attributes=self._attributes(words))

    def _attributes(self, words: _Words) -> dict[str, str]:
        attributes = {
            ATTRIBUTE_TRANSCRIPTION_FINAL: "true" if words.final else "false",
            ATTRIBUTE_TRANSCRIPTION_SEGMENT_ID: words.segment,
        }
        if track := self._track_of(words.identity):
            attributes[ATTRIBUTE_TRANSCRIPTION_TRACK_ID] = track
        return attributes

    def _track_of(self, identity: str) -> str | None:
        participant: rtc.Participant | None = self._room.remote_participants.get(identity)
        if identity == self._room.local_participant.identity:
            participant = self._room.local_participant
        publications = participant.track_publications.values() if participant else ()
        return next((found.sid for found in publications if found.kind == rtc.TrackKind.KIND_AUDIO), None)

    async def _follow_state(self) -> None:
        while True:
            await self._state_changed.wait()
            self._state_changed.clear()
            attributes = {ATTRIBUTE_AGENT_STATE: self._state}
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ANSWERED_WITHIN):
                        await self._room.local_participant.set_attributes(attributes)
            except Exception as error:
                if self._room.isconnected():
                    logger.warning("the agent's state could not be set: %s", error)
