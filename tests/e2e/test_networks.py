"""Slow, lossy and broken networks between people and a real stack: the conversation goes on, whole and once.

livekit-server tells everybody to send media to an address where a relay of the test's listens; signalling and the
WebSocket go through relays as well. The agent's own media is spared: it is beside the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from livekit import rtc
from playwright.async_api import Page, Route, expect

from tests.e2e.chromium import browsing
from tests.e2e.room_client import RoomClient
from tests.e2e.stack import Stack, answer
from tests.e2e.test_page import WORDS, shown, start
from tests.e2e.waiting import PATIENCE
from tests.livekit_server import LiveKitServer, running_livekit_server
from tests.network import TcpRelay, UdpRelay
from tests.port_owner import port_owner
from tests.speech import spoken, word_error_rate
from tests.spoken import Line, microphone_file

DELAY = 0.3
LOSS = 0.4
TROUBLE = 3.0
"""Seconds that each trouble lasts."""

FACT, QUESTION, ANSWER = "my name is mary", "what is my name", "mary"
LONG = "please tell me a long story about music"
ATTEMPTS, SAID_AGAIN_AFTER = 6, 12.0
"""People who get no answer say it again: sound breaks up on a bad line, and on a busy machine."""
MEDIA = "127.0.0.2"
"""Where the media relay listens, at the UDP port that livekit-server has on 127.0.0.1."""


@dataclass
class Stage:
    """A stack whose livekit-server is the test's own."""

    livekit: LiveKitServer
    stack: Stack

    def is_ours(self, port: int) -> bool:
        """Whether a UDP port belongs to the agent."""
        return port_owner(port) in self.stack.processes()

    @asynccontextmanager
    async def lines(self) -> AsyncIterator[Lines]:
        """Relays for people."""
        udp = self.livekit.udp_port
        async with (
            TcpRelay.listening(("127.0.0.1", self.livekit.port)) as signalling,
            UdpRelay.listening((MEDIA, udp), ("127.0.0.1", udp), self.is_ours) as media,
        ):
            yield Lines(signalling, media)


@dataclass
class Lines:
    """What lies between a person and livekit-server."""

    signalling: TcpRelay
    media: UdpRelay

    @property
    def url(self) -> str:
        """Signalling's address."""
        return f"ws://127.0.0.1:{self.signalling.port}"

    def slow(self, seconds: float) -> None:
        """Delay everything, each way."""
        self.signalling.up.delay = self.signalling.down.delay = seconds
        self.media.up.delay = self.media.down.delay = seconds

    def lose(self, share: float) -> None:
        """Lose so much of the media, each way."""
        self.media.up.loss = self.media.down.loss = share

    async def lossy(self, share: float = LOSS, seconds: float = TROUBLE) -> None:
        """Lose so much of the media for a while; it really passes here."""
        before = self.media.up.lost, self.media.down.lost
        self.lose(share)
        await asyncio.sleep(seconds)
        self.lose(0.0)
        assert self.media.up.lost > before[0] and self.media.down.lost > before[1]

    async def out(self, seconds: float) -> None:
        """Let nothing through for a while."""
        self.lose(1.0)
        self.signalling.refusing = True
        self.signalling.cut()
        await asyncio.sleep(seconds)
        self.signalling.refusing = False
        self.lose(0.0)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, results: Path) -> Iterator[Stage]:
    log = results / "networks.log"
    log.unlink(missing_ok=True)
    with running_livekit_server(announced=MEDIA) as livekit:
        stack = Stack(tmp_path_factory.mktemp("networks"), log, environment=livekit.environment)
        with stack.running():
            yield Stage(livekit, stack)


@pytest.fixture
def caller(stage: Stage) -> str:
    """A conversation nobody has had."""
    return f"network-{uuid.uuid4().hex}"


async def tell(client: RoomClient, text: str) -> None:
    """Say a line until it is heard as it was said, and its answer is over."""
    for _ in range(ATTEMPTS):
        turn, since = len(client.said("user")), len(client.pieces)
        await client.say(spoken(text, "awb"))
        with contextlib.suppress(AssertionError):
            await client.heard("user", turn, SAID_AGAIN_AFTER)
            await client.sound(0.3, since, SAID_AGAIN_AFTER)
            await client.silence(0.7)
            if word_error_rate(text, " ".join(client.said("user")[turn:])) == 0:
                return
    raise AssertionError(f"{text!r} was not understood: {client.said('user')}")


async def ask(client: RoomClient, question: str, wanted: str) -> None:
    """Say a question until an answer to it has the word that is wanted."""
    before = len(client.said("agent"))
    for _ in range(ATTEMPTS):
        await client.say(spoken(question, "awb"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SAID_AGAIN_AFTER):
                await until(lambda: any(wanted in text.lower() for text in client.said("agent")[before:]))
                return
    raise AssertionError(f"no {wanted!r} in {client.said('agent')} after {client.said('user')}")


async def test_a_room_goes_on_over_a_slow_line(stage: Stage, caller: str) -> None:
    async with (
        stage.lines() as lines,
        RoomClient(stage.stack.page, caller, through=lines.url, personality="storyteller") as client,
    ):
        lines.slow(DELAY)
        await client.agent()
        await tell(client, FACT)
        await ask(client, QUESTION, ANSWER)
        assert lines.media.up.passed > 100 and lines.media.down.passed > 100, "media went another way"


@pytest.mark.parametrize("when", ["speaking", "listening"])
async def test_a_room_goes_on_after_losses(stage: Stage, caller: str, when: str) -> None:
    """In the middle of what the person says, and in the middle of what they are told."""
    async with (
        stage.lines() as lines,
        RoomClient(stage.stack.page, caller, through=lines.url, personality="storyteller") as client,
    ):
        await client.agent()
        await tell(client, FACT)
        since = len(client.pieces)
        saying = asyncio.create_task(client.say(spoken(LONG, "awb")))
        if when == "speaking":
            await asyncio.sleep(0.8)
        else:
            await saying
            await client.sound(0.2, since)
        await lines.lossy()
        await saying
        await ask(client, QUESTION, ANSWER)
        await each_message_is_stored_once(stage, caller, client)


@pytest.mark.parametrize("seconds", [3.0, 8.0])
async def test_a_room_goes_on_after_an_outage(stage: Stage, caller: str, seconds: float) -> None:
    async with (
        stage.lines() as lines,
        RoomClient(stage.stack.page, caller, through=lines.url, personality="storyteller") as client,
    ):
        await client.agent()
        await tell(client, FACT)
        connected = lines.signalling.accepted
        await lines.out(seconds)
        await until(
            lambda: (
                lines.signalling.accepted > connected
                and client.room.connection_state == rtc.ConnectionState.CONN_CONNECTED
            )
        )
        await ask(client, QUESTION, ANSWER)
        await each_message_is_stored_once(stage, caller, client)


async def test_the_page_comes_back_by_itself_after_an_outage(stage: Stage, results: Path, tmp_path: Path) -> None:
    """Its microphone says the same again and again; what is typed meanwhile stands there once."""
    sentence = "what do you think about music"
    microphone = microphone_file(tmp_path / "microphone.wav", [Line(sentence, pause=2.0)], lead=10.0)
    # A page whose answer the test hands on no longer counts as loopback's own.
    flags = ("--disable-features=LocalNetworkAccessChecks",)
    async with (
        stage.lines() as lines,
        browsing(tmp_path / "profile", microphone, once=False, more=flags) as browser,
    ):
        page = browser.page
        await through(page, lines, stage)
        await page.goto(stage.stack.page)
        await start(page, "storyteller")
        try:
            await shows_state(page, "listening")
            await write(page, "My name is Mary.")
            outage = asyncio.create_task(lines.out(8.0))
            await shows_state(page, "reconnecting")
            await outage
            await shows_state(page, "listening", "thinking", "speaking")
            before = len(await shown(page, "user"))
            await lines.lossy()
            await write(page, "What is my name?")
            answers = page.locator(WORDS.format(role="agent"))
            await expect(answers.filter(has_text="Mary").last).to_be_visible(timeout=PATIENCE * 1000)
            await page.wait_for_function(
                """([before, selector]) => [...document.querySelectorAll(selector)].slice(before)
                     .some(one => one.innerText.includes('music'))""",
                arg=[before, WORDS.format(role="user")],
                timeout=PATIENCE * 1000,
            )
        finally:
            await page.screenshot(path=results / "networks-page.png")
        written = await shown(page, "user")
        assert [written.count(text) for text in ("My name is Mary.", "What is my name?")] == [1, 1], written
        assert lines.media.up.passed > 100 and lines.media.down.passed > 100, "media went another way"
        await page.get_by_test_id("stop").click()


async def through(page: Page, lines: Lines, stage: Stage) -> None:
    """Have the page use the relay: the token names it, and the page's policy, which doesn't, is left out."""

    async def token(route: Route) -> None:
        given = await route.fetch()
        body = await given.json()
        await route.fulfill(response=given, json={**body, "server_url": lines.url} if "server_url" in body else body)

    async def document(route: Route) -> None:
        given = await route.fetch()
        headers = {name: value for name, value in given.headers.items() if name != "content-security-policy"}
        await route.fulfill(response=given, headers=headers)

    await page.route("**/api/token", token)
    await page.route(lambda url: urlsplit(url).path in ("", "/"), document)


async def shows_state(page: Page, *states: str) -> None:
    await page.wait_for_function(
        "states => states.includes(document.querySelector('[data-testid=status]').dataset.state)",
        arg=list(states),
        timeout=PATIENCE * 1000,
    )


async def write(page: Page, text: str) -> None:
    """Type a message and wait until it stands in the transcript."""
    await page.get_by_test_id("message").fill(text)
    await page.get_by_test_id("send").click()
    await expect(page.locator(WORDS.format(role="user")).filter(has_text=text)).to_have_count(
        1, timeout=PATIENCE * 1000
    )


async def each_message_is_stored_once(stage: Stage, session: str, client: RoomClient) -> None:
    """The history is what was shown, in that order."""
    users: list[str] = []

    def same() -> bool:
        status, kept = answer(f"{stage.stack.service('chat')}/chat/{session}")
        assert status == 200
        users[:] = [message["content"] for message in kept["messages"] if message["role"] == "user"]
        return users == client.said("user")

    for _ in range(50):
        if await asyncio.to_thread(same):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"stored: {users}; shown: {client.said('user')}")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for knows nothing of events
            await asyncio.sleep(0.05)
