"""The speech-to-text service over real HTTP and WebSocket, with PocketSphinx and with a scripted engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import httpx
import numpy as np
import pytest
from openai import AsyncOpenAI

from engines.stt.service import ServiceTranscriber
from engines.types import (
    Audio,
    EngineBadInput,
    EngineError,
    EngineFull,
    EngineNotConfigured,
    EngineUnavailable,
    LiveTranscription,
    Segment,
    Transcript,
)
from services import stt
from settings import Settings
from tests.integration.services.recordings import CONTAINERS, packed, pcm, tone
from tests.integration.services.sockets import answer, close_code, connected, relay, tell
from tests.scripted_engines import ScriptedTranscriber, ScriptedUtterance
from tests.served import ServiceProcess, served, until_healthy
from tests.speech import spoken, word_error_rate

SENTENCE = "what time does the train leave tomorrow morning"
SILENCE = np.zeros(16_000, np.float32)

Make = Callable[..., Settings]


async def post(url: str, data: bytes, content_type: str = "audio/wav", **fields: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        return await client.post(f"{url}/transcribe", files={"file": ("recording", data, content_type)}, data=fields)


# --- whole recordings ---


@pytest.mark.parametrize("container", CONTAINERS)
async def test_recordings_of_every_kind_are_understood(stt_service: ServiceProcess, container: str) -> None:
    audio = spoken(SENTENCE)
    body = (await post(stt_service.url, packed(audio, container))).json()
    assert word_error_rate(SENTENCE, body["text"]) <= 0.25
    assert body["language"].startswith("en")
    assert body["duration"] == pytest.approx(len(audio) / 16_000, abs=0.1)
    assert body["segments"]
    assert " ".join(part["text"] for part in body["segments"]).split() == body["text"].split()
    assert all(0 <= part["start"] < part["end"] <= body["duration"] + 0.1 for part in body["segments"])


async def test_raw_sound_is_understood(stt_service: ServiceProcess) -> None:
    body = (await post(stt_service.url, pcm(spoken(SENTENCE)), "audio/pcm", language="en")).json()
    assert word_error_rate(SENTENCE, body["text"]) <= 0.25


async def test_silence_is_an_empty_text(stt_service: ServiceProcess) -> None:
    body = (await post(stt_service.url, packed(SILENCE, "wav"))).json()
    assert (body["text"], body["segments"]) == ("", [])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"hello, I am no sound", "no recording that can be read"),
        (b"#EXTM3U\nfile:///etc/passwd\n", "no recording that can be read"),
        (b"\x1a\x45\xdf\xa3" + os.urandom(4000), "The WebM file is damaged"),
        (b"fLaC" + os.urandom(4000), "The FLAC file is damaged"),
        (packed(tone(2), "wav")[:20_000], "The WAV file is cut off: its header announces 64078 bytes, 20000 came"),
        (packed(tone(2), "flac")[:9_000], "The FLAC file is damaged"),
        (packed(tone(2), "mp3")[:40], "The MP3 file is damaged"),
    ],
)
async def test_what_is_no_recording_is_refused_in_words(stt_service: ServiceProcess, data: bytes, said: str) -> None:
    refusal = await post(stt_service.url, data, "application/octet-stream")
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (400, "bad_audio")
    assert said in refusal.json()["error"]["message"]


async def test_half_a_sample_is_refused(stt_service: ServiceProcess) -> None:
    refusal = await post(stt_service.url, b"\x00\x00\x00", "audio/pcm")
    assert "odd number of bytes" in refusal.json()["error"]["message"]


async def test_a_small_file_that_unpacks_to_hours_is_refused(stt_service: ServiceProcess) -> None:
    bomb = packed(np.zeros(16_000 * 3700, np.float32), "flac")
    assert len(bomb) < 1_000_000
    assert (await post(stt_service.url, bomb)).status_code == 413


async def test_a_missing_file_is_named(stt_service: ServiceProcess) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        refusal = await client.post(f"{stt_service.url}/transcribe", data={"language": "en"})
    assert (refusal.status_code, refusal.json()["error"]["message"]) == (400, "file: Field required")


async def test_a_language_that_the_engine_lacks_is_refused(stt_service: ServiceProcess) -> None:
    refusal = await post(stt_service.url, packed(SILENCE, "wav"), language="fr")
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (400, "bad_input")


# --- as OpenAI's ---


async def test_the_openai_client_works(stt_service: ServiceProcess) -> None:
    client = AsyncOpenAI(base_url=f"{stt_service.url}/v1", api_key="none")
    file = ("speech.wav", packed(spoken(SENTENCE), "wav"))
    plain = await client.audio.transcriptions.create(model="whisper-1", file=file)
    assert word_error_rate(SENTENCE, plain.text) <= 0.25
    text = await client.audio.transcriptions.create(model="whisper-1", file=file, response_format="text")
    assert text.strip() == plain.text
    full = await client.audio.transcriptions.create(model="whisper-1", file=file, response_format="verbose_json")
    assert (full.text, full.segments is not None) == (plain.text, True)
    subtitles = await client.audio.transcriptions.create(model="whisper-1", file=file, response_format="srt")
    assert subtitles.startswith("1\n00:00:0")
    web = await client.audio.transcriptions.create(model="whisper-1", file=file, response_format="vtt")
    assert web.startswith("WEBVTT\n\n00:00:0")
    assert " --> " in web
    await client.close()


async def test_subtitles_carry_every_segment(make_settings: Make) -> None:
    class Two(ScriptedTranscriber):
        async def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
            parts = (Segment(0.0, 1.25, "one"), Segment(3661.5, 3662.0, "two --> three"))
            return Transcript("one two", "en", 3700.0, parts)

    async with served(stt.create(make_settings(), Two([]))) as url, httpx.AsyncClient(trust_env=False) as client:

        async def ask(form: str) -> httpx.Response:
            files = {"file": ("a.wav", packed(SILENCE, "wav"))}
            return await client.post(f"{url}/v1/audio/transcriptions", files=files, data={"response_format": form})

        assert (await ask("srt")).text == (
            "1\n00:00:00,000 --> 00:00:01,250\none\n\n2\n01:01:01,500 --> 01:01:02,000\ntwo --> three\n"
        )
        assert (await ask("vtt")).text == (
            "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\none\n\n01:01:01.500 --> 01:01:02.000\ntwo -> three\n"
        )
        refusal = await ask("yaml")
        assert refusal.status_code == 400
        assert "response_format" in refusal.json()["error"]["message"]


# --- live ---


async def test_live_speech_is_understood_while_it_comes(stt_service: ServiceProcess) -> None:
    sound = pcm(spoken(SENTENCE))
    async with connected(stt_service.url, "/transcribe/stream") as ws:
        await tell(ws, type="start", language="en")
        for at in range(0, len(sound), 641):  # cuts samples in halves
            await ws.send(sound[at : at + 641])
        partial = await answer(ws, "partial")
        assert partial["text"]
        await tell(ws, type="settle")
        settled = await answer(ws, "settled")
        assert word_error_rate(SENTENCE, settled["text"]) <= 0.25
        await tell(ws, type="finish")
        final = await answer(ws, "final")
        assert word_error_rate(SENTENCE, final["text"]) <= 0.25
        assert final["duration"] == pytest.approx(len(sound) / 32_000, abs=0.05)


async def test_one_socket_serves_many_utterances_in_turn(stt_service: ServiceProcess) -> None:
    async with connected(stt_service.url, "/transcribe/stream") as ws:
        for n, sentence in enumerate(("open the door", "close the window", "turn on the light")):
            await tell(ws, type="start", id=str(n))
            await ws.send(pcm(spoken(sentence)))
            if n == 1:
                await tell(ws, type="cancel")
                continue
            await tell(ws, type="finish")
            final = await answer(ws, "final")
            assert final["id"] == str(n)
            assert word_error_rate(sentence, final["text"]) <= 0.34
        await tell(ws, type="start")
        await tell(ws, type="finish")
        assert (await answer(ws, "final"))["text"] == ""


@pytest.mark.parametrize(
    ("first", "code", "closed"),
    [
        (b"\x00\x00", "bad_request", 1003),
        ("no json", "bad_request", 1003),
        ("[1]", "bad_request", 1003),
        ('{"type": "finish"}', "bad_request", 1003),
        ('{"type": "start", "language": 5}', "bad_request", 1003),
    ],
)
async def test_a_socket_that_begins_wrong_is_closed(
    stt_service: ServiceProcess, first: str | bytes, code: str, closed: int
) -> None:
    async with connected(stt_service.url, "/transcribe/stream") as ws:
        await ws.send(first)
        assert (await answer(ws, "error"))["code"] == code
        assert await close_code(ws) == closed


async def test_mistakes_between_utterances_are_told_and_forgiven(stt_service: ServiceProcess) -> None:
    async with connected(stt_service.url, "/transcribe/stream") as ws:
        await tell(ws, type="start", language="xx-unknown")
        assert (await answer(ws, "error"))["code"] == "bad_input"
        await tell(ws, type="finish")
        assert (await answer(ws, "error"))["code"] == "bad_request"
        await ws.send(b"\x00\x00")
        await ws.send(b"\x00\x00")
        assert "Sound came before" in (await answer(ws, "error"))["message"]
        await tell(ws, type="cancel")
        await tell(ws, type="start", language="en")
        await tell(ws, type="start", language="en")
        assert "Finish or cancel" in (await answer(ws, "error"))["message"]
        await tell(ws, type="finish")
        assert (await answer(ws, "final"))["text"] == ""
        await tell(ws, type="sing")
        assert await close_code(ws) == 1003


class Watched(ScriptedTranscriber):
    """Notes what becomes of its utterances; settles and transcribes when told to, or fails."""

    def __init__(self, *, failure: EngineError | None = None, full: bool = False) -> None:
        super().__init__([])
        self.failure = failure
        self.full = full
        self.go = asyncio.Event()
        self.busy = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        self.busy.set()
        try:
            if self.failure:
                raise self.failure
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Transcript("done", "en")

    def stream(self, language: str | None = None) -> LiveTranscription:
        if self.full:
            raise EngineFull("Every place is taken.", retry_after=2)
        return WatchedUtterance(self)


class WatchedUtterance(ScriptedUtterance):
    def __init__(self, owner: Watched) -> None:
        super().__init__("words")
        self.owner = owner

    async def settle(self) -> str:
        self.owner.busy.set()
        if self.owner.failure:
            raise self.owner.failure
        await self.owner.go.wait()
        return f"{self.given:.1f}"

    async def cancel(self) -> None:
        self.owner.cancelled.set()


async def test_settling_neither_holds_up_sound_nor_cancel(make_settings: Make) -> None:
    engine = Watched()
    async with served(stt.create(make_settings(), engine)) as url, connected(url, "/transcribe/stream") as ws:
        await tell(ws, type="start")
        await ws.send(pcm(SILENCE))
        await tell(ws, type="settle")
        await ws.send(pcm(SILENCE))
        assert (await answer(ws, "partial"))["text"] == "words"
        engine.go.set()
        assert (await answer(ws, "settled"))["text"] == "2.0"
        engine.go.clear()
        await tell(ws, type="settle")
        await engine.busy.wait()
        await tell(ws, type="cancel")
        await engine.cancelled.wait()
        engine.go.set()
        await tell(ws, type="start")
        await tell(ws, type="settle")
        assert (await answer(ws, "settled"))["text"] == "0.0"


async def test_a_failing_utterance_is_told_and_the_socket_goes_on(make_settings: Make) -> None:
    engine = Watched(failure=EngineUnavailable("The decoder died."))
    async with served(stt.create(make_settings(), engine)) as url, connected(url, "/transcribe/stream") as ws:
        await tell(ws, type="start", id="a")
        await tell(ws, type="settle")
        error = await answer(ws, "error")
        assert (error["code"], error["message"], error["id"]) == ("unavailable", "The decoder died.", "a")
        engine.failure = None
        engine.go.set()
        await tell(ws, type="start", id="b")
        await tell(ws, type="settle")
        assert (await answer(ws, "settled"))["id"] == "b"


async def test_a_full_engine_refuses_at_once(make_settings: Make) -> None:
    engine = Watched(full=True, failure=EngineFull("Every place is taken.", retry_after=2))
    async with served(stt.create(make_settings(), engine)) as url:
        async with connected(url, "/transcribe/stream") as ws:
            await tell(ws, type="start")
            assert (await answer(ws, "error"))["code"] == "full"
            assert await close_code(ws) == 1013
        refusal = await post(url, packed(SILENCE, "wav"))
        assert (refusal.status_code, refusal.headers["retry-after"]) == (503, "2")
        assert refusal.json()["error"]["code"] == "full"


async def test_a_caller_who_leaves_stops_the_work(make_settings: Make) -> None:
    engine = Watched()
    async with served(stt.create(make_settings(), engine)) as url:
        asking = asyncio.create_task(post(url, packed(SILENCE, "wav")))
        await engine.busy.wait()
        asking.cancel()
        await asyncio.wait_for(engine.cancelled.wait(), 30)
        engine.cancelled.clear()
        async with connected(url, "/transcribe/stream") as ws:
            await tell(ws, type="start")
            await tell(ws, type="settle")
        await asyncio.wait_for(engine.cancelled.wait(), 30)


async def test_an_endless_utterance_is_closed(make_settings: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.stt_stream.MAX_SECONDS", 1.5)
    async with served(stt.create(make_settings(), Watched())) as url, connected(url, "/transcribe/stream") as ws:
        await tell(ws, type="start")
        await ws.send(pcm(SILENCE))
        await ws.send(pcm(SILENCE))
        assert (await answer(ws, "error"))["code"] == "too_big"
        assert await close_code(ws) == 1009


async def test_health_names_the_engine_and_its_reason(make_settings: Make) -> None:
    class Late(ScriptedTranscriber):
        async def start(self) -> None:
            raise EngineUnavailable("The model is missing; run 'make setup'.")

    async with served(stt.create(make_settings(), Late([]))) as url, httpx.AsyncClient(trust_env=False) as client:
        body = {"reason": "starting"}
        while body["reason"] == "starting":
            sick = await client.get(f"{url}/health")
            body = sick.json()
        assert (sick.status_code, body["reason"]) == (503, "The model is missing; run 'make setup'.")
        assert body["engine"]["name"] == "scripted"
        assert body["capacity"] == {"held": 0, "limit": None}


# --- the service as an engine ---


async def test_the_service_is_an_engine(stt_service: ServiceProcess) -> None:
    engine = ServiceTranscriber(stt_service.url)
    await engine.start()
    assert engine.info.name == "service"
    assert engine.info.device == stt_service.url
    assert engine.capacity.limit
    transcript = await engine.transcribe(spoken(SENTENCE), "en")
    assert word_error_rate(SENTENCE, transcript.text) <= 0.25
    assert transcript.segments
    stream = engine.stream("en")
    sound = spoken(SENTENCE)
    for at in range(0, len(sound), 320):
        stream.push(sound[at : at + 320])
    assert engine.capacity.held == 1
    assert word_error_rate(SENTENCE, await stream.settle()) <= 0.25
    assert stream.text
    final = await stream.finish()
    assert word_error_rate(SENTENCE, final.text) <= 0.25
    assert final.duration == pytest.approx(len(sound) / 16_000, abs=0.05)
    with pytest.raises(EngineError):
        await stream.settle()
    await engine.aclose()
    assert engine.capacity.held == 0


async def test_utterances_of_the_engine_share_a_socket_and_survive_cancels(stt_service: ServiceProcess) -> None:
    engine = ServiceTranscriber(stt_service.url)
    await engine.start()
    for _ in range(3):
        dropped = engine.stream("en")
        dropped.push(spoken("this is dropped"))
        await asyncio.sleep(0.02)
        await dropped.cancel()
        await dropped.cancel()
        stream = engine.stream("en")
        stream.push(spoken("open the door"))
        assert word_error_rate("open the door", (await stream.finish()).text) <= 0.34
    async with httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"{stt_service.url}/metrics")).text
    assert 'voice_node_sockets_open{route="/transcribe/stream"} 1.0' in page
    await engine.aclose()


async def test_engine_errors_come_back_as_they_were(make_settings: Make) -> None:
    behind = Watched(failure=EngineBadInput("No such language."))
    async with served(stt.create(make_settings(), behind)) as url:
        engine = ServiceTranscriber(url)
        with pytest.raises(EngineBadInput, match="No such language"):
            await engine.transcribe(SILENCE, "xx")
        stream = engine.stream()
        with pytest.raises(EngineBadInput, match="No such language"):
            await stream.settle()
        behind.full = True
        behind.failure = EngineFull("Every place is taken.", retry_after=2)
        with pytest.raises(EngineFull) as raised:
            await engine.transcribe(SILENCE)
        assert raised.value.retry_after == 2
        stream = engine.stream()
        stream.push(SILENCE)
        for _ in range(2):
            with pytest.raises(EngineFull, match="Every place is taken"):
                await stream.finish()
        await stream.cancel()
        await engine.aclose()


async def test_the_engine_sends_our_key_and_says_when_it_is_wrong(make_settings: Make) -> None:
    settings = make_settings(API_KEYS="right")
    async with served(stt.create(settings, ScriptedTranscriber(["hello"] * 3))) as url:
        good = ServiceTranscriber(url, "right")
        assert (await good.transcribe(SILENCE)).text == "hello"
        stream = good.stream()
        assert (await stream.finish()).text == "hello"
        await good.aclose()
        bad = ServiceTranscriber(url, "wrong")
        with pytest.raises(EngineNotConfigured, match="SERVICE_API_KEY"):
            await bad.transcribe(SILENCE)
        with pytest.raises(EngineNotConfigured, match="SERVICE_API_KEY"):
            await bad.stream().finish()
        await bad.aclose()


async def test_a_missing_service_is_named_with_its_command(unused_tcp_port: int) -> None:
    engine = ServiceTranscriber(f"http://127.0.0.1:{unused_tcp_port}")
    health = await engine.health()
    assert not health.ok
    assert "python launcher.py --services stt" in health.reason
    with pytest.raises(EngineUnavailable, match="--services stt"):
        await engine.start()
    stream = engine.stream()
    stream.push(SILENCE)
    with pytest.raises(EngineUnavailable, match="--services stt"):
        await stream.settle()
    await engine.aclose()


async def test_an_utterance_survives_a_broken_connection(make_settings: Make) -> None:
    """What was said is given again, whole, on a new connection."""
    behind = Watched()
    behind.go.set()
    async with served(stt.create(make_settings(), behind)) as url, relay(url) as line:
        engine = ServiceTranscriber(line.url)
        stream = engine.stream()
        stream.push(SILENCE)
        assert await stream.settle() == "1.0"
        line.cut()
        stream.push(SILENCE)
        assert await stream.settle() == "2.0"
        behind.go.clear()
        settling = asyncio.create_task(stream.settle())
        behind.busy.clear()
        await behind.busy.wait()
        line.cut()
        behind.go.set()
        assert await settling == "2.0"
        await engine.aclose()


async def test_a_connection_that_died_in_the_pool_is_not_noticed(make_settings: Make) -> None:
    async with (
        served(stt.create(make_settings(), ScriptedTranscriber(["one", "two", "three"]))) as url,
        relay(url) as line,
    ):
        await until_healthy(url)
        engine = ServiceTranscriber(line.url)
        await engine.start()
        for text in ("one", "two"):
            line.cut()
            assert (await engine.stream().finish()).text == text
        await engine.aclose()
