"""Tokens of the endpoint, used against a real livekit-server."""

from __future__ import annotations

from livekit import api, rtc

from tests.integration.token_server.stage import Served, until, worker_alive
from tests.livekit_server import LiveKitServer


async def test_a_token_of_the_endpoint_lets_the_sdk_join(served: Served, livekit: LiveKitServer) -> None:
    async with worker_alive(served):
        url, token = await served.token(participant_identity="anna", participant_name="Anna")
        assert url == f"ws://127.0.0.1:{livekit.port}"
        room = await served.enter(url, token)
    assert room.isconnected()
    assert room.local_participant.identity == "anna"
    assert room.local_participant.name == "Anna"
    source = rtc.AudioSource(48000, 1)
    track = rtc.LocalAudioTrack.create_audio_track("mic", source)
    options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE)
    publication = await room.local_participant.publish_track(track, options)
    assert publication.sid
    await room.local_participant.set_attributes({"mood": "good"})
    await room.local_participant.send_text("hello", topic="lk.chat")


async def test_attributes_reach_the_room_of_the_conversation(served: Served, admin: api.LiveKitAPI) -> None:
    async with worker_alive(served):
        room = await served.join(
            participant_identity="ben", participant_attributes={"session_id": "talk-7", "personality": "juno"}
        )
    assert room.name == "talk-7"
    listed = await admin.room.list_participants(api.ListParticipantsRequest(room="talk-7"))
    (ben,) = listed.participants
    assert dict(ben.attributes) == {"session_id": "talk-7", "personality": "juno"}


async def test_a_named_agent_is_dispatched_as_ours_with_its_metadata(served: Served, admin: api.LiveKitAPI) -> None:
    async with worker_alive(served):
        await served.join(
            room_name="named", room_config={"agents": [{"agent_name": "someone-elses", "metadata": "juno"}]}
        )
    (dispatch,) = await admin.agent_dispatch.list_dispatch("named")
    assert (dispatch.agent_name, dispatch.metadata) == ("", "juno")


async def test_the_same_conversation_comes_back_to_the_same_room(served: Served) -> None:
    async with worker_alive(served):
        first = await served.join(participant_identity="cleo", participant_attributes={"session_id": "talk-8"})
        second = await served.join(participant_identity="cleo", participant_attributes={"session_id": "talk-8"})
    assert first.name == second.name == "talk-8"
    await until(lambda: not first.isconnected())  # the newer window replaced the older one
