"""The client's sound reaches the ear whole and in time, however it is cut and whenever it comes, on a virtual clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest

from compat_ws.microphone import (
    AHEAD,
    CATCH_UP,
    CREDIT,
    OPEN_AFTER,
    SILENCE_AFTER,
    SILENCE_FOR,
    STALL,
    Microphone,
    TooFarAhead,
)
from engines.types import HEARD_RATE
from tests.virtual_clock import virtual_time

RATE = HEARD_RATE


def now() -> float:
    return asyncio.get_running_loop().time()


def sound(seconds: float, first: int = 1) -> bytes:
    """Samples that count up and are never 0, so that put-in silence can be told from them."""
    return ((np.arange(first - 1, first - 1 + round(seconds * RATE)) % 32_000) + 1).astype("<i2").tobytes()


class Ear:
    """Reads a microphone all the time."""

    def __init__(self, microphone: Microphone) -> None:
        self.microphone = microphone
        self.frames: list[tuple[float, np.ndarray]] = []

    async def listen(self) -> None:
        async for frame in self.microphone:
            assert (frame.sample_rate, frame.num_channels) == (RATE, 1)
            self.frames.append((now(), np.frombuffer(frame.data, np.int16)))

    @property
    def samples(self) -> np.ndarray:
        return np.concatenate([samples for _, samples in self.frames]) if self.frames else np.zeros(0, np.int16)

    @property
    def spoken(self) -> np.ndarray:
        """All that isn't silence."""
        return self.samples[self.samples != 0]

    @property
    def silence(self) -> float:
        """Seconds of silence put in."""
        return float(np.count_nonzero(self.samples == 0)) / RATE

    def heard_by(self, moment: float) -> float:
        """Seconds of the client's sound that were handed on until then."""
        return sum(np.count_nonzero(samples) for at, samples in self.frames if at <= moment) / RATE


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[Microphone, Ear]]:
    microphone = Microphone()
    ear = Ear(microphone)
    task = asyncio.create_task(ear.listen())
    yield microphone, ear
    microphone.close()
    await task


@pytest.mark.parametrize("chunk", [0.01, 0.02, 0.1, 0.256, 0.9])
@virtual_time
async def test_live_chunks_of_any_length_go_on_the_moment_they_come(chunk: float) -> None:
    async with listening() as (microphone, ear):
        sent, late = 0, 0.0
        for _ in range(round(5 / chunk)):
            await asyncio.sleep(chunk)
            data = sound(chunk, first=1 + sent)
            sent += len(data) // 2
            microphone.push(data)
            await asyncio.sleep(0.0001)
            late = max(late, sent / RATE - ear.heard_by(now()))
        assert late < 0.01
        assert ear.silence == 0.0


@virtual_time
async def test_a_file_in_one_go_is_handed_on_in_about_real_time_and_whole() -> None:
    async with listening() as (microphone, ear):
        whole = sound(20)
        microphone.push(whole)
        await asyncio.sleep(5)
        assert CREDIT <= ear.heard_by(5) <= (CREDIT + 5) * CATCH_UP + 0.1
        await asyncio.sleep(15)
        assert ear.spoken.tobytes() == whole
        end = next(at for at, samples in ear.frames if at > 1 and not samples.all())
        assert 15 <= end <= 17


@virtual_time
async def test_more_than_thirty_seconds_ahead_is_refused() -> None:
    async with listening() as (microphone, _):
        microphone.push(sound(AHEAD))
        with pytest.raises(TooFarAhead, match="30 s ahead"):
            microphone.push(sound(0.1))
        await asyncio.sleep(1)
        microphone.push(sound(0.9))


@virtual_time
async def test_a_client_in_real_time_is_never_too_far_ahead() -> None:
    async with listening() as (microphone, _):
        for _ in range(600):
            await asyncio.sleep(0.1)
            microphone.push(sound(0.1))


@virtual_time
async def test_silence_is_put_in_soon_after_a_client_stops_and_in_real_time() -> None:
    async with listening() as (microphone, ear):
        for _ in range(50):
            microphone.push(sound(0.02))
            await asyncio.sleep(0.02)
        stopped = now()
        await asyncio.sleep(SILENCE_AFTER + 1.0)
        first = next(at for at, samples in ear.frames if not samples.any())
        assert first - stopped == pytest.approx(SILENCE_AFTER, abs=0.001)
        assert ear.silence == pytest.approx(1.0, abs=0.03)
        assert len(ear.spoken) == RATE


@virtual_time
async def test_silence_ends_after_a_while_and_sound_goes_on_afterwards() -> None:
    async with listening() as (microphone, ear):
        microphone.push(sound(0.02))
        await asyncio.sleep(SILENCE_FOR + 100)
        assert ear.silence == pytest.approx(SILENCE_FOR, abs=0.05)
        microphone.push(sound(0.5, first=321))
        await asyncio.sleep(0.001)
        assert ear.spoken.tobytes() == sound(0.52)


@virtual_time
async def test_a_client_that_never_speaks_is_given_no_silence() -> None:
    async with listening() as (_, ear):
        await asyncio.sleep(60)
        assert ear.frames == []


@virtual_time
async def test_after_a_stall_the_delay_is_made_up() -> None:
    async with listening() as (microphone, ear):
        sent = 0

        def send(seconds: float) -> None:
            nonlocal sent
            microphone.push(sound(seconds, first=1 + sent))
            sent += round(seconds * RATE)

        for _ in range(50):
            await asyncio.sleep(0.02)
            send(0.02)
        await asyncio.sleep(3.0)
        send(3.0)
        for _ in range(1000):
            await asyncio.sleep(0.02)
            send(0.02)
        await asyncio.sleep(0.001)
        assert sent / RATE - ear.heard_by(now()) < 0.51
        assert ear.spoken.tobytes() == sound(sent / RATE)[: 2 * len(ear.spoken)]


class Client:
    """Sends a chunk every 20 ms; a line that stalls holds them back and hands them on all at once."""

    def __init__(self, microphone: Microphone) -> None:
        self.microphone = microphone
        self.sent = 0

    async def talk(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.02)):
            await asyncio.sleep(0.02)
            self.send(0.02)

    async def stall(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        for _ in range(round(seconds / 0.02)):
            self.send(0.02)

    def send(self, seconds: float) -> None:
        self.microphone.push(sound(seconds, first=1 + self.sent))
        self.sent += round(seconds * RATE)


@virtual_time
async def test_a_line_that_stalls_puts_no_silence_into_an_open_microphones_words() -> None:
    async with listening() as (microphone, ear):
        client = Client(microphone)
        await client.talk(OPEN_AFTER + 0.1)
        for _ in range(5):
            await client.stall(0.9 * STALL)
            await client.talk(2.0)
        await asyncio.sleep(0.001)
        assert ear.silence == 0.0
        assert client.sent / RATE - ear.heard_by(now()) < 0.51
        await client.stall(STALL + 0.5)
        assert ear.silence == pytest.approx(0.5, abs=0.05), "what is held up for longer breaks a turn"
        await client.talk(4.0)
        assert ear.spoken.tobytes() == sound(client.sent / RATE)[: 2 * len(ear.spoken)]


@virtual_time
async def test_who_sends_with_gaps_is_never_taken_for_an_open_microphone() -> None:
    async with listening() as (microphone, ear):
        client = Client(microphone)
        for _ in range(6):
            await client.talk(3.0)
            silent = ear.silence
            await asyncio.sleep(0.7)
            assert ear.silence - silent == pytest.approx(0.7 - SILENCE_AFTER, abs=0.05)


@virtual_time
async def test_a_clock_that_runs_a_little_differently_leaves_an_open_microphone_open() -> None:
    async with listening() as (microphone, ear):
        client = Client(microphone)
        for number in range(60_000):
            await asyncio.sleep(0.020_02)  # a thousandth slow
            client.send(0.02)
            if number == 50_000:
                await asyncio.sleep(0.5)
        assert ear.silence < 0.1


@virtual_time
async def test_half_a_sample_waits_for_its_other_half() -> None:
    async with listening() as (microphone, ear):
        whole = sound(0.1)
        for at in range(0, len(whole), 7):
            microphone.push(whole[at : at + 7])
        await asyncio.sleep(0.01)
        assert ear.samples.tobytes() == whole


@virtual_time
async def test_half_a_sample_waits_through_a_silence() -> None:
    async with listening() as (microphone, ear):
        whole = sound(0.025)
        microphone.push(whole[:-3])
        await asyncio.sleep(1)
        microphone.push(whole[-3:] + sound(0.1, first=401))
        await asyncio.sleep(1)
        assert ear.spoken.tobytes() == sound(0.125)


@pytest.mark.parametrize("seed", range(20))
@virtual_time
async def test_nothing_is_lost_however_it_comes(seed: int) -> None:
    chance = random.Random(seed)
    async with listening() as (microphone, ear):
        whole = sound(10)
        at = 0
        while at < len(whole):
            size = chance.choice([1, 2, 319, 320, 640, 641, 3200, 20_000])
            microphone.push(whole[at : at + size])
            at += size
            await asyncio.sleep(chance.choice([0, 0.001, 0.02, 0.02, 0.02, 0.5]))
        await asyncio.sleep(12)
        assert ear.spoken.tobytes() == whole


@virtual_time
async def test_closing_ends_the_reading() -> None:
    microphone = Microphone()
    reading = asyncio.create_task(anext(microphone))
    await asyncio.sleep(1)
    microphone.close()
    with pytest.raises(StopAsyncIteration):
        await reading
