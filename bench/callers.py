"""People who talk for a while: ask, wait for the answer, think, ask again, now and then barge in, and call again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.questions import PATIENCE, QUESTIONS, ended_at, heard_at, question
from bench.socket_caller import CallRefused, SocketCaller
from bench.turn import Refusal, Turn
from tests.e2e.room_client import RoomClient

CALL_TURNS = 12
"""Questions in a call; every other call goes on with the conversation of the one before."""
BARGE_SHARE = 0.15
"""Share of questions spoken over the reply before them."""
THINKING = (0.8, 3.0)
"""Seconds between the end of an answer and the next question, at random within."""
BARGE_AFTER = (0.5, 1.5)
"""Seconds into an answer at which it is barged in on."""
AGAIN_AFTER = 5.0
"""Seconds after which a refused caller calls again."""
GREETING = 2.5
"""Seconds in which a greeting begins, if there is one."""


@dataclass
class Callers:
    """All callers of a run, and what came of what they asked.

    Attributes:
        page: Address of the page.
        websocket: Address of the WebSocket.
        patience: Seconds after which a question counts as unanswered.
        began: Monotonic moment at which the run began.
        stop: Once set, no further question is asked.
        turns: Every question asked.
        refusals: Every call that wasn't taken.
        endless: Replies that began to sound and didn't end.
        talking: Calls that stand now.
    """

    page: str
    websocket: str
    patience: float = PATIENCE
    began: float = field(default_factory=time.monotonic)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    turns: list[Turn] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    endless: int = 0
    talking: int = 0

    async def over_websocket(self, number: int, after: float) -> None:
        """Be a caller over the WebSocket, from so many seconds on until the run stops."""
        await self._pause(after)
        dice = random.Random(number)
        session, calls = "", 0
        while not self.stop.is_set():
            if calls % 2 == 0:
                session = f"load-{uuid.uuid4().hex[:12]}"
            began = time.monotonic()
            try:
                async with SocketCaller(self.websocket, session, number, self.began, self.patience) as caller:
                    calls += 1
                    with self._in_call():
                        await self._talk(caller, dice)
            except CallRefused as error:
                await self._refused("websocket", began, error.code)

    async def _talk(self, caller: SocketCaller, dice: random.Random) -> None:
        await self._pause(GREETING)
        await caller.quiet()
        first, barge = dice.randrange(len(QUESTIONS)), False
        for number in range(first, first + CALL_TURNS):
            if not barge:
                await self._pause(dice.uniform(*THINKING))
            if self.stop.is_set() or caller.over:
                return
            turn = await caller.ask(number, barge)
            self.turns.append(turn)
            barge = turn.outcome == "answered" and dice.random() < BARGE_SHARE
            if barge:
                await self._pause(dice.uniform(*BARGE_AFTER))
            elif turn.outcome == "answered":
                self.endless += not await caller.answered()
                await caller.quiet()

    async def in_rooms(self, number: int, after: float) -> None:
        """Be a participant of one room after the other, from so many seconds on until the run stops."""
        await self._pause(after)
        dice = random.Random(-1 - number)
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                async with RoomClient(self.page, f"load-{uuid.uuid4().hex[:12]}") as client:
                    await client.agent()
                    with self._in_call():
                        await self._talk_in(client, number, dice)
            except AssertionError as error:
                await self._refused("room", began, "full" if '"full"' in str(error) else str(error)[:200])

    async def _talk_in(self, client: RoomClient, number: int, dice: random.Random) -> None:
        with contextlib.suppress(AssertionError):
            await client.sound(0.1, patience=GREETING)
        first, barge = dice.randrange(len(QUESTIONS)), False
        for asked in range(first, first + CALL_TURNS):
            if not barge:
                await client.state("listening")
                await client.silence(0.5)
                client.pieces.clear()
                client.turns.clear()
                await self._pause(dice.uniform(*THINKING))
            if self.stop.is_set():
                return
            turn = await self._ask_in(client, number, asked, barge)
            self.turns.append(turn)
            barge = turn.outcome == "answered" and dice.random() < BARGE_SHARE
            if barge:
                await self._pause(dice.uniform(*BARGE_AFTER))

    async def _ask_in(self, client: RoomClient, caller: int, number: int, barge: bool) -> Turn:
        text, _, speech = question(number)
        records, errors = len(client.turns), len(client.errors)
        end = ended_at(len(speech), await client.say(speech))
        since = len(client.pieces)
        turn = Turn("room", caller, end - self.began, text, barged_in=barge)
        try:
            await client.sound(0.05, since, self.patience)
            audible = heard_at([(piece.at, piece.samples) for piece in client.pieces[since:]], 24_000)
            turn.outcome = "answered"
            turn.first_audible = audible - end if audible else None
            await client.turn(records)
            turn.record(client.turns[-1])
        except AssertionError as error:
            turn.why = str(error)[:200]
            if turn.outcome != "answered" and len(client.errors) > errors:
                turn.refuse(client.errors[-1]["code"], client.errors[-1]["message"])
        return turn

    @contextlib.contextmanager
    def _in_call(self) -> Iterator[None]:
        self.talking += 1
        try:
            yield
        finally:
            self.talking -= 1

    async def _refused(self, transport: str, began: float, code: str) -> None:
        now = time.monotonic()
        self.refusals.append(Refusal(transport, now - self.began, now - began, code))
        await self._pause(AGAIN_AFTER)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stop.wait(), seconds)
