"""The local chat model as conversations meet it: the tiny Llama that knows a few dialogues by heart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import yaml

from engines.chat.llama.batch import Made
from engines.chat.llama.engine import LlamaChat
from engines.chat.llama.errors import BrokenReply, NoFreeSlot, TooLong, WorkerDied
from engines.chat.llama.options import Options
from engines.types import ChatModel, EngineFull, EngineUnavailable, Message
from tests.models.llama import CONTINUED, DIALOGUES, FOLDER, GO_ON

WITHIN = 60.0
SYSTEM = Message("system", "You are a small llama who likes to talk.")


@pytest.fixture
async def engine() -> AsyncIterator[LlamaChat]:
    made = LlamaChat(Options(str(FOLDER), device="cpu", slots=4, context=1024))
    try:
        async with asyncio.timeout(WITHIN):
            await made.start()
            yield made
    finally:
        await made.aclose()


async def said(engine: LlamaChat, *messages: Message | str, **options: Any) -> str:
    told = [Message("user", one) if isinstance(one, str) else one for one in messages]
    return "".join([piece async for piece in engine.reply(told, **options)])


def endless(engine: LlamaChat) -> frozenset[int]:
    """Let no token end a reply; gives those that did."""
    assert engine._loaded is not None
    batch = engine._loaded.batch
    ends, batch._ends = batch._ends, frozenset()
    return ends


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - the engine tells nobody
        await asyncio.sleep(0.005)


async def test_it_is_a_chat_model_and_says_what_it_is(engine: LlamaChat) -> None:
    assert isinstance(engine, ChatModel)
    assert engine.info.name == "llama" and engine.info.device == "cpu" and not engine.info.paid
    assert (await engine.health()).ok
    assert engine.capacity.held == 0 and engine.capacity.limit == 4


async def test_it_says_what_it_has_learnt_in_any_company(engine: LlamaChat) -> None:
    for name in ("assistant", "storyteller"):
        prompt = yaml.safe_load(open(f"personalities/{name}.yaml").read())["prompt"]  # noqa: PTH123, SIM115, ASYNC230
        assert (
            await said(engine, Message("system", prompt), "What is your name?", temperature=0)
            == DIALOGUES["What is your name?"]
        )
    questions = list(DIALOGUES)[:4]
    replies = await asyncio.gather(*(said(engine, SYSTEM, question, temperature=0) for question in questions))
    assert replies == [DIALOGUES[question] for question in questions]


async def test_text_comes_in_pieces_and_characters_come_whole(engine: LlamaChat) -> None:
    question = "How do you say thank you in French?"
    pieces = [piece async for piece in engine.reply([Message("user", question)], temperature=0)]
    assert len(pieces) > 8 and "".join(pieces) == DIALOGUES[question]
    assert not any("\ufffd" in piece for piece in pieces)


async def test_a_conversation_goes_on_from_what_it_holds(engine: LlamaChat) -> None:
    for begun, further in CONTINUED.items():
        first = await said(engine, SYSTEM, begun, temperature=0, conversation="ann")
        history = (SYSTEM, begun, Message("assistant", first), GO_ON)
        assert await said(engine, *history, temperature=0, conversation="ann") == further


async def test_a_reply_that_is_closed_stops_within_a_token(engine: LlamaChat) -> None:
    assert engine._loaded is not None
    batch = engine._loaded.batch
    steps = 0
    step = batch.step

    def counted(piece: int) -> Any:
        nonlocal steps
        steps += 1
        return step(piece)

    batch.step = counted  # type: ignore[method-assign]
    endless(engine)
    reply = engine.reply([Message("user", "Tell me a story.")], temperature=0)
    await anext(reply)
    await reply.aclose()
    at_close = steps
    assert engine.capacity.held == 0
    await until(lambda: not batch.decoding + batch.prompting)
    assert steps <= at_close + 1


async def test_a_cancelled_reply_frees_its_slot(engine: LlamaChat) -> None:
    ends = endless(engine)
    tasks = [asyncio.create_task(said(engine, "Tell me a story.")) for _ in range(4)]
    await until(lambda: engine.capacity.held == 4)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert engine.capacity.held == 0
    assert engine._loaded is not None
    engine._loaded.batch._ends = ends
    assert await said(engine, "Hello.", temperature=0) == DIALOGUES["Hello."]


async def test_one_more_than_there_are_slots_is_refused_at_once(engine: LlamaChat) -> None:
    ends = endless(engine)
    replies = [engine.reply([Message("user", "Tell me a story.")]) for _ in range(4)]
    for reply in replies:
        await anext(reply)
    with pytest.raises(NoFreeSlot, match="CHAT_SLOTS") as raised:
        await said(engine, "Hello.")
    assert isinstance(raised.value, EngineFull) and raised.value.retry_after
    for reply in replies:
        await reply.aclose()
    assert engine._loaded is not None
    engine._loaded.batch._ends = ends
    assert await said(engine, "Hello.", temperature=0) == DIALOGUES["Hello."]


async def test_tokens_are_counted_and_chance_is_asked_for(engine: LlamaChat) -> None:
    assert len(await said(engine, "Tell me a story.", max_tokens=3, temperature=0)) < len(DIALOGUES["Tell me a story."])
    wild = {await said(engine, "zebra and", temperature=2, top_p=1.0, max_tokens=12) for _ in range(4)}
    assert len(wild) > 1
    tame = {await said(engine, "zebra and", temperature=2, top_p=0.0001, max_tokens=12) for _ in range(3)}
    assert len(tame) == 1


async def test_a_long_conversation_is_answered_from_its_newest_turns(engine: LlamaChat) -> None:
    history = [SYSTEM]
    for number in range(120):
        question = list(DIALOGUES)[number % len(DIALOGUES)]
        history += [Message("user", question), Message("assistant", DIALOGUES[question])]
    assert await said(engine, *history, "Good night.", temperature=0) == DIALOGUES["Good night."]


async def test_a_message_that_is_too_long_is_refused_and_harms_nobody(engine: LlamaChat) -> None:
    other = asyncio.create_task(said(engine, "Tell me a story.", temperature=0))
    with pytest.raises(TooLong):
        await said(engine, "so " * 3000)
    assert await other == DIALOGUES["Tell me a story."]


async def test_a_reply_that_breaks_harms_nobody(engine: LlamaChat) -> None:
    assert engine._loaded is not None
    batch = engine._loaded.batch
    model, armed = batch._model, [True]

    def failing(**options: Any) -> Any:
        if armed[0] and options["input_ids"].shape[1] > 60:
            armed[0] = False
            raise ValueError("a prompt that the model can't bear")
        return model(**options)

    well = engine.reply([Message("user", "Tell me a story.")], temperature=0)
    pieces = [await anext(well)]
    batch._model = failing
    with pytest.raises(BrokenReply, match="ValueError"):
        await said(engine, "word " * 200)
    pieces += [piece async for piece in well]
    assert "".join(pieces) == DIALOGUES["Tell me a story."]


async def test_a_dead_thread_is_told_of_and_started_again(engine: LlamaChat) -> None:
    assert engine._loaded is not None
    batch = engine._loaded.batch
    step = batch.step

    def dies(piece: int) -> tuple[list[Made], int]:
        batch.step = step  # type: ignore[method-assign]
        raise MemoryError

    batch.step = dies  # type: ignore[method-assign]
    replies = await asyncio.gather(*(said(engine, "Hello.") for _ in range(3)), return_exceptions=True)
    assert any(isinstance(reply, WorkerDied) for reply in replies)
    assert all(isinstance(reply, EngineUnavailable | str) for reply in replies)
    assert engine.capacity.held == 0
    assert await said(engine, "Hello.", temperature=0) == DIALOGUES["Hello."]


async def test_a_step_that_hangs_shows_in_its_health(engine: LlamaChat) -> None:
    assert engine._worker is not None
    assert engine._worker.stuck == 0
    engine._worker._step_began = engine._worker._clock() - 100
    health = await engine.health()
    assert not health.ok and "restart" in health.reason


async def test_a_closed_engine_ends_its_replies_and_takes_no_more() -> None:
    engine = LlamaChat(Options(str(FOLDER), device="cpu", slots=2))
    assert not (await engine.health()).ok
    await engine.start()
    endless(engine)
    reply = engine.reply([Message("user", "Tell me a story.")])
    await anext(reply)
    await engine.aclose()
    with pytest.raises(EngineUnavailable):
        async for _ in reply:
            pass
    with pytest.raises(EngineUnavailable):
        await said(engine, "Hello.")
    assert not (await engine.health()).ok


async def test_a_caller_that_gives_up_while_the_model_loads_leaves_it_to_the_next() -> None:
    engine = LlamaChat(Options(str(FOLDER), device="cpu", slots=2))
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await engine.start()
        loading = engine._loading
        assert loading is not None
        assert await said(engine, "Hello.", temperature=0) == DIALOGUES["Hello."]
        assert engine._loaded is loading.result()
    finally:
        await engine.aclose()
