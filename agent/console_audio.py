"""The terminal as a transport, spoken: this machine's microphone and loudspeaker through PortAudio.

The loudspeaker's sound is cancelled from the microphone's (WebRTC's audio processing), so that the agent
doesn't hear itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from types import ModuleType
from typing import Any

from livekit import rtc
from livekit.agents.voice import io

from agent.console import TextScreen, conversation_here, write_out
from conversation.builder import Events
from conversation.paced_output import PacedOutput
from engines.select import choose
from engines.types import HEARD_RATE, SPOKEN_RATE
from settings import Settings

FRAME = 0.01
"""Seconds of sound at a time: what the echo canceller takes."""
LEAD = 0.1
"""Seconds of sound the loudspeaker's buffer holds ahead."""
ECHO_DELAY_MS = 60
"""Usual way from our buffer through loudspeaker and microphone back to us; the canceller finds the rest itself."""
SAMPLE = 2
"""Bytes of a sample."""


class AudioError(Exception):
    """There is no sound on this machine; the message names the fix."""


def portaudio() -> ModuleType:
    """The `sounddevice` module.

    Raises:
        AudioError: It or the PortAudio library is missing.
    """
    try:
        import sounddevice
    except ImportError:
        raise AudioError(
            "console needs the package sounddevice: install voice-node[console], or type with console --text"
        ) from None
    except OSError:
        raise AudioError(
            "console needs the PortAudio library: apt install libportaudio2, or type with console --text"
        ) from None
    module: ModuleType = sounddevice
    return module


def list_devices() -> str:
    """The machine's microphones and loudspeakers.

    Raises:
        AudioError: There is no audio library.
    """
    return str(portaudio().query_devices()) or "no microphone and no loudspeaker"


class Echo:
    """Takes what the loudspeaker plays out of what the microphone hears; 10 ms at a time, from any thread."""

    def __init__(self) -> None:
        self._processing = rtc.AudioProcessingModule(
            echo_cancellation=True, noise_suppression=True, high_pass_filter=True, auto_gain_control=False
        )
        self._processing.set_stream_delay_ms(ECHO_DELAY_MS)
        self._lock = threading.Lock()

    def played(self, sound: bytes) -> None:
        """The loudspeaker plays this, 24 kHz."""
        with self._lock:
            self._processing.process_reverse_stream(_frame(sound, SPOKEN_RATE))

    def heard(self, sound: bytes) -> rtc.AudioFrame:
        """The microphone heard this, 16 kHz; gives what remains without the loudspeaker."""
        frame = _frame(sound, HEARD_RATE)
        with self._lock:
            self._processing.process_stream(frame)
        return frame


class Microphone(io.AudioInput):
    """The microphone as a conversation's input. `push` comes from PortAudio's thread."""

    def __init__(self, echo: Echo) -> None:
        super().__init__(label="microphone")
        self._echo = echo
        self._loop = asyncio.get_running_loop()
        self._frames: asyncio.Queue[rtc.AudioFrame] = asyncio.Queue()

    def push(self, sound: bytes) -> None:
        """Take 10 ms."""
        frame = self._echo.heard(sound)
        try:
            self._loop.call_soon_threadsafe(self._frames.put_nowait, frame)
        except RuntimeError:
            return  # the loop is closed: the conversation is over

    async def __anext__(self) -> rtc.AudioFrame:
        return await self._frames.get()


class Loudspeaker:
    """The loudspeaker's buffer: the conversation fills it, PortAudio's thread empties it.

    Implements conversation.paced_output.AudioSink.
    """

    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self._lock = threading.Lock()
        self._waiting: deque[bytes] = deque()
        self._bytes = 0

    async def write(self, frame: rtc.AudioFrame) -> None:
        """Take a frame, 24 kHz mono."""
        sound = bytes(frame.data)
        with self._lock:
            self._waiting.append(sound)
            self._bytes += len(sound)

    def clear(self) -> float:
        """Drop what wasn't played; gives its seconds."""
        with self._lock:
            dropped, self._bytes = self._bytes, 0
            self._waiting.clear()
        return dropped / SAMPLE / SPOKEN_RATE

    def segment_done(self, interrupted: bool) -> None:
        """Nothing to do: a loudspeaker has no ends of replies."""

    def pull(self, wanted: int) -> bytes:
        """Give so many bytes to play, silence where there is nothing."""
        with self._lock:
            sound = b""
            while len(sound) < wanted and self._waiting:
                sound += self._waiting.popleft()
            if len(sound) > wanted:
                self._waiting.appendleft(sound[wanted:])
                sound = sound[:wanted]
            self._bytes -= len(sound)
        sound += bytes(wanted - len(sound))
        self._echo.played(sound)
        return sound


async def talk_aloud(
    settings: Settings,
    *,
    personality: str | None = None,
    session_id: str | None = None,
    input_device: str | None = None,
    output_device: str | None = None,
) -> int:
    """Hold a spoken conversation with this machine's microphone and loudspeaker, until Ctrl-C; gives the exit code.

    Args:
        settings: The settings tree.
        personality: Personality id, or None for the default.
        session_id: The conversation to go on with; None for a new one.
        input_device: Microphone, by number or part of its name; the system's own where None.
        output_device: Loudspeaker, alike.

    Raises:
        AudioError: There is no audio library, or no such device.
    """
    sound = portaudio()
    echo = Echo()
    microphone, loudspeaker = Microphone(echo), Loudspeaker(echo)
    screen = TextScreen(write_out, show_user=True)
    engines = choose(settings, "conversation")
    for why in engines.why:
        screen.note(why)
    lost = asyncio.Event()
    events = Events(transcript=screen.transcript, error=screen.error, lost=lost.set)
    output = PacedOutput(loudspeaker, lead=LEAD, sample_rate=SPOKEN_RATE, label="loudspeaker")
    async with conversation_here(
        settings, engines, events, personality=personality, session_id=session_id
    ) as conversation:
        for engine in (engines.stt, engines.chat, engines.tts):
            await engine.start()
        with _streams(sound, microphone, loudspeaker, input_device, output_device):
            await conversation.start(microphone, output)
            screen.note(f"You talk to {conversation.personality.name}; Ctrl-C ends.")
            await lost.wait()
            screen.note("Another one took this conversation over.")
    await output.aclose()
    return 0


def _streams(
    sound: ModuleType,
    microphone: Microphone,
    loudspeaker: Loudspeaker,
    input_device: str | None,
    output_device: str | None,
) -> Any:
    from contextlib import ExitStack

    def hear(data: Any, frames: int, time: Any, status: Any) -> None:
        microphone.push(bytes(data))

    def play(data: Any, frames: int, time: Any, status: Any) -> None:
        data[:] = loudspeaker.pull(frames * SAMPLE)

    stack = ExitStack()
    common: dict[str, Any] = {"channels": 1, "dtype": "int16", "latency": "low"}
    try:
        stack.enter_context(
            sound.RawOutputStream(
                samplerate=SPOKEN_RATE,
                blocksize=int(SPOKEN_RATE * FRAME),
                device=_device(output_device),
                callback=play,
                **common,
            )
        )
        stack.enter_context(
            sound.RawInputStream(
                samplerate=HEARD_RATE,
                blocksize=int(HEARD_RATE * FRAME),
                device=_device(input_device),
                callback=hear,
                **common,
            )
        )
    except (sound.PortAudioError, ValueError) as error:
        stack.close()
        raise AudioError(
            f"the microphone or loudspeaker can't be opened: {error}. console --list-devices shows what there is, "
            "console --text needs none"
        ) from None
    return stack


def _device(name: str | None) -> int | str | None:
    return int(name) if name is not None and name.isdecimal() else name


def _frame(sound: bytes, rate: int) -> rtc.AudioFrame:
    return rtc.AudioFrame(bytearray(sound), rate, 1, len(sound) // SAMPLE)
