"""Any `ChatModel` as a LiveKit Agents language model."""

from __future__ import annotations

from typing import Any

from livekit.agents import APIConnectionError, APIConnectOptions, llm
from livekit.agents.llm.tool_context import Tool
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, NOT_GIVEN, NotGivenOr
from livekit.agents.utils import shortuuid

from engines.types import ChatModel, EngineError, EngineLate, Message


class EngineLLM(llm.LLM[str]):
    """Generates replies with an engine of ours.

    Args:
        chat: The engine.
        conversation: A hint for its cache.
        newest: How many of the newest messages it is shown at most; system messages are always shown. The oldest leave
            in strides of a quarter of it, so that most turns begin with what the engine has in its cache.
    """

    def __init__(self, chat: ChatModel, *, conversation: str | None = None, newest: int = 40) -> None:
        super().__init__()
        self._chat = chat
        self._conversation = conversation
        self._newest = newest

    @property
    def model(self) -> str:
        """The engine's model."""
        return self._chat.info.model

    @property
    def provider(self) -> str:
        """The engine's name."""
        return self._chat.info.name

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,
        tool_choice: NotGivenOr[llm.ToolChoice] = NOT_GIVEN,
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,
    ) -> llm.LLMStream:
        """Begin a reply to the newest message.

        Raises:
            ValueError: Tools were given; no engine of this build calls tools.
        """
        if tools:
            raise ValueError(f"the chat engine {self.provider} calls no tools; remove them from the agent")
        return _Reply(self, self._chat, self._messages(chat_ctx), self._conversation, chat_ctx, conn_options)

    def _messages(self, context: llm.ChatContext) -> list[Message]:
        told = [
            Message(role="system" if item.role == "developer" else item.role, content=item.text_content)
            for item in context.items
            if isinstance(item, llm.ChatMessage) and item.text_content
        ]
        system = [message for message in told if message.role == "system"]
        said = [message for message in told if message.role != "system"]
        stride = max(1, self._newest // 4)
        gone = -(-max(0, len(said) - self._newest) // stride) * stride
        return system + said[gone:]


class _Reply(llm.LLMStream):
    def __init__(
        self,
        model: EngineLLM,
        chat: ChatModel,
        messages: list[Message],
        conversation: str | None,
        chat_ctx: llm.ChatContext,
        conn_options: APIConnectOptions,
    ) -> None:
        self._engine = chat
        self._messages = messages
        self._conversation = conversation
        super().__init__(model, chat_ctx=chat_ctx, tools=[], conn_options=conn_options)

    async def _run(self) -> None:
        reply_id = shortuuid("reply_")
        pieces = self._engine.reply(self._messages, conversation=self._conversation)
        begun = False
        try:
            async for piece in pieces:
                begun = True
                self._event_ch.send_nowait(
                    llm.ChatChunk(id=reply_id, delta=llm.ChoiceDelta(role="assistant", content=piece))
                )
        except EngineError as error:
            again = not begun and not isinstance(error, EngineLate)
            raise APIConnectionError(error.message, retryable=again) from error
        finally:
            await pieces.aclose()
