"""A legacy client, written from contract.md alone, holds a spoken conversation over its WebSocket."""

from __future__ import annotations

import uuid

from tests.e2e.legacy_client import HEARD_RATE, LegacyClient
from tests.e2e.stack import Stack
from tests.sound import audible_seconds, loudness
from tests.speech import spoken, word_error_rate
from tests.spoken import pcm


def session() -> str:
    """A conversation nobody has had."""
    return f"legacy-{uuid.uuid4().hex}"


async def test_it_speaks_and_is_answered_with_speech(stack: Stack) -> None:
    async with LegacyClient(stack.compat, session(), agent="storyteller") as client:
        await client.say(pcm(spoken("how are you today", "awb")))
        reply = await client.reply(0)
    samples = reply.samples
    # Speech: mostly sound, in [-1, 1], loud and soft by turns, and not one long tone.
    assert audible_seconds(samples, HEARD_RATE) > 0.5
    assert 0.05 < max(abs(sample) for sample in samples) <= 1.0
    assert loudness(samples, HEARD_RATE).std() > 0.01
    assert client.types == {"tts_stream", "tts_stream_end"}, "a legacy client sees these two and errors, nothing else"
    assert client.messages == []


async def test_several_turns_are_each_answered_and_ended(stack: Stack) -> None:
    async with LegacyClient(stack.compat, session(), agent="storyteller") as client:
        for number, voice in enumerate(("awb", "rms", "kal16")):
            await client.say(pcm(spoken("what do you think about music", voice)))
            assert audible_seconds((await client.reply(number)).samples, HEARD_RATE) > 0.3


async def test_events_show_the_words_of_both_sides_and_where_the_time_went(stack: Stack) -> None:
    question, name = "what can you do for me", session()
    async with LegacyClient(stack.compat, name, agent="storyteller", query="events=1") as client:
        await client.message("ready")
        await client.say(pcm(spoken(question, "awb")))
        await client.reply(0)
        heard = await client.message("transcript", role="user", final=True)
        answered = await client.message("transcript", role="agent", final=True)
        record = await client.message("turn")
    assert word_error_rate(question, heard["text"]) <= 0.2, heard["text"]
    assert len(answered["text"].split()) >= 3
    assert record["turn"] == 1
    assert record["session"] == name
    assert record["heard"] is None, "a WebSocket client doesn't report what it heard"
    for stage in ("commit", "transcript", "first_token", "first_audio", "sent"):
        assert isinstance(record[stage], float), stage
    assert record["sent"] >= record["commit"]


async def test_a_typed_message_is_answered_aloud(stack: Stack) -> None:
    async with LegacyClient(stack.compat, session(), agent="storyteller", query="events=1&audio=binary") as client:
        await client.message("ready")
        await client.send({"type": "text", "text": "My name is Mary."})
        await client.reply(0)
        await client.send({"type": "text", "text": "What is my name?"})
        await client.reply(1)
        await client.message("transcript", number=1, role="agent", final=True)
    assert "mary" in client.said("agent")[1].lower()
    assert audible_seconds(client.replies[1].samples, HEARD_RATE) > 0.3
    assert "tts_stream" not in client.types, "sound comes as binary messages where asked for"


async def test_an_unknown_agent_is_the_default_personality_under_the_name_given(stack: Stack) -> None:
    async with LegacyClient(stack.compat, session(), agent="no-such-agent", name="Rosie", query="events=1") as client:
        await client.reply(0)
        greeting = await client.message("transcript", role="agent", final=True)
    assert "Rosie" in greeting["text"], "the default personality greets, under that name"
