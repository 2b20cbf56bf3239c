"""What people say and the keys they send stand in no log at level info and on no metrics page, whatever fails."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.integration.services.recordings import packed, tone
from tests.served import ServiceProcess, running_part

KEY, WRONG_KEY, VENDOR_KEY = "key-4cabbage7", "wrong-5turnip9", "vendor-3radish1"
WORD = "zwiebelkuchen"
"""A word that nothing but the test says."""
SECRETS = (KEY, WRONG_KEY, VENDOR_KEY, WORD)
VARIABLES = {
    "API_KEYS": KEY,
    "ADMIN_KEYS": KEY + "-admin",
    "LOG_LEVEL": "info",
    "STT": "pocketsphinx",
    "CHAT": "companion",
    "TTS": "espeak",
    "POCKETSPHINX_PROCESSES": "1",
    "GROQ_API_KEY": VENDOR_KEY,
    "CARTESIA_API_KEY": VENDOR_KEY,
    "ELEVENLABS_API_KEY": VENDOR_KEY,
    "HUGGINGFACE_API_KEY": VENDOR_KEY,
}


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[dict[str, ServiceProcess]]:
    """The services and the compat server, as processes."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(running_part(module, tmp_path, VARIABLES, *arguments))
            for name, module, arguments in (
                ("stt", "services", ("stt",)),
                ("chat", "services", ("chat",)),
                ("tts", "services", ("tts",)),
                ("compat", "compat_ws", ()),
            )
        }


async def heard(url: str, *messages: str | bytes, until: str) -> None:
    """Send messages over a WebSocket and read up to a kind of message, or to the close."""
    async with connect(url.replace("http", "ws", 1), max_size=None, close_timeout=5) as ws:
        with contextlib.suppress(ConnectionClosed):
            for message in messages:
                await ws.send(message)
            while True:
                received = await ws.recv()
                if isinstance(received, str) and json.loads(received)["type"] == until:
                    return


async def test_no_words_and_no_keys_are_logged_or_counted(parts: dict[str, ServiceProcess]) -> None:
    stt, chat, tts, compat = (parts[name].url for name in ("stt", "chat", "tts", "compat"))
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=60))

        async def post(url: str, key: str = KEY, **content: Any) -> int:
            headers = {"Authorization": f"Bearer {key}"}
            return (await client.post(f"{url}?api_key={key}", headers=headers, **content)).status_code

        # What works.
        assert await post(f"{chat}/chat", json={"text": f"My name is {WORD}.", "session_id": WORD}) == 200
        messages = [{"role": "user", "content": f"I like {WORD}."}]
        assert await post(f"{chat}/v1/chat/completions", json={"messages": messages, "prompt_cache_key": WORD}) == 200
        assert await post(f"{tts}/v1/audio/speech", json={"input": WORD, "voice": WORD}) == 200
        assert await post(f"{stt}/transcribe", files={"file": (WORD, packed(tone(0.3), "wav"), "audio/wav")}) == 200
        await heard(
            f"{tts}/tts/stream?api_key={KEY}", json.dumps({"text": WORD, "voice": WORD}), until="tts_stream_end"
        )
        start, finish = json.dumps({"type": "start", "id": WORD}), json.dumps({"type": "finish"})
        await heard(f"{stt}/transcribe/stream?api_key={KEY}", start, bytes(9600), finish, until="final")
        hello = json.dumps({"agentId": WORD, "userId": WORD, "agentName": WORD})
        said = json.dumps({"type": "text", "text": f"My name is {WORD}."})
        await heard(f"{compat}/ws/one?events=1&api_key={KEY}", hello, said, until="tts_stream_end")
        # What doesn't.
        for url in (f"{chat}/chat", f"{tts}/v1/audio/speech", f"{stt}/transcribe", f"{chat}/{WORD}"):
            assert await post(url, WRONG_KEY, json={"text": WORD}) == 401
            assert await post(url, KEY, json={WORD: [WORD], "text": [WORD], "input": {WORD: WORD}}) in (400, 404)
            assert await post(url, KEY, content=f'{{"text": "{WORD}') in (400, 404)
        assert await post(f"{chat}/chat/groq", json={"text": WORD}) == 503
        assert await post(f"{stt}/transcribe", files={"file": (WORD, WORD.encode() * 50, "audio/wav")}) == 400
        assert await post(f"{stt}/transcribe", files={"file": (WORD, WORD.encode(), "audio/pcm")}) in (200, 400)
        for url in (f"{tts}/tts/stream", f"{stt}/transcribe/stream", f"{compat}/ws/two", f"{compat}/{WORD}"):
            await heard(f"{url}?api_key={WRONG_KEY}", WORD, until="nothing")
            await heard(f"{url}?api_key={KEY}", WORD, WORD.encode(), until="error")
        await heard(f"{tts}/tts/stream/cartesia?api_key={KEY}", json.dumps({"text": WORD}), until="error")
        wrong = json.dumps({"type": "personality", "id": WORD})
        await heard(f"{compat}/ws/one?events=1&api_key={KEY}", hello, wrong, wrong[:-3], until="error")

        for name, part in parts.items():
            page = (await client.get(f"{part.url}/metrics", headers={"Authorization": f"Bearer {KEY}"})).text
            assert "voice_node" in page
            for secret in SECRETS:
                assert secret not in page, f"{secret} on the metrics page of {name}"
    for name, part in parts.items():
        log = part.text()
        assert " INFO " in log, "the log is there"
        for secret in SECRETS:
            lines = [line for line in log.splitlines() if secret in line]
            assert not lines, f"{secret} in the log of {name}: {lines}"
