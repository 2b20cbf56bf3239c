"""Paced sound arrives whole and in time, whatever pauses, interruptions and sources do, on a virtual clock."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

import numpy as np
import pytest
from livekit import rtc
from livekit.agents.types import USERDATA_TIMED_TRANSCRIPT, TimedString
from livekit.agents.voice import io

from conversation.paced_output import HoldingSink, PacedOutput
from tests.virtual_clock import virtual_time

RATE = 24_000
LEAD = 0.4


def now() -> float:
    return asyncio.get_running_loop().time()


def sound(seconds: float, first: int = 0) -> rtc.AudioFrame:
    """A frame whose samples count up, so that a lost or doubled one shows."""
    samples = (np.arange(first, first + round(seconds * RATE)) % 32_000).astype(np.int16)
    return rtc.AudioFrame(samples.tobytes(), RATE, 1, len(samples))


@dataclass
class Recorder:
    """A sink that notes what it got and when; it can take back what isn't played, or not."""

    takes_back: float = float("inf")
    written: list[tuple[float, bytes]] = field(default_factory=list)
    done: list[bool] = field(default_factory=list)
    clears: int = 0

    async def write(self, frame: rtc.AudioFrame) -> None:
        self.written.append((now(), bytes(frame.data.cast("B"))))

    def clear(self) -> float:
        self.clears += 1
        return self.takes_back

    def segment_done(self, interrupted: bool) -> None:
        self.done.append(interrupted)

    @property
    def samples(self) -> np.ndarray:
        return np.frombuffer(b"".join(data for _, data in self.written), np.int16)


@dataclass
class Holder(Recorder):
    """A sink that stands still at a pause."""

    held: list[tuple[float, bool]] = field(default_factory=list)

    def hold(self) -> None:
        self.held.append((now(), True))

    def release(self) -> None:
        self.held.append((now(), False))


class Heard:
    """A paced output over a recorder, with everything it reports."""

    def __init__(self, sink: Recorder | None = None, lead: float = LEAD, frame: float = 0.02) -> None:
        self.sink = sink or Recorder()
        self.output = PacedOutput(self.sink, lead=lead, sample_rate=RATE, frame=frame)
        self.started: list[float] = []
        self.finished: list[tuple[float, io.PlaybackFinishedEvent]] = []
        self.output.on("playback_started", lambda _: self.started.append(now()))
        self.output.on("playback_finished", lambda event: self.finished.append((now(), event)))

    async def speak(self, seconds: float, pieces: float = 0.1, first: int = 0) -> None:
        """Capture sound at once, in pieces, and flush."""
        whole = sound(seconds, first)
        data, step = bytes(whole.data.cast("B")), 2 * round(pieces * RATE)
        for at in range(0, len(data), step):
            piece = data[at : at + step]
            await self.output.capture_frame(rtc.AudioFrame(piece, RATE, 1, len(piece) // 2))
        self.output.flush()

    @property
    def last(self) -> io.PlaybackFinishedEvent:
        return self.finished[-1][1]


@virtual_time
async def test_a_reply_is_sent_at_once_up_to_the_lead_and_then_in_real_time() -> None:
    heard = Heard()
    await heard.speak(2.0)
    event = await heard.output.wait_for_playout()
    assert now() == pytest.approx(2.0)
    assert event.playback_position == pytest.approx(2.0)
    assert not event.interrupted
    assert event.synchronized_transcript is None
    assert heard.started == [0.0]
    sent = 0.0
    for at, data in heard.sink.written:
        sent += len(data) / 2 / RATE
        assert sent - at <= LEAD + 1e-6
        assert at == 0.0 or sent >= min(at + LEAD, 2.0) - 1e-6
    assert heard.sink.samples.tolist() == np.frombuffer(sound(2.0).data, np.int16).tolist()
    assert heard.sink.done == [False]


@virtual_time
async def test_taking_sound_never_waits_for_the_listener() -> None:
    heard = Heard()
    await heard.speak(600.0, pieces=5.0)
    assert now() == 0.0


@virtual_time
async def test_the_first_sound_goes_out_at_once_even_if_it_is_shorter_than_a_frame() -> None:
    heard = Heard()
    await heard.output.capture_frame(sound(0.004))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [len(data) / 2 / RATE for _, data in heard.sink.written] == [pytest.approx(0.004)]
    assert heard.started == [0.0]


@virtual_time
async def test_sound_short_of_a_frame_waits_for_more_but_not_until_the_player_runs_dry() -> None:
    heard = Heard()
    await heard.output.capture_frame(sound(0.105))
    await asyncio.sleep(0.05)
    assert sum(len(data) for _, data in heard.sink.written) == 2 * round(0.1 * RATE)
    await asyncio.sleep(0.05)
    assert sum(len(data) for _, data in heard.sink.written) == 2 * round(0.105 * RATE)
    assert heard.sink.written[-1][0] < 0.1


@virtual_time
async def test_a_source_slower_than_speech_leaves_gaps_that_the_clock_knows() -> None:
    heard = Heard()
    for index in range(5):
        await heard.output.capture_frame(sound(0.1, first=index * 2400))
        await asyncio.sleep(0.3)
    heard.output.flush()
    event = await heard.output.wait_for_playout()
    assert event.playback_position == pytest.approx(0.5)
    assert now() == pytest.approx(1.5)
    assert heard.sink.samples.tolist() == np.frombuffer(sound(0.5).data, np.int16).tolist()


@virtual_time
async def test_a_pause_stops_sending_and_resume_goes_on_where_it_stopped() -> None:
    heard = Heard()
    await heard.speak(2.0)
    await asyncio.sleep(0.5)
    heard.output.pause()
    sent = len(heard.sink.samples)
    await asyncio.sleep(10.0)
    assert len(heard.sink.samples) == sent
    heard.output.resume()
    await heard.output.wait_for_playout()
    # The player had 0.4 s when the pause began, played it, and stood still for 9.6 s.
    assert now() == pytest.approx(2.0 + 9.6, abs=0.021)
    assert heard.last.playback_position == pytest.approx(2.0)
    assert heard.sink.samples.tolist() == np.frombuffer(sound(2.0).data, np.int16).tolist()
    assert heard.sink.done == [False]
    assert heard.sink.clears == 0
    assert len(heard.started) == 1


@virtual_time
async def test_a_sink_that_can_hold_stands_still_at_once_and_nothing_is_played_meanwhile() -> None:
    sink = Holder()
    assert isinstance(sink, HoldingSink)
    heard = Heard(sink)
    await heard.speak(2.0)
    await asyncio.sleep(0.5)
    heard.output.pause()
    heard.output.pause()
    await asyncio.sleep(10.0)
    heard.output.resume()
    heard.output.resume()
    await heard.output.wait_for_playout()
    assert now() == pytest.approx(12.0)
    assert sink.held == [(0.5, True), (pytest.approx(10.5), False)]


@virtual_time
async def test_a_pause_before_the_first_sound_holds_it_back() -> None:
    heard = Heard()
    heard.output.pause()
    heard.output.pause()
    await heard.speak(0.5)
    await asyncio.sleep(1.0)
    assert heard.sink.written == []
    assert heard.started == []
    heard.output.resume()
    await heard.output.wait_for_playout()
    assert heard.started == [pytest.approx(1.0)]
    assert now() == pytest.approx(1.5)


@virtual_time
async def test_a_reply_ends_when_it_was_heard_and_not_when_it_was_sent() -> None:
    heard = Heard()
    await heard.speak(0.3)
    await asyncio.sleep(0.29)
    assert len(heard.sink.samples) == round(0.3 * RATE)
    assert heard.sink.done == []
    heard.output.clear_buffer()
    assert heard.last.interrupted
    assert heard.last.playback_position == pytest.approx(0.29)
    assert heard.sink.done == [True]


@virtual_time
async def test_a_reply_that_was_sent_whole_before_a_pause_ends_during_it() -> None:
    heard = Heard()
    await heard.output.capture_frame(sound(0.3))
    await asyncio.sleep(0.1)
    heard.output.pause()
    heard.output.flush()
    await asyncio.sleep(5.0)
    assert [(at, event.interrupted) for at, event in heard.finished] == [(pytest.approx(0.3), False)]


@virtual_time
async def test_an_interruption_drops_what_was_not_heard_and_says_how_far_it_was() -> None:
    heard = Heard()
    await heard.speak(5.0)
    await asyncio.sleep(1.234)
    heard.output.clear_buffer()
    heard.output.clear_buffer()
    event = await heard.output.wait_for_playout()
    assert now() == pytest.approx(1.234)
    assert event.interrupted
    assert event.playback_position == pytest.approx(1.234, abs=1e-3)
    assert heard.sink.clears == 1
    assert heard.sink.done == [True]
    sent = len(heard.sink.samples)
    await asyncio.sleep(5.0)
    assert len(heard.sink.samples) == sent
    assert len(heard.finished) == 1


@virtual_time
async def test_an_interruption_in_a_pause_counts_what_the_player_held() -> None:
    heard = Heard()
    await heard.speak(5.0)
    await asyncio.sleep(1.0)
    heard.output.pause()
    await asyncio.sleep(0.1)
    heard.output.clear_buffer()
    assert heard.last.playback_position == pytest.approx(1.1, abs=1e-3)
    heard.output.resume()
    await heard.speak(0.5)
    await heard.output.wait_for_playout()
    assert heard.last.playback_position == pytest.approx(0.5)
    assert not heard.last.interrupted


@virtual_time
async def test_an_interruption_before_the_first_sound_heard_nothing() -> None:
    heard = Heard()
    heard.output.pause()
    await heard.speak(1.0)
    heard.output.text_for_segment("Nobody heard this.")
    await asyncio.sleep(0.5)
    heard.output.clear_buffer()
    assert heard.last.interrupted
    assert heard.last.playback_position == 0.0
    assert heard.last.synchronized_transcript == ""
    assert heard.sink.done == []
    assert heard.sink.clears == 0
    assert heard.started == []


@virtual_time
async def test_a_sink_that_says_how_much_it_dropped_is_believed() -> None:
    heard = Heard(Recorder(takes_back=0.35))
    await heard.speak(5.0)
    await asyncio.sleep(1.0)
    sent = len(heard.sink.samples) / RATE
    heard.output.clear_buffer()
    assert heard.last.playback_position == pytest.approx(min(1.0, sent - 0.35), abs=1e-6)


@virtual_time
async def test_what_a_sink_cannot_take_back_still_plays_before_the_next_reply() -> None:
    heard = Heard(Recorder(takes_back=0.0))
    await heard.speak(5.0)
    await asyncio.sleep(1.0)
    left = len(heard.sink.samples) / RATE - 1.0
    heard.output.clear_buffer()
    assert heard.last.playback_position == pytest.approx(1.0)
    await heard.speak(1.0)
    await heard.output.wait_for_playout()
    assert heard.last.playback_position == pytest.approx(1.0)
    assert now() == pytest.approx(1.0 + left + 1.0)


@virtual_time
async def test_sound_after_an_interruption_is_a_new_reply() -> None:
    heard = Heard()
    await heard.output.capture_frame(sound(3.0))
    await asyncio.sleep(0.5)
    heard.output.clear_buffer()
    await heard.speak(1.0, first=7)
    event = await heard.output.wait_for_playout()
    assert [event.interrupted for _, event in heard.finished] == [True, False]
    assert event.playback_position == pytest.approx(1.0)
    assert heard.output.captured_playout_segments == 2
    assert heard.sink.samples[-RATE:].tolist() == np.frombuffer(sound(1.0, first=7).data, np.int16).tolist()


@virtual_time
async def test_replies_follow_each_other_without_a_gap() -> None:
    heard = Heard()
    await heard.speak(1.0)
    await heard.speak(0.5, first=24_000)
    await heard.output.wait_for_playout()
    assert [(at, event.playback_position) for at, event in heard.finished] == [
        (pytest.approx(1.0), pytest.approx(1.0)),
        (pytest.approx(1.5), pytest.approx(0.5)),
    ]
    assert heard.sink.done == [False, False]
    assert heard.sink.samples.tolist() == np.frombuffer(sound(1.5).data, np.int16).tolist()


@virtual_time
async def test_clearing_or_flushing_nothing_does_nothing() -> None:
    heard = Heard()
    heard.output.flush()
    heard.output.clear_buffer()
    heard.output.resume()
    await asyncio.sleep(1.0)
    assert heard.finished == []
    assert heard.sink.clears == 0
    await heard.output.wait_for_playout()


@virtual_time
async def test_a_reply_without_a_sample_ends_at_once() -> None:
    heard = Heard()
    await heard.output.capture_frame(sound(0.0))
    heard.output.flush()
    event = await heard.output.wait_for_playout()
    assert event.playback_position == 0.0
    assert heard.started == []
    assert heard.sink.done == []


@virtual_time
async def test_a_sink_that_fails_ends_the_reply_instead_of_hanging_it() -> None:
    class Broken(Recorder):
        async def write(self, frame: rtc.AudioFrame) -> None:
            if now() > 0.2:
                raise ConnectionError("gone")
            await super().write(frame)

    heard = Heard(Broken())
    await heard.speak(3.0)
    event = await heard.output.wait_for_playout()
    assert event.interrupted
    assert event.playback_position < 0.6
    assert heard.sink.done == [True]


@virtual_time
async def test_a_slow_sink_holds_up_neither_the_source_nor_an_interruption() -> None:
    class Slow(Recorder):
        async def write(self, frame: rtc.AudioFrame) -> None:
            await super().write(frame)
            await asyncio.sleep(0.5)

    heard = Heard(Slow())
    await heard.speak(3.0)
    await asyncio.sleep(0.7)
    heard.output.clear_buffer()
    assert heard.last.playback_position == pytest.approx(0.02)
    await asyncio.sleep(2.0)
    assert len(heard.sink.written) == 2
    assert heard.sink.clears == 2  # the frame that was under way is dropped too


@virtual_time
async def test_closing_ends_what_is_under_way_and_all_that_comes_later() -> None:
    heard = Heard()
    await heard.speak(3.0)
    await asyncio.sleep(0.5)
    await heard.output.aclose()
    await heard.output.aclose()
    assert heard.last.playback_position == pytest.approx(0.5, abs=1e-3)
    await heard.speak(1.0)
    event = await heard.output.wait_for_playout()
    assert event.interrupted
    assert event.playback_position == 0.0


@virtual_time
async def test_when_the_line_closes_a_reply_that_was_sent_whole_counts_as_heard() -> None:
    heard = Heard()
    await heard.speak(0.3)
    await heard.speak(3.0)
    await asyncio.sleep(0.1)
    heard.output.settle()
    assert [(event.interrupted, event.playback_position) for _, event in heard.finished] == [(False, 0.3)]
    await heard.output.aclose()
    assert heard.last.interrupted
    assert heard.last.playback_position == 0.0


@virtual_time
async def test_only_mono_at_its_rate_is_taken_and_a_lead_holds_a_frame() -> None:
    heard = Heard()
    with pytest.raises(ValueError, match="1 channel at 24000 Hz"):
        await heard.output.capture_frame(rtc.AudioFrame(bytes(320), 16_000, 1, 160))
    with pytest.raises(ValueError, match="1 channel"):
        await heard.output.capture_frame(rtc.AudioFrame(bytes(320), 24_000, 2, 80))
    with pytest.raises(ValueError, match="shorter than one frame"):
        PacedOutput(Recorder(), lead=0.01)


@pytest.mark.parametrize("seed", range(40))
@virtual_time
async def test_no_sample_is_lost_or_doubled_by_any_pattern_of_pauses(seed: int) -> None:
    chance = random.Random(seed)
    holding = seed % 2 == 1
    frame = chance.choice([0.01, 0.02, 0.04])
    lead = chance.uniform(0.05, 0.6)
    heard = Heard(Holder() if holding else Recorder(), lead=lead, frame=frame)
    captured = 0

    async def source() -> None:
        nonlocal captured
        for _ in range(chance.randint(1, 4)):
            for _ in range(chance.randint(1, 30)):
                length = chance.choice([1, 37, 240, 480, 1440, 5000])
                samples = (np.arange(captured, captured + length) % 32_000).astype(np.int16)
                await heard.output.capture_frame(rtc.AudioFrame(samples.tobytes(), RATE, 1, length))
                captured += length
                await asyncio.sleep(chance.choice([0, 0, 0.005, 0.05, 0.2]))
            heard.output.flush()

    async def pauses() -> None:
        for _ in range(chance.randint(0, 30)):
            await asyncio.sleep(chance.uniform(0, 0.2))
            for _ in range(chance.randint(1, 3)):
                chance.choice([heard.output.pause, heard.output.resume])()
        heard.output.resume()

    await asyncio.gather(source(), pauses())
    await heard.output.wait_for_playout()
    expected = (np.arange(captured) % 32_000).astype(np.int16)
    assert heard.sink.samples.tolist() == expected.tolist()
    assert sum(event.playback_position for _, event in heard.finished) == pytest.approx(captured / RATE)
    assert not any(event.interrupted for _, event in heard.finished)
    assert heard.sink.done == [False] * len(heard.finished)


@pytest.mark.parametrize("seed", range(20))
@virtual_time
async def test_whatever_happens_every_reply_is_reported_once_and_within_its_bounds(seed: int) -> None:
    chance = random.Random(seed)
    heard = Heard(Recorder(takes_back=chance.choice([0.0, 0.1, float("inf")])))
    lengths: list[float] = []
    for _ in range(6):
        length = chance.uniform(0.05, 2.0)
        lengths.append(length)
        await heard.speak(length)
        for _ in range(chance.randint(0, 6)):
            await asyncio.sleep(chance.uniform(0, 0.4))
            chance.choice([heard.output.pause, heard.output.resume])()
        if chance.random() < 0.5:
            heard.output.clear_buffer()
        heard.output.resume()
        await heard.output.wait_for_playout()
    assert len(heard.finished) == 6
    for (_, event), length in zip(heard.finished, lengths, strict=True):
        assert -1e-6 <= event.playback_position <= length + 1e-3
        assert event.interrupted or event.playback_position == pytest.approx(length, abs=1e-3)


# --- what of the text was heard --------------------------------------------------------------------------

TEXT = "The quick brown fox jumps over the lazy dog near the old river bank."


async def interrupted_at(heard: Heard, seconds: float) -> str | None:
    await asyncio.sleep(seconds)
    heard.output.clear_buffer()
    return heard.last.synchronized_transcript


@virtual_time
async def test_an_interrupted_reply_keeps_the_words_heard_whole() -> None:
    heard = Heard()
    heard.output.text_for_segment(TEXT)
    await heard.speak(4.0)
    assert await interrupted_at(heard, 2.0) == "The quick brown fox jumps over the"


@virtual_time
async def test_text_may_come_in_pieces_before_and_after_the_sound() -> None:
    heard = Heard()
    heard.output.text_for_segment(TEXT[:10])
    await heard.output.capture_frame(sound(4.0))
    heard.output.text_for_segment(TEXT[10:])
    heard.output.flush()
    assert await interrupted_at(heard, 2.0) == "The quick brown fox jumps over the"


@virtual_time
async def test_without_text_nothing_is_claimed() -> None:
    heard = Heard()
    await heard.speak(4.0)
    assert await interrupted_at(heard, 2.0) is None


@virtual_time
async def test_text_without_sound_yet_is_not_counted_as_heard() -> None:
    heard = Heard()
    heard.output.text_for_segment(TEXT * 5)
    await heard.output.capture_frame(sound(1.0))
    text = await interrupted_at(heard, 1.0)
    assert text is not None
    assert 8 <= len(text) <= 18


@virtual_time
async def test_marks_are_exact_to_the_clause() -> None:
    heard = Heard()
    heard.output.mark("Well,", 2.0)
    heard.output.mark(" that is that.", 1.0)
    await heard.speak(3.0)
    assert await interrupted_at(heard, 2.1) == "Well,"


@virtual_time
async def test_frames_that_carry_timed_words_mark_themselves() -> None:
    heard = Heard()
    heard.output.text_for_segment("One two three")
    frame = sound(3.0)
    frame.userdata[USERDATA_TIMED_TRANSCRIPT] = [
        TimedString("One", start_time=0.0, end_time=0.4),
        TimedString(" two", start_time=2.0, end_time=2.4),
        TimedString(" three", start_time=2.5),
    ]
    await heard.output.capture_frame(frame)
    heard.output.flush()
    assert await interrupted_at(heard, 2.42) == "One two"


@virtual_time
async def test_a_reply_whose_voice_failed_keeps_what_was_spoken() -> None:
    heard = Heard()
    heard.output.text_for_segment(TEXT * 3)
    await heard.output.capture_frame(sound(1.0))
    heard.output._mark_input_truncated()
    heard.output.flush()
    event = await heard.output.wait_for_playout()
    assert not event.interrupted
    assert event.synchronized_transcript is not None
    assert 8 <= len(event.synchronized_transcript) <= 18


@virtual_time
async def test_the_text_of_a_reply_that_never_spoke_is_not_the_next_ones() -> None:
    heard = Heard()
    heard.output.text_for_segment("Never spoken. ")
    heard.output.flush()
    heard.output.text_for_segment("Nor this. ")
    heard.output.clear_buffer()
    heard.output.text_for_segment("Yes it is.")
    await heard.speak(1.0)
    assert await interrupted_at(heard, 0.99) == "Yes it is."
