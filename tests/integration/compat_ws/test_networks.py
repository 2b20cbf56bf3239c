"""Slow, stalled and cut lines under the WebSocket: nothing that was said is lost, and nothing is said twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from settings import Settings
from tests.e2e.legacy_client import LegacyClient
from tests.integration.compat_ws.test_conversation import LONG, Scene, on_stage, said
from tests.network import TcpRelay

DELAY = 0.3
STALL = 2.5
"""Seconds that nothing passes; after 3 s a line counts as dead (services/half_open.py)."""


class Line:
    """A scene behind a relay."""

    def __init__(self, scene: Scene, relay: TcpRelay) -> None:
        self.scene, self.relay = scene, relay

    def caller(self, session: str = "s1") -> LegacyClient:
        return LegacyClient(f"ws://127.0.0.1:{self.relay.port}", session, agent="storyteller", query="events=1")


@asynccontextmanager
async def behind_relay(settings: Settings) -> AsyncIterator[Line]:
    async with on_stage(settings) as scene:
        host, port = scene.address.removeprefix("ws://").split(":")
        async with TcpRelay.listening((host, int(port))) as relay:
            yield Line(scene, relay)


@pytest.fixture
async def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Line]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    async with behind_relay(Settings()) as made:
        yield made


def answers(line: Line) -> list[str]:
    """What the model was asked, turn by turn."""
    return [messages[-1].content for messages in line.scene.chat.asked]


async def test_a_slow_line_only_takes_longer(line: Line) -> None:
    line.relay.up.delay = line.relay.down.delay = DELAY
    line.scene.stt.texts = ["good morning to you", "and how are you"]
    async with line.caller() as client:
        await client.message("ready")
        await client.say(said("good morning to you"))
        assert (await client.reply(0)).seconds == pytest.approx(0.2)
        await client.say(said("and how are you"))
        await client.reply(1)
        await client.message("transcript", number=1, role="agent", final=True)
        assert client.said("user") == ["good morning to you", "and how are you"]


async def test_a_reply_over_a_stalled_line_arrives_whole(line: Line) -> None:
    line.scene.stt.texts = ["tell me a long story"]
    line.scene.tts.seconds_per_word = 0.2
    line.scene.chat.answer = lambda _: LONG
    async with line.caller() as client:
        await client.message("ready")
        await client.say(said("tell me a long story"))
        await client.sound(0, 0.5)
        line.relay.down.stall()
        await asyncio.sleep(STALL)
        line.relay.down.go_on()
        whole = await client.reply(0)
        assert whole.seconds == pytest.approx(0.2 * len(LONG.split()))
        await client.message("transcript", role="agent", final=True)
        assert [text.strip() for text in client.said("agent")] == [LONG]


async def test_words_held_up_by_a_stalled_line_are_all_heard(line: Line) -> None:
    """Between two sentences: what was said meanwhile comes at once, and is heard as it was spoken."""
    line.scene.stt.texts = ["good morning to you", "and how are you"]
    async with line.caller() as client:
        await client.message("ready")
        await client.say(said("good morning to you"))
        await client.reply(0)
        line.relay.up.stall()
        await client.say(said("and how are you"))
        await asyncio.sleep(1.0)
        line.relay.up.go_on()
        await client.reply(1)
        await client.message("transcript", number=1, role="agent", final=True)
        assert client.said("user") == ["good morning to you", "and how are you"]


async def test_a_line_cut_in_a_reply_is_taken_up_where_it_was(line: Line) -> None:
    line.scene.stt.texts = ["tell me a long story", "please go on"]
    line.scene.tts.seconds_per_word = 0.2
    line.scene.chat.answer = lambda messages: LONG if messages[-1].content == "tell me a long story" else "well done"
    async with line.caller() as client:
        await client.message("ready")
        await client.say(said("tell me a long story"))
        await client.sound(0, 1.0)
        heard = client.replies[0].seconds
        line.relay.cut()
        await client.closed()
    async with line.caller() as client:
        await client.message("ready")
        await client.say(said("please go on"))
        await client.reply(0)
    (question, story, again) = [one for one in line.scene.chat.asked[-1] if one.role != "system"]
    assert (question.content, again.content) == ("tell me a long story", "please go on")
    words = story.content.split()
    assert words == LONG.split()[: len(words)], "as far as it was heard"
    assert 1 <= len(words) <= (heard + 1.5) / 0.2
    assert answers(line).count("tell me a long story") == 1


async def test_a_dead_line_is_no_hindrance_to_whoever_comes_back_over_another(line: Line) -> None:
    line.scene.stt.texts = ["good morning to you", "and how are you"]
    async with line.caller() as client:
        await client.message("ready")
        await client.say(said("good morning to you"))
        await client.reply(0)
        line.relay.up.stall()
        line.relay.down.stall()
        async with line.scene.caller() as again:
            await again.message("ready")
            await again.say(said("and how are you"))
            await again.reply(0)
        line.relay.up.go_on()
        line.relay.down.go_on()
        await client.closed()
    told = [message.content.strip() for message in line.scene.chat.asked[-1] if message.role != "system"]
    assert told == ["good morning to you", "well done", "and how are you"]
    assert answers(line) == ["good morning to you", "and how are you"]
