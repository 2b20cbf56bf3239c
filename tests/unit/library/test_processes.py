"""Several processes open, lease and write one database at once, and none is ever told that it is locked."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from library import Library

from .conftest import MakeSettings, eventually

PROCESSES = 6
PATIENCE = 120


class Contender:
    """A process running contender.py."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process

    @classmethod
    async def start(cls, name: str) -> Contender:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("contender.py")),
            name,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(os.environ),
        )
        return cls(name, process)

    async def answer(self) -> dict[str, Any]:
        assert self.process.stdout
        assert self.process.stderr
        line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)
        if not line:
            raise AssertionError(f"{self.name} died: {(await self.process.stderr.read()).decode()}")
        return json.loads(line)

    def go_on(self) -> None:
        assert self.process.stdin
        self.process.stdin.write(b"\n")

    async def end(self) -> str:
        """Kill it if it still runs, and give what it wrote to stderr."""
        if self.process.returncode is None:
            self.process.kill()
        _, errors = await self.process.communicate()
        return errors.decode()


async def test_processes_share_a_fresh_database(database_url: str, make_settings: MakeSettings) -> None:
    settings = make_settings(DATABASE_URL=database_url)
    contenders = [await Contender.start(f"p{number}") for number in range(PROCESSES)]
    victim, others = contenders[0], contenders[1:]
    try:
        for contender in contenders:
            await contender.answer()
        for contender in contenders:
            contender.go_on()  # all open the same empty database now
        for contender in contenders:
            assert await contender.answer() == {"open": ["assistant", "storyteller", "coach"]}
        await asyncio.sleep(1.0)
        victim.process.kill()
        library = await Library.open(settings)

        async def expired() -> bool:
            return any(row.session_id == f"{victim.name} 0" for row in await library.leases.expired())

        await eventually(expired)
        await asyncio.sleep(0.5)
        for contender in others:
            contender.go_on()
        results = [await contender.answer() for contender in others]
        codes = [await asyncio.wait_for(contender.process.wait(), PATIENCE) for contender in others]
    finally:
        errors = [await contender.end() for contender in contenders]

    assert errors == [""] * PROCESSES
    assert codes == [0] * len(others)
    for contender, result in zip(others, results, strict=True):
        assert result["held"] == [True] * len(result["held"])
        for number, written in enumerate(result["written"]):
            messages = await library.conversations.messages(f"{contender.name} {number}")
            assert [message.content for message in messages] == [str(n) for n in range(written)]
            assert written > 0
    victims = await library.conversations.messages(f"{victim.name} 0")
    assert [message.content for message in victims] == [str(n) for n in range(len(victims))]
    assert await library.leases.live() == []
    await library.aclose()
