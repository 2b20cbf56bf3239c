"""The audio output of every transport: takes sound as fast as it is made, hands it on in real time, loses nothing.

A transport brings an `AudioSink`. Sound goes to it in small frames, no further ahead of what the listener hears
than `lead` seconds; the rest waits here. So a pause stops within the lead and drops nothing, an interruption
drops what wasn't heard, and either way it is known which words were.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque

from livekit import rtc
from livekit.agents.voice import io

from conversation.audio_sink import AudioSink, HoldingSink
from conversation.heard_text import HeardText
from conversation.playout_clock import PlayoutClock
from conversation.spoken_segment import Segment

__all__ = ["AudioSink", "HoldingSink", "PacedOutput"]

logger = logging.getLogger("voice_node.output")

NEVER = float("inf")
_EXACT = 1e-6
"""Seconds below which two moments are the same."""


class PacedOutput(io.AudioOutput):
    """Paces sound into a sink, for LiveKit's session. Create, use and close it on the event loop.

    Args:
        sink: Where the sound goes.
        lead: Seconds of sound the sink may hold that the listener hasn't heard.
        sample_rate: Of all sound in and out, mono; the framework resamples to it.
        frame: Seconds a frame for the sink lasts. A reply's first frame is sent at once, even if shorter.
        label: A name for logs.

    Raises:
        ValueError: `lead` is shorter than a frame.
    """

    def __init__(
        self, sink: AudioSink, *, lead: float, sample_rate: int = 24_000, frame: float = 0.02, label: str = "paced"
    ) -> None:
        super().__init__(label=label, capabilities=io.AudioOutputCapabilities(pause=True), sample_rate=sample_rate)
        if lead < frame:
            raise ValueError(f"a lead of {lead} s is shorter than one frame of {frame} s; give at least {frame}")
        self._sink = sink
        self._lead = lead
        self._rate = sample_rate
        self._frame = max(1, round(frame * sample_rate))
        self._clock = PlayoutClock(sample_rate)
        self._segments: deque[Segment] = deque()
        self._open: Segment | None = None
        self._text = HeardText()
        self._paused = False
        self._closed = False
        self._wake = asyncio.Event()
        self._pacing: asyncio.Task[None] | None = None
        self._writing: Segment | None = None

    @property
    def paused(self) -> bool:
        """Whether sound is held back now."""
        return self._paused

    @property
    def words_heard(self) -> str | None:
        """What was heard so far of the reply that plays; None where none does or its text isn't known."""
        playing = self._segments[0] if self._segments else None
        return playing.words_heard(self._position(playing)) if playing else None

    @property
    def playing(self) -> bool:
        """Whether the listener hears sound now."""
        return not self._clock.held and self._clock.ahead(_now()) > 0

    @property
    def waiting(self) -> bool:
        """Whether sound is there that wasn't sent, or that the sink hasn't taken yet."""
        return self._writing is not None or any(segment.waiting for segment in self._segments)

    @property
    def open(self) -> bool:
        """Whether a reply isn't over."""
        return bool(self._segments)

    # --- text --------------------------------------------------------------------------------------------

    def text_for_segment(self, text: str) -> None:
        """More text of the reply under way, or of the one whose sound comes next."""
        self._text_under_way.add(text)

    def mark(self, text: str, duration: float) -> None:
        """The next stretch of the reply's text lasts `duration` seconds: exact where `text_for_segment` guesses.

        Frames that carry the framework's timed transcripts mark themselves and need no call.
        """
        self._text_under_way.mark(text, duration)

    @property
    def _text_under_way(self) -> HeardText:
        return self._segments[-1].text if self._segments else self._text

    # --- the framework's side ----------------------------------------------------------------------------

    async def capture_frame(self, frame: rtc.AudioFrame) -> None:
        """Take sound, as fast as it comes; returns at once.

        Raises:
            ValueError: It isn't mono, or not at our sample rate.
        """
        if frame.sample_rate != self._rate or frame.num_channels != 1:
            raise ValueError(
                f"this output takes 1 channel at {self._rate} Hz, not {frame.num_channels} at {frame.sample_rate} Hz"
            )
        await super().capture_frame(frame)
        if self._open is None:
            self._open = Segment(self._rate, self._text)
            self._text = HeardText()
            self._segments.append(self._open)
        if self._closed:
            self._open.fail()
        self._open.capture(frame)
        self._go_on()

    def flush(self) -> None:
        """The reply's sound is complete."""
        super().flush()
        segment, self._open = self._open, None
        if segment is None:
            if not self._segments:
                self._text = HeardText()  # of a reply that never got any sound
            return
        segment.ended = True
        if self._closed:
            self.clear_buffer()
            return
        # The framework flushes before it clears, in one go; only what stays is complete.
        asyncio.get_running_loop().call_soon(_complete, segment)
        self._go_on()

    def clear_buffer(self) -> None:
        """Interruption: drop what wasn't sent, let the sink drop what wasn't heard, report what was heard."""
        super().flush()
        self._open = None
        self._text = HeardText()
        self._report_played()
        if not self._segments:
            return
        # What the listener heard ends now; what a sink can't take back still plays, unheeded.
        cut = list(self._segments)
        self._segments.clear()
        heard = [self._position(segment) for segment in cut]
        if any(segment.begins is not None for segment in cut):
            self._drop_from_sink()
        for segment, position in zip(cut, heard, strict=True):
            if segment.begins is not None:
                self._sink.segment_done(True)
            self._report(segment, min(position, self._position(segment)), True)
        self._go_on()

    def pause(self) -> None:
        """Send nothing more until `resume`; idempotent, also before the first sound."""
        super().pause()
        if self._paused:
            return
        self._paused = True
        if isinstance(self._sink, HoldingSink):
            self._sink.hold()
            self._clock.hold(_now())
        self._go_on()

    def resume(self) -> None:
        """Go on exactly where `pause` stopped; idempotent."""
        super().resume()
        if not self._paused:
            return
        self._paused = False
        if isinstance(self._sink, HoldingSink):
            self._sink.release()
            self._clock.release(_now())
        self._go_on()

    def _mark_input_truncated(self) -> None:
        super()._mark_input_truncated()
        if self._open is not None:
            self._open.truncated = True

    def give_up_frame(self) -> None:
        """Drop the frame that the sink doesn't take, with its reply; what comes next is tried anew."""
        if self._writing is None or self._pacing is None:
            return
        self._writing.fail()
        self._pacing.cancel()
        self._pacing = None
        self._go_on()

    def settle(self) -> None:
        """The line has closed: replies that the sink was given whole count as heard to their end."""
        while self._segments and self._sent_whole(self._segments[0]):
            self._end(self._segments.popleft())

    async def aclose(self) -> None:
        """Stop: what wasn't heard is dropped and reported as interrupted; idempotent."""
        self._closed = True
        if self._pacing is not None:
            self._pacing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pacing
            self._pacing = None
        self.clear_buffer()

    # --- pacing ------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        if self._pacing is None and not self._closed:
            self._pacing = asyncio.get_running_loop().create_task(self._pace(), name=f"{self.label} pacing")
        self._wake.set()

    async def _pace(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            due = NEVER if self._paused else await self._send()
            due = min(due, self._report_played())
            if due <= _now():
                continue
            timer = loop.call_at(due, self._wake.set) if due < NEVER else None
            try:
                await self._wake.wait()
            finally:
                if timer is not None:
                    timer.cancel()

    async def _send(self) -> float:
        """Send a frame of the first reply if it is time; gives the moment for the next one."""
        segment = self._segments[0] if self._segments else None
        if segment is None or not segment.waiting:
            return NEVER
        now, waiting = _now(), len(segment.waiting) // 2
        length = min(self._frame, waiting)
        ahead = self._clock.ahead(now)
        first = segment.begins is None
        if length < self._frame and not segment.ended and not first and ahead > self._frame / self._rate + _EXACT:
            return now + ahead - self._frame / self._rate  # more sound may fill the frame before the player runs dry
        room = ahead + length / self._rate - self._lead
        if room > _EXACT:
            return now + room
        await self._write(segment, length)
        return now

    async def _write(self, segment: Segment, length: int) -> None:
        self._writing = segment
        try:
            await self._sink.write(segment.take(length))
        except Exception as error:
            logger.warning("sound could not be played: %s", error, extra={"output": self.label})
            segment.fail()
            return
        finally:
            self._writing = None
        begins = self._clock.sent
        self._clock.add(length, _now())
        if segment not in self._segments:
            self._drop_from_sink()  # cleared while the sink was taking this frame
            return
        segment.sent += length
        if segment.begins is None:
            segment.begins = begins
            self.on_playback_started(created_at=time.time())

    def _report_played(self) -> float:
        """End every reply that was played to its end; gives the moment to look again."""
        due = NEVER
        while self._segments and self._sent_whole(self._segments[0]):
            segment, now = self._segments[0], _now()
            left = segment.sent / self._rate - self._position(segment)
            if left > _EXACT and not segment.failed:
                return NEVER if self._clock.held else now + left
            self._end(self._segments.popleft())
            due = now
        return due

    def _sent_whole(self, segment: Segment) -> bool:
        return segment.ended and not segment.waiting and segment is not self._writing

    def _end(self, segment: Segment) -> None:
        """Report a reply that is over, and tell the sink."""
        self._report(segment, self._position(segment) if segment.failed else segment.sent / self._rate, segment.failed)
        if segment.begins is not None:
            self._sink.segment_done(segment.failed)

    def _position(self, segment: Segment) -> float:
        return segment.position(self._clock.played(_now()))

    def _report(self, segment: Segment, position: float, interrupted: bool) -> None:
        heard = segment.words_heard(position) if interrupted or segment.truncated else None
        self.on_playback_finished(playback_position=position, interrupted=interrupted, synchronized_transcript=heard)

    def _drop_from_sink(self) -> None:
        self._clock.drop(self._sink.clear(), _now())


def _now() -> float:
    return asyncio.get_running_loop().time()


def _complete(segment: Segment) -> None:
    segment.complete = True
