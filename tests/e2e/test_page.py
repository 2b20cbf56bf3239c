"""Somebody opens the page in a browser, talks, reads their own words there, and hears and reads the answers.

The browser is headless Chromium on the real page; its microphone is a file that flite has spoken.
"""

from __future__ import annotations

from pathlib import Path

from playwright.async_api import Page, expect

from tests.e2e.chromium import Browser, browsing
from tests.e2e.stack import Stack
from tests.e2e.waiting import PATIENCE
from tests.sound import AUDIBLE
from tests.speech import word_error_rate
from tests.spoken import Line, microphone_file

LINES = (
    Line("how are you today", "awb"),
    Line("my favorite color is green", "rms"),
    Line("what do you think about music", "kal16"),
    Line("i went to the beach with my sister yesterday", "awb"),
    Line("the weather is very nice today", "kal16"),
    Line("what can you do for me", "rms"),
)
LEAD = 6.0
"""Seconds of silence before the first line: the call is up by then."""

WORDS = "[data-testid=transcript] li[data-role={role}][data-final=true] .words"


async def start(page: Page, personality: str) -> None:
    """Open the call with a personality."""
    await page.locator(f"[data-testid=personality] label[data-id={personality}]").click()
    await page.get_by_test_id("start").click()


async def shown(page: Page, role: str) -> list[str]:
    """Finished texts of a role in the transcript, in order."""
    return await page.locator(WORDS.format(role=role)).all_inner_texts()


async def test_a_spoken_conversation(stack: Stack, results: Path, tmp_path: Path) -> None:
    microphone = microphone_file(tmp_path / "microphone.wav", LINES, LEAD)
    async with browsing(tmp_path / "profile", microphone) as browser:
        page = browser.page
        await page.goto(stack.page)
        await start(page, "storyteller")
        # Who speaks is marked: first the user, then the agent.
        for who in ("user", "agent"):
            await page.wait_for_function(
                "who => document.querySelector(`[data-testid=person-${who}]`)?.dataset.speaking === 'true'",
                arg=who,
                timeout=PATIENCE * 1000,
            )
        try:
            # A line may come in two pieces where a pause was taken for its end: wait for the words, not for a count.
            await wait_for_everything(page)
        finally:
            await page.screenshot(path=results / "page.png")
            (results / "page-console.log").write_text("\n".join(browser.console))
        heard, answers = await shown(page, "user"), await shown(page, "agent")
        assert word_error_rate(" ".join(line.text for line in LINES), " ".join(heard)) <= 0.1, heard
        assert len(answers) >= len(LINES)
        assert all(answer.strip() for answer in answers)
        assert await audible_replies(browser) >= len(LINES) - 1
        turns = await timed_turns(page)
        print("sent and heard after the end of speech, in seconds:", turns)
        measured = [(sent, heard) for sent, heard in turns if heard is not None]
        assert len(measured) >= len(LINES) - 1, turns
        # Nothing is heard before it was sent (but for the clocks' error), nor much later on one machine.
        assert all(sent - 0.03 <= heard <= sent + 1.0 for sent, heard in measured), turns
        await expect(page.get_by_test_id("quality")).to_have_attribute("data-quality", "excellent")
        await page.get_by_test_id("stop").click()
        await expect(page.get_by_test_id("start")).to_be_visible()
        await expect(page.locator("[data-testid=status]")).to_have_attribute("data-state", "ended")
        assert not [line for line in browser.console if line.startswith(("error", "uncaught"))], browser.console


async def wait_for_everything(page: Page) -> None:
    """Return once as many words as were spoken are shown, and the agent has finished its last answer."""
    spoken = sum(len(line.text.split()) for line in LINES)
    await page.wait_for_function(
        """([words, answers]) => {
          const shown = role => [...document.querySelectorAll(
            `[data-testid=transcript] li[data-role=${role}][data-final=true] .words`)].map(one => one.innerText);
          return shown('user').join(' ').split(/\\s+/).length >= words && shown('agent').length >= answers
            && document.querySelector('[data-testid=status]').dataset.state === 'listening';
        }""",
        arg=[spoken - 2, len(LINES)],
        timeout=PATIENCE * 2000,
    )


async def timed_turns(page: Page) -> list[tuple[float, float | None]]:
    """Each turn's `sent` and `heard` as the page shows them, newest first."""
    await page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    shown: list[list[str | None]] = await page.evaluate(
        """[...document.querySelectorAll('[data-testid=turn]')].map(turn => ['sent', 'heard'].map(
             stage => turn.querySelector(`[data-stage=${stage}] .offset`)?.firstChild.textContent ?? null))"""
    )
    return [(seconds(sent or "nan"), None if heard is None else seconds(heard)) for sent, heard in shown]


def seconds(shown: str) -> float:
    """`+0.31 s` or `−0.02 s` as a number."""
    return float(shown.removesuffix(" s").replace("−", "-"))


async def audible_replies(browser: Browser) -> int:
    """Stretches of sound the page has played, at least half a second each, apart from one another."""
    replies, sounding, quiet_since, begun = 0, False, 0.0, 0.0
    for at, loud in await browser.heard():
        if loud > AUDIBLE:
            if not sounding:
                sounding, begun = True, at
            quiet_since = at
        elif sounding and at - quiet_since > 1.0:
            sounding = False
            replies += quiet_since - begun > 0.5
    return replies + (sounding and quiet_since - begun > 0.5)


async def test_a_first_greeting_is_heard_and_a_typed_message_is_answered(stack: Stack, tmp_path: Path) -> None:
    microphone = microphone_file(tmp_path / "microphone.wav", (), 1.0)
    async with browsing(tmp_path / "profile", microphone) as browser:
        page = browser.page
        await page.goto(stack.page)
        await start(page, "assistant")
        await expect(page.locator(WORDS.format(role="agent"))).to_have_count(1, timeout=PATIENCE * 1000)
        await browser.sound(0.5)
        await page.get_by_test_id("message").fill("My name is Mary.")
        await page.get_by_test_id("send").click()
        await expect(page.locator(WORDS.format(role="agent"))).to_have_count(2, timeout=PATIENCE * 1000)
        await page.get_by_test_id("message").fill("What is my name?")
        await page.get_by_test_id("send").click()
        await expect(page.locator(WORDS.format(role="agent")).nth(2)).to_contain_text("Mary", timeout=PATIENCE * 1000)
        assert await shown(page, "user") == ["My name is Mary.", "What is my name?"]
        # Another one answers, without a break: the same call, the same memory.
        await page.get_by_test_id("change-personality").click()
        await page.get_by_role("dialog").locator("label[data-id=storyteller]").click()
        await page.get_by_test_id("use-personality").click()
        await expect(page.get_by_test_id("person-agent")).to_contain_text("Edmund", timeout=PATIENCE * 1000)
        await expect(page.get_by_role("dialog")).to_have_count(0)  # nobody types behind it
        await page.get_by_test_id("message").fill("What is your name?")
        await page.get_by_test_id("send").click()
        await expect(page.locator(WORDS.format(role="agent")).nth(3)).to_contain_text("Edmund", timeout=PATIENCE * 1000)
        await expect(page.get_by_test_id("error")).to_have_count(0)
        await page.get_by_test_id("stop").click()
        await expect(page.get_by_test_id("start")).to_be_visible()


async def test_with_push_to_talk_only_what_is_said_while_space_is_held_is_heard(stack: Stack, tmp_path: Path) -> None:
    """The microphone says the same line again and again, held or not."""
    line = Line("what do you think about music", "awb", pause=2.5)
    unheard = 2 * (3.0 + line.pause) * 1000  # milliseconds in which it is said at least once, whole
    async with browsing(tmp_path / "profile", microphone_file(tmp_path / "m.wav", [line], 0.5), once=False) as browser:
        page = browser.page
        await page.goto(stack.page)
        await page.get_by_test_id("settings").click()
        await page.get_by_test_id("push-to-talk").check()
        await page.keyboard.press("Escape")
        await start(page, "storyteller")
        status, talk = page.locator("[data-testid=status]"), page.get_by_test_id("talk")
        await expect(status).to_have_attribute("data-state", "listening", timeout=PATIENCE * 1000)
        await expect(talk).to_be_focused()
        await page.wait_for_timeout(unheard)
        assert await shown(page, "user") == []

        await page.keyboard.down("Space")
        await expect(talk).to_have_attribute("data-open", "true")
        await expect(page.locator(WORDS.format(role="user")).filter(has_text="music").first).to_be_visible(
            timeout=PATIENCE * 1000
        )
        await page.keyboard.up("Space")
        await expect(talk).to_have_attribute("data-open", "false")
        await expect(page.locator(WORDS.format(role="agent")).first).to_be_visible(timeout=PATIENCE * 1000)
        await browser.sound(0.5)
        await expect(status).to_have_attribute("data-state", "listening", timeout=PATIENCE * 1000)
        await page.wait_for_timeout(3000)  # what was being said at that moment has been answered, too
        heard = await shown(page, "user")
        await page.wait_for_timeout(unheard)
        assert await shown(page, "user") == heard, "nothing is heard once Space is let go"
        await page.get_by_test_id("stop").click()
        await expect(page.get_by_test_id("start")).to_be_visible()
