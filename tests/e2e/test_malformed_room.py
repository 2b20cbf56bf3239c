"""What somebody in a real room may send its agent that nobody should: answered or ignored, and the agent talks on.

Calls, texts, files and packets come from the seeded generator, through the SDK, livekit-server and the job's own SDK.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from functools import partial

from livekit import rtc

from tests.e2e.faults import holder
from tests.e2e.persistent import InRoom
from tests.e2e.room_client import RoomClient
from tests.e2e.stack import Stack
from tests.malformed import ANSWERED, ODD_TEXTS, Malformed, Memory, check_log, seed_named, shown

MESSAGES = 2000
AT_ONCE = 20
PATIENT = 90.0
"""Seconds that a call may take while so many others are made."""
GROWN = 200.0
"""Megabytes that the job may have grown by: a few hundred turns are in it, each with its speech, and what is cached."""

CALLS = {
    "voice.clock": {"t0": 1.5},
    "voice.personality": {"id": "storyteller"},
    "voice.voice": {"id": "nova"},
    "voice.nothing": {"id": "nova"},
    "": {},
}
TOPICS = ("lk.chat", "voice.heard", "voice.turn", "voice.error", "lk.transcription", "", "any", "t" * 500, "a\x00b")
REPORT = {"turn": 1, "at": 1.5, "error": 0.1}
REFUSED = {400, 404, rtc.RpcError.ErrorCode.UNSUPPORTED_METHOD, rtc.RpcError.ErrorCode.REQUEST_PAYLOAD_TOO_LARGE}
LARGEST_PACKET = 60_000
"""Bytes of a packet that a data channel carries."""


class Hostile:
    """Somebody who sends what nobody should; all that is random is chosen when a message is made."""

    def __init__(self, client: RoomClient, agent: str) -> None:
        self._me = client.room.local_participant
        self._agent = agent
        self._made = Malformed("a room")
        self._unfinished: list[rtc.TextStreamWriter] = []

    def message(self) -> Callable[[], Awaitable[None]]:
        """The next message, to be sent."""
        rng = self._made.random
        kind, topic = rng.randrange(10), rng.choice(TOPICS)
        if kind < 4:
            method = rng.choice(list(CALLS))
            return partial(self._call, method, plain(self._made.text([CALLS[method]])))
        if kind < 9:
            odd = rng.choice(ODD_TEXTS) if rng.random() < 0.5 else self._made.text([REPORT])
            if kind == 8:
                return partial(self._part, topic, plain(odd), rng.choice((False, True)), self._sender())
            if kind == 7:
                return partial(self._file, topic, odd.encode(errors="replace") if isinstance(odd, str) else odd)
            return partial(self._text, topic, plain(odd) * rng.choice((1, 1, 1, 40)))
        sound = self._made.sound() if rng.random() < 0.5 else plain(self._made.text([REPORT])).encode()
        return partial(self._packet, topic, sound[:LARGEST_PACKET], rng.random() < 0.7)

    async def _call(self, method: str, payload: str) -> None:
        try:
            answer = await self._me.perform_rpc(
                destination_identity=self._agent,
                method=method,
                payload=payload,
                response_timeout=PATIENT,
                max_round_trip_latency=PATIENT,
            )
        except rtc.RpcError as refusal:
            assert refusal.code in REFUSED, (refusal.code, refusal.message, method, shown(payload))
            if refusal.code in (400, 404):
                assert refusal.data is not None
                assert json.loads(refusal.data)["error"].keys() == {"code", "message"}, refusal.data
        else:
            assert json.loads(answer).keys() in ANSWERED, (method, shown(payload))

    async def _text(self, topic: str, text: str) -> None:
        await self._me.send_text(text, topic=topic)

    async def _file(self, topic: str, data: bytes) -> None:
        await self._me.send_bytes(data, topic=topic, name="../../etc/passwd")

    async def _packet(self, topic: str, data: bytes, reliable: bool) -> None:
        await self._me.publish_data(data, topic=topic, reliable=reliable)

    async def _part(self, topic: str, text: str, given_up: bool, sender: str | None) -> None:
        """The beginning of a text, perhaps in another's name, that goes on for ever or is given up."""
        writer = await self._me.stream_text(topic=topic, sender_identity=sender)
        await writer.write(text)
        if not given_up:
            self._unfinished.append(writer)

    def _sender(self) -> str | None:
        return self._made.random.choice((None, None, self._agent, "nobody"))


def plain(text: str | bytes) -> str:
    """As text that can be sent: the SDK takes UTF-8 only."""
    return text.decode(errors="replace") if isinstance(text, bytes) else text.encode(errors="replace").decode()


async def test_an_agent_goes_on_whatever_somebody_in_its_room_sends(stack: Stack) -> None:
    before = stack.log.stat().st_size
    talk = InRoom(stack, "storyteller", session=f"malformed-{uuid.uuid4().hex}")
    try:
        await talk.connect()
        await talk.ask("My name is Mary.", "Mary")
        assert talk.client is not None
        agent = await talk.client.agent()
        memory = Memory(holder(stack, talk.session))
        hostile = Hostile(talk.client, agent.identity)
        with seed_named():
            await all_of([hostile.message() for _ in range(MESSAGES)])
        await talk.client.type("a" * 5_000_000)
        await talk.ask("I live in Rome.", "Rome")
        await talk.ask("Where do I live?", "Rome", aloud=True)
        assert (talk.lines, talk.agents()) == (1, [agent.identity]), "the same line, the same agent"
        assert holder(stack, talk.session) == memory.pid, "the same process"
        assert talk.client.errors == []
        grown = memory.grown
        print(f"the job has grown by {grown:.0f} MB")
        assert grown < GROWN
    finally:
        await talk.close()
    with stack.log.open(encoding="utf-8", errors="replace") as log:
        log.seek(before)
        check_log(log.read())


async def all_of(messages: list[Callable[[], Awaitable[None]]]) -> None:
    """Send them, some at a time."""
    waiting = iter(messages)

    async def send() -> None:
        for message in waiting:
            await message()

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(send())
