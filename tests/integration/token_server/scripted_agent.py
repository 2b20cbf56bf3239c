"""An agent that says what a test wants it to say, in the formats of contract.md."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

from livekit import api, rtc

from tests.livekit_server import LiveKitServer


@dataclass
class ScriptedAgent:
    """In a room; `typed` holds the messages people sent it."""

    room: rtc.Room
    typed: list[str] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @classmethod
    async def join(cls, server: LiveKitServer, room: str, identity: str = "agent-scripted") -> ScriptedAgent:
        token = (
            api.AccessToken(server.key, server.secret)
            .with_identity(identity)
            .with_kind("agent")
            .with_grants(api.VideoGrants(room_join=True, room=room, agent=True, can_update_own_metadata=True))
        )
        agent = cls(rtc.Room())
        agent.room.register_text_stream_handler("lk.chat", agent._on_chat)
        await agent.room.connect(server.url, token.to_jwt())
        return agent

    def _on_chat(self, reader: rtc.TextStreamReader, identity: str) -> None:
        async def read() -> None:
            self.typed.append(await reader.read_all())

        task = asyncio.create_task(read())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    @property
    def person(self) -> str:
        """Identity of the one person there."""
        (identity,) = self.room.remote_participants
        return identity

    async def state(self, state: str) -> None:
        await self.room.local_participant.set_attributes({"lk.agent.state": state})

    async def words(self, text: str, segment: str, *, final: bool, by: str | None = None) -> None:
        """A whole segment in a stream of its own, of the agent or of the person."""
        attributes = {"lk.segment_id": segment, "lk.transcription_final": "true" if final else "false"}
        writer = await self.room.local_participant.stream_text(
            topic="lk.transcription",
            attributes=attributes,
            sender_identity=by or self.room.local_participant.identity,
        )
        await writer.write(text)
        await writer.aclose(attributes=attributes)

    async def tell(self, topic: str, content: dict[str, object]) -> None:
        await self.room.local_participant.send_text(json.dumps(content), topic=topic)

    async def leave(self) -> None:
        await self.room.disconnect()
