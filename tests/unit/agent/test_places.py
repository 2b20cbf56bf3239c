"""A worker accepts rooms by places, never by how busy the processor is."""

from __future__ import annotations

import asyncio

from livekit.agents import JobRequest
from livekit.agents.job import JobAcceptArguments
from livekit.protocol import agent as agent_proto

from agent.places import PER_CORE, Places, default_limit


class Server:
    """What a request says to livekit-server, and the jobs that run."""

    def __init__(self) -> None:
        self.running: set[str] = set()
        self.accepted: list[str] = []
        self.refused: list[bool] = []
        self.assigned = asyncio.Event()

    def request(self, job: str) -> JobRequest:
        async def accept(arguments: JobAcceptArguments) -> None:
            self.accepted.append(job)
            await self.assigned.wait()
            self.running.add(job)

        async def reject(terminate: bool) -> None:
            self.refused.append(terminate)

        return JobRequest(job=agent_proto.Job(id=job), on_reject=reject, on_accept=accept)


async def test_a_full_worker_refuses_and_leaves_the_room_to_others() -> None:
    server = Server()
    places = Places(2, lambda: server.running)
    server.running = {"a", "b"}
    assert places.load() == 1.0
    await places.answer(server.request("c"))
    assert server.accepted == []
    assert server.refused == [False], "not terminated: another worker may take it"


async def test_requests_at_the_same_moment_get_exactly_the_free_places() -> None:
    server = Server()
    places = Places(3, lambda: server.running)
    answers = [asyncio.create_task(places.answer(server.request(f"job{i}"))) for i in range(5)]
    await asyncio.sleep(0)
    assert len(server.accepted) == 3
    assert len(server.refused) == 2
    assert places.held == 3
    server.assigned.set()
    await asyncio.gather(*answers)
    assert (places.held, places.free) == (3, 0), "accepted and running is one place, not two"


async def test_the_others_are_told_of_a_place_before_its_conversation_begins() -> None:
    server = Server()
    told: list[int] = []

    async def tell() -> None:
        told.append(places.free)

    places = Places(2, lambda: server.running, tell)
    server.assigned.set()
    await places.answer(server.request("a"))
    assert (server.accepted, told) == (["a"], [1])
    server.running = {"a", "b"}
    await places.answer(server.request("c"))
    assert told == [1], "what was refused changed nothing"


async def test_a_place_is_free_again_when_its_job_ends_or_was_never_assigned() -> None:
    server = Server()
    places = Places(1, lambda: server.running)
    answer = asyncio.create_task(places.answer(server.request("a")))
    await asyncio.sleep(0)
    assert places.free == 0
    answer.cancel()
    await asyncio.gather(answer, return_exceptions=True)
    assert places.free == 1
    server.running = {"b"}
    assert places.free == 0
    server.running = set()
    assert places.free == 1


def test_one_conversation_never_fills_a_machine_of_two_cores() -> None:
    limit = default_limit(2, [16, None])
    assert limit == 2 * PER_CORE
    assert Places(limit, lambda: {"a"}).load() < 0.5


def test_the_default_limit_is_what_the_smallest_engine_holds() -> None:
    assert default_limit(64, [16, 40, None]) == 16
    assert default_limit(0.2, []) == 1
    assert default_limit(1, [0]) == 1
