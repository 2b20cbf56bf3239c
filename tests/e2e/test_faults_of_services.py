"""A service that fails while people depend on it: with the embedded engine behind it, and with nothing behind it.

With nothing behind it the turn under way may be lost; once the launcher has started the service again, or it goes on,
the next one is answered. The ear's service is met in the middle of a sentence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import RESULTS
from tests.e2e.faults import THROUGH_SERVICES, Fault, healed, history, pids
from tests.e2e.persistent import InRoom, OnSocket
from tests.e2e.stack import Stack

KINDS = ("stt", "chat", "tts")
IN_MID_SENTENCE = 0.6
"""Seconds after which the question is half spoken."""

Stacks = tuple[Stack, Stack]
"""Where conversations are held, and where the services run."""


@pytest.fixture(scope="module", params=["with another engine behind it", "alone"])
def stacks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stacks]:
    folder = tmp_path_factory.mktemp("services")
    logs = [RESULTS / f"faults-{name}.log" for name in ("services", "conversations")]
    for log in logs:
        log.unlink(missing_ok=True)
    with Stack(folder / "services", logs[0], services=KINDS).running() as services:
        engines = THROUGH_SERVICES if request.param != "alone" else {kind.upper(): "service" for kind in KINDS}
        addresses = {f"{kind.upper()}_SERVICE_URL": services.service(kind) for kind in KINDS}
        parts = ("livekit", "server", "agent", "page")
        with Stack(
            folder / "conversations", logs[1], services=parts, environment={**engines, **addresses}
        ).running() as conversations:
            yield conversations, services


@pytest.mark.parametrize("service", KINDS)
@pytest.mark.parametrize("kind", ["killed", "frozen"])
async def test_the_next_turn_is_answered(stacks: Stacks, service: str, kind: str) -> None:
    conversations, services = stacks
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
