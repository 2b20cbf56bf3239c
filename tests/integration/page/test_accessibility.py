"""The page for people who use a keyboard or a screen reader, or can't see faint things: axe-core on every state."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.integration.page.visit import SOON, shows_state, talking, visit
from tests.integration.token_server.stage import Served, until
from tests.livekit_server import LiveKitServer
from token_server.page import BUILT

AXE = (BUILT.parent / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")

RECORD: dict[str, object] = {
    "turn": 1, "speech_end": 1000.0, "commit": 0.16, "transcript": -0.05, "first_token": -0.02, "first_audio": 0.21,
    "sent": 0.24, "heard": 0.35,
}  # fmt: skip


async def violations(page: Page) -> list[str]:
    """What axe-core has to complain about in the page as it is, contrast included."""
    # Injected by the debugger, which the page's own policy doesn't bind.
    await page.evaluate(AXE + "; null")
    found: list[dict[str, Any]] = await page.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then(result => result.violations)"
    )
    return [f"{one['id']} ({one['impact']}): {node['html']}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
async def test_every_state_is_accessible_in_both_themes(
    browser: Browser, served: Served, livekit: LiveKitServer, theme: Any, width: int
) -> None:
    context = await browser.new_context(
        permissions=["microphone"],
        color_scheme=theme,
        viewport={"width": width, "height": 844},
        reduced_motion="reduce",
    )
    context.set_default_timeout(SOON)
    page = await context.new_page()
    found: dict[str, list[str]] = {}

    async def check(state: str) -> None:
        if wrong := await violations(page):
            found[state] = wrong

    await visit(page, served)
    await expect(page.locator("label[data-id]").first).to_be_visible()
    await check("before")
    await page.get_by_test_id("settings").click()
    await expect(page.get_by_test_id("sound-settings")).to_be_visible()
    await check("sound settings")
    await page.keyboard.press("Escape")
    await page.get_by_test_id("help").click()
    await check("help")
    await page.keyboard.press("Escape")
    agent = await talking(page, served, livekit)
    await agent.words("what is the time", "s1", final=True, by=agent.person)
    await agent.words("It is five", "s2", final=True)
    await agent.words("and", "s3", final=False, by=agent.person)
    await agent.tell("voice.turn", RECORD)
    await agent.tell("voice.turn", {**RECORD, "turn": 2, "speech_end": 1010.0})
    await expect(page.get_by_test_id("earlier-turns")).to_be_attached()
    await page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    await page.get_by_test_id("mute").click()
    await check("call, muted")
    await page.get_by_test_id("change-personality").click()
    await expect(page.get_by_test_id("personality-dialog")).to_be_visible()
    await check("personality")
    await page.keyboard.press("Escape")
    await agent.tell("voice.error", {"code": "full", "message": "The voice has no place left."})
    await expect(page.get_by_test_id("error")).to_be_visible()
    await check("error")
    await agent.leave()
    await shows_state(page, "reconnecting")
    await check("reconnecting")
    await page.get_by_test_id("stop").click()
    await shows_state(page, "ended")
    await check("ended")
    await context.close()
    assert not found, found


async def focused(page: Page) -> str:
    """The test id of what has the keyboard, or its role and name."""
    name: str = await page.evaluate(
        "document.activeElement.dataset.testid ?? document.activeElement.value ?? document.activeElement.className"
    )
    return name


async def tab_to(page: Page, wanted: str, *, by: str = "Tab") -> None:
    """Go there as the keyboard does, and see that it shows."""
    for _ in range(40):
        if await focused(page) == wanted:
            ring: str = await page.evaluate(
                """(() => { const one = document.activeElement;
                   const shown = one.matches('.personality input') ? one.closest('label') : one;
                   return getComputedStyle(shown).outlineStyle; })()"""
            )
            assert ring != "none", f"{wanted} doesn't show that it has the keyboard"
            return
        await page.keyboard.press(by)
    raise AssertionError(f"Tab doesn't lead to {wanted}")


async def test_a_whole_call_by_keyboard_alone(page: Page, served: Served, livekit: LiveKitServer) -> None:
    await visit(page, served)
    await expect(page.locator("label[data-id]").first).to_be_visible(timeout=SOON)
    await tab_to(page, "theme")
    await page.keyboard.press("Enter")
    await expect(page.locator("html")).to_have_attribute("data-theme", "light")
    await page.keyboard.press("Enter")
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    await tab_to(page, "open-sound")
    await page.keyboard.press("Enter")
    await expect(page.get_by_test_id("sound-settings")).to_be_visible(timeout=SOON)
    await tab_to(page, "choose-audioinput")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    assert await focused(page) == "open-sound"
    await tab_to(page, "assistant")
    await page.keyboard.press("ArrowDown")
    assert await focused(page) == "storyteller"
    await tab_to(page, "start", by="Shift+Tab")
    agent = await talking(page, served, livekit, how=lambda: page.keyboard.press("Enter"), stay=True)
    await expect(page.get_by_test_id("mute")).to_be_focused(timeout=SOON)
    await page.keyboard.press("Space")
    await expect(page.get_by_test_id("mute")).to_have_text("Unmute", timeout=SOON)
    await page.keyboard.press("?")
    await expect(page.get_by_test_id("help-dialog")).to_be_visible(timeout=SOON)
    await page.keyboard.press("Escape")
    await tab_to(page, "message")
    await page.keyboard.type("hello ? m")
    await page.keyboard.press("Enter")
    await until(lambda: agent.typed == ["hello ? m"])
    await tab_to(page, "stop", by="Shift+Tab")
    await page.keyboard.press("Enter")
    await shows_state(page, "ended")
    await expect(page.get_by_test_id("start")).to_be_focused(timeout=SOON)
    await agent.leave()
    await page.reload()
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")


async def test_every_control_has_a_role_and_a_name(page: Page, served: Served, livekit: LiveKitServer) -> None:
    agent = await talking(page, served, livekit)
    for role, name in (
        ("button", "New conversation"),
        ("button", "Sound settings"),
        ("button", "Help and keys"),
        ("button", "Colours: as the system. Change to light"),
        ("button", "Change who answers"),
        ("button", "Mute"),
        ("button", "End the call"),
        ("textbox", "Message to the agent"),
        ("button", "Send"),
        ("log", "What was said"),
        ("region", "Call"),
        ("group", "Call controls"),
    ):
        found = page.get_by_role(role, name=name, exact=True)  # type: ignore[arg-type]
        await expect(found, f"{role} {name}").to_have_count(1)
    await page.get_by_role("button", name="Sound settings").click()
    dialog = page.get_by_role("dialog", name="Sound settings")
    for role, name in (("combobox", "Microphone"), ("combobox", "Speaker"), ("meter", "Microphone level"),
                       ("checkbox", "Push to talk"), ("button", "Play a sound"), ("button", "Close")):  # fmt: skip
        await expect(dialog.get_by_role(role, name=name, exact=True), f"{role} {name}").to_have_count(1)  # type: ignore[arg-type]
    await agent.leave()
