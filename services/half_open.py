"""Whether a WebSocket's client is still there: decided from what comes from it, apart from any socket.

A client that sends sound says so all the time. One that has fallen silent is pinged, and every WebSocket library
answers by itself, whatever its program does; push-to-talk clients and pages in the background answer too. But a
program that reads only now and then answers only then. So patience depends on what the client has shown:

- Its system doesn't acknowledge what we send: the line is cut, or the machine gone, and it is given up soon.
- It has answered every ping so far at once: silent, it is given up as soon.
- It has answered late before: it may be busy, and has as long as anybody may go without reading.

All time is counted in looks, so that a server that was frozen itself doesn't take its own absence for the client's.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

LOOK_EVERY = 0.25
"""Seconds between looks."""
LONGEST_LOOK = 0.5
"""Seconds that one look counts at most."""
QUIET = 0.5
"""Seconds without a byte after which a client is pinged."""
ASK_EVERY = 5.0
"""Seconds between pings of a client that sends."""
CUT_AFTER = 1.2
"""Seconds for which a client's system must have acknowledged nothing, the ping included, for its line to count as cut:
it is found within 2 s of the last byte. A system acknowledges by itself, however busy its programs are."""
GONE_AFTER = 1.25
"""Seconds without any answer to a ping after which a client counts as gone whose system does acknowledge, or that is
behind a proxy which does: two seconds after its last byte. It comes back with its session id."""
READS_WITHIN = 10.0
"""The same for one that reads only now and then, and whose system answers for it."""
AT_ONCE = 1.0
"""Seconds within which a client answers that reads all the time."""
LEARNED = 3
"""Answers after which it is believed to."""

Verdict: TypeAlias = Literal["well", "ping", "gone", "not reading"]


class Liveness:
    """What is known of one client."""

    def __init__(self) -> None:
        self._now = 0.0
        self._heard = 0.0
        self._asked: float | None = None
        self._asked_last = float("-inf")
        self._answers = 0
        self._prompt = True
        self._patience = READS_WITHIN

    def received(self) -> None:
        """Bytes came, whatever they were."""
        self._heard = self._now
        self._note_lateness()

    def not_listened_to(self) -> None:
        """We read nothing ourselves now, so that nothing can come."""
        self._heard = self._now

    def answered(self) -> None:
        """The newest ping was answered."""
        self._note_lateness()
        self._asked = None
        self._answers += 1

    def look(self, since_last: float, *, unread: bool, unacknowledged: float | None) -> Verdict:
        """Judge; `ping` counts as done.

        Args:
            since_last: Seconds since the last look.
            unread: Whether what we sent before waits for the client to read it; then a ping can't reach it yet, and
                whoever sends to it has a limit for that.
            unacknowledged: Seconds for which the client's system has acknowledged nothing although there is something
                to acknowledge; 0 where all is acknowledged, None where that can't be known.

        Returns:
            `gone`: nobody is there. `not reading`: its system is, but its program does nothing.
        """
        self._now += min(since_last, LONGEST_LOOK)
        if self._asked is None:
            if not self._due():
                return "well"
            self._asked = self._asked_last = self._now
            self._patience = GONE_AFTER if self._prompt and self._answers >= LEARNED else READS_WITHIN
            return "ping"
        silent = self._now - max(self._asked, self._heard)
        if silent >= CUT_AFTER and unacknowledged is not None and unacknowledged >= CUT_AFTER:
            return "gone"
        if silent >= self._patience and not unread:
            return "gone" if self._patience == GONE_AFTER else "not reading"
        return "well"

    def _due(self) -> bool:
        if self._now - self._heard >= QUIET:
            return True
        return self._now - self._asked_last >= (AT_ONCE if self._answers < LEARNED else ASK_EVERY)

    def _note_lateness(self) -> None:
        if self._asked is not None and self._now - self._asked > AT_ONCE:
            self._prompt = False
