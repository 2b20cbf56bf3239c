"""The chat engine that is always there: a rule-based companion, said plainly to be one."""

import re
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime

from engines.chat.companion_memory import Memory, clauses, turned
from engines.chat.companion_rules import STORIES, TALK
from engines.types import Capacity, EngineInfo, Health, Message

_RULES = [
    (re.compile(pattern.lstrip("+"), re.IGNORECASE), pattern[0] == "+", re.split(r"\n +| \| ", replies.strip()))
    for patterns, replies in re.findall(r"((?:^\S.*\n)+)((?:^ .*\n)+)", re.sub(r"\n {8}", " ", TALK), re.MULTILINE)
    for pattern in patterns.splitlines()
]
_UNKNOWN, _TOLD, _OTHER = (options for _, _, options in _RULES[-3:])


class Companion:
    """A ChatModel of rules. It holds nothing: names and facts are read from the messages of each call."""

    info = EngineInfo("chat", "companion", "rules", "cpu", "Apache-2.0")
    capacity = Capacity(0, None)  # A reply is made in one step, so none is ever held.

    def __init__(self, now: Callable[[], datetime] = datetime.now) -> None:
        self._now = now

    async def start(self) -> None:
        """Nothing needs loading."""

    async def health(self) -> Health:
        """Always able to serve."""
        return Health(True)

    async def aclose(self) -> None:
        """Nothing to free: each reply ends with its iterator."""

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        conversation: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
    ) -> AsyncGenerator[str, None]:
        """Yield at most `max_tokens` words; having no cache or chance, `conversation` and `temperature` do nothing."""
        for word in re.findall(r"\s*\S+", _answer(messages, self._now()))[:max_tokens]:
            yield word


def _answer(messages: Sequence[Message], now: datetime) -> str:
    newest = max((at for at, message in enumerate(messages) if message.role == "user"), default=-1)
    prompt = next((message.content[:2000] for message in messages if message.role == "system"), "")
    role = re.search(r"\b[Yy]ou are ([A-Z][\w'-]+(?: [A-Z][\w'-]+)*)", prompt)
    agent = role[1] if role else ""
    memory, earlier = Memory(messages[: newest + 1], agent), messages[: max(newest, 0)]
    replies = [message.content for message in earlier if message.role == "assistant"]
    turn = sum(message.role == "user" for message in earlier)
    # Where a story broke off is found by the last that was heard of it, a few replies back at most.
    tails = [tail for reply in reversed(replies[-3:]) if len(tail := reply.strip(" .\u2026")[-25:]) == 25]
    rests = [story[at + 25 :].lstrip(". ") for tail in tails for story in STORIES if (at := story.find(tail)) >= 0]
    values = {
        "agent": agent or "your companion",
        "name": f", {memory.name}" if memory.name else "",
        "settings": "ENABLE_LOCAL_MODEL=True, CHAT_URL or GROQ_API_KEY",
        "story": min(STORIES, key=lambda story: sum(story[:25] in reply for reply in replies)),
        "rest": (rests[0] or "That was all of it. Shall I tell you another?") if rests else "What about?",
        "again": replies[-1] if replies else "I haven't said anything yet.",
        "time": f"{now:%I:%M %p}".lstrip("0"),
        "date": f"{now:%A}, {now:%B} {now.day}, {now.year}",
    }

    def pick(*options: str) -> str:
        turns = [option.format_map(values) for option in (*options[turn % len(options) :], *options)]
        return next((option for option in turns if option not in replies[-3:]), turns[0])

    def one(clause: str) -> str:
        told, recalled = memory.latest.get(clause, ""), memory.recall(clause)
        values["told"] = told or ", and ".join(recalled or ())
        values["Told"] = values["told"][:1].upper() + values["told"][1:]
        if recalled:
            return pick("{Told}.", "Sure, {told}.", "As you said, {told}.", "Well, {told}.")
        options = next(options for pattern, both, options in _RULES if (both or not told) and pattern.search(clause))
        if recalled is not None and (options in (_UNKNOWN, _OTHER) or re.search(r"(?i)\bmy\b", clause)):
            values["question"] = turned(clause.rstrip("?").capitalize())
            if re.match(r"(?i)(?:what|where|who|when|how old) (?:is|are|do) (?:my|i)\b", clause):
                return pick("You haven't told me yet. {question}?")
            return pick("Sorry, you haven't told me about that yet.", "Hm, I don't think you've told me that.")
        return pick(*(_TOLD if told and options is _OTHER else options))

    heard = clauses(messages[newest].content if newest >= 0 else "hello", agent)
    if replies and re.search(r"(?:another|a story)\?$", replies[-1]) and heard[:1] in (["yes"], ["sure"], ["please"]):
        heard = ["another"]
    if not heard:
        return pick("Sorry, I didn't catch that. Could you say it again?", "Pardon? I didn't hear any words.")
    named = [at for at, clause in enumerate(heard) if memory.latest.get(clause, "").startswith("your name is ")]
    hello = pick("Nice to meet you{name}. ", "Hello{name}, nice to meet you. ") if named else ""
    rest = heard[named[-1] + 1 :] if named else heard
    return hello + (one(rest[-1]) if rest else pick("What would you like to talk about?", "What brings you here?"))
