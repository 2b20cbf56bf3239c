"""The text-to-speech service over real HTTP and WebSocket, with eSpeak NG and with a scripted engine."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterable, Callable
from typing import Any

import av
import httpx
import numpy as np
import pytest
from openai import AsyncOpenAI
from websockets.asyncio.client import ClientConnection

from engines.tts.service import ServiceSynthesizer
from engines.types import (
    DEFAULT_VOICE,
    Audio,
    EngineBadInput,
    EngineError,
    EngineFull,
    EngineNotConfigured,
    EngineUnavailable,
    Voice,
)
from engines.wire import float32_to_audio
from library import Library
from services import tts
from settings import Settings
from tests.integration.services.sockets import answer, close_code, connected, relay, tell, until
from tests.scripted_engines import ScriptedVoice
from tests.served import ServiceProcess, served, until_healthy

SENTENCE = "The train leaves tomorrow at nine."

Make = Callable[..., Settings]


async def reply(ws: ClientConnection) -> Audio:
    """The sound of one reply, to its end."""
    pieces = []
    async with asyncio.timeout(60):
        while isinstance(message := await ws.recv(), bytes):
            pieces.append(float32_to_audio(message))
    assert message == '{"type": "tts_stream_end"}'
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


def loudness(audio: Audio) -> float:
    return float(np.sqrt((audio**2).mean())) if len(audio) else 0.0


# --- over the WebSocket, with the embedded engine ---


async def test_a_text_is_spoken_and_ended(tts_service: ServiceProcess) -> None:
    async with connected(tts_service.url, "/tts/stream") as ws:
        await tell(ws, text=SENTENCE, personality="assistant")
        sound = await reply(ws)
        assert 1.0 < len(sound) / 24_000 < 6.0
        assert loudness(sound) > 0.01
        assert float(np.abs(sound).max()) <= 1.0


async def test_one_socket_serves_many_replies_in_turn(tts_service: ServiceProcess) -> None:
    async with connected(tts_service.url, "/tts/stream") as ws:
        for text in ("One.", "One, two, three, four, five, six.", ""):
            await tell(ws, text=text, personality="assistant")
        short, long, nothing = [await reply(ws) for _ in range(3)]
        assert len(short) < len(long) / 2
        assert loudness(nothing) < 1e-3


async def test_pieces_of_a_text_are_one_reply(tts_service: ServiceProcess) -> None:
    async with connected(tts_service.url, "/tts/stream") as ws:
        await tell(ws, text=SENTENCE, voice="nobody")
        whole = await reply(ws)
        await tell(ws, text="The train leaves ", personality="assistant", more=True)
        await tell(ws, text="tomorrow at nine.", more=True)
        await tell(ws, text="")
        pieces = await reply(ws)
        assert len(pieces) == pytest.approx(len(whole), rel=0.2)


# --- with a scripted engine ---


class Watched(ScriptedVoice):
    """A tenth of a second for every word, the next one only when `go` is set; notes how replies end."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.go.set()
        self.stopped = asyncio.Event()
        self.failure: EngineError | None = None
        self.after = 0
        self.asked: list[tuple[Voice, str | None]] = []

    async def speak(
        self, text: str | AsyncIterable[str], voice: Voice = DEFAULT_VOICE, language: str | None = None
    ) -> AsyncGenerator[Audio, None]:
        self.asked.append((voice, language))
        words = 0
        try:
            async for piece in _pieces(text):
                self.spoken.append(piece)
                for _ in piece.split():
                    if self.failure and words == self.after:
                        raise self.failure
                    words += 1
                    yield np.full(2400, 0.5, np.float32)
                    await self.go.wait()
            if self.failure and words == self.after:
                raise self.failure
        finally:
            self.stopped.set()


async def _pieces(text: str | AsyncIterable[str]) -> AsyncGenerator[str, None]:
    if isinstance(text, str):
        yield text
    else:
        async for piece in text:
            yield piece


@pytest.fixture
def engine() -> Watched:
    return Watched()


@pytest.fixture
async def url(make_settings: Make, engine: Watched) -> AsyncGenerator[str, None]:
    async with served(tts.create(make_settings(), engine)) as url:
        await until_healthy(url)
        yield url


async def test_the_voice_is_the_named_one_else_the_personalitys_else_the_default(
    url: str, engine: Watched, make_settings: Make
) -> None:
    library = await Library.open(make_settings())
    voices = await library.voices.all()
    storyteller = await library.personalities.get("storyteller")
    default = await library.voices.resolve(None)
    await library.aclose()
    assert storyteller is not None
    async with connected(url, "/tts/stream") as ws:
        for fields in (
            {"voice": voices[-1].id, "personality": "storyteller"},
            {"personality": "storyteller"},
            {"voice": "nobody"},
            {},
            {"personality": "nobody", "language": "de"},
        ):
            await tell(ws, text="hello", **fields)
            await reply(ws)
    assert [voice.id for voice, _ in engine.asked] == [
        voices[-1].id,
        storyteller.voice,
        default.id,
        default.id,
        default.id,
    ]
    assert [language for _, language in engine.asked] == [None, storyteller.language, None, None, "de"]


async def test_sound_comes_while_it_is_made(url: str, engine: Watched) -> None:
    engine.go.clear()
    async with connected(url, "/tts/stream") as ws:
        await tell(ws, text="one two three")
        assert len(await ws.recv()) == 2400 * 4
        engine.go.set()
        assert len(await reply(ws)) == 4800


async def test_text_is_spoken_while_it_comes(url: str) -> None:
    async with connected(url, "/tts/stream") as ws:
        await tell(ws, text="one ", more=True)
        assert len(await ws.recv()) == 2400 * 4
        await tell(ws, text="two ", more=True)
        assert len(await ws.recv()) == 2400 * 4
        await tell(ws, text="three")
        assert len(await reply(ws)) == 2400


async def test_cancel_stops_the_current_reply_and_the_next_one_is_spoken(url: str, engine: Watched) -> None:
    async with connected(url, "/tts/stream") as ws:
        for more in (False, True):
            engine.go.clear()
            engine.stopped.clear()
            await tell(ws, text="one two three four", more=more)
            await ws.recv()
            await tell(ws, type="cancel")
            await engine.stopped.wait()
            assert len(await reply(ws)) == 0
            engine.go.set()
            await tell(ws, text="five six")
            assert len(await reply(ws)) == 4800


async def test_cancel_reaches_a_reply_that_has_not_begun(url: str, engine: Watched) -> None:
    async with connected(url, "/tts/stream") as ws:
        await tell(ws, text="one two three")
        await tell(ws, type="cancel")
        await tell(ws, text="four")
        await reply(ws)
        assert len(await reply(ws)) == 2400


async def test_cancel_between_replies_answers_nothing(url: str) -> None:
    async with connected(url, "/tts/stream") as ws:
        await tell(ws, type="cancel")
        await tell(ws, text="one")
        assert len(await reply(ws)) == 2400
        await tell(ws, type="cancel")
        await tell(ws, text="one two")
        assert len(await reply(ws)) == 4800


async def test_queued_replies_survive_a_cancel(url: str, engine: Watched) -> None:
    engine.go.clear()
    async with connected(url, "/tts/stream") as ws:
        await tell(ws, text="one two")
        await tell(ws, text="three four five")
        await ws.recv()
        await tell(ws, type="cancel")
        assert len(await reply(ws)) == 0
        engine.go.set()
        assert len(await reply(ws)) == 7200


@pytest.mark.parametrize("after", [0, 1])
async def test_a_failing_reply_is_told_and_ended_and_the_socket_goes_on(url: str, engine: Watched, after: int) -> None:
    engine.failure, engine.after = EngineFull("Every place is taken."), after
    async with connected(url, "/tts/stream") as ws:
        await tell(ws, text="one two")
        error = await answer(ws, "error", "tts_stream_end")
        assert (error["type"], error["code"], error["message"]) == ("error", "full", "Every place is taken.")
        assert len(await reply(ws)) == 0
        engine.failure = None
        await tell(ws, text="one two")
        assert len(await reply(ws)) == 4800


async def test_what_still_comes_for_a_failed_reply_is_dropped_with_it(url: str, engine: Watched) -> None:
    engine.failure = EngineUnavailable("The model died.")
    async with connected(url, "/tts/stream") as ws:
        await tell(ws, text="one ", more=True)
        assert (await answer(ws, "error"))["code"] == "unavailable"
        assert len(await reply(ws)) == 0
        engine.failure = None
        await tell(ws, text="two ", more=True)
        await tell(ws, text="three")
        await tell(ws, text="four")
        assert len(await reply(ws)) == 2400
    assert "two " not in engine.spoken


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("no json", "JSON objects"),
        ("[]", "JSON objects"),
        ("{}", "text: Field required"),
        ('{"text": 5}', "text: Input should be a valid string"),
        ('{"text": "hi", "more": "perhaps"}', "more: "),
        ('{"type": "sing"}', "type: "),
    ],
)
async def test_a_message_that_does_not_fit_is_a_failed_reply(url: str, message: str, said: str) -> None:
    async with connected(url, "/tts/stream") as ws:
        await ws.send(message)
        error = await answer(ws)
        assert (error["type"], error["code"]) == ("error", "bad_request")
        assert said in error["message"]
        assert len(await reply(ws)) == 0
        await tell(ws, text="one")
        assert len(await reply(ws)) == 2400


async def test_a_reply_that_grows_without_end_fails(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.tts_stream.LONGEST_TEXT", 10)
    async with connected(url, "/tts/stream") as ws:
        await tell(ws, text="one ", more=True)
        await ws.recv()
        await tell(ws, text="two three", more=True)
        assert (await answer(ws, "error"))["message"].startswith("text: ")
        assert len(await reply(ws)) == 0


async def test_a_text_that_never_ends_is_given_up(url: str, monkeypatch: pytest.MonkeyPatch, engine: Watched) -> None:
    monkeypatch.setattr("services.tts_stream.MORE_DEADLINE", 0.05)
    async with connected(url, "/tts/stream") as ws:
        await tell(ws, text="one ", more=True)
        await ws.recv()
        assert "didn't come" in (await answer(ws, "error"))["message"]
        assert len(await reply(ws)) == 0
    assert engine.stopped.is_set()


async def test_too_many_waiting_replies_close_the_socket(
    url: str, engine: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.tts_stream.MAX_WAITING", 2)
    engine.go.clear()
    async with connected(url, "/tts/stream") as ws:
        await tell(ws, text="one two")
        await ws.recv()
        for _ in range(2):
            await tell(ws, text="three four")
        assert (await answer(ws, "error"))["code"] == "full"
        assert await close_code(ws) == 1013
    await asyncio.wait_for(engine.stopped.wait(), 30)


async def test_binary_closes_the_socket(url: str) -> None:
    async with connected(url, "/tts/stream") as ws:
        await ws.send(b"hello")
        assert await close_code(ws) == 1003


async def test_a_client_who_leaves_stops_the_engine(url: str, engine: Watched) -> None:
    engine.go.clear()
    async with connected(url, "/tts/stream") as ws:
        await tell(ws, text="one two three")
        await ws.recv()
    await asyncio.wait_for(engine.stopped.wait(), 30)


@pytest.mark.parametrize(("name", "key"), [("cartesia", "CARTESIA_API_KEY"), ("elevenlabs", "ELEVENLABS_API_KEY")])
async def test_voices_that_are_not_there_say_what_is_missing(url: str, name: str, key: str) -> None:
    async with connected(url, f"/tts/stream/{name}") as ws:
        error = await answer(ws)
        assert (error["type"], error["code"]) == ("error", "not_configured")
        assert key in error["message"]
        assert await close_code(ws) == 1013
    async with connected(url, "/tts/stream/acme") as ws:
        assert await close_code(ws) == 4404


# --- as OpenAI's ---


def decoded(data: bytes) -> tuple[Audio, int]:
    with av.open(io.BytesIO(data)) as file:
        stream = file.streams.audio[0]
        resampler = av.AudioResampler("flt", "mono", stream.rate)
        frames = [piece for frame in file.decode(stream) for piece in resampler.resample(frame)]
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames]), stream.rate


@pytest.mark.parametrize("form", ["wav", "flac", "mp3", "opus"])
async def test_speech_is_had_in_every_format(tts_service: ServiceProcess, form: Any) -> None:
    client = AsyncOpenAI(base_url=f"{tts_service.url}/v1", api_key="none")
    raw = await client.audio.speech.create(model="tts-1", voice="alloy", input=SENTENCE, response_format="pcm")
    seconds = len(raw.content) / 2 / 24_000
    assert seconds > 1
    packed = await client.audio.speech.create(model="tts-1", voice="alloy", input=SENTENCE, response_format=form)
    sound, rate = decoded(packed.content)
    assert len(sound) / rate == pytest.approx(seconds, abs=0.1)
    assert loudness(sound) > 0.01
    await client.close()


async def test_speech_is_sent_while_it_is_made(url: str, engine: Watched) -> None:
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none")
    for form in ("pcm", "wav", "flac", "mp3", "opus"):
        engine.go.clear()
        async with client.audio.speech.with_streaming_response.create(
            model="m", voice="v", input="word " * 20, response_format=form
        ) as streamed:
            pieces = streamed.iter_bytes()
            if form in ("pcm", "wav"):  # the others wait until a frame is full
                assert await anext(pieces)
            else:
                asyncio.get_running_loop().call_later(0.05, engine.go.set)
                assert await anext(pieces)
            engine.go.set()
            assert [piece async for piece in pieces]
    await client.close()


async def test_speed_changes_the_voices_rate(url: str, engine: Watched) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        for speed in (1.0, 2.0):
            await client.post(f"{url}/v1/audio/speech", json={"input": "hi", "speed": speed, "response_format": "pcm"})
    plain, fast = [voice.rate for voice, _ in engine.asked]
    assert fast == pytest.approx(2 * plain)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "input: "),
        ({"input": " "}, "input: "),
        ({"input": "hi", "response_format": "aac"}, "response_format: "),
        ({"input": "hi", "speed": 9}, "speed: "),
        ({"input": "hi", "stream_format": "sse"}, "stream_format: "),
    ],
)
async def test_what_cannot_be_spoken_is_refused(url: str, body: dict[str, Any], said: str) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        refusal = await client.post(f"{url}/v1/audio/speech", json=body)
    assert refusal.status_code == 400
    assert refusal.json()["error"]["message"].startswith(said)


async def test_an_engine_that_fails_at_once_is_an_error_not_a_sound(url: str, engine: Watched) -> None:
    engine.failure = EngineFull("Every place is taken.", retry_after=2)
    async with httpx.AsyncClient(trust_env=False) as client:
        refusal = await client.post(f"{url}/v1/audio/speech", json={"input": "hi"})
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (503, "full")


async def test_a_caller_who_leaves_stops_the_engine(url: str, engine: Watched) -> None:
    engine.go.clear()
    async with (
        httpx.AsyncClient(trust_env=False) as client,
        client.stream(
            "POST", f"{url}/v1/audio/speech", json={"input": "one two three", "response_format": "pcm"}
        ) as streamed,
    ):
        assert await anext(streamed.aiter_bytes())
    await asyncio.wait_for(engine.stopped.wait(), 30)


async def test_voices_are_prepared(url: str, make_settings: Make) -> None:
    library = await Library.open(make_settings())
    known = (await library.voices.all())[0].id
    await library.aclose()
    async with httpx.AsyncClient(trust_env=False, base_url=url) as client:
        missing = await client.post("/voices/nobody/prepare")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "unknown_voice")
        ready = (await client.post(f"/voices/{known}/prepare")).json()
        assert (ready["voice"], ready["engine"], ready["prepared"]) == (known, "scripted", True)


# --- the service as an engine ---


async def sound_of(engine: ServiceSynthesizer, text: str | AsyncIterable[str]) -> int:
    return sum([len(chunk) async for chunk in engine.speak(text)])


async def test_the_service_is_an_engine(tts_service: ServiceProcess) -> None:
    engine = ServiceSynthesizer(tts_service.url)
    await engine.start()
    assert (engine.info.name, engine.info.device) == ("service", tts_service.url)
    chunks = [chunk async for chunk in engine.speak(SENTENCE)]
    assert len(chunks) > 1
    assert all(chunk.dtype == np.float32 for chunk in chunks)
    assert loudness(np.concatenate(chunks)) > 0.01
    await engine.aclose()


async def test_replies_of_the_engine_share_a_socket(url: str, engine: Watched) -> None:
    service = ServiceSynthesizer(url)
    await service.start()

    async def written() -> AsyncGenerator[str, None]:
        for word in ("one ", "two ", "three"):
            yield word

    for _ in range(3):
        assert await sound_of(service, "one two") == 4800
        assert await sound_of(service, written()) == 7200
    async with httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"{url}/metrics")).text
    assert 'voice_node_sockets_opened_total{route="/tts/stream"} 1.0' in page
    assert service.capacity.held == 0
    await service.aclose()


async def test_a_closed_reply_stops_the_engine_behind_and_its_socket_serves_again(url: str, engine: Watched) -> None:
    service = ServiceSynthesizer(url)
    for _ in range(3):
        engine.go.clear()
        engine.stopped.clear()
        speech = service.speak("one two three")
        await anext(speech)
        await speech.aclose()
        await asyncio.wait_for(engine.stopped.wait(), 30)
        engine.go.set()
        await until(lambda: service._sockets._idle)
        assert await sound_of(service, "one") == 2400
    async with httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"{url}/metrics")).text
    assert 'voice_node_sockets_opened_total{route="/tts/stream"} 1.0' in page
    await service.aclose()


async def test_a_text_that_breaks_off_stops_the_reply_and_is_told(url: str, engine: Watched) -> None:
    async def broken() -> AsyncGenerator[str, None]:
        yield "one "
        async with asyncio.timeout(30):
            while not engine.spoken:  # noqa: ASYNC110 - the engine speaks beside, without a word to us
                await asyncio.sleep(0.01)
        raise LookupError("the chat model fell over")

    service = ServiceSynthesizer(url)
    with pytest.raises(LookupError, match="fell over"):
        await sound_of(service, broken())
    await asyncio.wait_for(engine.stopped.wait(), 30)
    assert await sound_of(service, "one two") == 4800
    await service.aclose()


@pytest.mark.parametrize(
    "failure",
    [
        EngineFull("Full."),
        EngineNotConfigured("Set KEY."),
        EngineUnavailable("Down."),
        EngineBadInput("No such language."),
        EngineError("Bad."),
    ],
)
async def test_engine_errors_come_back_as_they_were(url: str, engine: Watched, failure: EngineError) -> None:
    service = ServiceSynthesizer(url)
    engine.failure, engine.after = failure, 1

    async def written() -> AsyncGenerator[str, None]:
        for word in ("one ", "two ", "three ", "four"):
            yield word

    for text in ("one two", written()):
        with pytest.raises(EngineError, match=failure.message) as raised:
            await sound_of(service, text)
        assert type(raised.value) is type(failure)
    engine.failure = None
    assert await sound_of(service, "one") == 2400
    await service.aclose()


async def test_a_socket_that_died_in_the_pool_is_not_noticed_half_a_reply_is(url: str, engine: Watched) -> None:
    async with relay(url) as line:
        service = ServiceSynthesizer(line.url)
        await service.start()
        line.cut()
        assert await sound_of(service, "one") == 2400
        engine.go.clear()
        speech = service.speak("one two three")
        await anext(speech)
        line.cut()
        with pytest.raises(EngineUnavailable, match="--services tts"):
            async for _ in speech:
                pass
        await service.aclose()


async def test_a_missing_service_is_named_with_its_command(unused_tcp_port: int) -> None:
    service = ServiceSynthesizer(f"http://127.0.0.1:{unused_tcp_port}")
    for attempt in (service.start(), sound_of(service, "one")):
        with pytest.raises(EngineUnavailable, match=r"python launcher\.py --services tts"):
            await attempt
    await service.aclose()


async def test_a_wrong_key_is_named(make_settings: Make, engine: Watched) -> None:
    async with served(tts.create(make_settings(API_KEYS="right"), engine)) as url:
        service = ServiceSynthesizer(url, "wrong")
        with pytest.raises(EngineNotConfigured, match="SERVICE_API_KEY"):
            await sound_of(service, "one")
        await service.aclose()
