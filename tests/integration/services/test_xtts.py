"""The text-to-speech service with XTTS, a small checkpoint of noise: sound of the right length over every path."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
import yaml
from websockets.asyncio.client import ClientConnection

from engines.types import Audio
from engines.wire import float32_to_audio, pcm16_to_audio
from tests.integration.services.sockets import connected, tell, until
from tests.models import xtts as models
from tests.served import ServiceProcess, running_service

CODES = 8
"""Codes of every piece of text, so that each has the same length."""

PIECE = CODES * 1024 / 22_050
"""Its seconds."""

SENTENCE = "The train leaves tomorrow at nine."
SEVERAL = "The train leaves tomorrow at nine in the morning. " * 3
MANY = "The train leaves tomorrow at nine in the morning. " * 30
STREAMS = 2

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.base(tmp_path_factory.mktemp("checkpoint"), ends_after=CODES)


@pytest.fixture(scope="module")
def personalities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped ones, a cloned voice, and one whose recording is missing."""
    folder = tmp_path_factory.mktemp("personalities") / "personalities"
    shutil.copytree(ROOT / "personalities", folder)
    hiss = 0.1 * np.random.default_rng(0).standard_normal(3 * 22_050)
    soundfile.write(folder / "voices" / "me.wav", hiss, 22_050)
    for id, sample in (("me", "me.wav"), ("lost", "lost.wav")):
        voice = {"name": id.title(), "language": "en", "samples": [sample]}
        (folder / "voices" / f"{id}.yaml").write_text(yaml.safe_dump(voice))
    return folder


@pytest.fixture(scope="module")
def service(
    checkpoint: Path, personalities: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    variables = {
        "TTS": "xtts,espeak",
        "XTTS_MODEL_PATH": str(checkpoint),
        "XTTS_DEVICE": "cpu",
        "XTTS_STREAMS": str(STREAMS),
        "PERSONALITIES_DIR": str(personalities),
    }
    with running_service("tts", tmp_path_factory.mktemp("xtts"), variables) as running:
        yield running


async def reply(ws: ClientConnection) -> Audio:
    """The sound of one reply, to its end."""
    pieces = []
    async with asyncio.timeout(60):
        while isinstance(message := await ws.recv(), bytes):
            pieces.append(float32_to_audio(message))
    assert message == '{"type": "tts_stream_end"}'
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


async def spoken(service: ServiceProcess, text: str, **fields: str) -> Audio:
    async with connected(service.url, "/tts/stream") as ws:
        await tell(ws, text=text, **fields)
        return await reply(ws)


def pieces_in(sound: Audio) -> float:
    """How many of the checkpoint's pieces a sound is long; eSpeak's aren't as short."""
    return len(sound) / 24_000 / PIECE


def number(service: ServiceProcess, metric: str) -> float:
    """A metric's value; 0 where it isn't there."""
    found = re.search(rf"^{re.escape(metric)} (\S+)$", httpx.get(f"{service.url}/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def health(service: ServiceProcess) -> dict[str, Any]:
    answer: dict[str, Any] = httpx.get(f"{service.url}/health").json()
    return answer


def held(service: ServiceProcess) -> float:
    return number(service, "voice_node_engine_calls_held")


@pytest.fixture(autouse=True)
async def not_put_aside(service: ServiceProcess) -> None:
    """XTTS may be put aside for a moment after it was full."""
    await until(lambda: health(service)["engine"]["name"] == "xtts")


async def test_a_text_is_spoken_over_the_websocket(service: ServiceProcess) -> None:
    sound = await spoken(service, SENTENCE, personality="assistant")
    assert pieces_in(sound) == pytest.approx(1, abs=0.2)
    assert float(np.sqrt((sound**2).mean())) > 0.001 and float(np.abs(sound).max()) <= 1.0


async def test_pieces_of_a_text_are_one_reply(service: ServiceProcess) -> None:
    async with connected(service.url, "/tts/stream") as ws:
        for piece in (
            "The train leaves ",
            "tomorrow at nine in the morning. The ship leaves ",
            "at ten in the evening.",
        ):
            await tell(ws, text=piece, personality="assistant", more=True)
        await tell(ws, text="")
        assert pieces_in(await reply(ws)) == pytest.approx(2, abs=0.3)


async def test_the_openai_path_speaks_with_it(service: ServiceProcess) -> None:
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        answer = await client.post(
            "/v1/audio/speech", json={"input": SENTENCE, "voice": "nova", "response_format": "pcm"}
        )
    assert answer.status_code == 200
    assert pieces_in(pcm16_to_audio(answer.content)) == pytest.approx(1, abs=0.2)


async def test_several_are_spoken_at_once(service: ServiceProcess) -> None:
    sounds = await asyncio.gather(*(spoken(service, SEVERAL) for _ in range(STREAMS)))
    assert [pieces_in(sound) == pytest.approx(3, abs=0.5) for sound in sounds] == [True] * STREAMS
    await until(lambda: held(service) == 0)


async def test_a_cancelled_reply_frees_its_place(service: ServiceProcess) -> None:
    async with connected(service.url, "/tts/stream") as ws:
        await tell(ws, text=MANY, personality="assistant")
        first = await ws.recv()
        assert isinstance(first, bytes) and held(service) == 1
        await tell(ws, type="cancel")
        assert pieces_in(await reply(ws)) < 20
        await until(lambda: held(service) == 0)
        await tell(ws, text=SENTENCE)
        assert pieces_in(await reply(ws)) == pytest.approx(1, abs=0.2)


async def test_when_it_is_full_the_next_voice_speaks_at_once(service: ServiceProcess) -> None:
    full = 'voice_node_engine_failures_total{code="full",engine="xtts"}'
    before = number(service, full)
    async with connected(service.url, "/tts/stream") as one, connected(service.url, "/tts/stream") as other:
        for ws in (one, other):
            await tell(ws, text=MANY)
            assert isinstance(await ws.recv(), bytes)
        sound = await spoken(service, SENTENCE)
        assert len(sound) / 24_000 > 1.5 * PIECE, "eSpeak's, which takes its time"
        assert number(service, full) == before + 1
        for ws in (one, other):
            await tell(ws, type="cancel")
            assert len(await reply(ws)) >= 0
    await until(lambda: held(service) == 0)


async def test_a_cloned_voice_is_prepared_and_spoken(service: ServiceProcess) -> None:
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as client:
        answer = (await client.post("/voices/me/prepare")).json()
        assert answer["prepared"] and answer["engine"] == "xtts" and "1 recording" in answer["detail"]
        kept = service.log.parent / "data" / "voices" / "xtts"
        assert [file.name.partition(".")[0] for file in kept.iterdir()] == ["me"]
        lost = await client.post("/voices/lost/prepare")
        assert lost.status_code == 400 and "lost.wav" in lost.json()["error"]["message"]
    assert pieces_in(await spoken(service, SENTENCE, voice="me")) == pytest.approx(1, abs=0.2)


async def test_a_language_that_it_does_not_speak_is_refused_by_name(service: ServiceProcess) -> None:
    async with connected(service.url, "/tts/stream") as ws:
        await tell(ws, text=SENTENCE, language="tlh")
        error = await ws.recv()
        assert isinstance(error, str) and '"bad_request"' in error and "tlh" in error


async def test_nothing_that_was_said_is_in_the_log(service: ServiceProcess) -> None:
    await spoken(service, "Nobody should ever read elderberry in a log.")
    assert "elderberry" not in service.text().lower()


async def test_with_a_damaged_checkpoint_the_next_voice_speaks_and_health_says_why(
    checkpoint: Path, tmp_path: Path
) -> None:
    damaged = shutil.copytree(checkpoint, tmp_path / "damaged")
    weights = damaged / "model.pth"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    variables = {"TTS": "xtts,espeak", "XTTS_MODEL_PATH": str(damaged), "XTTS_DEVICE": "cpu"}
    with running_service("tts", tmp_path, variables) as running:
        reason = health(running)["reason"]
        assert "model.pth" in reason and "damaged" in reason
        assert len(await spoken(running, SENTENCE)) / 24_000 > 1.5 * PIECE
