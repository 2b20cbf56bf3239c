"""Malformed input at the compat WebSocket, a process with its real engines: the contract's error, and it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.malformed import Malformed, Memory, check_log, seed_named, shown
from tests.served import running_part

CLOSES = {1000, 1003, 1008, 1009, 1013, 4404}
HELLO = {"agentId": "assistant", "userId": "ada", "agentName": "Ada"}
COMMANDS = [
    {"type": "text", "text": "Hi"},
    {"type": "personality", "id": "storyteller"},
    {"type": "voice", "id": "nova"},
]
QUERIES = ("?events=1", "?events=1&audio=binary", "", "?events=maybe", "?audio=mp3", "?events=%00", "?x=" + "y" * 2000)
PATHS = ("/ws/one", "/ws/two", "/ws/%20", "/ws/%00", "/ws/" + "x" * 250, "/ws/%ff", "/ws/..%2f..", "/ws/a/b", "/ws/")

ENDED = contextlib.suppress(ConnectionClosed, AttributeError)
"""How a send shows that the server hung up. The second: asyncio in Python 3.11 can't abort a transport that the other
side closed while much was still to be written."""


async def read_all(ws: ClientConnection) -> int | None:
    """Read to the end; errors are the contract's. Gives the close code."""
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(60):
            while True:
                message = await ws.recv()
                if isinstance(message, str):
                    fields = json.loads(message)
                    if fields["type"] == "error":
                        assert fields["code"] not in ("internal", "engine_failed"), message
                        assert fields["message"]
    return ws.close_code


async def test_calls_survive_whatever_is_sent(tmp_path: Path) -> None:
    with running_part("compat_ws", tmp_path, {"STT": "pocketsphinx", "POCKETSPHINX_PROCESSES": "1"}) as compat:
        url = compat.url.replace("http", "ws", 1)
        await answered(url)
        memory = Memory(compat.process.pid)
        made = Malformed("calls over the WebSocket")
        with seed_named():
            sent = 0
            while sent < 1500:
                path = made.random.choice(PATHS) if made.random.random() < 0.3 else "/ws/one"
                async with connect(url + path + made.random.choice(QUERIES), max_size=None, close_timeout=5) as ws:
                    reading = asyncio.create_task(read_all(ws))
                    last: str | bytes = ""
                    with contextlib.suppress(ConnectionClosed):
                        first = made.text([HELLO]) if made.random.random() < 0.5 else json.dumps(HELLO)
                        await ws.send(first, text=True)
                        for _ in range(made.random.randrange(120)):
                            sent += 1
                            last = made.sound() if made.random.random() < 0.2 else made.text(COMMANDS)
                            await ws.send(last, text=None if isinstance(last, bytes) and len(last) > 300 else True)
                            if made.random.random() < 0.3:
                                await (await ws.ping())
                    await ws.close()
                    code = await reading
                    assert code in CLOSES, f"closed with {code} after {shown(last)}"
            await answered(url)
        check_log(compat.text())
        assert memory.grown < 250.0


async def answered(url: str) -> None:
    """A proper call is answered with sound."""
    async with asyncio.timeout(60), connect(url + "/ws/proper?events=1", max_size=None) as ws:
        await ws.send(json.dumps(HELLO))
        await ws.send(json.dumps(COMMANDS[0]))
        kinds = set()
        while not {"ready", "tts_stream", "tts_stream_end"} <= kinds:
            message = await ws.recv()
            assert isinstance(message, str)
            kinds.add(json.loads(message)["type"])


async def test_a_frame_over_the_limit_is_told_and_closed(tmp_path: Path) -> None:
    with running_part("compat_ws", tmp_path, {"STT": "pocketsphinx", "POCKETSPHINX_PROCESSES": "1"}) as compat:
        url = compat.url.replace("http", "ws", 1)
        for first, size in ((True, 1_048_577), (False, 10_000_000)):
            ws = await connect(url + "/ws/big", max_size=None)
            if not first:
                await ws.send(json.dumps(HELLO))
            with ENDED:
                await ws.send(bytes(size))
            codes = []
            with ENDED:
                async with asyncio.timeout(30):
                    while True:
                        message = await ws.recv()
                        if isinstance(message, str) and (fields := json.loads(message))["type"] == "error":
                            codes.append(fields["code"])
            assert (codes, ws.close_code) == (["too_big"], 1009)
            with ENDED:
                await ws.close()
        await answered(url)
        check_log(compat.text())
