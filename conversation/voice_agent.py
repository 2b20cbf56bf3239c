"""The agent of one conversation, to LiveKit's framework: a personality's words, and time stamps on its work."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable

from livekit import rtc
from livekit.agents import Agent, FlushSentinel, ModelSettings, llm

from conversation.latency import LatencyLog
from conversation.watchdog import Making
from library.personalities import Personality


class VoiceAgent(Agent):
    """Speaks as a personality and notes when its replies' first token and first sound were there."""

    def __init__(self, personality: Personality, context: llm.ChatContext, latency: LatencyLog) -> None:
        super().__init__(instructions=personality.prompt, chat_ctx=context)
        self._latency = latency
        self.making: Making | None = None
        """The sound of the newest reply."""

    async def llm_node(
        self, chat_ctx: llm.ChatContext, tools: list[llm.Tool], model_settings: ModelSettings
    ) -> AsyncGenerator[llm.ChatChunk | str | FlushSentinel, None]:
        """Write the reply."""
        generation = self._latency.generation_started()
        async for chunk in Agent.default.llm_node(self, chat_ctx, tools, model_settings):
            if generation.first_token is None:
                generation.first_token = self._latency.clock()
            yield chunk

    async def tts_node(
        self, text: AsyncIterable[str], model_settings: ModelSettings
    ) -> AsyncGenerator[rtc.AudioFrame, None]:
        """Speak the reply."""
        generation = self._latency.generation
        making = self.making = Making()
        try:
            async for frame in Agent.default.tts_node(self, making.reading(text), model_settings):
                if generation is not None and generation.first_audio is None:
                    generation.first_audio = self._latency.clock()
                yield frame
        finally:
            making.running = False
