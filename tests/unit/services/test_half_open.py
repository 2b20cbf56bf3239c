"""When a WebSocket's client counts as gone, look by look."""

from __future__ import annotations

from services.half_open import LOOK_EVERY, READS_WITHIN, Liveness


class Client:
    """A client that behaves as told, looked at until something is decided."""

    def __init__(self) -> None:
        self.known = Liveness()
        self.now = 0.0
        self.pings: list[float] = []
        self.delay: float | None = 0.05
        """Seconds in which it answers a ping; None: never."""
        self.sends = True
        self.unread = False
        self.unacknowledged: float | None = 0.0
        self._due: float | None = None

    def live(self, seconds: float) -> str:
        """Let time pass; gives the first verdict that ends it, or `well`."""
        end = self.now + seconds
        while self.now < end:
            self.now += LOOK_EVERY
            if self._due is not None and self.delay is not None and self.now >= self._due:
                self._due = None
                self.known.received()
                self.known.answered()
            if self.sends:
                self.known.received()
            verdict = self.known.look(LOOK_EVERY, unread=self.unread, unacknowledged=self.unacknowledged)
            if verdict == "ping":
                self.pings.append(self.now)
                self._due = None if self.delay is None else self.now + self.delay
            elif verdict != "well":
                return verdict
        return "well"


def known_to_answer_at_once() -> Client:
    client = Client()
    assert client.live(10) == "well"
    return client


def test_a_client_that_sends_is_seldom_pinged_once_it_is_known() -> None:
    client = known_to_answer_at_once()
    before = len(client.pings)
    assert client.live(50) == "well"
    assert len(client.pings) - before <= 11


def test_a_client_whose_line_is_cut_while_it_speaks_is_gone_within_two_seconds() -> None:
    client = known_to_answer_at_once()
    since = client.now
    client.sends, client.delay, client.unacknowledged = False, None, 30.0
    assert client.live(60) == "gone"
    assert client.now - since <= 2.0


def test_a_client_that_stands_still_while_its_system_goes_on_is_gone_within_two_seconds_too() -> None:
    client = known_to_answer_at_once()
    since = client.now
    client.sends, client.delay = False, None
    assert client.live(60) == "gone"
    assert client.now - since <= 2.0


def test_push_to_talk_and_a_page_in_the_background_answer_pings_and_stay() -> None:
    client = known_to_answer_at_once()
    client.sends = False
    assert client.live(600) == "well"


def test_a_quiet_client_that_vanishes_is_gone_as_soon() -> None:
    client = known_to_answer_at_once()
    client.sends = False
    client.live(30)
    since = client.now
    client.delay = None
    assert client.live(60) == "gone"
    assert client.now - since <= 2.0


def test_a_program_that_reads_only_now_and_then_has_as_long_as_anybody() -> None:
    client = Client()
    client.delay = 4.0
    client.live(20)
    client.sends, client.delay = False, None
    since = client.now
    assert client.live(60) == "not reading"
    assert client.now - since >= READS_WITHIN - 2 * LOOK_EVERY


def test_one_that_never_answers_but_sends_is_there() -> None:
    client = Client()
    client.delay = None
    assert client.live(600) == "well"


def test_a_system_that_acknowledges_nothing_is_gone_whatever_it_was() -> None:
    client = Client()
    client.delay = 4.0
    client.live(20)
    since = client.now
    client.sends, client.delay, client.unread, client.unacknowledged = False, None, True, 30.0
    assert client.live(60) == "gone"
    assert client.now - since <= 2.25


def test_one_that_does_not_read_what_waits_is_left_to_whoever_sends_to_it() -> None:
    client = known_to_answer_at_once()
    client.sends, client.delay, client.unread = False, None, True
    assert client.live(600) == "well"


def test_a_server_that_was_frozen_does_not_take_its_own_absence_for_the_clients() -> None:
    client = known_to_answer_at_once()
    assert client.known.look(60.0, unread=False, unacknowledged=0.0) in ("well", "ping")
    assert client.known.look(60.0, unread=False, unacknowledged=0.0) in ("well", "ping")
    assert client.live(5) == "well"


def test_while_we_read_nothing_ourselves_nobody_is_blamed() -> None:
    client = known_to_answer_at_once()
    client.sends, client.delay = False, None
    for _ in range(400):
        client.known.not_listened_to()
        assert client.known.look(LOOK_EVERY, unread=True, unacknowledged=0.0) in ("well", "ping")
