"""Everything over TLS at one public name: the page may open the microphone, and signalling is at the page's address.

The browser is told that the name is this machine, as a DNS server would, and to trust the one public key that the
launcher's own certificate has; nothing else about its checks is switched off.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.async_api import Page, expect

from tests.e2e.chromium import browsing
from tests.e2e.legacy_client import HEARD_RATE, LegacyClient
from tests.e2e.stack import Stack, answer
from tests.e2e.waiting import PATIENCE
from tests.sound import audible_seconds
from tests.speech import spoken
from tests.spoken import Line, microphone_file, pcm

NAME = "voice.test"
QUESTION = "how are you today"


class SecureStack(Stack):
    """A stack that is reached at a public name, over TLS, and sends clients to a router's address for media."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.environment = {"TLS": "1", "PUBLIC_URL": self.public, "NODE_IP": "203.0.113.7"}

    @property
    def public(self) -> str:
        return f"https://{NAME}:{self.ports['PAGE_PORT']}"

    def key(self) -> str:
        """The served public key, as Chromium names keys."""
        cert = x509.load_pem_x509_certificate(self.authority.with_name("cert.pem").read_bytes())
        key = cert.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(hashlib.sha256(key).digest()).decode()


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, results: Path) -> Iterator[SecureStack]:
    log = results / "tls.log"
    log.unlink(missing_ok=True)
    stack = SecureStack(tmp_path_factory.mktemp("secure"), log)
    with stack.running():
        yield stack


def test_every_part_is_well_and_knows_it_of_the_others(secure: SecureStack) -> None:
    status, said = answer(f"{secure.page}/api/health", trust=secure.trust)
    assert status == 200
    assert all(part["ok"] for part in said["parts"].values()), said
    assert answer(f"{secure.page.replace('https', 'http')}/health")[0] == 0, "no plain HTTP beside it"
    assert f"Open {secure.public} and talk" in secure.log.read_text()


async def test_somebody_talks_on_the_page(secure: SecureStack, tmp_path: Path) -> None:
    microphone = microphone_file(tmp_path / "microphone.wav", [Line(QUESTION, "awb")], 6.0)
    flags = (f"--host-resolver-rules=MAP {NAME} 127.0.0.1", f"--ignore-certificate-errors-spki-list={secure.key()}")
    async with browsing(tmp_path / "profile", microphone, once=False, more=flags) as browser:
        page = browser.page
        sockets: list[str] = []
        page.on("websocket", lambda socket: sockets.append(socket.url))
        await page.goto(secure.public)
        assert await page.evaluate("isSecureContext")
        await page.get_by_test_id("start").click()
        words = page.locator("[data-testid=transcript] li[data-role=user][data-final=true] .words")
        await expect(words.first).to_be_visible(timeout=PATIENCE * 2000)
        await browser.sound(1.0)
        assert sockets and all(url.startswith(f"wss://{NAME}:{secure.ports['PAGE_PORT']}/rtc") for url in sockets)
        assert not [line for line in browser.console if line.startswith(("error", "uncaught"))], browser.console
        await goes_on_without_the_page_server(secure, page, sockets)
        await page.get_by_test_id("stop").click()
        assert not [line for line in browser.console if line.startswith("uncaught")], browser.console


def serves(secure: SecureStack) -> bool:
    return answer(f"{secure.page}/health", trust=secure.trust)[0] == 200


async def goes_on_without_the_page_server(secure: SecureStack, page: Page, sockets: list[str]) -> None:
    """The server that signalling goes through is killed and comes back; the call finds it again by itself."""
    (pid,) = [pid for pid, command in secure.processes().items() if "-m token_server" in command]
    before = len(sockets)
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE):
        while len(sockets) == before or not await asyncio.to_thread(serves, secure):  # noqa: ASYNC110 - the page tries
            await asyncio.sleep(0.2)
    await expect(page.get_by_test_id("status")).to_have_attribute(
        "data-state", re.compile("listening|thinking|speaking"), timeout=PATIENCE * 1000
    )
    await page.get_by_test_id("message").fill("What can you do for me?")
    await page.keyboard.press("Enter")
    mine = page.locator("[data-testid=transcript] li[data-role=user] .words", has_text="What can you do for me?")
    await expect(mine).to_be_visible(timeout=PATIENCE * 1000)
    await expect(page.get_by_test_id("error")).to_have_count(0, timeout=PATIENCE * 1000)


async def test_a_legacy_client_talks_over_wss(secure: SecureStack) -> None:
    async with LegacyClient(secure.compat, "over-tls", query="events=1", trust=secure.trust) as client:
        await client.message("ready")
        await client.say(pcm(spoken(QUESTION, "awb")))
        assert audible_seconds((await client.reply(0)).samples, HEARD_RATE) > 0.3
