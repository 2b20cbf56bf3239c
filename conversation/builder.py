"""The builder: the one place that assembles a conversation, for a room, a WebSocket and the terminal alike.

A transport brings an audio input and an audio output of LiveKit's framework; engines, personality and
stored history come from below. What a transport wants to know it hears through `Events`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from functools import partial

from livekit import rtc
from livekit.agents import AgentSession, APIConnectOptions, APIError, llm
from livekit.agents.voice import io, room_io
from livekit.agents.voice.agent_session import SessionConnectOptions
from livekit.agents.voice.events import (
    AgentStateChangedEvent,
    ConversationItemAddedEvent,
    ErrorEvent,
    UserInputTranscribedEvent,
)

from conversation.detectors import detector
from conversation.ear import Ear, EarEvent, EarFailed, TurnEnded
from conversation.ear_faces import EarSTT, EarVAD
from conversation.events import Caller, Events, Role, Transport
from conversation.history import History, as_chat_context
from conversation.latency import LatencyHistograms, LatencyLog, Record
from conversation.moments import Moments, steady_moments
from conversation.paced_output import PacedOutput
from conversation.tracing import TurnTracer, TurnTraces
from conversation.transcript import SpokenText
from conversation.turn_policy import TurnPolicy
from conversation.voice_agent import VoiceAgent
from conversation.watchdog import ReplyWatch
from engines.select import Chosen
from engines.tally import tally
from engines.types import EngineError, Voice
from library import Library
from library.leases import Lease
from library.personalities import Personality
from plugins.llm import EngineLLM
from plugins.tts import EngineTTS
from settings import Settings

logger = logging.getLogger("voice_node.conversation")

AGAIN = APIConnectOptions(max_retry=2, retry_interval=0.5)
"""How often an engine that fails at once, as a full one does, is asked again, and after how many seconds."""

__all__ = ["Caller", "Conversation", "Events", "Role", "Transport"]


@dataclass
class Conversation:
    """One conversation. Build it, set `events`, `start` it, `aclose` it.

    Args:
        engines: What listens, answers and speaks; shared, not closed here.
        library: Personalities, voices and history; shared, not closed here.
        transport: What carries it; a label in metrics.
        lease: Held while the conversation may write; None where nobody else can hold it.
        histograms: Where the stages of its turns are counted.
        tracer: Where its turns are traced.
        events: What the transport wants to know.
        clock: Unix seconds of its latency records, which what the client reports is told in as well.
    """

    engines: Chosen
    library: Library
    settings: Settings
    caller: Caller
    transport: Transport
    lease: Lease | None = None
    histograms: LatencyHistograms | None = None
    tracer: TurnTracer | None = None
    events: Events = field(default_factory=Events)
    clock: Moments = field(default_factory=steady_moments)

    def __post_init__(self) -> None:
        self._personality: Personality | None = None
        self._session: AgentSession[None] | None = None
        self._agent: VoiceAgent | None = None
        self._watch: ReplyWatch | None = None
        self._history = History(
            self.library, self.caller.session_id, lease=self.lease, on_lost=lambda: self.events.lost()
        )
        self._latency = LatencyLog(self.caller.session_id, self.transport, self._on_turn, self.histograms, self.clock)
        self._traces = TurnTraces(self.tracer, self.caller.session_id, self.transport)

    @property
    def session(self) -> AgentSession[None]:
        """The framework's session; there once started."""
        if self._session is None:
            raise RuntimeError("the conversation has not been started")
        return self._session

    @property
    def personality(self) -> Personality:
        """Who answers; there once started."""
        if self._personality is None:
            raise RuntimeError("the conversation has not been started")
        return self._personality

    async def start(
        self,
        audio_input: io.AudioInput | None,
        audio_output: PacedOutput | None,
        room: rtc.Room | None = None,
        room_options: room_io.RoomOptions | None = None,
    ) -> None:
        """Begin to listen; a personality with a greeting speaks it where nothing was said before.

        Args:
            audio_input: The person's sound; None where they only type.
            audio_output: Plays the agent's sound; None where its words are only read.
            room: Where transcripts, state and typed messages go as well.
            room_options: How; audio is always ours.
        """
        stored = await self._history.read(self.settings.conversations.history_messages)
        personality, voice = await self._remembered()
        self._personality = personality
        self._ear = self._build_ear(personality)
        self._tts = EngineTTS(self.engines.tts, voice, personality.language)
        self._session = self._build_session()
        self._agent = VoiceAgent(personality, as_chat_context(stored), self._latency)
        self._session.input.audio = audio_input
        self._session.output.audio = audio_output
        self._listen_to(self._session, audio_output)
        if room is not None:
            await self._session.start(
                self._agent, room=room, room_options=room_options or room_io.RoomOptions(), record=False
            )
        else:
            await self._session.start(self._agent, record=False)
        self._session.output.transcription = SpokenText(
            audio_output, self._agent_text, next_in_chain=self._session.output.transcription
        )
        if audio_output is not None:
            self._watch = self._watch_over(self._session, audio_output, self._agent)
        tally("conversations", transport=self.transport)
        logger.info(
            "conversation started",
            extra={"session": self.caller.session_id, "transport": self.transport, "personality": personality.id},
        )
        if personality.greeting and not stored:
            self._session.say(personality.greeting)

    async def type(self, text: str) -> None:
        """A typed message: what is being said stops, and it is answered like a spoken one."""
        text = text.strip()
        if not text:
            return
        await self.session.interrupt()
        self.events.transcript("user", text, True)
        self.session.generate_reply(user_input=text)

    async def use_personality(self, personality_id: str) -> Personality:
        """Go on as another personality, with its voice.

        Raises:
            LookupError: There is no such personality.
            LibraryError: The choice can't be kept now; all is as before.
        """
        personality = await self.library.personalities.get(personality_id)
        if personality is None:
            raise LookupError(f"there is no personality '{personality_id}'; GET /api/personalities lists them")
        voice = await self.library.voices.resolve(personality.voice)
        await self.library.conversations.remember(
            self.caller.session_id, personality=personality.id, voice=voice.id, user=self.caller.user
        )
        assert self._agent is not None
        await self._agent.update_instructions(personality.prompt)
        self._personality = personality
        self._tts.voice, self._tts.language = voice, personality.language
        self._ear.language, self._ear.patience = personality.language, personality.patience
        return personality

    async def use_voice(self, voice_id: str) -> Voice:
        """Go on in another voice.

        Raises:
            LookupError: There is no such voice.
            LibraryError: The choice can't be kept now; all is as before.
        """
        voice = await self.library.voices.get(voice_id)
        if voice is None:
            raise LookupError(f"there is no voice '{voice_id}'; GET /api/voices lists them")
        await self.library.conversations.remember(self.caller.session_id, voice=voice.id)
        self._tts.voice = voice
        return voice

    def heard(self, turn: int, at: float) -> None:
        """The client heard the first sound of a turn's answer at `at` (unix seconds, our clock).

        Raises:
            LookupError: No such turn is waiting for a report.
        """
        self._latency.heard(turn, at)

    async def aclose(self) -> None:
        """End the conversation: stop listening and speaking, store what was said; idempotent."""
        session, self._session = self._session, None
        watch, self._watch = self._watch, None
        if watch is not None:
            await watch.aclose()
        if session is not None:
            await _let_speech_end(session)
            await session.aclose()
            await self._ear.aclose()
            self._traces.flush()
        await self._history.aclose()

    # --- assembly ----------------------------------------------------------------------------------------

    async def _remembered(self) -> tuple[Personality, Voice]:
        """Who speaks and how: what the caller asks for, else what this conversation had before, else the default."""
        caller = self.caller
        before = await self.library.conversations.get(caller.session_id)
        wanted = caller.personality or (before.personality if before else None)
        personality = await self.library.personalities.resolve(wanted, caller.personality_name)
        kept = before is not None and before.personality == personality.id
        voice = await self.library.voices.resolve((before.voice if before and kept else None) or personality.voice)
        await self.library.conversations.remember(caller.session_id, personality=personality.id, user=caller.user)
        return personality, voice

    def _build_ear(self, personality: Personality) -> Ear:
        turns = self.settings.turns
        policy = TurnPolicy(turns.speculate_after, turns.commit_after, turns.commit_after_unfinished)
        ear = Ear(
            self.engines.stt,
            detector(self.settings),
            policy,
            language=personality.language,
            patience=personality.patience,
            clock=self.clock,
        )
        ear.subscribe(self._on_ear)
        return ear

    def _build_session(self) -> AgentSession[None]:
        chosen, wanted = self.engines, self.settings.engines
        # Paid engines are not asked to work on text that may be thrown away unless told to.
        ahead = not chosen.chat.info.paid or wanted.speculate_chat
        return AgentSession(
            stt=EarSTT(self._ear),
            vad=EarVAD(self._ear),
            llm=EngineLLM(
                chosen.chat,
                conversation=self.caller.session_id,
                newest=self.settings.conversations.history_messages,
            ),
            tts=self._tts,
            turn_handling={
                "turn_detection": "stt",
                "endpointing": {"mode": "fixed", "min_delay": 0.0, "max_delay": 0.0},
                "interruption": {
                    "enabled": True,
                    "mode": "vad",
                    "min_duration": 0.06,
                    "min_words": 0,
                    "resume_false_interruption": True,
                    # The ear reports end of speech only once it knows that nothing was said. 0 would resume for a
                    # moment before a real transcript arrives.
                    "false_interruption_timeout": 0.02,
                    "backchannel_boundary": None,
                },
                "preemptive_generation": {
                    "enabled": ahead,
                    "preemptive_tts": ahead and (not chosen.tts.info.paid or wanted.speculate_tts),
                    "max_speech_duration": 120.0,
                    "max_retries": 4,
                },
            },
            # Asked again soon or not at all: the person waits.
            conn_options=SessionConnectOptions(llm_conn_options=AGAIN, tts_conn_options=AGAIN),
            aec_warmup_duration=None,
            user_away_timeout=None,
            session_close_transcript_timeout=0.0,
        )

    def _watch_over(self, session: AgentSession[None], output: PacedOutput, agent: VoiceAgent) -> ReplyWatch:
        return ReplyWatch(
            session,
            output,
            self._ear,
            lambda: agent.making,
            self.settings.engines.tts_deadline,
            self.caller.session_id,
            lambda code, message: self.events.error(code, message),
        )

    def _listen_to(self, session: AgentSession[None], output: PacedOutput | None) -> None:
        session.on("agent_state_changed", self._on_state)
        session.on("user_input_transcribed", self._on_user_words)
        session.on("conversation_item_added", self._on_item)
        session.on("error", self._on_error)
        if output is not None:
            output.on("playback_started", partial(self._on_playback_started, output))
            output.on("playback_finished", self._on_playback_finished)

    # --- what the parts say ------------------------------------------------------------------------------

    def _on_turn(self, record: Record) -> None:
        engines = {kind: getattr(self.engines, kind).info.name for kind in ("stt", "chat", "tts")}
        self._traces.add(record, {"personality": self.personality.id, **engines})
        self.events.turn(record)

    def _on_ear(self, event: EarEvent) -> None:
        if isinstance(event, TurnEnded):
            self._latency.turn_ended(event)
        elif isinstance(event, EarFailed):
            logger.warning("speech could not be transcribed: %s", event.error.message)
            self._tell_error(event.error.code, event.error.message)

    def _on_state(self, event: AgentStateChangedEvent) -> None:
        self.events.state(event.new_state)

    def _on_user_words(self, event: UserInputTranscribedEvent) -> None:
        self.events.transcript("user", event.transcript, event.is_final)

    def _agent_text(self, text: str, final: bool) -> None:
        self.events.transcript("agent", text, final)

    def _on_item(self, event: ConversationItemAddedEvent) -> None:
        item = event.item
        if isinstance(item, llm.ChatMessage) and item.role in ("user", "assistant") and item.text_content:
            self._history.write(item.role, item.text_content, item.created_at, item.interrupted)

    def _on_error(self, event: ErrorEvent) -> None:
        failure = getattr(event.error, "error", event.error)
        reason = failure.__cause__ if isinstance(failure, Exception) else None
        if isinstance(reason, APIError):  # the framework's own, about the last of several attempts
            reason = reason.__cause__
        code, message = (reason.code, reason.message) if isinstance(reason, EngineError) else ("", str(failure))
        logger.warning("an engine failed: %s", message)
        if not getattr(event.error, "recoverable", False):
            self._tell_error(code or EngineError.code, message)

    def _tell_error(self, code: str, message: str) -> None:
        tally("conversation_errors", transport=self.transport, code=code)
        self.events.error(code, message)

    def _on_playback_started(self, output: PacedOutput, event: io.PlaybackStartedEvent) -> None:
        self._history.speaks(lambda: output.words_heard)
        # Emitted as it happens; its own moment is by a clock that may be set.
        self._latency.reply_sent()

    def _on_playback_finished(self, event: io.PlaybackFinishedEvent) -> None:
        tally("interruptions" if event.interrupted else "replies", transport=self.transport)
        if event.interrupted:
            self.events.interrupted()
        else:
            self.events.reply_done()


async def _let_speech_end(session: AgentSession[None]) -> None:
    """Have what is being said stored, as far as it was heard, before its session goes.

    A caller who hangs up at the last word is faster than the framework, which adds the reply to its history a
    moment after playback has finished; such a reply is whole and must not count as cut short.
    """
    speech = session.current_speech
    if speech is None or speech.done():
        return
    for seconds in (0.1, 1.0):
        try:
            async with asyncio.timeout(seconds):
                await speech.wait_for_playout()
            return
        except TimeoutError:
            speech.interrupt(force=True)
