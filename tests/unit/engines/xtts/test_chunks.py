"""The chunk plan, with a made-up engine and a listener on a virtual clock."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from engines.tts.xtts.chunks import CODE_SECONDS, ChunkPlan, Speed, gap_free_first_audio
from tests.virtual_clock import virtual_time

PLAN = ChunkPlan()


@dataclass
class Heard:
    """What one listener got: when, and how often and how long playback ran dry."""

    arrivals: list[tuple[float, int]] = field(default_factory=list)
    chunks: list[int] = field(default_factory=list)

    @property
    def first(self) -> float:
        return self.arrivals[0][0]

    @property
    def gap(self) -> float:
        return gap_free_first_audio(self.arrivals) - self.first

    @property
    def sounded(self) -> float:
        return sum(samples for _, samples in self.arrivals) / 24000


async def listen(speeds: list[Speed], codes: int, told: bool = True, mean: Speed | None = None) -> Heard:
    """One stream of an engine whose speed changes from step to step, through the plan, until its last code.

    The plan knows how many codes there will be where it is `told`, and their `mean` speed or the present one.
    """
    clock = asyncio.get_running_loop()
    heard, waiting, begun, sent = Heard(), 0, 0.0, 0
    for made in range(1, codes + 1):
        speed = speeds[made % len(speeds)]
        await asyncio.sleep(speed.step + (speed.streams - 1) * speed.code)
        waiting += 1
        left = begun + sent * CODE_SECONDS - clock.time() if sent else None
        due = PLAN.next_chunk(mean or speed, waiting, left, codes - made + waiting if told else None)
        if waiting < due and made < codes:
            continue
        await asyncio.sleep(speed.call + waiting * speed.code)
        sounding = waiting - (0 if sent else PLAN.lag) + (PLAN.lag if made == codes else 0)
        begun = begun if sent else clock.time()
        heard.arrivals.append((clock.time(), round(sounding * CODE_SECONDS * 24000)))
        heard.chunks.append(waiting)
        waiting, sent = 0, sent + sounding
    return heard


def speed(real_time_factor: float, streams: int = 1, call: float = 0.005) -> Speed:
    whole = real_time_factor * CODE_SECONDS
    return Speed(step=whole * 0.6, code=whole * 0.4 / streams, call=call, streams=streams)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("streams", [1, 8])
@pytest.mark.parametrize("factor", [0.05, 0.2, 0.5, 0.8, 0.9])
@virtual_time
async def test_an_engine_faster_than_speech_never_lets_playback_run_dry(
    factor: float, streams: int, told: bool
) -> None:
    heard = await listen([speed(factor, streams)], 200, told)
    assert heard.gap == 0
    assert heard.sounded == pytest.approx(200 * CODE_SECONDS, abs=0.01)


@virtual_time
async def test_chunks_begin_small_and_grow_to_the_largest() -> None:
    chunks = (await listen([speed(0.3)], 200)).chunks
    assert chunks[0] <= 6
    assert chunks[:4] == sorted(chunks[:4])
    assert max(chunks) == PLAN.largest


@virtual_time
async def test_a_faster_engine_is_heard_sooner_by_its_smaller_first_chunk_too() -> None:
    fast, slow = await listen([speed(0.1)], 200), await listen([speed(0.9)], 200)
    assert fast.chunks[0] < slow.chunks[0] <= 10


@pytest.mark.parametrize("factor", [1.05, 1.5, 3.0])
@pytest.mark.parametrize("codes", [20, 60, 200])
@virtual_time
async def test_an_engine_slower_than_speech_holds_back_what_playback_gains_on_it_and_little_more(
    factor: float, codes: int
) -> None:
    heard = await listen([speed(factor)], codes)
    assert heard.gap == 0
    soonest = codes * (factor - 1) * CODE_SECONDS
    assert heard.first < soonest + 1.0 + 0.25 * codes * CODE_SECONDS


@virtual_time
async def test_steps_that_vary_by_a_third_leave_no_gap() -> None:
    heard = await listen([speed(0.7 * factor) for factor in (1.0, 0.67, 1.33, 0.8, 1.2)], 300, mean=speed(0.7))
    assert heard.gap == 0


@virtual_time
async def test_an_engine_that_slows_down_sends_smaller_chunks_in_time() -> None:
    fast, slow = [speed(0.3)] * 100, [speed(0.95)] * 100
    heard = await listen(fast + slow, 199)
    assert heard.gap == 0


def test_what_is_due_comes_closer_as_playback_runs_on() -> None:
    due = [PLAN.next_chunk(speed(0.5), 2, left / 10, None) for left in range(7, 0, -1)]
    assert due == sorted(due, reverse=True)
    assert due[0] > due[-1] == PLAN.smallest


def test_after_running_dry_enough_is_gathered_again() -> None:
    dry = PLAN.next_chunk(speed(1.5), 3, -0.2, 60)
    assert PLAN.smallest < dry <= 60
    assert PLAN.next_chunk(speed(1.5), 3, -0.2, None) >= PLAN.largest


def test_nothing_waits_for_codes_that_will_never_come() -> None:
    assert PLAN.next_chunk(speed(0.9), 1, None, 2) == 2
    assert PLAN.next_chunk(speed(5.0), 1, None, 40) <= 40


def test_gap_free_first_audio_is_the_first_chunk_where_the_others_come_in_time() -> None:
    assert gap_free_first_audio([(0.5, 24000), (1.4, 24000), (2.0, 24000)]) == 0.5


def test_gap_free_first_audio_is_later_by_the_longest_wait() -> None:
    assert gap_free_first_audio([(0.5, 24000), (2.0, 12000), (2.1, 24000)]) == 1.0
    assert gap_free_first_audio([(0.5, 12000), (1.2, 12000), (3.5, 12000)]) == 2.5


def test_gap_free_first_audio_counts_sound_only() -> None:
    assert gap_free_first_audio([(0.1, 0), (0.5, 24000), (9.0, 0)]) == 0.5
    with pytest.raises(ValueError, match="no sound"):
        gap_free_first_audio([(0.1, 0)])
