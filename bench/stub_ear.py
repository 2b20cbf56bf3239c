"""A speech-to-text service that listens to nobody: every utterance is the same question, known at once.

With it in place of a recognizer a load test shows what the conversations themselves cost. It is a service of ours
with another engine behind it, which conversations reach by `STT_SERVICE_URL`; the product knows nothing of it.

    python bench/stub_ear.py PORT
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from engines.types import HEARD_RATE, Audio, Capacity, EngineInfo, Health, LiveTranscription, Transcript
from tests.e2e.stack import answer, free_ports

QUESTION = "how are you today"
ENOUGH = 0.3
"""Seconds of sound that make an utterance."""


class _Utterance:
    def __init__(self) -> None:
        self._seconds = 0.0

    def push(self, audio: Audio) -> None:
        self._seconds += len(audio) / HEARD_RATE

    @property
    def text(self) -> str:
        return QUESTION if self._seconds >= ENOUGH else ""

    async def settle(self) -> str:
        return self.text

    async def finish(self) -> Transcript:
        return Transcript(self.text, "en", self._seconds)

    async def cancel(self) -> None:
        return


class StubEar:
    """A `Transcriber` of the kind above."""

    info = EngineInfo("stt", "stub", "stub", "cpu", "none")
    capacity = Capacity(0, None)

    async def start(self) -> None:
        """Nothing to load."""

    async def health(self) -> Health:
        """Always well."""
        return Health(True)

    async def aclose(self) -> None:
        """Nothing to close."""

    async def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        """The same for every recording."""
        return Transcript(QUESTION, "en", len(audio) / HEARD_RATE)

    def stream(self, language: str | None = None) -> LiveTranscription:
        """The same for every utterance."""
        return _Utterance()


@contextlib.contextmanager
def stub_ear() -> Iterator[dict[str, str]]:
    """Run the service in a process of its own; gives the settings of a stack that uses it."""
    port = free_ports(1)[0]
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve()), str(port)], stdin=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + 60
            while answer(f"{url}/health")[0] != 200:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the stub of an ear doesn't start")
                time.sleep(0.2)
            # The stack's own service of that kind needs an engine as well; nobody asks it.
            yield {"STT": "service,pocketsphinx", "STT_SERVICE_URL": url}
        finally:
            process.terminate()


def main() -> int:
    """Serve; returns the exit status."""
    from services import stt
    from services.http import serve
    from settings import Settings

    return serve(stt.create(Settings(), StubEar()), "127.0.0.1", int(sys.argv[1]), "warning")


if __name__ == "__main__":
    sys.exit(main())
