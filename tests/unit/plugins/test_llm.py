"""What of a long conversation a chat engine is shown."""

from __future__ import annotations

from livekit.agents import llm

from engines.chat.companion import Companion
from plugins.llm import EngineLLM


def test_the_oldest_messages_leave_in_strides_and_the_personality_stays() -> None:
    model = EngineLLM(Companion(), newest=8)
    context = llm.ChatContext.empty()
    context.add_message(role="system", content="Be kind.")
    beginnings = []
    for number in range(24):
        context.add_message(role="user" if number % 2 == 0 else "assistant", content=str(number))
        shown = [message.content for message in model._messages(context)]
        assert shown[0] == "Be kind."
        assert shown[1:] == [str(one) for one in range(int(shown[1]), number + 1)]
        assert min(number + 1, 7) <= len(shown) - 1 <= 8
        beginnings.append(int(shown[1]))
    assert sorted(set(beginnings)) == list(range(0, 18, 2))
