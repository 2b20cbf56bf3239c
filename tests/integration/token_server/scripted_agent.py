"""An agent that says what a test wants it to say and answers what a page asks, in the formats of contract.md."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from livekit import api, rtc

from tests.livekit_server import LiveKitServer
from tests.sound import rms

RATE = 24_000
FRAME = 0.02


@dataclass
class ScriptedAgent:
    """In a room.

    Attributes:
        typed: The messages people sent it.
        asked: The personalities it was asked to become, which it does where `knows` says so.
        heard: What the page reported of its answers.
        levels: When (unix seconds) which loudness came from a person's microphone, a fiftieth of a second each.
    """

    room: rtc.Room
    typed: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    heard: list[dict[str, float]] = field(default_factory=list)
    levels: list[tuple[float, float]] = field(default_factory=list)
    knows: Callable[[str], bool] = field(default=lambda personality: True)
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
        agent.room.register_text_stream_handler("voice.heard", agent._on_heard)
        agent.room.on("track_subscribed", agent._on_track)
        await agent.room.connect(server.url, token.to_jwt())
        agent.room.local_participant.register_rpc_method("voice.clock", agent._clock)
        agent.room.local_participant.register_rpc_method("voice.personality", agent._personality)
        return agent

    def _run(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _on_chat(self, reader: rtc.TextStreamReader, identity: str) -> None:
        async def read() -> None:
            self.typed.append(await reader.read_all())

        self._run(read())

    def _on_heard(self, reader: rtc.TextStreamReader, identity: str) -> None:
        async def read() -> None:
            self.heard.append(json.loads(await reader.read_all()))

        self._run(read())

    def _on_track(self, track: rtc.Track, *_: object) -> None:
        async def listen() -> None:
            stream = rtc.AudioStream(track, sample_rate=16_000, num_channels=1, frame_size_ms=20)
            async for event in stream:
                samples = np.frombuffer(event.frame.data, dtype=np.int16).astype(np.float32) / 32768
                self.levels.append((time.time(), rms(samples)))

        if track.kind == rtc.TrackKind.KIND_AUDIO:
            self._run(listen())

    async def _clock(self, call: rtc.RpcInvocationData) -> str:
        now = time.time()
        return json.dumps({"t0": json.loads(call.payload)["t0"], "t1": now, "t2": time.time()})

    async def _personality(self, call: rtc.RpcInvocationData) -> str:
        wanted = json.loads(call.payload)["id"]
        self.asked.append(wanted)
        if not self.knows(wanted):
            raise rtc.RpcError(404, "there is no such personality")
        return json.dumps({"id": wanted})

    @property
    def person(self) -> str:
        """Identity of the one person there."""
        (identity,) = self.room.remote_participants
        return identity

    def loudest(self, since: float) -> float:
        """The loudest fiftieth of a second that came from a microphone since then (unix seconds)."""
        return max((level for at, level in self.levels if at >= since), default=0.0)

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

    async def publish_voice(self) -> rtc.AudioSource:
        """Publish a track; what is captured into the source is the agent's voice."""
        source = rtc.AudioSource(RATE, 1, queue_size_ms=200)
        track = rtc.LocalAudioTrack.create_audio_track("agent", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        publication = await self.room.local_participant.publish_track(track, options)
        await publication.wait_for_subscription()
        return source

    async def leave(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.room.disconnect()


async def speak(source: rtc.AudioSource, seconds: float, level: float = 0.2) -> float:
    """Have a tone played; returns the moment (unix seconds) its first sound was handed over, once all of it was."""
    size = int(RATE * FRAME)
    began: float | None = None
    for start in range(0, int(seconds * RATE), size):
        tone = level * np.sin((start + np.arange(size)) * 2 * np.pi * 440 / RATE)
        if began is None:
            began = time.time()
        samples = (tone * 32767).astype("<i2").tobytes()
        await source.capture_frame(rtc.AudioFrame(samples, RATE, 1, size))
    assert began is not None
    return began
