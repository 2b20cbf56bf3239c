"""The rule-based companion: what it remembers, what it says it is, and that nothing typed or misheard can hurt it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime
from pathlib import Path

import pytest
import yaml

import engines.chat
from engines.chat.companion import Companion
from engines.types import ChatModel, Message

ROOT = Path(engines.chat.__file__).parents[2]
PERSONALITIES = [yaml.safe_load(file.read_text("utf-8")) for file in sorted((ROOT / "personalities").glob("*.yaml"))]
SOURCE = "".join(file.read_text("utf-8") for file in sorted((ROOT / "engines" / "chat").glob("companion*.py")))
NOON = datetime(2031, 3, 9, 12, 5)
PROMPT = "You are Wilma, a cheerful voice.\nNever shout."


async def said(messages: Sequence[Message]) -> str:
    return "".join([word async for word in Companion(lambda: NOON).reply(messages)])


async def talk(*lines: str, prompt: str = PROMPT) -> list[Message]:
    """A whole conversation, the companion answering every line."""
    messages = [Message("system", prompt)]
    for line in lines:
        messages.append(Message("user", line))
        messages.append(Message("assistant", await said(messages)))
        assert messages[-1].content.strip()
    return messages


async def answer(*lines: str, prompt: str = PROMPT) -> str:
    """Its reply to the last of the lines."""
    return (await talk(*lines, prompt=prompt))[-1].content


def test_is_a_chat_model_of_rules_without_a_limit() -> None:
    companion: ChatModel = Companion()
    info = companion.info
    assert (info.kind, info.name, info.model, info.device, info.license) == (
        "chat", "companion", "rules", "cpu", "Apache-2.0",
    )  # fmt: skip
    assert companion.capacity.limit is None


def test_stays_small() -> None:
    assert 0 < len(SOURCE.splitlines()) <= 300


# Told, asked, and what the reply must hold. Some as recognized speech, some typed.
REMEMBERED = [
    ("my name is bertram", "what is my name", "Bertram"),
    ("um hello my name's odile", "uh do you remember my name", "Odile"),
    ("hi i'm gustav", "who am i", "Gustav"),
    ("Hello, I'm Ludmila!", "What's my name?", "Ludmila"),
    ("oh you can call me quentin", "do you know what my name is", "Quentin"),
    ("well my name is mary lou by the way", "can you tell me my name", "Mary Lou"),
    ("no actually my name is ferdinand", "so what was my name again", "Ferdinand"),
    ("i have a parrot named captain", "what is my parrot called", "Captain"),
    ("I've got a tortoise called Zeno.", "What is my tortoise's name?", "Zeno"),
    ("my hamster is called biscuit", "what's my hamster's name", "Biscuit"),
    ("my goldfish's name is bubbles", "what is the name of my goldfish", "Bubbles"),
    ("i have a pony her name is daisy", "what is my pony called", "Daisy"),
    ("We have a rabbit. It's called Thump.", "What is my rabbit called?", "Thump"),
    ("my favorite season is autumn", "what is my favorite season", "your favorite season is autumn"),
    ("my favourite fruit is plum", "what's my favorite fruit", "plum"),
    ("i live in oslo", "where do i live", "you live in Oslo"),
    ("I live in a small village near Bath.", "Do you remember where I live?", "small village near Bath"),
    ("i'm from patagonia", "where am i from", "Patagonia"),
    ("i work as a plumber", "what is my job", "plumber"),
    ("i work at the harbor", "where do i work", "harbor"),
    ("I'm an astronomer.", "What do I do for a living?", "astronomer"),
    ("i like chess and long walks", "what do i like", "chess and long walks"),
    ("i really love jazz", "what do i love", "jazz"),
    ("i don't like onions", "what do i hate", "onions"),
    ("i can't stand loud music and i play the cello", "what instrument do i play", "cello"),
    ("i am thirty one years old", "how old am i", "thirty one"),
    ("my wedding day is in june", "when is my wedding day", "june"),
    ("my brother lives in quito", "where does my brother live", "Quito"),
    ("i moved to san diego last spring", "where did i move", "san diego"),
    ("my bicycle is yellow", "what color is my bicycle", "yellow"),
    ("i bought a kayak", "what did i buy", "kayak"),
    ("hi there my name is leopold", "you know my name right", "Leopold"),
    ("my dentist is doctor moreau", "who is my dentist", "doctor moreau"),
    ("i have three children", "how many children do i have", "three children"),
    ("please remember that my bus leaves at seven", "when does my bus leave", "seven"),
    ("remember that the keys are under the mat", "where are the keys", "under the mat"),
    ("i was born in november", "when was i born", "november"),
    ("I need to buy candles, and I want to see Iceland.", "what do i want to see", "Iceland"),
    ("my cousin is a pilot", "what did i tell you about my cousin", "pilot"),
    ("i have a boat called aurora", "tell me what you know about my boat", "Aurora"),
    ("my doctor said i should sleep more", "what did my doctor say", "sleep more"),
]  # fmt: skip


@pytest.mark.parametrize(("told", "asked", "held"), REMEMBERED)
async def test_remembers_what_it_was_told(told: str, asked: str, held: str) -> None:
    assert held.lower() in (await answer(told, "the sky is grey", asked)).lower()


async def test_finds_a_fact_among_many() -> None:
    told = [told for told, asked, _ in REMEMBERED if "name" not in asked]
    assert "thump" in (await answer(*told, "what is my rabbit called")).lower()
    assert "Oslo" in await answer("i live in oslo", "i like snow", "which city do i live in")


async def test_reads_memory_from_the_messages_alone() -> None:
    """A new engine with the same messages knows the same: nothing is kept between calls."""
    messages = await talk("my name is theodora", "my favorite tree is the larch")
    assert "larch" in await said([*messages, Message("user", "what is my favorite tree")])
    assert "larch" not in await said([Message("user", "what is my favorite tree")])


async def test_the_newest_word_counts() -> None:
    assert "Nils" in await answer("my name is olaf", "sorry my name is nils", "what's my name")
    reply = await answer("my favorite drink is cocoa", "my favorite drink is cider", "what is my favorite drink")
    assert "cider" in reply and "cocoa" not in reply
    assert "Ines" in await answer("my name is ines", "i'm exhausted", "i'm hungry", "i'm ready", "who am i")


async def test_another_pet_s_name_is_not_the_person_s() -> None:
    assert "Rufus" not in await answer("i have a donkey named rufus", "what is my name")


async def test_says_what_it_was_not_told_and_asks_back() -> None:
    reply = await answer("what is my middle name")
    assert "haven't told" in reply and reply.endswith("?")
    assert "haven't told" in await answer("my favorite color is teal", "what is my favorite book")
    assert "told" in await answer("do i have a yacht")


async def test_keeps_apart_what_is_told_of_others() -> None:
    assert "haven't told" in await answer("my uncle lives in porto", "where do i live")
    reply = await answer("i used to live in cork but now i live in galway", "where do i live")
    assert "you used to live in Cork" in reply and "you live in Galway" in reply


async def test_understands_a_bare_answer_to_its_question() -> None:
    assert "Fenella" in await answer("what is my name", "fenella", "thanks", "what is my name")
    assert "Gouda" in await answer("What is my favorite cheese?", "Gouda.", "What is my favorite cheese?")
    assert "Utrecht" in await answer("where do i live", "utrecht", "where do i live")


async def test_tells_everything_it_knows_of_someone() -> None:
    reply = await answer("i live in ghent", "i like rowing", "what do you know about me")
    assert "Ghent" in reply and "rowing" in reply


async def test_hears_several_things_in_one_breath() -> None:
    reply = await answer("hi i'm casper and i live in turin what is your name")
    assert "Casper" in reply and "Wilma" in reply
    messages = await talk("my name is clio and i live in malmo and i like knitting", "where do i live")
    assert "Malmo" in messages[-1].content
    assert "knitting" in await said([*messages, Message("user", "what do i like")])
    assert "It's 12:05 PM" in await answer("hey wilma what time is it")
    assert "12:05" in await answer("so uh can you tell me the time please")


@pytest.mark.parametrize("question", ["who are you", "Hey, what's your name?", "well what should i call you"])
async def test_takes_its_name_from_the_system_message(question: str) -> None:
    assert "Wilma" in await answer(question)
    assert "companion" in await answer(question, prompt="Be brief.")


@pytest.mark.parametrize("personality", PERSONALITIES, ids=lambda personality: personality["name"])
async def test_knows_the_shipped_personalities(personality: dict[str, str]) -> None:
    assert personality["name"] in await answer("so who are you", prompt=personality["prompt"])
    assert "Ottilie" in await answer("i'm ottilie", "what's my name", prompt=personality["prompt"])


@pytest.mark.parametrize(
    "question",
    [
        "what are you",
        "What exactly are you?",
        "are you a real human being",
        "is this an ai",
        "are you chatgpt",
        "which language model is this",
        "how can i get a real model",
        "uh who made you",
        "so how do you work",
    ],
)
async def test_says_plainly_what_it_is_and_how_to_get_a_real_model(question: str) -> None:
    reply = await answer(question)
    assert "embedded" in reply and "companion" in reply and "rule" in reply
    for fix in ("ENABLE_LOCAL_MODEL=True", "CHAT_URL", "GROQ_API_KEY", ".env"):
        assert fix in reply


async def test_knows_time_and_date() -> None:
    assert "12:05 PM" in await answer("what's the time")
    for question in ("what day is it", "What is the date today?", "which year is it"):
        assert "Sunday, March 9, 2031" in await answer(question)


def sentences(text: str) -> int:
    return len(re.findall(r"[.!?](?:\s|$)", text))


@pytest.mark.parametrize(
    "request_",
    [
        "tell me a long story",
        "could you tell me a tale",
        "I'd like to hear a bedtime story.",
        "tell me more about glaciers",
        "can you tell me about the roman empire",
        "explain gravity",
        "tell me about yourself",
    ],
)
async def test_can_speak_long_enough_to_be_interrupted(request_: str) -> None:
    reply = await answer(request_)
    assert sentences(reply) >= 6 and len(reply.split()) >= 55
    assert len(re.split(r"[.,;?!]", reply)[0].split()) <= 6, "speech begins early"


async def test_goes_on_where_a_story_was_interrupted() -> None:
    messages = await talk("tell me a story")
    whole = messages[-1].content
    heard = whole[: len(whole) // 2].rsplit(" ", 1)[0]
    for between in ((), (Message("user", "stop"), Message("assistant", "Okay."))):
        cut = [*messages[:-1], Message("assistant", heard), *between]
        rest = await said([*cut, Message("user", "go on please")])
        assert rest.endswith(whole[-40:])
        assert len(rest) < len(whole) * 0.7


async def test_tells_another_story_and_takes_yes_for_an_answer() -> None:
    messages = await talk("tell me a story", "another one", "what happens next", "yes")
    assert messages[2].content[-40:] != messages[4].content[-40:]
    assert messages[6].content.endswith("?")
    assert sentences(messages[8].content) >= 6


@pytest.mark.parametrize(
    "word", ["stop", "wait", "Wait, stop!", "hold on a minute", "stop talking", "can you stop please"]
)
async def test_acknowledges_an_interruption_briefly(word: str) -> None:
    assert len((await answer("tell me a story", word)).split()) <= 6


async def test_repeats_itself_when_asked() -> None:
    messages = await talk("what's the time", "sorry what did you say")
    assert messages[2].content in messages[4].content


SMALL_TALK = [
    "hello", "good morning", "how are you today", "thanks a lot", "i feel lonely", "can you hear me",
    "tell me a joke", "what can you do", "yes", "no", "hmm", "it is snowing outside", "why do cats purr",
    "how many planets are there", "do you like cheese", "i think so", "goodbye",
]  # fmt: skip


@pytest.mark.parametrize("line", SMALL_TALK)
async def test_small_talk_is_short_and_never_empty(line: str) -> None:
    reply = await answer(line)
    assert 0 < len(reply.split()) <= 22
    assert not re.search(r"[{}|]|=>", reply)


async def test_same_question_is_answered_in_other_words_but_the_same_for_the_same_messages() -> None:
    for question in ("hello", "how are you", "why is grass green", "what's the time"):
        messages = await talk(question, question)
        assert messages[2].content != messages[4].content
        assert messages == await talk(question, question)


async def test_trouble_is_met_with_care() -> None:
    assert "crisis line" in await answer("i want to kill myself")


@pytest.mark.parametrize(
    "line", ["wie geht es dir", "¿Cómo está usted?", "Как тебя зовут?", "你叫什么名字", "hola amigo"]
)
async def test_other_languages_are_told_politely(line: str) -> None:
    reply = await answer(line)
    assert "English" in reply and "orry" in reply


HOSTILE = [
    "", "  \n ", "...", "?!", "\U0001f600", "\u2026", "{agent} {0} %s {told!r}", "my name is {name}",
    "i have a {x} called {y}", "a" * 50_000, "my " * 20_000, "i have a " * 9_000, "my a's " * 9_000,
    "what " * 20_000 + "i", "i am " * 9_000, "remember that " * 4_000, "um " * 20_000, ", " * 30_000,
    "stop " * 9_000, "\\" * 3_000, "\x00\x07", "tell me about " * 999, "my dog is " + "very " * 9_000,
    "i like " + "and " * 20_000, "what do " * 5_000 + "?", "'" * 9_000,
]  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
async def test_nothing_typed_breaks_it(line: str) -> None:
    messages = await talk("hi", line, line, "what is my name", prompt=line)
    assert len(messages) == 9


@pytest.mark.timeout(60)
async def test_a_very_long_conversation_is_still_answered() -> None:
    messages = [Message("user", f"my box number {at} is full of sand, and i like box {at}") for at in range(5_000)]
    assert "box 4999" in await said([*messages, Message("user", "what do i like")])


async def test_answers_without_any_user_message() -> None:
    assert await said([])
    assert await said([Message("system", PROMPT)])
    assert await said([Message("assistant", "Hi.")])


async def test_yields_words_that_join_to_the_text_and_stops_when_closed() -> None:
    messages = [Message("user", "tell me a story")]
    async with aclosing(Companion().reply(messages)) as words:
        pieces = [await anext(words), await anext(words)]
    assert all(len(piece.split()) == 1 for piece in pieces)
    with pytest.raises(StopAsyncIteration):
        await anext(words)
    assert (await said(messages)).startswith("".join(pieces))


async def test_keeps_to_max_tokens() -> None:
    words = [word async for word in Companion().reply([Message("user", "tell me a story")], max_tokens=3)]
    assert len(words) == 3


def test_no_sentence_of_these_tests_stands_in_its_rules() -> None:
    for sentence in (part.lower() for told, asked, _ in REMEMBERED for part in (told, asked)):
        assert sentence not in SOURCE.lower() or len(sentence.split()) <= 3
