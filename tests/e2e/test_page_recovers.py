"""The page comes back by itself: whatever part fails under an open call, the next spoken or typed turn is answered.

Chromium's microphone says the same line again and again; nobody touches the page after the fault but to type.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.e2e.chromium import browsing
from tests.e2e.faults import healed, history, holder, pids, struck
from tests.e2e.stack import Stack
from tests.e2e.test_page import WORDS, shown, start
from tests.e2e.waiting import PATIENCE
from tests.spoken import Line, microphone_file

LINE = Line("how are you today", "awb", pause=9.0)
TALKING = re.compile("listening|thinking|speaking")
GREETING = "Hi, I'm Nova."


@pytest.mark.parametrize("part", ["job", "agent", "livekit", "page"])
@pytest.mark.parametrize("kind", ["killed", "frozen"])
async def test_the_page_comes_back_by_itself(through_services: Stack, tmp_path: Path, part: str, kind: str) -> None:
    stack = through_services
    await healed(stack)
    async with browsing(tmp_path / "profile", microphone_file(tmp_path / "m.wav", [LINE], 3.0), once=False) as browser:
        page = browser.page
        await page.goto(stack.page)
        await start(page, "assistant")
        await expect(page.locator(WORDS.format(role="user")).first).to_be_visible(timeout=PATIENCE * 1000)
        await typed(page, "My name is Mary.", "Mary")
        session = await page.evaluate("new URL(location.href).searchParams.get('session')")

        (pid,) = [holder(stack, session)] if part == "job" else pids(stack, part)
        fault = struck(stack, kind, pid)
        spoken = len(await shown(page, "user"))
        await fault.over()
        await healed(stack)

        # Somebody speaks, and is heard and answered; and types, and is remembered.
        await more(page, "user", spoken)
        await typed(page, "What is my name?", "Mary")
        await expect(page.locator("[data-testid=status]")).to_have_attribute(
            "data-state", TALKING, timeout=PATIENCE * 1000
        )
        await expect(page.get_by_test_id("error")).to_have_count(0)
        assert sum(text.startswith(GREETING) for text in await shown(page, "agent")) == 1, "greeted once"
        told = [one.content for one in history(stack, session)]
        assert told.count("My name is Mary.") == 1
        assert sum(text.startswith(GREETING) for text in told) == 1
        assert not [line for line in browser.console if line.startswith("uncaught")], browser.console
        await page.get_by_test_id("stop").click()
        await expect(page.get_by_test_id("start")).to_be_visible()


async def more(page: Page, role: str, than: int) -> None:
    """Return once more finished texts of a role are shown."""
    await page.wait_for_function(
        "([words, than]) => document.querySelectorAll(words).length > than",
        arg=[WORDS.format(role=role), than],
        timeout=2 * PATIENCE * 1000,
    )


async def typed(page: Page, text: str, word: str) -> None:
    """Type a message until an answer with that word is shown after it; what is spoken meanwhile may cut in."""
    for _ in range(8):
        answers = len(await shown(page, "agent"))
        await page.get_by_test_id("message").fill(text)
        await page.get_by_test_id("send").click(timeout=PATIENCE * 1000)
        for _ in range(60):
            if any(word in answer for answer in (await shown(page, "agent"))[answers:]):
                return
            await page.wait_for_timeout(100)
    raise AssertionError(f"no answer to {text!r} with {word!r}: {await shown(page, 'agent')}")
