"""What a transport brings for the agent's sound to go to: a socket, a track, a loudspeaker."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from livekit import rtc


class AudioSink(Protocol):
    """Where paced sound goes."""

    async def write(self, frame: rtc.AudioFrame) -> None:
        """Take a frame; an error ends the reply. The frame counts as given to the listener once this returns."""
        ...

    def clear(self) -> float:
        """Drop what the listener hasn't heard yet.

        Returns:
            Seconds dropped: 0 where the sink can't take sound back, `inf` where it drops all it holds.
        """
        ...

    def segment_done(self, interrupted: bool) -> None:
        """A reply was heard to its end, or cut short; once for each reply that reached the sink."""
        ...


@runtime_checkable
class HoldingSink(AudioSink, Protocol):
    """A sink that can also stand still at once at a pause, keeping what it holds."""

    def hold(self) -> None:
        """Stop playing, keeping everything."""
        ...

    def release(self) -> None:
        """Go on where it stopped."""
        ...
