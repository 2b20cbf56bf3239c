"""The built page in Chromium, with an agent that says what the test wants: words, states and errors as shown."""

from __future__ import annotations

import pytest
from playwright.async_api import Page, expect

from tests.integration.page.visit import (
    SOON,
    conversation,
    shows,
    shows_error,
    shows_state,
    start,
    talking,
    visit,
)
from tests.integration.token_server.scripted_agent import ScriptedAgent
from tests.integration.token_server.stage import Served, serving, until, worker_alive
from tests.livekit_server import LiveKitServer, running_livekit_server
from token_server.page import BUILT


async def test_the_words_of_both_sides_are_shown_interim_ones_replaced(
    page: Page, served: Served, livekit: LiveKitServer
) -> None:
    agent = await talking(page, served, livekit)
    await agent.words("what is", "s1", final=False, by=agent.person)
    await shows(page, ("user", "false", "what is"))
    await agent.words("what is the time", "s1", final=True, by=agent.person)
    await agent.state("thinking")
    await shows_state(page, "thinking")
    await agent.words("It is five, and the evening", "s2", final=False)
    await agent.state("speaking")
    await shows_state(page, "speaking")
    await shows(page, ("user", "true", "what is the time"), ("agent", "false", "It is five, and the evening"))
    await agent.words("It is five,", "s2", final=True)  # interrupted: what was heard
    await shows(page, ("user", "true", "what is the time"), ("agent", "true", "It is five,"))
    await agent.tell("voice.turn", {"turn": 1, "sent": 0.312, "heard": None})
    await expect(page.get_by_test_id("delay")).to_contain_text("0.31 s", timeout=SOON)
    await page.get_by_test_id("message").fill("and tomorrow?")
    await page.keyboard.press("Enter")
    await until(lambda: agent.typed == ["and tomorrow?"])
    await page.get_by_test_id("stop").click()
    await shows_state(page, "ended")
    await agent.leave()


async def test_a_call_goes_on_with_another_agent(page: Page, served: Served, livekit: LiveKitServer) -> None:
    agent = await talking(page, served, livekit)
    await agent.words("Once upon a time", "s1", final=False)
    await agent.leave()
    await shows_state(page, "reconnecting")
    await shows(page, ("agent", "true", "Once upon a time"))
    again = await ScriptedAgent.join(livekit, await conversation(page), "agent-another")
    await again.state("speaking")
    await shows_state(page, "speaking")
    await expect(page.get_by_test_id("error")).to_have_count(0)
    await again.tell("voice.error", {"code": "full", "message": "The voice has no place left."})
    await shows_error(page, "agent-failed")
    await expect(page.get_by_test_id("error")).to_contain_text("no place left")
    await again.leave()


async def test_what_an_agent_took_along_is_sent_to_the_next(page: Page, served: Served, livekit: LiveKitServer) -> None:
    """An agent repeats whatever it takes of what is typed: what it never repeated died with it."""
    agent = await talking(page, served, livekit)
    for text in ("My name is Mary.", "What is my name?"):
        await page.get_by_test_id("message").fill(text)
        await page.get_by_test_id("send").click()
    await until(lambda: agent.typed == ["My name is Mary.", "What is my name?"])
    await agent.words("My name is Mary.", "a", final=True, by=agent.person)
    await shows(page, ("user", "true", "My name is Mary."))
    await agent.leave()
    await shows_state(page, "reconnecting")
    successor = await ScriptedAgent.join(livekit, await conversation(page), "agent-successor")
    await successor.state("listening")
    await until(lambda: successor.typed == ["What is my name?"])
    await successor.leave()


async def test_a_reload_goes_on_with_the_conversation_and_a_button_begins_another(page: Page, served: Served) -> None:
    first = await visit(page, served)
    await page.reload()
    assert await conversation(page) == first
    await page.goto(f"http://127.0.0.1:{served.port}/")
    assert await conversation(page) == first
    await page.get_by_test_id("new-conversation").click()
    await page.wait_for_function("name => new URL(location).searchParams.get('session') !== name", arg=first)
    second = await conversation(page)
    await page.goto(f"http://127.0.0.1:{served.port}/?session=mine")
    assert await conversation(page) == "mine" != second


async def test_the_chosen_personality_is_asked_for_and_kept(page: Page, served: Served, livekit: LiveKitServer) -> None:
    await visit(page, served)
    await page.locator("label[data-id=coach]").click()
    await page.reload()
    await expect(page.locator("label[data-id=coach] input")).to_be_checked(timeout=SOON)
    agent = await talking(page, served, livekit)
    person = agent.room.remote_participants[agent.person]
    assert person.attributes["personality"] == "coach"
    assert person.attributes["session_id"] == await conversation(page)
    await agent.leave()


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("reject(new DOMException('', 'NotAllowedError'))", "microphone-refused"),
        ("reject(new DOMException('', 'NotFoundError'))", "no-microphone"),
        ("reject(new DOMException('', 'NotReadableError'))", "microphone-busy"),
    ],
)
async def test_a_microphone_that_does_not_open_is_explained(page: Page, served: Served, script: str, code: str) -> None:
    await page.add_init_script(
        f"navigator.mediaDevices.getUserMedia = () => new Promise((resolve, reject) => {script})"
    )
    await visit(page, served)
    await start(page)
    await shows_error(page, code)
    await shows_state(page, "ended")


async def test_an_insecure_page_is_explained(page: Page, served: Served) -> None:
    await page.add_init_script("Object.defineProperty(window, 'isSecureContext', {get: () => false})")
    await visit(page, served)
    await start(page)
    await shows_error(page, "insecure-page")


async def test_a_full_server_says_when_to_come_back(page: Page, served: Served) -> None:
    await visit(page, served)
    async with worker_alive(served, limit=0):
        await start(page)
        await shows_error(page, "full")
    await expect(page.get_by_test_id("retry")).to_contain_text("Try again", timeout=SOON)


async def test_an_agent_that_stays_away_is_told_about_and_forgiven(
    page: Page, served: Served, livekit: LiveKitServer
) -> None:
    name = await visit(page, served)
    async with worker_alive(served):
        await start(page)
        await shows_error(page, "agent-away")
    await shows_state(page, "connecting")
    agent = await ScriptedAgent.join(livekit, name)
    await agent.state("listening")
    await shows_state(page, "listening")
    await expect(page.get_by_test_id("error")).to_have_count(0)
    await agent.leave()


async def test_a_server_that_went_away_is_told_about(environment: pytest.MonkeyPatch, page: Page) -> None:
    async with serving(BUILT) as served:
        await visit(page, served)
        await expect(page.locator("label[data-id]").first).to_be_visible(timeout=SOON)
    await start(page)
    await shows_error(page, "server-away")


async def test_a_key_is_asked_for_once(environment: pytest.MonkeyPatch, page: Page) -> None:
    environment.setenv("API_KEYS", "open-sesame")
    async with serving(BUILT) as served:
        await visit(page, served)
        await shows_error(page, "key-needed")
        await page.get_by_test_id("key").fill("wrong")
        await page.get_by_test_id("use-key").click()
        await shows_error(page, "key-unknown")
        await page.get_by_test_id("key").fill("open-sesame")
        await page.get_by_test_id("use-key").click()
        await expect(page.locator("label[data-id]").first).to_be_visible(timeout=SOON)
        await expect(page.get_by_test_id("error")).to_have_count(0)
        await page.reload()
        await expect(page.locator("label[data-id]").first).to_be_visible(timeout=SOON)
        kept = await page.evaluate("[JSON.stringify(sessionStorage), JSON.stringify(localStorage), location.href]")
        assert "open-sesame" in kept[0]
        assert "open-sesame" not in kept[1] + kept[2]


async def test_nothing_is_loaded_from_elsewhere_and_nothing_breaks_the_policy(
    page: Page, served: Served, livekit: LiveKitServer
) -> None:
    hosts: set[str] = set()
    console: list[str] = []
    page.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    page.on("console", lambda line: console.append(f"{line.type}: {line.text}"))
    page.on("pageerror", lambda error: console.append(f"uncaught: {error}"))
    agent = await talking(page, served, livekit)
    await page.get_by_test_id("stop").click()
    await shows_state(page, "ended")
    assert hosts == {f"127.0.0.1:{served.port}"}
    assert not [line for line in console if not line.startswith(("info", "debug", "log"))], console
    await agent.leave()


async def test_a_call_survives_a_livekit_server_that_is_restarted(
    environment: pytest.MonkeyPatch, page: Page, livekit: LiveKitServer
) -> None:
    with running_livekit_server(key=livekit.key, secret=livekit.secret) as first:
        environment.setenv("LIVEKIT_PORT", str(first.port))
        async with serving(BUILT) as served:
            agent = await talking(page, served, first)
            await agent.words("hello there", "s1", final=True, by=agent.person)
            await shows(page, ("user", "true", "hello there"))
            first.stop()
            await shows_state(page, "reconnecting")
            with running_livekit_server(port=first.port, key=first.key, secret=first.secret) as second:
                async with worker_alive(served):
                    again = await ScriptedAgent.join(second, await conversation(page), "agent-another")
                    await until(lambda: bool(again.room.remote_participants), within=60)
                    await again.state("listening")
                    await shows_state(page, "listening")
                await shows(page, ("user", "true", "hello there"))
                await page.get_by_test_id("stop").click()
                await again.leave()
            await agent.leave()
