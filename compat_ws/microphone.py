"""The client's sound on its way to the ear: any chunking in, real time out, silence where nothing comes.

The ear tells time by the sound it hears. So sound is handed on no faster than it was spoken:

- A chunk that comes when it is due goes on at once, however long it is, up to `CREDIT`.
- What comes ahead of real time (a file sent in one go) waits for its time. Where more than `BACKLOG` waits, as
  after a line that stood still, it goes on a little faster than real time until the delay is gone.
- A client that stops sending (push to talk, a detector of its own) would leave the ear in the middle of a
  turn. `SILENCE_AFTER` its last sound, silence is put in, in real time, for `SILENCE_FOR`.
- A client that has sent without a gap for long has an open microphone: what stops is its line, and what was said
  meanwhile is yet to come. Silence would cut its sentence in two, so it is put in after `STALL` only.
"""

from __future__ import annotations

import asyncio

from livekit import rtc
from livekit.agents.voice import io

from engines.types import HEARD_RATE

AHEAD = 30.0
"""Seconds of sound that a client may send ahead of real time."""
CREDIT = 1.0
"""Seconds of sound that are handed on at once: the longest chunk of a live microphone, or a short stall's."""
BACKLOG = 0.5
"""Seconds of sound waiting from which on it goes faster."""
CATCH_UP = 1.25
"""How much faster."""
SILENCE_AFTER = 0.1
"""Seconds after the time of the client's last sound at which silence is put in."""
STALL = 1.0
"""The same where the client has an open microphone; what a line holds up for longer breaks a turn."""
OPEN_AFTER = 8.0
"""Seconds without a gap after which a microphone counts as open: few hold a key or speak for so long."""
IN_TIME = 0.3
"""Seconds by which an open microphone's sound may be late; what a stalled line held up comes all at once."""
SILENCE_FOR = 60.0
"""Seconds of silence put in; any turn has ended by then."""

_SHORTEST = HEARD_RATE // 100
_LONGEST = HEARD_RATE // 10
_SILENT = HEARD_RATE // 50
_NEVER = float("inf")


class TooFarAhead(Exception):
    """The client sent more than `AHEAD` seconds ahead of real time."""

    def __init__(self) -> None:
        super().__init__(f"sound was sent over {AHEAD:.0f} s ahead of real time; send it as it is spoken")


class Microphone(io.AudioInput):
    """Takes 16-bit little-endian PCM, 16 kHz, mono, in messages of any length."""

    def __init__(self) -> None:
        super().__init__(label="websocket")
        self._pcm = bytearray()
        self._more = asyncio.Event()
        self._closed = False
        self._due = -_NEVER
        """When the next sound may be handed on."""
        self._arrived = -_NEVER
        self._lasts_until = -_NEVER
        """When all sound that came would be over, had it been spoken from its arrival on."""
        self._empty_since = -_NEVER
        self._silence_due = -_NEVER
        self._first = 0.0
        """When the first of the sound without a gap came."""
        self._begun = 0.0
        """When it began, were none of it late."""
        self._length = 0.0
        """Its seconds."""
        self._late = 0.0
        """Seconds by which its newest was late."""

    def push(self, data: bytes) -> None:
        """Take a message; half a sample waits for its other half.

        Raises:
            TooFarAhead: Too much is waiting; nothing of it was taken.
        """
        if not data:
            return
        now = asyncio.get_running_loop().time()
        lasts_until = max(self._lasts_until, now) + len(data) / 2 / HEARD_RATE
        if lasts_until - now > AHEAD:
            raise TooFarAhead
        self._note_length(now, len(data) / 2 / HEARD_RATE)
        self._arrived, self._lasts_until = now, lasts_until
        self._pcm += data
        self._more.set()

    def _note_length(self, now: float, seconds: float) -> None:
        """Follow how long the client has sent without a gap."""
        self._late = now - self._begun - self._length
        if self._late > STALL + IN_TIME:
            self._first = self._begun = now
            self._length = self._late = 0.0
        elif self._late < IN_TIME:  # its clock and ours differ a little
            self._begun = now - self._length
        self._length += seconds

    @property
    def _open(self) -> bool:
        return self._arrived - self._first >= OPEN_AFTER and self._late < IN_TIME

    def close(self) -> None:
        """No more sound comes; idempotent."""
        self._closed = True
        self._more.set()

    async def __anext__(self) -> rtc.AudioFrame:
        loop = asyncio.get_running_loop()
        while not self._closed:
            self._more.clear()
            now = loop.time()
            frame, due = self._spoken(now) if len(self._pcm) >= 2 * _SHORTEST else self._silent(now)
            if frame is not None:
                return frame
            timer = loop.call_at(due, self._more.set) if due < _NEVER else None
            try:
                await self._more.wait()
            finally:
                if timer is not None:
                    timer.cancel()
        raise StopAsyncIteration

    def _spoken(self, now: float) -> tuple[rtc.AudioFrame | None, float]:
        """The next of the client's sound, or the time at which it is due."""
        if now < self._due:
            return None, self._due
        waiting = len(self._pcm) // 2
        length = min(waiting, _LONGEST)
        speed = CATCH_UP if waiting > BACKLOG * HEARD_RATE else 1.0
        self._due = max(self._due, now - CREDIT) + length / HEARD_RATE / speed
        frame = self._take(length)
        if len(self._pcm) < 2 * _SHORTEST:
            self._empty_since = now
        return frame, now

    def _silent(self, now: float) -> tuple[rtc.AudioFrame | None, float]:
        """The next silence to put in, or the time at which it is due."""
        # A live client's next chunk comes when the one before it is over; sound sent ahead has long arrived.
        if self._open:
            begins = max(self._empty_since, self._begun + self._length) + STALL
        else:
            begins = max(self._empty_since, min(self._lasts_until, self._arrived + CREDIT)) + SILENCE_AFTER
        if now >= begins + SILENCE_FOR:
            return None, _NEVER
        due = max(begins, self._silence_due)
        if now < due:
            return None, due if due > -_NEVER else _NEVER
        self._silence_due = max(due, now - CREDIT) + _SILENT / HEARD_RATE
        rest = len(self._pcm) // 2
        self._pcm[2 * rest : 2 * rest] = bytes(2 * (_SILENT - rest))
        return self._take(_SILENT), now

    def _take(self, samples: int) -> rtc.AudioFrame:
        data = bytes(self._pcm[: 2 * samples])
        del self._pcm[: 2 * samples]
        return rtc.AudioFrame(data, HEARD_RATE, 1, samples)
