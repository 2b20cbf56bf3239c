"""Groq's chat models, through the vendor's own client."""

from __future__ import annotations

from engines import groq
from engines.chat.completions import CompletionsChat
from engines.types import CLOUD, EngineInfo


class GroqChat(CompletionsChat):
    """Chat at Groq.

    Args:
        api_key: Of Groq.
        model: As Groq names it.
        url: Where Groq is reached.
    """

    def __init__(self, api_key: str, model: str, url: str) -> None:
        info = EngineInfo("chat", "groq", model, CLOUD, "Groq's terms and the model's own", paid=True)
        super().__init__(groq.vendor("GROQ_CHAT_MODEL"), groq.client(api_key, url), info, "max_completion_tokens")
