"""A person in a LiveKit room with the real worker: greeting, speech, text, requests, coming and going."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from livekit import api, rtc

from library import Library
from library.leases import LeaseHolder
from settings import Settings
from tests.e2e.room_client import RoomClient
from tests.integration.agent.worker_process import AgentProcess, running_agent
from tests.livekit_server import LiveKitServer, free_port, running_livekit_server
from tests.speech import spoken, word_error_rate

QUESTION = "What is your name?"


@pytest.fixture
async def library(agent: AgentProcess) -> AsyncIterator[Library]:
    """The library that the worker and its jobs keep."""
    settings = Settings()
    settings.storage = settings.storage.model_copy(update={"data_dir": Path(agent.environment["DATA_DIR"])})
    opened = await Library.open(settings)
    yield opened
    await opened.aclose()


async def eventually(true: Callable[[], bool], what: str, patience: float = 60.0) -> None:
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end, f"not within {patience:.0f} s: {what}"
        await asyncio.sleep(0.1)


async def call(client: RoomClient, method: str, **payload: object) -> dict[str, object]:
    answer = await client.room.local_participant.perform_rpc(
        destination_identity=(await client.agent()).identity, method=method, payload=json.dumps(payload)
    )
    found: dict[str, object] = json.loads(answer)
    return found


async def type_line(client: RoomClient, text: str) -> None:
    await client.room.local_participant.send_text(text, topic="lk.chat")


async def test_whoever_joins_is_greeted_aloud_and_in_writing(agent: AgentProcess, page: str) -> None:
    async with RoomClient(page, "greeting") as ann:
        await ann.agent()
        await ann.sound(0.5)
        assert "Nova" in await ann.heard("agent")
        await ann.state("listening")


async def test_a_spoken_question_is_answered_aloud_with_both_transcripts_and_a_record(
    agent: AgentProcess, page: str
) -> None:
    async with RoomClient(page, "question") as ann:
        await ann.sound(0.5)
        await ann.silence(0.5)
        before = len(ann.pieces)
        await ann.say(spoken(QUESTION))
        assert word_error_rate(QUESTION, await ann.heard("user")) <= 0.25
        await ann.sound(0.3, since=before)
        assert await ann.heard("agent", 1)
        record = await ann.turn()
        assert (record["turn"], record["session"], record["heard"]) == (1, "question", None)
        assert record["commit"] <= record["sent"]
        assert abs(record["speech_end"] - time.time()) < 60


async def test_the_moment_the_answer_was_heard_completes_the_record(agent: AgentProcess, page: str) -> None:
    async with RoomClient(page, "heard") as ann:
        await ann.sound(0.5)
        await ann.silence(0.5)
        await ann.say(spoken(QUESTION))
        record = await ann.turn()
        clock = await call(ann, "voice.clock", t0=12.5)
        assert clock["t0"] == 12.5
        assert isinstance(clock["t1"], float) and isinstance(clock["t2"], float)
        assert clock["t1"] <= clock["t2"] and abs(clock["t1"] - time.time()) < 30
        report = {"turn": record["turn"], "at": record["speech_end"] + 0.5, "error": 0.002}
        await ann.room.local_participant.send_text(json.dumps(report), topic="voice.heard")
        again = await ann.turn(1)
        assert again == record | {"heard": 0.5}
        await eventually(lambda: 'stage="heard",transport="room"} 1.0' in agent.metrics(), "the turn in the metrics")
        assert 'voice_node_turn_seconds_count{stage="sent",transport="room"}' in agent.metrics()


async def test_a_typed_message_is_answered(agent: AgentProcess, page: str) -> None:
    async with RoomClient(page, "typed") as ann:
        await ann.agent()
        await ann.heard("agent")
        await type_line(ann, "What is your name?")
        assert await ann.heard("user") == "What is your name?"
        assert await ann.heard("agent", 1)


async def test_two_people_are_both_heard_each_under_their_own_name(agent: AgentProcess, page: str) -> None:
    async with RoomClient(page, "two", identity="ann") as ann:
        await ann.sound(0.5)
        await ann.silence(0.7)
        async with RoomClient(page, "two", identity="bob") as bob:
            await bob.agent()
            await bob.say(spoken("Tell me what time it is.", "rms"))
            assert word_error_rate("Tell me what time it is.", await bob.heard("user")) <= 0.35
            await bob.sound(0.3)
            await bob.silence(0.7)
            before = len(ann.pieces)
            await ann.say(spoken(QUESTION))
            assert word_error_rate(QUESTION, await ann.heard("user")) <= 0.25
            await ann.sound(0.3, since=before)


async def test_who_comes_back_soon_goes_on_with_the_same_agent(agent: AgentProcess, page: str) -> None:
    async with RoomClient(page, "back") as ann:
        identity = (await ann.agent()).identity
        await ann.heard("agent")
        # To its end: of a greeting that her leaving cuts she would be told on her return what was heard of it.
        await ann.sound(0.3)
        await ann.silence(0.7)
    async with RoomClient(page, "back") as ann:
        assert (await ann.agent()).identity == identity
        await type_line(ann, "Hello again.")
        assert await ann.heard("user") == "Hello again."
        assert await ann.heard("agent"), "an answer, not another greeting"


async def test_the_job_ends_and_the_room_closes_when_everybody_has_left(
    agent: AgentProcess, page: str, server: LiveKitServer
) -> None:
    await eventually(lambda: agent.health()["held"] == 0, "no conversation")
    async with RoomClient(page, "leaving") as ann:
        await ann.agent()
        assert agent.health()["held"] == 1
    await eventually(lambda: agent.health()["held"] == 0, "the conversation's end")
    async with api.LiveKitAPI(server.url, server.key, server.secret) as livekit:
        rooms = await livekit.room.list_rooms(api.ListRoomsRequest(names=["leaving"]))
        assert not rooms.rooms, "else whoever comes next would find a room to which LiveKit sends no agent"


async def test_a_session_id_goes_on_in_another_room_without_a_second_greeting(agent: AgentProcess, page: str) -> None:
    async with RoomClient(page, "first room", session_id="s1") as ann:
        await ann.heard("agent")
        await type_line(ann, "My name is Bob.")
        await ann.heard("agent", 1)
    async with RoomClient(page, "second room", session_id="s1") as ann:
        await ann.agent()
        await type_line(ann, "What is my name?")
        assert "bob" in (await ann.heard("agent")).lower()


async def test_a_conversation_that_another_takes_over_is_left(agent: AgentProcess, page: str, library: Library) -> None:
    other = LeaseHolder(library, "compat", None)
    try:
        async with RoomClient(page, "taken over") as ann:
            identity = (await ann.agent()).identity
            await ann.heard("agent")
            await other.start()
            taken = await other.claim("taken over", "a socket")
            await eventually(lambda: identity not in ann.room.remote_participants, "the agent's leaving")
            assert taken.held
            lease = await library.leases.get("taken over")
            assert lease is not None and lease.kind == "compat"
    finally:
        await other.aclose()


async def test_the_lease_says_how_another_worker_would_go_on(agent: AgentProcess, page: str, library: Library) -> None:
    async with RoomClient(page, "lease room", identity="ann", session_id="lease", personality="assistant") as ann:
        identity = (await ann.agent()).identity
        await ann.heard("agent")
        lease = await library.leases.get("lease")
        assert lease is not None
        assert (lease.kind, lease.place) == ("agent", "lease room")
        assert lease.metadata == {
            "room": "lease room",
            "agent_identity": identity,
            "participant_identity": "ann",
            "personality": "assistant",
            "dispatch_metadata": "",
        }


async def test_what_worker_and_jobs_tell_of_themselves_adds_up(
    agent: AgentProcess, page: str, library: Library
) -> None:
    async with RoomClient(page, "adding up") as ann:
        await ann.heard("agent")
        await asyncio.sleep(1.0)
        holders = [holder for holder in await library.leases.holders() if holder.kind == "agent"]
        health = agent.health()
        assert sum(holder.held for holder in holders) == health["held"]
        assert sum(holder.limit or 0 for holder in holders) == health["limit"]


async def test_personality_and_voice_change_under_way_and_unknown_ones_are_refused(
    agent: AgentProcess, page: str, library: Library
) -> None:
    other = next(one for one in await library.personalities.all() if one.id != "assistant")
    async with RoomClient(page, "personality") as ann:
        await ann.heard("agent")
        changed = await call(ann, "voice.personality", id=other.id)
        assert changed == {"id": other.id, "name": other.name, "voice": other.voice}
        assert (await call(ann, "voice.voice", id=other.voice))["id"] == other.voice
        for method in ("voice.personality", "voice.voice"):
            with pytest.raises(rtc.RpcError) as unknown:
                await call(ann, method, id="nobody")
            assert unknown.value.code == 404
            assert json.loads(unknown.value.data or "")["error"]["code"] == "unknown"
            with pytest.raises(rtc.RpcError) as wrong:
                await call(ann, method)
            assert wrong.value.code == 400


async def test_the_personality_that_a_participant_names_answers(
    agent: AgentProcess, page: str, library: Library
) -> None:
    other = next(one for one in await library.personalities.all() if one.id != "assistant" and one.greeting)
    async with RoomClient(page, "chosen", personality=other.id) as ann:
        assert (await ann.heard("agent")).strip() == other.greeting.strip()


class Bystander:
    """Joins without a microphone and hears what the agent says has gone wrong, from its first moment on."""

    def __init__(self, server: LiveKitServer, room: str, **attributes: str) -> None:
        self.room = rtc.Room()
        self._server = server
        self._token = (
            api.AccessToken(server.key, server.secret)
            .with_identity("ann")
            .with_attributes(attributes)
            .with_grants(api.VideoGrants(room_join=True, room=room))
            .to_jwt()
        )
        self._errors: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        self._said: asyncio.Queue[str] = asyncio.Queue()
        self._reading: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Bystander:
        self.room.register_text_stream_handler("voice.error", lambda reader, _: self._start(self._error(reader)))
        self.room.register_text_stream_handler("lk.transcription", lambda reader, _: self._start(self._words(reader)))
        await self.room.connect(self._server.url, self._token)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.room.disconnect()

    async def error(self) -> dict[str, str]:
        """The next error."""
        return await asyncio.wait_for(self._errors.get(), 60)

    async def said(self) -> str:
        """The next words of either side."""
        return await asyncio.wait_for(self._said.get(), 60)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _error(self, reader: rtc.TextStreamReader) -> None:
        self._errors.put_nowait(json.loads(await reader.read_all()))

    async def _words(self, reader: rtc.TextStreamReader) -> None:
        if words := await reader.read_all():  # none: a reply was cut before anything of it was heard
            self._said.put_nowait(words)


async def test_a_conversation_that_cannot_begin_says_why_and_closes_the_room(
    agent: AgentProcess, server: LiveKitServer
) -> None:
    async with Bystander(server, "nameless", session_id="x" * 300) as ann:
        assert "session id" in (await ann.error())["message"]
        await eventually(lambda: not ann.room.isconnected(), "the room's end")
    async with api.LiveKitAPI(server.url, server.key, server.secret) as livekit:
        rooms = await livekit.room.list_rooms(api.ListRoomsRequest(names=["nameless"]))
        assert not rooms.rooms


async def test_an_ear_that_cannot_start_is_told_while_greeting_and_typing_work(tmp_path: Path) -> None:
    with running_livekit_server() as own, running_agent(own, tmp_path, STT="service", STT_PORT=str(free_port())):
        async with Bystander(own, "deaf") as ann:
            assert (await ann.error())["code"] == "unavailable"
            assert "Nova" in await ann.said()
            await ann.room.local_participant.send_text("What is your name?", topic="lk.chat")
            assert await ann.said() and await ann.said(), "the question, and an answer to it"
