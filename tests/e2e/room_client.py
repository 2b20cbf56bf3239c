"""A caller in a room: LiveKit's Python SDK, with a token from the token endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx
import numpy as np
from livekit import rtc

from engines.types import Audio
from tests.e2e.stack import authorization
from tests.e2e.waiting import PATIENCE, Arrivals
from tests.sound import AUDIBLE, joined, rms

SENT_RATE = 16_000
HEARD_RATE = 24_000
FRAME = 0.02
"""Seconds of microphone sound handed to the SDK at a time."""


@dataclass
class Words:
    """A segment of the transcript as it stands."""

    role: str
    text: str
    final: bool


@dataclass
class Piece:
    """Sound of the agent with the monotonic time it was received; 24 kHz."""

    at: float
    samples: Audio


class RoomClient:
    """One caller; its microphone is always open and sends silence where nothing is said.

    Args:
        page: `http://host:port` of the token server.
        through: Address of a relay for signalling; what the token endpoint says where None.
        key: Of the token endpoint, where it wants one.
        attributes: Participant attributes, such as `session_id` and `personality`.
    """

    def __init__(
        self,
        page: str,
        room: str,
        *,
        identity: str = "tester",
        through: str | None = None,
        key: str = "",
        **attributes: str,
    ) -> None:
        self._page = page
        self._key = key
        self._through = through
        self._wanted = {
            "room_name": room,
            "participant_identity": identity,
            "participant_name": "Tester",
            "participant_attributes": attributes,
        }
        self.identity = identity
        self._arrivals = Arrivals(self._summary)
        self._segments: dict[str, Words] = {}
        self._microphone: asyncio.Queue[tuple[Audio, asyncio.Future[float]]] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self.pieces: list[Piece] = []
        self.turns: list[dict[str, Any]] = []
        self.errors: list[dict[str, str]] = []
        self.states: list[str] = []
        """What `lk.agent.state` has been, in order."""

    async def __aenter__(self) -> RoomClient:
        async with httpx.AsyncClient() as http:
            answer = await http.post(
                f"{self._page}/api/token", json=self._wanted, headers=authorization(self._key), timeout=PATIENCE
            )
        assert answer.status_code == 201, answer.text
        self.token = answer.json()
        self.room = rtc.Room()
        self.room.on("track_subscribed", self._on_track)
        self.room.on("participant_attributes_changed", self._on_attributes)
        for event in ("participant_connected", "participant_disconnected", "reconnected"):
            self.room.on(event, lambda *_: self._arrivals.notify())
        self.room.on("disconnected", lambda reason: self._arrivals.end(f"the room was left ({reason})"))
        self.room.register_text_stream_handler("lk.transcription", self._on_words)
        self.room.register_text_stream_handler("voice.turn", self._on_turn)
        self.room.register_text_stream_handler("voice.error", self._on_error)
        await self.room.connect(self._through or self.token["server_url"], self.token["participant_token"])
        self._source = rtc.AudioSource(SENT_RATE, 1, queue_size_ms=100)
        track = rtc.LocalAudioTrack.create_audio_track("microphone", self._source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, dtx=False)
        await self.room.local_participant.publish_track(track, options)
        self._run(self._speak())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.room.disconnect()
        await self._source.aclose()

    async def agent(self) -> rtc.RemoteParticipant:
        """The agent, once it is there and its sound is on."""
        await self._arrivals.until(lambda: self._agent() is not None and bool(self.states), "agent in the room")
        found = self._agent()
        assert found is not None
        return found

    @property
    def over(self) -> bool:
        """Whether the room was left for good."""
        return self._arrivals.over

    async def listening(self) -> None:
        """Return once the line stands and an agent that is there listens or talks."""

        def there() -> bool:
            found = self._agent()
            state = found.attributes.get("lk.agent.state") if found else None
            line = self.room.connection_state == rtc.ConnectionState.CONN_CONNECTED
            return line and state in ("listening", "thinking", "speaking")

        await self._arrivals.until(there, "agent that listens")

    async def say(self, speech: Audio) -> float:
        """Speak (16 kHz) in real time; return the monotonic time its last sample was handed over."""
        said: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        await self._microphone.put((speech, said))
        return await asyncio.wait_for(said, PATIENCE + len(speech) / SENT_RATE)

    async def type(self, text: str) -> None:
        """Send a typed message."""
        await self.room.local_participant.send_text(text, topic="lk.chat")

    async def heard(self, role: str, number: int = 0, patience: float = PATIENCE) -> str:
        """The final text with this number (from 0) of `user` or `agent`."""
        await self._arrivals.until(lambda: len(self.said(role)) > number, f"text {number} of the {role}", patience)
        return self.said(role)[number]

    async def turn(self, number: int = 0) -> dict[str, Any]:
        """The latency record with this number (from 0)."""
        await self._arrivals.until(lambda: len(self.turns) > number, f"latency record {number}")
        return self.turns[number]

    async def error(self, number: int = 0) -> dict[str, str]:
        """The error with this number (from 0) that the agent told."""
        await self._arrivals.until(lambda: len(self.errors) > number, f"error {number}")
        return self.errors[number]

    async def sound(self, seconds: float, since: int = 0, patience: float = PATIENCE) -> None:
        """Return once this much sound (not silence) of the agent was received after the piece `since`."""
        await self._arrivals.until(lambda: self.spoken(since) >= seconds, f"{seconds} s of the agent's sound", patience)

    async def silence(self, seconds: float) -> None:
        """Return once the agent's track has been silent for this long; wait for its sound first: text runs ahead."""
        pieces = int(seconds * 100)
        await self._arrivals.until(
            lambda: len(self.pieces) >= pieces and not any(rms(p.samples) > AUDIBLE for p in self.pieces[-pieces:]),
            f"{seconds} s of the agent's silence",
        )

    async def state(self, state: str) -> None:
        """Return once the agent is in this state."""
        await self._arrivals.until(lambda: self.states[-1:] == [state], f"agent {state}")

    def said(self, role: str) -> list[str]:
        """Final texts of a role, in order; empty ones are replies of which nothing was heard."""
        return [words.text for words in self._segments.values() if words.role == role and words.final]

    def spoken(self, since: int = 0) -> float:
        """Seconds of sound (not silence) of the agent after the piece `since`."""
        return sum(len(p.samples) / HEARD_RATE for p in self.pieces[since:] if rms(p.samples) > AUDIBLE)

    def samples(self, since: int = 0) -> Audio:
        """All that was received from the agent after the piece `since`, silence included; 24 kHz."""
        return joined(piece.samples for piece in self.pieces[since:])

    # --- what arrives ------------------------------------------------------------------------------------

    def _agent(self) -> rtc.RemoteParticipant | None:
        return next(
            (
                found
                for found in self.room.remote_participants.values()
                if found.kind == rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
                and any(track.subscribed for track in found.track_publications.values())
            ),
            None,
        )

    def _on_track(
        self, track: rtc.Track, publication: rtc.RemoteTrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            self._run(self._listen(track))
        state = participant.attributes.get("lk.agent.state")
        if state:
            self._state(state)

    def _on_attributes(self, changed: dict[str, str], participant: rtc.Participant) -> None:
        if state := changed.get("lk.agent.state"):
            self._state(state)

    def _state(self, state: str) -> None:
        self.states.append(state)
        self._arrivals.notify()

    async def _listen(self, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=HEARD_RATE, num_channels=1, frame_size_ms=10)
        try:
            async for event in stream:
                samples = np.frombuffer(event.frame.data, dtype=np.int16).astype(np.float32) / np.float32(32768)
                self.pieces.append(Piece(time.monotonic(), samples))
                self._arrivals.notify()
        finally:
            await stream.aclose()

    def _on_words(self, reader: rtc.TextStreamReader, identity: str) -> None:
        self._run(self._read_words(reader, identity))

    async def _read_words(self, reader: rtc.TextStreamReader, identity: str) -> None:
        """A stream holds a segment's text; a later stream of the same segment replaces it."""
        attributes = reader.info.attributes or {}
        words = Words("user" if identity == self.identity else "agent", "", False)
        self._segments[attributes.get("lk.segment_id", reader.info.stream_id)] = words
        async for more in reader:
            words.text += more
            self._arrivals.notify()
        words.final = (reader.info.attributes or {}).get("lk.transcription_final") == "true"
        self._arrivals.notify()

    def _on_turn(self, reader: rtc.TextStreamReader, identity: str) -> None:
        self._run(self._read_turn(reader))

    def _on_error(self, reader: rtc.TextStreamReader, identity: str) -> None:
        self._run(self._read_error(reader))

    async def _read_error(self, reader: rtc.TextStreamReader) -> None:
        self.errors.append(json.loads(await reader.read_all()))
        self._arrivals.notify()

    async def _read_turn(self, reader: rtc.TextStreamReader) -> None:
        self.turns.append(json.loads(await reader.read_all()))
        self._arrivals.notify()

    # --- the microphone ----------------------------------------------------------------------------------

    async def _speak(self) -> None:
        """Hand over frame after frame when its time has come, as a microphone does."""
        size = int(SENT_RATE * FRAME)
        speech, said = np.zeros(0, dtype=np.float32), None
        due = time.monotonic()
        while True:
            if not len(speech) and not self._microphone.empty():
                speech, said = self._microphone.get_nowait()
                # After a stall of this machine, silence may wait in the queue: speech doesn't stand behind it.
                self._source.clear_queue()
                due = time.monotonic()
            frame, speech = speech[:size], speech[size:]
            due += FRAME
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self._capture(np.pad(frame, (0, size - len(frame))))
            if said is not None and not len(speech):
                said.set_result(time.monotonic())
                said = None

    async def _capture(self, frame: Audio) -> None:
        pcm = (np.clip(frame, -1, 1) * 32767).astype(np.int16)
        await self._source.capture_frame(rtc.AudioFrame(pcm.tobytes(), SENT_RATE, 1, len(pcm)))

    def _run(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            with contextlib.suppress(AttributeError):
                self._arrivals.end(f"the client failed: {error!r}")

    def _summary(self) -> str:
        spoken = [f"{words.role}{'' if words.final else '...'}: {words.text}" for words in self._segments.values()]
        return f"{spoken}, states {self.states[-6:]}, {self.spoken():.1f} s of sound, {len(self.turns)} records"
