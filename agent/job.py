"""One room, one conversation: the job a worker runs for each room it accepted.

The job connects, publishes the agent's track, waits for the first human, claims the conversation's
lease and has the builder assemble it. It ends when the last human has been gone for a while, when the
lease is lost, or when the worker stops; what it leaves behind depends on why it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

from livekit import rtc
from livekit.agents import AutoSubscribe, JobContext
from livekit.agents.voice import CloseEvent, CloseReason, io

from agent.equipment import Equipment
from agent.job_process import CLOSES_WITHIN, ENDS_WITHIN, end_within, watch_loop
from agent.leaving import ANOTHER, FAILED, LEFT, LOST, NOBODY, leave
from agent.room_audio import RoomInput, RoomOutput, connected_humans, humans, is_human, subscribed
from agent.room_requests import Asked, RoomRequests
from agent.room_text import RoomText
from agent.turns import HEARD, TURN_LOGGER
from agent.visit import PERSONALITY_ATTRIBUTE, visit
from conversation.builder import Caller, Conversation, Events, Role
from conversation.latency import Record
from conversation.moments import steady_moments
from engines.types import EngineError
from library.errors import LibraryError, SessionIdError
from library.leases import Lease
from settings import Settings

logger = logging.getLogger("voice_node.agent")

EMPTY_FOR = 10.0
"""Seconds a room may be without people before its job ends: a page is reloaded, a connection comes back."""
NOBODY_FOR = 60.0
"""Seconds a job waits for the first human."""
REACHED_WITHIN = 5.0
"""Seconds until a human's connection should stand; longer waits help nobody."""
TELLING = 0.5
"""Seconds left for an error's words to reach the page before the room is closed."""


async def entry(context: JobContext) -> None:
    """Begin a room's conversation; it goes on in tasks until the job is shut down."""
    watch_loop()
    job = RoomJob(context, context.proc.userdata["settings"])
    context.add_shutdown_callback(job.close)
    await job.begin()


class RoomJob:
    """The conversation of one room."""

    def __init__(self, context: JobContext, settings: Settings) -> None:
        self._context = context
        self._room = context.room
        self._settings = settings
        self._ended: str | None = None
        self._opening: asyncio.Task[Equipment] | None = None
        self._input: RoomInput | None = None
        self._output: RoomOutput | None = None
        self._text: RoomText | None = None
        self._requests: RoomRequests | None = None
        self._lease: Lease | None = None
        self._conversation: Conversation | None = None
        self._moments = steady_moments()
        self._started: asyncio.Future[Asked] = asyncio.get_running_loop().create_future()
        self._somebody = asyncio.Event()
        self._empty: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # --- beginning ---------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Connect and publish the agent's track; the conversation begins in a task of its own."""
        self._opening = asyncio.create_task(Equipment.open(self._settings), name="equipment")
        await self._context.connect(auto_subscribe=AutoSubscribe.AUDIO_ONLY)
        self._room.on("participant_connected", self._on_joined)
        self._room.on("participant_active", self._on_active)
        self._room.on("participant_disconnected", self._on_left)
        self._text = RoomText(self._room)
        self._text.state("initializing")
        self._requests = RoomRequests(self._room, self._started, self._moments)
        self._output = RoomOutput(self._room)
        self._output.on("playback_finished", self._on_playback_finished)
        publication = await self._output.publish()
        self._input = RoomInput(self._room)
        self._start(self._meet(self._opening, publication), "meet")

    async def _meet(self, opening: asyncio.Task[Equipment], publication: rtc.LocalTrackPublication) -> None:
        """Wait for the first human and begin to talk; whatever goes wrong, the page is told and the job ends."""
        try:
            human = await self._first_human()
            if human is None:
                self._end(NOBODY)
            else:
                await self._converse(await opening, human, publication)
        except (EngineError, SessionIdError) as error:
            logger.error("%s: %s", FAILED, error)
            await self._fail(error.code if isinstance(error, EngineError) else "failed", str(error))
        except LibraryError as error:
            # What it says is for whoever runs the server.
            logger.error("%s: %s", FAILED, error)
            await self._fail("unavailable", "the server's database doesn't answer; try again in a few seconds")
        except Exception:
            logger.exception(FAILED)
            await self._fail("failed", "the agent has an error; its log says more")

    async def _fail(self, code: str, message: str) -> None:
        if self._text is not None:
            self._text.error(code, message)
            await asyncio.sleep(TELLING)
        self._end(FAILED)

    async def _first_human(self) -> rtc.RemoteParticipant | None:
        """The first person who is there and can be told something: text sent before their connection stands is lost."""
        for reached, patience in ((humans, NOBODY_FOR), (connected_humans, REACHED_WITHIN)):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    while not reached(self._room):
                        self._somebody.clear()
                        await self._somebody.wait()
        present = connected_humans(self._room) or humans(self._room)
        return present[0] if present else None

    def _on_active(self, participant: rtc.RemoteParticipant) -> None:
        self._somebody.set()

    async def _converse(
        self, equipment: Equipment, human: rtc.RemoteParticipant, publication: rtc.LocalTrackPublication
    ) -> None:
        assert self._text is not None
        asked = visit(self._room.name, human.identity, human.attributes, self._context.job.metadata)
        self._lease = await equipment.leases.claim(
            asked.session_id,
            self._room.name,
            {
                "room": self._room.name,
                "agent_identity": self._room.local_participant.identity,
                "participant_identity": human.identity,
                "personality": asked.personality,
                "dispatch_metadata": self._context.job.metadata,
            },
        )
        self._start(self._watch(self._lease), "lease watch")
        conversation = Conversation(
            equipment.engines,
            equipment.library,
            self._settings,
            Caller(asked.session_id, personality=asked.personality, user=asked.user),
            "room",
            lease=self._lease,
            tracer=equipment.tracer,
            events=Events(
                transcript=self._on_transcript,
                state=self._text.state,
                turn=self._on_turn,
                error=self._text.error,
                lost=lambda: self._end(LOST),
            ),
            clock=self._moments,
        )
        await subscribed(publication)
        self._conversation = conversation
        await conversation.start(self._input, self._output)
        conversation.session.on("close", self._on_session_closed)
        self._started.set_result(conversation)
        try:
            await asyncio.shield(equipment.hearing)
        except EngineError as error:
            # The greeting is out and typing works; each utterance tries the engine again.
            logger.error("the ear's engine could not be started: %s", error.message)
            self._text.error(error.code, error.message)

    # --- who is there ------------------------------------------------------------------------------------

    def _on_joined(self, participant: rtc.RemoteParticipant) -> None:
        if not is_human(participant):
            return
        self._somebody.set()
        if self._empty is not None:
            self._empty.cancel()
            self._empty = None
            self._start(self._welcome_back(participant), "welcome back")

    async def _welcome_back(self, human: rtc.RemoteParticipant) -> None:
        """Go on with somebody who comes into the room after everybody had left it for a moment."""
        await asyncio.shield(self._started)
        assert self._conversation is not None
        asked = visit(self._room.name, human.identity, human.attributes, self._context.job.metadata)
        if asked.session_id != self._conversation.caller.session_id:
            self._end(ANOTHER)
            return
        wanted = human.attributes.get(PERSONALITY_ATTRIBUTE)
        if wanted and wanted != self._conversation.personality.id:
            with contextlib.suppress(LookupError, LibraryError):
                await self._conversation.use_personality(wanted)

    def _on_left(self, participant: rtc.RemoteParticipant) -> None:
        if not is_human(participant) or humans(self._room) or self._empty is not None:
            return
        self._empty = asyncio.get_running_loop().call_later(EMPTY_FOR, self._end, LEFT)
        if self._conversation is not None:
            # Nobody hears the rest, and the history keeps what was heard.
            with contextlib.suppress(RuntimeError):
                self._conversation.session.interrupt()

    async def _watch(self, lease: Lease) -> None:
        await lease.lost.wait()
        self._end(LOST)

    # --- what the conversation says ----------------------------------------------------------------------

    def _on_transcript(self, role: Role, text: str, final: bool) -> None:
        assert self._text is not None and self._input is not None and self._conversation is not None
        if role == "agent":
            self._text.agent(text, final)
        else:
            self._text.user(text, final, self._input.speaker or self._conversation.caller.user or "")

    def _on_turn(self, record: Record) -> None:
        assert self._text is not None
        self._text.record(record)
        if record["heard"] is not None:
            logging.getLogger(TURN_LOGGER).info(HEARD, extra={"record": record})

    def _on_playback_finished(self, event: io.PlaybackFinishedEvent) -> None:
        if event.interrupted and event.synchronized_transcript is not None and self._text is not None:
            self._text.reply_cut(event.synchronized_transcript)

    def _on_session_closed(self, event: CloseEvent) -> None:
        if event.reason is CloseReason.ERROR:
            self._start(
                self._fail("engine_failed", "the engines fail again and again; GET /api/health says which"), "fail"
            )

    # --- ending ------------------------------------------------------------------------------------------

    def _end(self, why: str) -> None:
        if self._ended is None:
            self._ended = why
            logger.info("job ends", extra={"room": self._room.name, "reason": why})
            end_within(ENDS_WITHIN)
            self._context.shutdown(why)

    async def close(self, reason: str) -> None:
        """Store what was said and leave the room as the reason for the end asks; called once by the framework.

        Where the end came from outside while people may be in the room, the lease is left to expire: the
        token server then has another worker go on. Otherwise it is given back, and an empty room is
        closed, since LiveKit sends an agent only into a room that is created anew.
        """
        end_within(CLOSES_WITHIN)
        if self._empty is not None:
            self._empty.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._started.cancel()
        if self._requests is not None:
            await self._requests.aclose()
        if self._conversation is not None:
            await self._conversation.aclose()
        if self._input is not None:
            await self._input.aclose()
        if self._output is not None:
            await self._output.aclose()
        if self._text is not None:
            await self._text.aclose()
        if self._lease is not None and self._ended is None:
            self._lease.lose()
        await self._close_equipment()
        await leave(self._context, self._ended)
        logger.info("job ended", extra={"room": self._room.name, "reason": self._ended or reason})

    async def _close_equipment(self) -> None:
        if self._opening is None:
            return
        self._opening.cancel()
        opened = await asyncio.gather(self._opening, return_exceptions=True)
        if isinstance(opened[0], Equipment):
            await opened[0].aclose()

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
