"""Sound in and out of a room: everybody's microphone with one of them heard, and the agent's own track."""

from __future__ import annotations

import asyncio
import logging
import time

import numpy as np
from livekit import rtc
from livekit.agents.voice import io

from agent.floor import Floor
from conversation.paced_output import PacedOutput
from engines.types import HEARD_RATE, SPOKEN_RATE

logger = logging.getLogger("voice_node.agent")

FRAME = 0.02
"""Seconds a piece of a microphone's sound lasts; the ear's windows are longer."""
SILENCE_AFTER = 0.6
"""Seconds of silence put in where the heard microphone goes away, so that a turn under way ends."""
LEAD = 0.1
"""Seconds of sound handed to WebRTC ahead of real time: enough for a busy event loop, little enough to stop at once."""
QUEUE = 0.2
"""Seconds WebRTC's own queue holds; more than the lead, so that it never makes the pacer wait."""
SUBSCRIBED_WITHIN = 3.0
"""Seconds to wait until somebody has subscribed to the agent's track before it speaks all the same."""

HUMANS = (
    rtc.ParticipantKind.PARTICIPANT_KIND_STANDARD,
    rtc.ParticipantKind.PARTICIPANT_KIND_SIP,
    rtc.ParticipantKind.PARTICIPANT_KIND_CONNECTOR,
)
"""Kinds of participants that are people, or carry one; agents, recorders and bridges are not."""


def is_human(participant: rtc.Participant) -> bool:
    """Whether a participant is a person (or carries one: telephony, a connector)."""
    return participant.kind in HUMANS


def humans(room: rtc.Room) -> list[rtc.RemoteParticipant]:
    """The people in the room in the order of their coming."""
    found = [participant for participant in room.remote_participants.values() if is_human(participant)]
    return sorted(found, key=lambda human: human.joined_at.timestamp() if human.joined_at else float("inf"))


def connected_humans(room: rtc.Room) -> list[rtc.RemoteParticipant]:
    """Those of them whose connection stands, sound and text."""
    return [human for human in humans(room) if human.state == rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE]


def _is_voice(publication: rtc.TrackPublication) -> bool:
    return (
        publication.kind == rtc.TrackKind.KIND_AUDIO and publication.source != rtc.TrackSource.SOURCE_SCREENSHARE_AUDIO
    )


class RoomInput(io.AudioInput):
    """Listens to all people of a room, 16 kHz mono, and passes on the one who has the floor.

    Args:
        room: Connected; its audio tracks are subscribed to as they come.
    """

    def __init__(self, room: rtc.Room) -> None:
        super().__init__(label="room")
        self._room = room
        self._floor: Floor[rtc.AudioFrame] = Floor()
        self._heard: asyncio.Queue[rtc.AudioFrame | None] = asyncio.Queue()
        self._readers: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self._attached = False
        room.on("participant_connected", self._on_joined)
        room.on("participant_disconnected", self._on_left)
        room.on("track_subscribed", self._on_track)
        room.on("track_unsubscribed", self._on_track_gone)
        room.on("reconnected", self._on_reconnected)
        for human in humans(room):
            self._on_joined(human)
            for publication in human.track_publications.values():
                if publication.track is not None:
                    self._on_track(publication.track, publication, human)

    @property
    def speaker(self) -> str | None:
        """Identity of the one who was heard to speak last."""
        return self._floor.speaker

    async def __anext__(self) -> rtc.AudioFrame:
        frame = await self._heard.get()
        if frame is None:
            raise StopAsyncIteration
        return frame

    def on_attached(self) -> None:
        """The session listens now."""
        self._attached = True

    def on_detached(self) -> None:
        """The session doesn't listen; what comes meanwhile is dropped."""
        self._attached = False

    async def aclose(self) -> None:
        """Stop listening to everybody."""
        self._room.off("participant_connected", self._on_joined)
        self._room.off("participant_disconnected", self._on_left)
        self._room.off("track_subscribed", self._on_track)
        self._room.off("track_unsubscribed", self._on_track_gone)
        self._room.off("reconnected", self._on_reconnected)
        readers = [reader for _, reader in self._readers.values()]
        self._readers.clear()
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        self._heard.put_nowait(None)

    # --- who is there ------------------------------------------------------------------------------------

    def _on_joined(self, participant: rtc.RemoteParticipant) -> None:
        if is_human(participant):
            self._floor.join(participant.identity)

    def _on_left(self, participant: rtc.RemoteParticipant) -> None:
        self._stop(participant.identity)
        self._floor.leave(participant.identity)

    def _on_track(
        self, track: rtc.Track, publication: rtc.TrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        if not is_human(participant) or not _is_voice(publication):
            return
        self._stop(participant.identity)
        self._floor.join(participant.identity)
        reader = asyncio.create_task(self._read(participant.identity, track), name="microphone")
        self._readers[participant.identity] = (publication.sid, reader)

    def _on_track_gone(
        self, track: rtc.Track, publication: rtc.TrackPublication, participant: rtc.RemoteParticipant
    ) -> None:
        read = self._readers.get(participant.identity)
        if read is not None and read[0] == publication.sid:
            self._stop(participant.identity)

    def _on_reconnected(self) -> None:
        """Ask for everybody's microphone again.

        Where people were back in a new livekit-server before us, the SDK tells of their tracks before its own line
        stands, and what is asked for then gets lost.
        """
        for human in humans(self._room):
            for publication in human.track_publications.values():
                if publication.track is None and _is_voice(publication):
                    publication.set_subscribed(True)

    def _stop(self, identity: str) -> None:
        read = self._readers.pop(identity, None)
        if read is None:
            return
        read[1].cancel()
        if self._floor.holder == identity:
            silence = np.zeros(int(SILENCE_AFTER * HEARD_RATE), dtype=np.int16)
            self._pass_on(rtc.AudioFrame(silence.tobytes(), HEARD_RATE, 1, len(silence)))

    # --- what they say -----------------------------------------------------------------------------------

    async def _read(self, identity: str, track: rtc.Track) -> None:
        stream = rtc.AudioStream(track, sample_rate=HEARD_RATE, num_channels=1, frame_size_ms=round(FRAME * 1000))
        try:
            async for event in stream:
                frame = event.frame
                samples = np.frombuffer(frame.data, dtype=np.int16).astype(np.float32) / 32768.0
                level = float(np.sqrt(np.mean(np.square(samples)))) if len(samples) else 0.0
                for heard in self._floor.take(identity, frame, level, time.monotonic(), frame.duration):
                    self._pass_on(heard)
        finally:
            await stream.aclose()

    def _pass_on(self, frame: rtc.AudioFrame) -> None:
        if self._attached:
            self._heard.put_nowait(frame)


class TrackSink:
    """The end of the agent's output in a room: WebRTC's audio source, its queue kept short.

    Implements conversation.paced_output.AudioSink.
    """

    def __init__(self) -> None:
        self.source = rtc.AudioSource(SPOKEN_RATE, 1, queue_size_ms=round(QUEUE * 1000))

    async def write(self, frame: rtc.AudioFrame) -> None:
        """Hand over a frame, 24 kHz mono."""
        await self.source.capture_frame(frame)

    def clear(self) -> float:
        """Drop what wasn't sent yet; gives its seconds."""
        dropped = self.source.queued_duration
        self.source.clear_queue()
        return dropped

    def segment_done(self, interrupted: bool) -> None:
        """Nothing to do: a track has no ends of replies."""


class RoomOutput(PacedOutput):
    """The agent's voice in a room."""

    def __init__(self, room: rtc.Room) -> None:
        self._sink_to_track = TrackSink()
        super().__init__(self._sink_to_track, lead=LEAD, sample_rate=SPOKEN_RATE, label="room")
        self._room = room

    async def publish(self) -> rtc.LocalTrackPublication:
        """Publish the agent's track; returns once the room has it."""
        track = rtc.LocalAudioTrack.create_audio_track("agent", self._sink_to_track.source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
        return await self._room.local_participant.publish_track(track, options)

    async def aclose(self) -> None:
        """Stop playing and free the track's source."""
        await super().aclose()
        await self._sink_to_track.source.aclose()


async def subscribed(publication: rtc.LocalTrackPublication) -> None:
    """Wait until somebody hears the agent's track, or no longer than makes sense."""
    try:
        async with asyncio.timeout(SUBSCRIBED_WITHIN):
            await publication.wait_for_subscription()
    except TimeoutError:
        logger.warning("nobody subscribed to the agent's track", extra={"waited": SUBSCRIBED_WITHIN})
