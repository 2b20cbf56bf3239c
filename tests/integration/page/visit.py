"""Somebody who has opened the built page in Chromium: what they do there, and what they are shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from playwright.async_api import Page, expect

from tests.integration.token_server.scripted_agent import ScriptedAgent
from tests.integration.token_server.stage import Served, until, worker_alive
from tests.livekit_server import LiveKitServer

SOON = 30_000
"""Milliseconds that the page is given for anything; they say nothing about how fast it should be."""


async def visit(page: Page, served: Served) -> str:
    """Open the page; gives the conversation's name."""
    await page.goto(f"http://127.0.0.1:{served.port}/")
    return await conversation(page)


async def conversation(page: Page) -> str:
    await page.wait_for_function("() => new URL(location).searchParams.has('session')")
    name: str = await page.evaluate("new URL(location).searchParams.get('session')")
    return name


async def start(page: Page) -> None:
    await page.get_by_test_id("start").click()


async def shows_state(page: Page, state: str) -> None:
    await expect(page.get_by_test_id("status")).to_have_attribute("data-state", state, timeout=SOON)


async def shows_error(page: Page, code: str) -> None:
    error = page.get_by_test_id("error")
    await expect(error).to_have_attribute("data-code", code, timeout=SOON)
    assert len((await error.inner_text()).splitlines()) >= 2  # what happened, and what to do


async def entries(page: Page) -> list[tuple[str, str, str]]:
    """The transcript: who, whether final, the words."""
    found: list[list[str]] = await page.evaluate(
        """[...document.querySelectorAll('[data-testid=transcript] li')]
             .map(one => [one.dataset.role, one.dataset.final, one.querySelector('.words').innerText])"""
    )
    return [(role, final, words) for role, final, words in found]


async def shows(page: Page, *wanted: tuple[str, str, str]) -> None:
    async def there() -> bool:
        return await entries(page) == list(wanted)

    await until(there)


async def talking(
    page: Page,
    served: Served,
    livekit: LiveKitServer,
    *,
    how: Callable[[], Awaitable[None]] | None = None,
    stay: bool = False,
) -> ScriptedAgent:
    """Start a call that an agent listens to.

    Args:
        page: The tab.
        served: What serves the page.
        livekit: Where the agent joins.
        how: Starts it; a click on the button where not given.
        stay: On the page that is open, instead of opening it anew.
    """
    name = await conversation(page) if stay else await visit(page, served)
    async with worker_alive(served):
        await (how() if how else start(page))
        await expect(page.get_by_test_id("stop")).to_be_visible(timeout=SOON)
        agent = await ScriptedAgent.join(livekit, name)
        await agent.state("listening")
        await shows_state(page, "listening")
    return agent
