"""The user's microphone and speaker on the page: chosen, metered, muted, held to talk, lost and found."""

from __future__ import annotations

import asyncio
import time

from playwright.async_api import Page, expect

from tests.integration.page.visit import SOON, shows_error, shows_state, start, talking, visit
from tests.integration.token_server.scripted_agent import ScriptedAgent
from tests.integration.token_server.stage import Served, until
from tests.livekit_server import LiveKitServer

SOUND = 0.005
"""Loudness of Chromium's fake microphone (beeps) is above, silence below."""

# Counts how often the page opens a microphone, and lets a test have it refused.
COUNTED = """
const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
window.opened = [];
navigator.mediaDevices.getUserMedia = async wanted => {
  if (window.refuse) throw new DOMException('', window.refuse);
  window.opened.push(wanted.audio.deviceId?.ideal ?? null);
  const stream = await real(wanted);
  window.microphone = stream.getAudioTracks()[0];
  return stream;
};
"""


async def settings(page: Page) -> None:
    await page.get_by_test_id("settings").click()
    await expect(page.get_by_test_id("sound-settings")).to_be_visible(timeout=SOON)


async def close(page: Page) -> None:
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0, timeout=SOON)


async def meter_moves(page: Page) -> None:
    await page.wait_for_function("() => document.querySelector('[data-testid=meter]').value > 5", timeout=SOON)


async def options(page: Page, kind: str) -> list[str]:
    return await page.get_by_test_id(f"choose-{kind}").locator("option").all_inner_texts()


async def hears(agent: ScriptedAgent) -> None:
    """Return once the agent hears the person."""
    since = time.time()
    await until(lambda: agent.loudest(since) > SOUND)


async def hears_nothing(agent: ScriptedAgent) -> None:
    """Return once a second and a half, longer than the fake microphone's pauses, came without a sound."""

    async def silent() -> bool:
        since = time.time()
        await asyncio.sleep(1.5)
        return agent.loudest(since) <= SOUND

    await until(silent)


async def test_nothing_is_opened_until_it_is_asked_for_and_settings_close_what_they_opened(
    page: Page, served: Served
) -> None:
    await page.add_init_script(COUNTED)
    await visit(page, served)
    await expect(page.locator("label[data-id]").first).to_be_visible(timeout=SOON)
    assert await page.evaluate("window.opened") == []
    await settings(page)
    await meter_moves(page)
    await close(page)
    await page.wait_for_function("() => window.microphone.readyState === 'ended'", timeout=SOON)


async def test_the_chosen_microphone_is_metered_remembered_and_used_for_the_call(
    page: Page, served: Served, livekit: LiveKitServer
) -> None:
    await page.add_init_script(COUNTED)
    await visit(page, served)
    await settings(page)
    await meter_moves(page)
    listed = await options(page, "audioinput")
    assert len(listed) >= 2
    chosen = listed[-1]
    await page.get_by_test_id("choose-audioinput").select_option(label=chosen)
    await page.wait_for_function("label => window.microphone.label === label", arg=chosen, timeout=SOON)
    await meter_moves(page)
    await close(page)
    agent = await talking(page, served, livekit)
    assert await page.evaluate("window.microphone.label") == chosen
    await hears(agent)
    await settings(page)
    assert await page.get_by_test_id("choose-audioinput").evaluate("box => box.selectedOptions[0].label") == chosen
    await page.get_by_test_id("choose-audioinput").select_option(label=listed[-2])
    if listed[-2] != listed[0]:
        await page.wait_for_function("label => window.microphone.label === label", arg=listed[-2], timeout=SOON)
    await meter_moves(page)
    await close(page)
    await hears(agent)
    await page.get_by_test_id("stop").click()
    await page.wait_for_function("() => window.microphone.readyState === 'ended'", timeout=SOON)
    await agent.leave()


async def test_devices_are_followed_as_they_come_and_go(page: Page, served: Served) -> None:
    await page.add_init_script(
        """
        const list = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices);
        window.extra = [];
        navigator.mediaDevices.enumerateDevices = async () => [...await list(), ...window.extra];
        """
    )
    await visit(page, served)
    await settings(page)
    await meter_moves(page)
    box = page.get_by_test_id("choose-audioinput")
    await page.evaluate(
        """() => {
          window.extra = [{deviceId: 'usb', groupId: 'usb', kind: 'audioinput', label: 'USB headset'}];
          navigator.mediaDevices.dispatchEvent(new Event('devicechange'));
        }"""
    )
    await expect(box).to_contain_text("USB headset", timeout=SOON)
    await page.evaluate("window.extra = [], navigator.mediaDevices.dispatchEvent(new Event('devicechange'))")
    await expect(box).not_to_contain_text("USB headset", timeout=SOON)


async def test_a_speaker_is_chosen_kept_and_used(page: Page, served: Served, livekit: LiveKitServer) -> None:
    await page.add_init_script(
        """
        window.sinks = [];
        HTMLMediaElement.prototype.setSinkId = async function (id) {
          if (window.refuseSink) throw new DOMException('', 'NotFoundError');
          window.sinks.push(id);
        };
        const list = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices);
        navigator.mediaDevices.enumerateDevices = async () => [
          ...await list(), {deviceId: 'desk', groupId: 'desk', kind: 'audiooutput', label: 'Desk speaker'}];
        """
    )
    await visit(page, served)
    await settings(page)
    await page.get_by_test_id("choose-audiooutput").select_option(label="Desk speaker")
    await page.get_by_test_id("test-sound").click()
    await page.wait_for_function("() => window.sinks.includes('desk')", timeout=SOON)
    await close(page)
    await page.reload()
    agent = await talking(page, served, livekit)
    await agent.publish_voice()
    await page.wait_for_function("() => window.sinks.includes('desk')", timeout=SOON)
    await settings(page)
    await page.evaluate("window.refuseSink = true")
    await page.get_by_test_id("choose-audiooutput").select_option(index=0)
    await page.get_by_test_id("choose-audiooutput").select_option(label="Desk speaker")
    await expect(page.get_by_role("dialog").get_by_test_id("error")).to_have_attribute(
        "data-code", "speaker-failed", timeout=SOON
    )
    await agent.leave()


async def test_muting_silences_what_the_agent_hears_by_button_and_by_key(
    page: Page, served: Served, livekit: LiveKitServer
) -> None:
    agent = await talking(page, served, livekit)
    await hears(agent)
    await page.get_by_test_id("mute").click()
    await expect(page.get_by_test_id("mute")).to_have_text("Unmute", timeout=SOON)
    await expect(page.get_by_test_id("person-user")).to_contain_text("muted")
    await hears_nothing(agent)
    await page.keyboard.press("m")
    await expect(page.get_by_test_id("mute")).to_have_text("Mute", timeout=SOON)
    await hears(agent)
    await page.get_by_test_id("message").fill("")
    await page.keyboard.type("mm")
    assert await page.get_by_test_id("message").input_value() == "mm"
    await expect(page.get_by_test_id("mute")).to_have_text("Mute")
    await agent.leave()


async def test_with_push_to_talk_one_is_heard_only_while_holding(
    page: Page, served: Served, livekit: LiveKitServer
) -> None:
    await visit(page, served)
    await settings(page)
    await page.get_by_test_id("push-to-talk").check()
    await close(page)
    await page.reload()
    agent = await talking(page, served, livekit)
    await hears_nothing(agent)
    talk = page.get_by_test_id("talk")
    await expect(talk).to_be_focused(timeout=SOON)  # so that Space talks and doesn't hang up
    await page.keyboard.down("Space")
    await hears(agent)
    await page.keyboard.up("Space")
    await expect(talk).to_have_attribute("data-open", "false", timeout=SOON)
    await hears_nothing(agent)
    box = await talk.bounding_box()
    assert box is not None
    await page.mouse.move(box["x"] + 20, box["y"] + 20)
    await page.mouse.down()
    await hears(agent)
    await page.mouse.up()
    await expect(talk).to_have_attribute("data-open", "false", timeout=SOON)
    # A screen reader can't hold: its press opens, the next one closes.
    await talk.evaluate("button => button.click()")
    await expect(talk).to_have_attribute("data-open", "true", timeout=SOON)
    await talk.evaluate("button => button.click()")
    await expect(talk).to_have_attribute("data-open", "false", timeout=SOON)
    # A window that loses the keyboard never learns that a key was let go.
    await page.keyboard.down("Space")
    await expect(talk).to_have_attribute("data-open", "true", timeout=SOON)
    await page.evaluate("window.dispatchEvent(new Event('blur'))")
    await expect(talk).to_have_attribute("data-open", "false", timeout=SOON)
    await page.keyboard.up("Space")
    await shows_state(page, "listening")
    await agent.leave()


async def test_a_microphone_that_goes_away_is_replaced_or_told_about_and_taken_back(
    page: Page, served: Served, livekit: LiveKitServer
) -> None:
    await page.add_init_script(COUNTED)
    agent = await talking(page, served, livekit)
    await hears(agent)
    await page.evaluate(
        """() => {
          window.refuse = 'NotFoundError';
          window.microphone.stop();
          window.microphone.dispatchEvent(new Event('ended'));
        }"""
    )
    await shows_error(page, "microphone-lost")
    await shows_state(page, "listening")  # the call goes on: one can still type
    await page.evaluate("window.refuse = null, navigator.mediaDevices.dispatchEvent(new Event('devicechange'))")
    await expect(page.get_by_test_id("error")).to_have_count(0, timeout=SOON)
    await hears(agent)
    await agent.leave()


async def test_settings_without_a_microphone_say_so(page: Page, served: Served) -> None:
    await page.add_init_script(COUNTED + "window.refuse = 'NotAllowedError';")
    await visit(page, served)
    await settings(page)
    await shows_error(page, "microphone-refused")
    await page.evaluate("window.refuse = null, navigator.mediaDevices.dispatchEvent(new Event('devicechange'))")
    await meter_moves(page)
    await close(page)
    await page.evaluate("window.refuse = 'NotFoundError'")
    await start(page)
    await shows_error(page, "no-microphone")
