"""Malformed input at the three services, as processes with their real engines: the contract's error, and they go on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.integration.services.recordings import CONTAINERS, packed, tone
from tests.integration.services.sockets import answer
from tests.malformed import Malformed, Memory, check_log, seed_named, shown
from tests.served import ServiceProcess

CLOSES = {1003, 1008, 1009, 1013}
GROWTH = 200.0
"""Megabytes that a service may grow; what a bomb holds unpacked is many times that."""


# --- over HTTP ----------------------------------------------------------------------------------------------


def refused(answered: httpx.Response, sent: object) -> None:
    """It is the contract's error, and nothing went wrong inside."""
    assert 400 <= answered.status_code < 500, f"{answered.status_code} {answered.text[:300]} for {shown(repr(sent))}"
    assert set(answered.json()) == {"error"}
    assert set(answered.json()["error"]) == {"code", "message"}


def refused_or_served(answered: httpx.Response, sent: object) -> None:
    """As `refused`, where what was sent may also have turned out to be fine."""
    if answered.status_code not in (200, 201):
        refused(answered, sent)


async def posts(
    url: str, paths: Sequence[str], proper: Sequence[dict[str, Any]], count: int, what: str, lanes: int = 4
) -> None:
    """Post malformed bodies, a few at a time."""
    made = Malformed(what)
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:

        async def lane(bodies: list[tuple[str, str | bytes]]) -> None:
            for path, body in bodies:
                kind = made.random.choice(["application/json"] * 9 + ["text/plain"])
                content = body.encode(errors="surrogatepass") if isinstance(body, str) else body
                refused_or_served(
                    await client.post(path, content=content, headers={"Content-Type": kind}), (path, body)
                )

        bodies = [(made.random.choice(paths), made.text(proper)) for _ in range(count)]
        await asyncio.gather(*(lane(bodies[start::lanes]) for start in range(lanes)))


async def test_chat_answers_or_refuses_whatever_is_posted(chat_service: ServiceProcess) -> None:
    memory = Memory(chat_service.process.pid)
    messages = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "temperature": 1, "stop": "x", "n": 1}
    chat = {"text": "Hello", "session_id": "fuzz", "personality": "assistant", "stream": False}
    with seed_named():
        await posts(chat_service.url, ["/chat"], [chat], 2100, "chat")
        await posts(chat_service.url, ["/v1/chat/completions"], [messages], 500, "completions")
    async with httpx.AsyncClient(base_url=chat_service.url, trust_env=False, timeout=60) as client:
        for session in ("%00", "%ff%fe", "a" * 5000, "%20", "a%0Ab", "..%2f..%2f"):
            refused_or_served(await client.get(f"/chat/{session}"), session)
            refused_or_served(await client.delete(f"/chat/{session}"), session)
        good = await client.post("/chat", json={"text": "Hello", "session_id": "after"})
        assert good.json()["response"]
    check_log(chat_service.text())
    assert memory.grown < GROWTH


async def test_speech_answers_or_refuses_whatever_is_posted(tts_service: ServiceProcess) -> None:
    memory = Memory(tts_service.process.pid)
    speech = {"input": "Hello", "voice": "nova", "response_format": "pcm", "speed": 1.0, "stream_format": "audio"}
    with seed_named():
        await posts(tts_service.url, ["/v1/audio/speech"], [speech], 300, "speech")
    async with httpx.AsyncClient(base_url=tts_service.url, trust_env=False, timeout=60) as client:
        for voice in ("%00", "%ff", "..%2f..", "a" * 3000, "nobody", "%20"):
            refused(await client.post(f"/voices/{voice}/prepare"), voice)
        good = await client.post("/v1/audio/speech", json={"input": "Hello", "response_format": "wav"})
        assert good.content[:4] == b"RIFF"
    check_log(tts_service.text())
    assert memory.grown < GROWTH


# --- over WebSockets ----------------------------------------------------------------------------------------


async def sends(
    url: str,
    proper: Sequence[dict[str, Any]],
    count: int,
    what: str,
    good: Callable[[ClientConnection], Awaitable[None]],
) -> None:
    """Send malformed messages over as many sockets as it takes, and something proper now and then."""
    made = Malformed(what)
    sent = 0
    while sent < count:
        async with connect(url, proxy=None, max_size=None, close_timeout=5) as ws:
            reading = asyncio.create_task(read_all(ws))
            last: str | bytes | None = None
            with contextlib.suppress(ConnectionClosed):
                if made.random.random() < 0.8:
                    await ws.send(json.dumps(proper[0]))
                for _ in range(made.random.randrange(1, 40)):
                    sent += 1
                    if made.random.random() < 0.2:
                        last = made.sound()
                        await ws.send(last)
                    else:
                        last = made.text(proper)
                        await ws.send(last, text=True)
                    if made.random.random() < 0.5:
                        await (await ws.ping())
            await ws.close()
            try:
                code = await reading
            except AssertionError as failure:
                failure.add_note(f"last sent: {shown(last)}")
                raise
            assert code in CLOSES | {1000}, f"closed with {code} after {shown(last)}"
        if made.random.random() < 0.1:
            async with connect(url, proxy=None, max_size=None) as ws:
                await good(ws)
    async with connect(url, proxy=None, max_size=None) as ws:
        await good(ws)


async def read_all(ws: ClientConnection) -> int | None:
    """Read until the socket is closed; every error is the contract's. Gives the close code."""
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(60):
            while True:
                message = await ws.recv()
                if isinstance(message, str):
                    fields = json.loads(message)
                    assert isinstance(fields["type"], str)
                    if fields["type"] == "error":
                        assert fields["code"] not in ("internal", "engine_failed"), message
                        assert fields["message"]
    return ws.close_code


async def test_live_speech_survives_whatever_is_sent(stt_service: ServiceProcess) -> None:
    async def good(ws: ClientConnection) -> None:
        await ws.send('{"type": "start", "language": "en"}')
        await ws.send(bytes(16_000))
        await ws.send('{"type": "finish"}')
        assert (await answer(ws, "final", "error"))["type"] == "final"

    memory = Memory(stt_service.process.pid)
    start = {"type": "start", "language": "en", "id": "1"}
    proper = [start, start, {"type": "settle"}, {"type": "finish"}, {"type": "cancel"}]
    with seed_named():
        await sends(stt_service.url.replace("http", "ws") + "/transcribe/stream", proper, 500, "live speech", good)
    check_log(stt_service.text())
    assert memory.grown < GROWTH


async def test_speaking_survives_whatever_is_sent(tts_service: ServiceProcess) -> None:
    async def good(ws: ClientConnection) -> None:
        await ws.send('{"text": "Hello.", "personality": "assistant"}')
        assert (await answer(ws))["type"] == "tts_stream_end"

    memory = Memory(tts_service.process.pid)
    text = {"text": "Hi.", "personality": "assistant", "voice": "nova", "language": "en", "more": False}
    with seed_named():
        await sends(
            tts_service.url.replace("http", "ws") + "/tts/stream", [text, {"type": "cancel"}], 1500, "speaking", good
        )
    check_log(tts_service.text())
    assert memory.grown < GROWTH


# --- recordings ---------------------------------------------------------------------------------------------


def wav(
    rate: int = 16_000,
    channels: int = 1,
    bits: int = 16,
    form: int = 1,
    data: bytes = bytes(3200),
    size: int | None = None,
    riff: int | None = None,
) -> bytes:
    """A WAV file whose header says what the test likes."""
    block = channels * bits // 8
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, form, channels, rate, rate * block % 2**32, block % 2**16, bits)
    body = b"WAVE" + head + struct.pack("<4sI", b"data", len(data) if size is None else size) + data
    return struct.pack("<4sI", b"RIFF", len(body) if riff is None else riff) + body


HOSTILE = {
    "no sample rate": wav(rate=0),
    "2^31 samples a second": wav(rate=2**31 - 1),
    "2^32 samples a second": wav(rate=2**32 - 1),
    "no channels": wav(channels=0),
    "65535 channels": wav(channels=2**16 - 1),
    "no bits": wav(bits=0),
    "65535 bits": wav(bits=2**16 - 1),
    "a form nobody knows": wav(form=0xABCD),
    "no sound in it": wav(data=b""),
    "only the beginning": wav()[:20],
    "cut off": wav(data=bytes(32_000))[:20_000],
    "a size of 2^31": wav(riff=2**31 - 100_000),
    "flac without a rate": b"fLaC\x80\x00\x00\x22" + bytes(34),
    "webm with lying sizes": b"\x1a\x45\xdf\xa3\x01" + b"\xff" * 6 + b"\xfe" + bytes(100),
    "webm without end": b"\x1a\x45\xdf\xa3\x80" + (b"\x18\x53\x80\x67\x01" + b"\xff" * 7) * 5000,
    "an mp3 tag of 256 MB": b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + b"\xff\xfb\x90\x00" * 1000,
    "flac of noise": b"fLaC" + bytes(range(256)) * 500,
    "ogg of noise": b"OggS" + bytes(range(256)) * 500,
    "mp3 of noise": b"\xff\xfb" + bytes(range(256)) * 500,
    "webm of noise": b"\x1a\x45\xdf\xa3" + bytes(range(256)) * 500,
    "a playlist": b"#EXTM3U\nfile:///etc/passwd\n",
    "an ogg's first page": packed(tone(1), "ogg-opus")[:100],
    "half a flac's head": packed(tone(1), "flac")[:30],
}


async def transcribed(client: httpx.AsyncClient, data: bytes, kind: str = "audio/wav") -> httpx.Response:
    return await client.post("/transcribe", files={"file": ("file", data, kind)})


async def test_hostile_recordings_are_refused_and_cost_nothing(stt_service: ServiceProcess) -> None:
    memory = Memory(stt_service.process.pid)
    async with httpx.AsyncClient(base_url=stt_service.url, trust_env=False, timeout=120) as client:
        for name, data in HOSTILE.items():
            answered = await transcribed(client, data)
            refused(answered, name)
            assert answered.json()["error"]["code"] == "bad_audio", name
        # What a careful reader makes something of is fine, too.
        for data in (wav(size=2**32 - 2), wav(riff=4), wav(form=3, bits=32, data=np.full(9, np.nan, "<f4").tobytes())):
            assert (await transcribed(client, data)).status_code == 200
        assert memory.grown < GROWTH
        good = await transcribed(client, packed(tone(0.5), "wav"))
        assert good.json()["duration"] == pytest.approx(0.5)
    check_log(stt_service.text())


async def test_spoiled_recordings_are_refused_or_heard(stt_service: ServiceProcess) -> None:
    memory = Memory(stt_service.process.pid)
    made = Malformed("recordings")
    with seed_named():
        async with httpx.AsyncClient(base_url=stt_service.url, trust_env=False, timeout=120) as client:
            for name in CONTAINERS:
                whole = packed(tone(0.2), name)
                for _ in range(40):
                    spoiled = made.file(whole)
                    refused_or_served(await transcribed(client, spoiled), (name, spoiled))
            good = await transcribed(client, packed(tone(0.5), "flac"))
            assert good.json()["duration"] == pytest.approx(0.5)
    check_log(stt_service.text())
    assert memory.grown < GROWTH


async def test_forms_that_are_none_are_refused(stt_service: ServiceProcess) -> None:
    made = Malformed("forms")
    whole = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nx\r\n--b--\r\n'
    with seed_named():
        async with httpx.AsyncClient(base_url=stt_service.url, trust_env=False, timeout=60) as client:
            for path in ("/transcribe", "/v1/audio/transcriptions"):
                for _ in range(100):
                    body = made.file(whole)
                    kind = made.random.choice(
                        ("multipart/form-data; boundary=b", "multipart/form-data", "multipart/form-data; boundary=")
                    )
                    refused(await client.post(path, content=body, headers={"Content-Type": kind}), body)
    check_log(stt_service.text())
