"""What a room reads: whole segments, in order, and after an interruption only what was heard."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from livekit import rtc

from agent.room_text import RoomText

AGENT = "agent-1"


@dataclass
class Stream:
    """One text stream as a client would read it."""

    topic: str
    sender: str | None
    attributes: dict[str, str]
    pieces: list[str] = field(default_factory=list)
    closed: bool = False

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    async def write(self, text: str) -> None:
        self.pieces.append(text)

    async def aclose(self, *, attributes: dict[str, str] | None = None) -> None:
        self.closed = True
        self.attributes = self.attributes | (attributes or {})


class Participant:
    """Takes what is sent, and answers a change of state when it is told to."""

    def __init__(self) -> None:
        self.identity = AGENT
        self.track_publications = {"T1": SimpleNamespace(sid="T1", kind=rtc.TrackKind.KIND_AUDIO)}
        self.streams: list[Stream] = []
        self.notes: list[tuple[str, Any]] = []
        self.states: list[str] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.failing = False

    async def stream_text(
        self, *, topic: str, attributes: dict[str, str], sender_identity: str | None = None
    ) -> Stream:
        if self.failing:
            raise RuntimeError("not connected")
        stream = Stream(topic, sender_identity, dict(attributes))
        self.streams.append(stream)
        return stream

    async def send_text(self, text: str, *, topic: str) -> None:
        if self.failing:
            raise RuntimeError("not connected")
        self.notes.append((topic, json.loads(text)))

    async def set_attributes(self, attributes: dict[str, str]) -> None:
        self.states.append(attributes["lk.agent.state"])
        await self.answers.wait()


class Room:
    """A connected room with one person in it."""

    def __init__(self) -> None:
        self.local_participant = Participant()
        publication = SimpleNamespace(sid="T2", kind=rtc.TrackKind.KIND_AUDIO)
        self.remote_participants = {"ann": SimpleNamespace(track_publications={"T2": publication})}

    def isconnected(self) -> bool:
        return True

    def segments(self) -> dict[str, tuple[str | None, str, bool]]:
        """What a client shows: segment -> (sender, text, final); a later stream replaces an earlier one."""
        shown = {}
        for stream in self.local_participant.streams:
            final = stream.attributes["lk.transcription_final"] == "true"
            shown[stream.attributes["lk.segment_id"]] = (stream.sender, stream.text, final)
        return shown


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def texts() -> tuple[Room, RoomText]:
    room = Room()
    return room, RoomText(room)  # type: ignore[arg-type]


async def test_a_turn_grows_in_one_segment_under_the_speakers_name() -> None:
    room, text = texts()
    for words, final in (("what", False), ("what is", False), ("what is it", True)):
        text.user(words, final, "ann")
        await settle()
    assert list(room.segments().values()) == [("ann", "what is it", True)]
    assert len(room.local_participant.streams) == 3, "each stream holds the whole turn so far"
    assert all(stream.closed for stream in room.local_participant.streams)
    assert room.local_participant.streams[0].attributes["lk.transcribed_track_id"] == "T2"
    text.user("next", True, "ann")
    await settle()
    assert len(room.segments()) == 2
    await text.aclose()


async def test_a_reply_is_one_stream_that_grows() -> None:
    room, text = texts()
    for words, final in (("Well", False), ("Well, hello", False), ("Well, hello.", True)):
        text.agent(words, final)
        await settle()
    (stream,) = room.local_participant.streams
    assert stream.pieces == ["Well", ", hello", "."]
    assert stream.closed
    assert stream.attributes["lk.transcription_final"] == "true"
    assert stream.attributes["lk.transcribed_track_id"] == "T1"
    assert (stream.topic, stream.sender) == ("lk.transcription", AGENT)
    await text.aclose()


async def test_words_that_come_faster_than_they_are_sent_are_sent_once() -> None:
    room, text = texts()
    for end in range(1, 50):
        text.agent("x" * end, end == 49)
    await settle()
    (stream,) = room.local_participant.streams
    assert stream.pieces == ["x" * 49]
    await text.aclose()


async def test_an_interrupted_reply_shows_what_was_heard_whether_its_text_was_complete_or_not() -> None:
    room, text = texts()
    text.agent("One two three four.", False)
    await settle()
    text.reply_cut("One two")
    text.agent("One two three four.", True)  # the framework ends the text of a cut reply too
    text.agent("Next.", True)
    await settle()
    assert list(room.segments().values()) == [(AGENT, "One two", True), (AGENT, "Next.", True)]
    assert all(stream.closed for stream in room.local_participant.streams)

    text.agent("Five six seven.", True)
    await settle()
    text.reply_cut("Five")
    await settle()
    assert list(room.segments().values())[-1] == (AGENT, "Five", True)
    text.agent("After.", True)
    await settle()
    assert list(room.segments().values())[-1] == (AGENT, "After.", True)
    await text.aclose()


async def test_a_reply_heard_to_its_end_is_not_sent_again() -> None:
    room, text = texts()
    text.agent("All of it.", True)
    await settle()
    text.reply_cut("All of it.")
    await settle()
    assert len(room.local_participant.streams) == 1
    await text.aclose()


async def test_records_and_errors_have_topics_of_their_own() -> None:
    room, text = texts()
    text.record({"turn": 1, "heard": None})
    text.error("full", "no place")
    await settle()
    assert room.local_participant.notes == [
        ("voice.turn", {"turn": 1, "heard": None}),
        ("voice.error", {"code": "full", "message": "no place"}),
    ]
    await text.aclose()


async def test_an_answer_that_never_comes_does_not_hold_up_the_next_state(monkeypatch: Any) -> None:
    monkeypatch.setattr("agent.room_text.ANSWERED_WITHIN", 0.01)
    room, text = texts()
    room.local_participant.answers.clear()
    text.state("listening")
    await settle()
    text.state("thinking")
    text.state("speaking")
    await asyncio.sleep(0.1)
    assert room.local_participant.states == ["listening", "speaking"], "the newest, not each"
    await text.aclose()


async def test_what_cannot_be_sent_is_dropped_and_the_next_is_sent() -> None:
    room, text = texts()
    room.local_participant.failing = True
    text.agent("Lost.", True)
    text.error("x", "lost")
    await settle()
    room.local_participant.failing = False
    text.agent("Found.", True)
    await settle()
    assert list(room.segments().values()) == [(AGENT, "Found.", True)]
    await text.aclose()
