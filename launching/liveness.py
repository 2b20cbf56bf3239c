"""When a part that was well counts as hung: it lives, but for a while it has answered nothing at all.

A part that says that it can't serve is not hung, it answers; and a machine that is busy, or was asleep, is no reason to
end anything. So a question may take long, several have to go unanswered, and time in which we stood still ourselves
doesn't count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

HUNG_AFTER = 15.0
"""Seconds without any answer after which a part is hung."""

ASK_EVERY = 1.0
"""Seconds between two questions to a part that is well."""

STOOD_STILL = 2.0
"""Seconds by which something of ours may be late before we take it that we, not the part, stood still."""

UNWELL_AFTER = 5.0
"""Seconds a part may say that it can't serve before a person is told."""

Ask = Callable[[float], Awaitable[tuple[int, str]]]
"""Asks for a part's health, within so many seconds: the status, 0 where nobody answered, and what was said."""


async def until_hung(ask: Ask, tell: Callable[[str], None], hung_after: float = HUNG_AFTER) -> str:
    """Watch a healthy part until it is hung.

    Args:
        ask: Asks for its health.
        tell: Called with a line when it becomes unwell for a while, and when it is well again.
        hung_after: Seconds without an answer that make it hung.

    Returns:
        What is wrong, in a few words.
    """
    now = asyncio.get_running_loop().time
    limit = hung_after / 2
    answered = well = now()
    told = False
    while True:
        begun = now()
        status, text = await ask(limit)
        took = now() - begun
        if status or took > limit + STOOD_STILL:
            answered = now()
        elif now() - answered >= hung_after:
            return f"no answer for {now() - answered:.0f} s"
        if status == 200:
            well = now()
            if told:
                tell("well again")
                told = False
        elif status and not told and now() - well >= UNWELL_AFTER:
            tell(f"can't serve at the moment ({status}: {text[:200]})")
            told = True
        paused = now()
        await asyncio.sleep(ASK_EVERY)
        if now() - paused > ASK_EVERY + STOOD_STILL:
            answered = well = now()
