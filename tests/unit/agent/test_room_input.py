"""Whose microphones the agent asks for."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from livekit import rtc

from agent.room_audio import RoomInput


class Publication:
    """A track as it is listed; notes whether somebody asked for it."""

    def __init__(self, kind: rtc.TrackKind.ValueType, track: object | None = None) -> None:
        self.kind = kind
        self.source = rtc.TrackSource.SOURCE_MICROPHONE
        self.sid = "TR_1"
        self.track = track
        self.asked: list[bool] = []

    def set_subscribed(self, subscribed: bool) -> None:
        self.asked.append(subscribed)


class FakeRoom:
    """The part of a room that sound comes through."""

    def __init__(self) -> None:
        self.remote_participants: dict[str, Any] = {}
        self.handlers: dict[str, Callable[..., None]] = {}

    def on(self, event: str, handler: Callable[..., None]) -> None:
        self.handlers[event] = handler

    def off(self, event: str, handler: Callable[..., None]) -> None:
        del self.handlers[event]

    def enter(self, identity: str, kind: rtc.ParticipantKind.ValueType, *publications: Publication) -> None:
        tracks = dict(enumerate(publications))
        self.remote_participants[identity] = SimpleNamespace(
            identity=identity, kind=kind, joined_at=None, track_publications=tracks
        )


async def test_after_the_line_was_restarted_every_microphone_that_isnt_there_is_asked_for_again() -> None:
    room = FakeRoom()
    listening = RoomInput(cast(rtc.Room, room))
    kinds, audio = rtc.ParticipantKind, rtc.TrackKind.KIND_AUDIO
    lost, heard = Publication(audio), Publication(audio, track=object())
    camera, robot = Publication(rtc.TrackKind.KIND_VIDEO), Publication(audio)
    room.enter("ada", kinds.PARTICIPANT_KIND_STANDARD, lost, heard, camera)
    room.enter("robot", kinds.PARTICIPANT_KIND_AGENT, robot)
    room.handlers["reconnected"]()
    assert [one.asked for one in (lost, heard, camera, robot)] == [[True], [], [], []]
    await listening.aclose()
    assert room.handlers == {}
