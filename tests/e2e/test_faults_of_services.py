"""A service that fails while people depend on it, and nothing stands behind it; and the ear's with another engine too.

With nothing behind it the turn under way may be lost; once the launcher has started the service again, or it goes on,
the next one is answered. The ear's service is met in the middle of a sentence. The other services with another engine
behind them are test_faults.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import RESULTS
from tests.e2e.faults import Fault, healed, history, pids
from tests.e2e.persistent import InRoom, OnSocket
from tests.e2e.stack import Stack

KINDS = ("stt", "chat", "tts")
IN_MID_SENTENCE = 0.6
"""Seconds after which the question is half spoken."""

Stacks = tuple[Stack, Stack]
"""Where conversations are held, and where the services run."""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stacks]:
    """Conversations whose engines are the services, each the only one of its kind."""
    folder = tmp_path_factory.mktemp("services")
    logs = [RESULTS / f"faults-{name}.log" for name in ("services", "conversations")]
    for log in logs:
        log.unlink(missing_ok=True)
    with Stack(folder / "services", logs[0], services=KINDS).running() as services:
        engines = {kind.upper(): "service" for kind in KINDS}
        addresses = {f"{kind.upper()}_SERVICE_URL": services.service(kind) for kind in KINDS}
        parts = ("livekit", "server", "agent", "page")
        with Stack(
            folder / "conversations", logs[1], services=parts, environment={**engines, **addresses}
        ).running() as conversations:
            yield conversations, services


@pytest.mark.parametrize("service", KINDS)
@pytest.mark.parametrize("kind", ["killed", "frozen"])
async def test_with_nothing_behind_a_service_the_next_turn_is_answered(alone: Stacks, service: str, kind: str) -> None:
    await goes_on(*alone, service, kind)


@pytest.mark.parametrize("kind", ["killed", "frozen"])
async def test_what_is_said_is_heard_by_the_engine_behind_the_ears_service(through_services: Stack, kind: str) -> None:
    await goes_on(through_services, through_services, "stt", kind)


async def goes_on(conversations: Stack, services: Stack, service: str, kind: str) -> None:
    """A service fails before, during and after a turn, and each next turn is answered."""
    aloud = service == "stt"
    talks: list[OnSocket | InRoom] = [OnSocket(conversations), InRoom(conversations)]
    if aloud:
        # One at a time is heard: two speakers, two recognizers and a service that starts are much for two cores.
        del talks[1 if kind == "killed" else 0]
    try:
        await healed(services)
        await asyncio.gather(*(talk.connect() for talk in talks))
        await asyncio.gather(*(talk.ask("My name is Mary.", "Mary") for talk in talks))
        for moment in ("before", "during", "after"):
            if moment == "after":
                await asyncio.gather(*(talk.ask("I live in Rome.", "Rome") for talk in talks))
            if moment != "during":
                fault = struck(services, service, kind)
            elif not aloud:
                await asyncio.gather(*(talk.begin("Tell me a story.", 0.5) for talk in talks))
                assert all(talk.sounding() for talk in talks), "the reply is over before it could be cut"
                fault = struck(services, service, kind)
            question, word = ("Where do I live?", "Rome") if moment == "after" else ("What is my name?", "Mary")
            if moment == "after":
                await over(services, fault)
            asking = [asyncio.create_task(talk.ask(question, word, aloud=aloud)) for talk in talks]
            if moment == "during" and aloud:
                await asyncio.sleep(IN_MID_SENTENCE)
                fault = struck(services, service, kind)
            await asyncio.gather(*asking)
            await over(services, fault)
        for talk in talks:
            assert talk.lines == 1, "no line broke for it"
            stored = history(conversations, talk.session)
            told = [one.content for one in stored if one.role == "user"]
            for fact in ("My name is Mary.", "I live in Rome."):
                assert told.count(fact) == 1, stored
    finally:
        await asyncio.gather(*(talk.close() for talk in talks))


def struck(services: Stack, service: str, kind: str) -> Fault:
    """Kill or freeze a service."""
    (pid,) = pids(services, service)
    return Fault(kind, pid)


async def over(services: Stack, fault: Fault) -> None:
    """Return once the fault is over and every service is well."""
    await fault.over()
    await healed(services)
