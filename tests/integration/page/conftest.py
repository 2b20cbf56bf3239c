"""The built page in Chromium, with a token server and a livekit-server of its own and a scripted agent."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.e2e.chromium import FLAGS, chromium
from tests.integration.page.visit import SOON
from tests.integration.token_server.conftest import environment, livekit
from tests.integration.token_server.stage import Served, serving
from token_server.page import BUILT

__all__ = ["environment", "livekit"]


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), headless=True, chromium_sandbox=False, args=list(FLAGS)
        )
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser) -> Page:
    """An empty tab that may use its (fake) microphone."""
    context = await browser.new_context(permissions=["microphone"])
    context.set_default_timeout(SOON)
    return await context.new_page()


@pytest.fixture
async def served(environment: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    async with serving(BUILT) as running:
        yield running
