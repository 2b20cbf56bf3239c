"""Headless Chromium on a page, its microphone a sound file, and an ear on what the page plays."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.async_api import Page, async_playwright

from tests.e2e.waiting import PATIENCE
from tests.sound import AUDIBLE

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)

# Runs before the page's own scripts. Every 20 ms it notes how loud what the page plays is: the received tracks of
# all media elements that are playing and not muted, at their volume. So it measures sound, not a track's presence.
EAR = """
(() => {
  const elements = new Set(), tapped = new Map();
  const play = HTMLMediaElement.prototype.play;
  HTMLMediaElement.prototype.play = function () { elements.add(this); return play.call(this); };
  let context;
  window.__heard = [];
  setInterval(() => {
    document.querySelectorAll('audio,video').forEach(element => elements.add(element));
    let power = 0;
    for (const element of elements) {
      if (!(element.srcObject instanceof MediaStream)) continue;
      for (const track of element.srcObject.getAudioTracks()) {
        if (!tapped.has(track)) {
          context = context || new AudioContext();
          context.resume();
          const analyser = context.createAnalyser();
          analyser.fftSize = 1024;
          context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
          tapped.set(track, analyser);
        }
        if (element.paused || element.muted || track.readyState !== 'live') continue;
        const samples = new Float32Array(1024);
        tapped.get(track).getFloatTimeDomainData(samples);
        power += samples.reduce((sum, x) => sum + x * x, 0) / samples.length * element.volume ** 2;
      }
    }
    window.__heard.push([performance.now() / 1000, Math.sqrt(power)]);
  }, 20);
})()
"""


@dataclass
class Browser:
    """A page in Chromium, with what it said on its console."""

    page: Page
    console: list[str] = field(default_factory=list)

    async def heard(self) -> list[tuple[float, float]]:
        """What the page has played so far: (seconds since its start, RMS), about every 20 ms."""
        return [(at, rms) for at, rms in await self.page.evaluate("window.__heard")]

    async def sound(self, seconds: float) -> None:
        """Return once the page has played this much sound, silence not counted."""
        await self.page.wait_for_function(
            "([count, audible]) => window.__heard.filter(([, rms]) => rms > audible).length >= count",
            arg=[int(seconds / 0.02), AUDIBLE],
            timeout=PATIENCE * 1000,
        )


def chromium() -> str:
    """Path of the Chromium on this machine.

    Raises:
        FileNotFoundError: There is none; the message names the package.
    """
    for name in NAMES:
        if found := shutil.which(name):
            return found
    raise FileNotFoundError("Chromium is not installed; on Debian: apt-get install chromium")


@asynccontextmanager
async def browsing(
    profile: Path, microphone: Path, *, once: bool = True, more: Sequence[str] = ()
) -> AsyncIterator[Browser]:
    """Chromium with an empty page.

    Args:
        profile: A fresh folder.
        microphone: WAV file, 48 kHz mono; played from its start when a page opens the microphone.
        once: Whether the file is followed by silence; else it starts over.
        more: Further flags.
    """
    flags = [*FLAGS, *more, f"--use-file-for-fake-audio-capture={microphone}{'%noloop' if once else ''}"]
    async with async_playwright() as playwright:
        context = await playwright.chromium.launch_persistent_context(
            profile,
            executable_path=chromium(),
            headless=True,
            # Chromium's own sandbox needs what a container seldom gives; what it opens here is our own page only.
            chromium_sandbox=False,
            args=flags,
            permissions=["microphone"],
            viewport={"width": 1200, "height": 900},
        )
        try:
            await context.add_init_script(EAR)
            browser = Browser(context.pages[0] if context.pages else await context.new_page())
            browser.page.on("console", lambda line: browser.console.append(f"{line.type}: {line.text}"))
            browser.page.on("pageerror", lambda error: browser.console.append(f"uncaught: {error}"))
            yield browser
        finally:
            await context.close()
