"""Services that are frozen (SIGSTOP) in the middle of a call: they are left at the deadline, and serve again later."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from engines.chat.service import ServiceChat
from engines.fallback import FallbackChat, FallbackSynthesizer, FallbackTranscriber
from engines.service_client import ServiceEngine
from engines.stt.service import ServiceTranscriber
from engines.tts.service import ServiceSynthesizer
from engines.types import EngineLate, EngineUnavailable, Message
from tests.scripted_engines import ScriptedChat, ScriptedTranscriber, ScriptedVoice
from tests.served import ServiceProcess

DEADLINE = 1.0
QUESTION = [Message("user", "hello")]
SOUND = np.zeros(16_000, np.float32)


@contextmanager
def frozen(service: ServiceProcess) -> Iterator[None]:
    service.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        service.process.send_signal(signal.SIGCONT)


async def all_freed(service: ServiceEngine) -> None:
    async with asyncio.timeout(5):
        while service.held:  # noqa: ASYNC110 - nobody is told of it
            await asyncio.sleep(0.01)


@pytest.fixture
def within() -> Callable[[], asyncio.Timeout]:
    """The time in which a frozen service must have been left."""
    return lambda: asyncio.timeout(DEADLINE + 2.0)


async def test_a_frozen_recognizer_is_left(stt_service: ServiceProcess, within: Callable[[], asyncio.Timeout]) -> None:
    service = ServiceTranscriber(stt_service.url)
    await service.start()
    line = FallbackTranscriber([service, ScriptedTranscriber(["heard by the other"])], DEADLINE)
    alone = FallbackTranscriber([service], DEADLINE)
    with frozen(stt_service):
        utterance, lost = line.stream(), alone.stream()
        for each in (utterance, lost):
            each.push(SOUND)
        async with within():
            assert await utterance.settle() == "heard by the other"
        async with within():
            with pytest.raises(EngineUnavailable):
                await lost.finish()
        await utterance.cancel()
        await lost.cancel()
    again = alone.stream()
    again.push(SOUND)
    assert (await again.finish()).text == ""
    await all_freed(service)
    await line.aclose()


async def test_a_frozen_chat_service_is_left(
    chat_service: ServiceProcess, within: Callable[[], asyncio.Timeout]
) -> None:
    service = ServiceChat(chat_service.url)
    await service.start()
    line = FallbackChat([service, ScriptedChat(lambda _: "from the other")], DEADLINE)
    alone = FallbackChat([service], DEADLINE)
    with frozen(chat_service):
        async with within():
            assert "".join([piece async for piece in line.reply(QUESTION)]).strip() == "from the other"
        async with within():
            with pytest.raises(EngineLate):
                await anext(alone.reply(QUESTION))
    assert "".join([piece async for piece in alone.reply(QUESTION)])
    await all_freed(service)
    await line.aclose()


async def test_a_frozen_voice_is_left(tts_service: ServiceProcess, within: Callable[[], asyncio.Timeout]) -> None:
    service = ServiceSynthesizer(tts_service.url)
    await service.start()
    other = ScriptedVoice()
    line = FallbackSynthesizer([service, other], DEADLINE)
    alone = FallbackSynthesizer([service], DEADLINE)
    with frozen(tts_service):
        async with within():
            assert [piece async for piece in line.speak("hello there")]
        assert other.spoken == ["hello there"]
        async with within():
            with pytest.raises(EngineLate):
                await anext(alone.speak("hello there"))
    assert [piece async for piece in alone.speak("hello there")]
    await all_freed(service)
    await line.aclose()
