"""Turns on the page: where their time went, when they were heard, who answers, and who else is there."""

from __future__ import annotations

import asyncio
import time

from playwright.async_api import Page, expect

from tests.integration.page.visit import SOON, conversation, shows, shows_error, shows_state, talking
from tests.integration.token_server.scripted_agent import ScriptedAgent, speak
from tests.integration.token_server.stage import Served, until, worker_alive
from tests.livekit_server import LiveKitServer

RECORD: dict[str, object] = {
    "turn": 1,
    "session": "s",
    "speech_end": 1000.0,
    "commit": 0.16,
    "transcript": -0.05,
    "first_token": -0.02,
    "first_audio": 0.21,
    "sent": 0.24,
    "heard": None,
}


async def test_a_turns_time_is_shown_step_by_step_and_earlier_turns_stay_reachable(
    page: Page, served: Served, livekit: LiveKitServer
) -> None:
    agent = await talking(page, served, livekit)
    await agent.tell("voice.turn", RECORD)
    await expect(page.get_by_test_id("delay")).to_contain_text("0.24 s", timeout=SOON)
    await agent.tell("voice.turn", {**RECORD, "heard": 0.35})
    await expect(page.get_by_test_id("delay")).to_contain_text("0.35 s", timeout=SOON)
    table = page.get_by_test_id("turn")
    await expect(table).to_have_count(1)
    rows = await table.locator("tbody tr").all_inner_texts()
    assert [row.split("\t")[0] for row in rows] == [
        "Your turn is over",
        "Words understood",
        "Answer begun",
        "First sound ready",
        "Sent",
        "Heard by you",
    ]
    assert "−0.05 s" in rows[1]
    assert "+0.35 s" in rows[5]
    # The bars lie within their lane, ahead of the end of speech and after it.
    lanes: list[list[float]] = await table.evaluate(
        """table => [...table.querySelectorAll('.track')].map(lane => {
             const [box, bar] = [lane, lane.querySelector('i')].map(one => one.getBoundingClientRect());
             return [bar.left - box.left, box.right - bar.right];
           })"""
    )
    assert all(left >= -0.5 and right >= -3.5 for left, right in lanes), lanes
    await agent.tell("voice.turn", {**RECORD, "turn": 2, "speech_end": 1010.0, "sent": 0.5})
    await expect(page.get_by_test_id("delay")).to_contain_text("0.50 s", timeout=SOON)
    await page.get_by_test_id("earlier-turns").locator("summary").click()
    await expect(table).to_have_count(2)
    await expect(page.get_by_test_id("earlier-turns").get_by_test_id("turn")).to_contain_text("0.35 s")
    await agent.leave()


async def test_the_first_sound_of_an_answer_is_reported_in_the_agents_clock(
    page: Page, served: Served, livekit: LiveKitServer
) -> None:
    agent = await talking(page, served, livekit)
    source = await agent.publish_voice()
    await speak(source, 0.5)  # a greeting: nobody's turn
    await asyncio.sleep(1.5)  # the clock is known, and it is quiet again
    assert agent.heard == []
    for turn in (1, 2):
        playing = asyncio.create_task(speak(source, 0.6))
        await asyncio.sleep(0.05)
        sent = time.time() - 0.05
        record = {**RECORD, "turn": turn, "speech_end": sent - 0.2, "sent": 0.2}
        await agent.tell("voice.turn", record)
        began = await playing
        count = turn

        def reported(count: int = count) -> bool:
            return len(agent.heard) == count

        await until(reported)
        report = agent.heard[-1]
        assert report["turn"] == turn
        # It can't be heard before it was made, and a second is more than any buffer on the way holds.
        assert -0.05 <= report["at"] - began <= 1.0, (report, began)
        assert 0 < report["error"] < 0.25
        await asyncio.sleep(0.8)
    assert len(agent.heard) == 2
    await agent.leave()


async def test_the_personality_changes_in_the_middle_of_a_call(
    page: Page, served: Served, livekit: LiveKitServer
) -> None:
    agent = await talking(page, served, livekit)
    agent.knows = lambda personality: personality == "coach"
    await agent.words("Hello from me", "s1", final=True)
    await shows(page, ("agent", "true", "Hello from me"))
    await page.get_by_test_id("change-personality").click()
    dialog = page.get_by_role("dialog")
    await dialog.locator("label[data-id=coach]").click()
    await dialog.get_by_test_id("use-personality").click()
    await until(lambda: agent.asked == ["coach"])
    await expect(page.get_by_test_id("person-agent")).to_contain_text("Juno", timeout=SOON)
    person = agent.person
    # Who takes this agent's place reads it there.
    await until(lambda: agent.room.remote_participants[person].attributes.get("personality") == "coach")
    await agent.words("And now from me", "s2", final=True)
    speakers = page.locator("[data-testid=transcript] .speaker")
    await expect(speakers).to_have_count(2, timeout=SOON)
    assert await speakers.all_inner_texts() == ["Nova", "Juno"]
    await shows_state(page, "listening")
    await page.get_by_test_id("change-personality").click()
    await page.get_by_role("dialog").locator("label[data-id=storyteller]").click()
    await page.get_by_role("dialog").get_by_test_id("use-personality").click()
    await shows_error(page, "personality-kept")
    await expect(page.get_by_test_id("person-agent")).to_contain_text("Juno")
    await page.get_by_test_id("dismiss").click()
    await expect(page.get_by_test_id("error")).to_have_count(0)
    await page.reload()
    await expect(page.locator("label[data-id=coach] input")).to_be_checked(timeout=SOON)
    await agent.leave()


async def test_who_speaks_is_marked_and_others_are_shown_by_name(
    page: Page, served: Served, livekit: LiveKitServer
) -> None:
    agent = await talking(page, served, livekit)
    source = await agent.publish_voice()
    playing = asyncio.create_task(speak(source, 4.0))
    await expect(page.get_by_test_id("person-agent")).to_have_attribute("data-speaking", "true", timeout=SOON)
    await playing
    await expect(page.get_by_test_id("person-agent")).to_have_attribute("data-speaking", "false", timeout=SOON)
    async with worker_alive(served):
        name = await conversation(page)
        await served.join(room_name=name, participant_identity="mary-1", participant_name="Mary Ann")
    await expect(page.get_by_test_id("others")).to_contain_text("Mary Ann", timeout=SOON)
    await agent.words("hello you two", "m1", final=True, by="mary-1")
    await expect(page.locator("[data-testid=transcript] .speaker")).to_have_text("Mary Ann", timeout=SOON)
    await agent.leave()


async def test_the_connections_quality_is_shown_in_words(page: Page, served: Served, livekit: LiveKitServer) -> None:
    agent: ScriptedAgent = await talking(page, served, livekit)
    quality = page.get_by_test_id("quality")
    await expect(quality).to_have_attribute("data-quality", "excellent", timeout=60_000)
    await expect(quality).to_contain_text("Connection excellent")
    await agent.leave()
