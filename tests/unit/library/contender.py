"""One of several processes that open, lease and write one database at once; run by test_processes.py.

Reads a line from stdin before it opens the database, and one before it ends; answers each with a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys

from library import Lease, LeaseHolder, Library
from settings import Settings

CONVERSATIONS = 3


async def main(name: str) -> None:
    answer({"ready": name})
    await asyncio.to_thread(sys.stdin.readline)
    library = await Library.open(Settings())
    holder = LeaseHolder(library, "compat", CONVERSATIONS)
    await holder.start()
    leases = [await holder.claim(f"{name} {number}", "socket") for number in range(CONVERSATIONS)]
    answer({"open": [personality.id for personality in await library.personalities.all()]})
    end = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
    written = await asyncio.gather(*(talk(library, lease, end) for lease in leases))
    held = [lease.held for lease in leases]
    await holder.aclose()
    await library.aclose()
    answer({"written": written, "held": held})


async def talk(library: Library, lease: Lease, end: asyncio.Task[str]) -> int:
    number = 0
    while not end.done():
        await library.conversations.append(lease.session_id, "user", str(number), lease=lease)
        number += 1
        if number % 10 == 0:
            await library.conversations.messages(lease.session_id, limit=20)
        await asyncio.sleep(0.03)
    return number


def answer(what: dict[str, object]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
