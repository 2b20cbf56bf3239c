"""The thread that speaks: it owns one checkpoint's batch and vocoder, and takes all its replies through each round.

A round takes in what is new, drops what was called off, begins pieces of text, makes one code for every stream, and
makes sound where enough codes wait. So a reply that is called off has left before the next step.

What goes wrong with one reply ends that one. What goes wrong with a step ends the replies that were in it, with an
error that says so; the batch is made anew and the thread goes on.
"""

from __future__ import annotations

import atexit
import logging
import queue
import threading
import time
from collections.abc import Callable

import torch

from engines.tally import tally
from engines.tts.xtts.admission import RoundCost
from engines.tts.xtts.batch import Batch, Made
from engines.tts.xtts.chunks import ChunkPlan, Speed
from engines.tts.xtts.errors import OutOfMemory
from engines.tts.xtts.latents import Latents
from engines.tts.xtts.measure import measure
from engines.tts.xtts.reply import Reply
from engines.tts.xtts.sampling import Sampling
from engines.tts.xtts.speaking import Rates, Speaking, Spoken
from engines.tts.xtts.stretch import Stretch
from engines.tts.xtts.tail import TailGuard
from engines.tts.xtts.vocoder import SpeechWindow, Vocoder
from engines.types import Audio, EngineError, EngineUnavailable

logger = logging.getLogger("voice_node.xtts")

MOST_FAILURES = 3
"""Failures without a reply spoken to its end in between, after which the checkpoint has to be loaded anew."""

PAUSE = 0.05
"""Seconds between looks at replies whose caller has enough sound for now."""

STUCK_AFTER = 60.0
"""Seconds of one round after which the thread counts as stuck."""


class Worker:
    """Speaks replies with one checkpoint.

    Args:
        make_batch: Makes its batch; called again after a failure.
        vocoder: Makes the sound.
        sampling: How codes are drawn.
        latents: Any that fit the checkpoint, to measure with.
        streams: Replies at once at most; the batch has at least as many slots.

    Attributes:
        cost: What its rounds take; written by its thread, read by anybody.
        streams: Replies it takes at once now; fewer after memory ran out.
        measured: Set once it is known what rounds take.
        trouble: Why it can't go on; empty while it can.
    """

    def __init__(
        self, make_batch: Callable[[], Batch], vocoder: Vocoder, sampling: Sampling, latents: Latents, streams: int
    ) -> None:
        self.cost = RoundCost()
        self.streams = streams
        self.trouble = ""
        self._most = streams
        self._makes_ahead = True
        self._make_batch = make_batch
        self._batch = make_batch()
        self._vocoder = vocoder
        self._sampling = sampling
        self._latents = latents
        self._plan = ChunkPlan()
        self._new: queue.SimpleQueue[Reply] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._closing = False
        self._ended = False
        self._ending = threading.Lock()
        self._measuring = True
        self.measured = threading.Event()
        self._round_began: float | None = None
        self._speaking: list[Speaking] = []
        self._by_slot: dict[int, tuple[Speaking, Spoken]] = {}
        self._rates = Rates()
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name="xtts", daemon=True)
        self._thread.start()
        # A process that ends while another thread is inside the kernels or torch frees memory under it.
        atexit.register(self.close)

    # --- for any thread ---

    def speak(self, reply: Reply) -> None:
        """Speak a reply."""
        with self._ending:
            if self._ended:
                reply.hand_over(self._why_ended())
                return
            self._new.put(reply)
        self.wake()

    def measure(self) -> None:
        """Measure again what rounds take, as soon as nobody speaks."""
        self._measuring = True
        self.wake()

    def wake(self) -> None:
        """Something is new."""
        self._wake.set()

    @property
    def alive(self) -> bool:
        """Whether its thread runs and goes through its rounds."""
        began = self._round_began
        stuck = began is not None and time.monotonic() - began > STUCK_AFTER
        return self._thread.is_alive() and not stuck

    def close(self, patience: float = 5.0) -> None:
        """End its thread, and with it whatever it speaks; blocking."""
        self._closing = True
        self.wake()
        self._thread.join(patience)

    # --- its own thread ---

    def _run(self) -> None:
        try:
            while not self._closing:
                try:
                    self._rest()
                    self._round_began = time.monotonic()
                    self._round()
                except Exception as error:
                    self._failed(error)
                    if self.trouble:
                        return
                finally:
                    self._round_began = None
        finally:
            # Whatever ends the thread, nobody waits for it.
            with self._ending:
                self._ended = True
                self._end_all(self._why_ended())
            self.measured.set()
            atexit.unregister(self.close)

    def _why_ended(self) -> EngineError:
        closed = "XTTS was closed." if self._closing else "XTTS's thread ended; its checkpoint is loaded anew."
        return EngineUnavailable(self.trouble or closed, retry_after=1.0)

    def _rest(self) -> None:
        """Wait until there is something to do."""
        while not (self._closing or self._by_slot or self._measuring) and self._new.empty():
            if any(one.spoken for one in self._speaking):
                return  # made to its end, and its sound is still to be made
            held = any(one.reply.pieces for one in self._speaking)
            if not self._wake.wait(PAUSE if held else None):
                return
            self._wake.clear()
            if self._speaking:
                return

    def _round(self) -> None:
        self._take_in()
        if self._measuring and not self._speaking:
            self._measuring = False
            measure(self._batch, self._vocoder, self._latents, self.streams, self.cost, self._has_work)
            self.measured.set()
        self._drop_cancelled()
        self._begin()
        self._step()
        self._sound()
        self._finish()

    def _take_in(self) -> None:
        self._wake.clear()
        while not self._new.empty():
            self._speaking.append(Speaking(self._new.get()))
            self._prepare(self._speaking[-1])

    def _has_work(self) -> bool:
        """Whether there is something more urgent than measuring: its end, or a reply once anything is known."""
        return self._closing or (self.measured.is_set() and not self._new.empty())

    def _prepare(self, speaking: Speaking) -> None:
        """Read the voice while the text is still being written."""
        if not speaking.reply.pieces and self._batch.free:
            try:
                self._batch.prepare(speaking.reply.latents)
            except EngineError as error:
                self._drop(speaking, error)

    def _drop_cancelled(self) -> None:
        for speaking in [one for one in self._speaking if one.reply.cancelled]:
            self._drop(speaking)

    def _drop(self, speaking: Speaking, error: EngineError | None = None) -> None:
        """End a reply; its slots are free at once."""
        for spoken in speaking.spoken:
            self._leave(spoken)
        self._speaking.remove(speaking)
        if error is not None:
            speaking.reply.hand_over(error)
        if not self._speaking:
            self.cost.idle()
            self.streams, self._makes_ahead = self._most, True

    def _leave(self, spoken: Spoken) -> None:
        self._batch.leave(spoken.slot)
        self._by_slot.pop(spoken.slot, None)

    def _begin(self) -> None:
        """Begin the pieces of text whose turn it is; a second one of a reply only where a slot is to spare."""
        for speaking in list(self._speaking):
            owed = sum(one.waits_for_slot for one in self._speaking)
            spare = self._batch.free > owed and self._makes_ahead
            if self._batch.free and speaking.may_begin(spare):
                try:
                    self._begin_piece(speaking)
                except EngineError as error:
                    self._drop(speaking, error)
            speaking.expect(self._rates.of(speaking.reply))

    def _begin_piece(self, speaking: Speaking) -> None:
        reply = speaking.reply
        piece = reply.pieces.popleft()
        began = time.perf_counter()
        slot = self._batch.join(piece.ids, reply.latents, self._sampling)
        self.cost.prompt(time.perf_counter() - began)
        expected = self._rates.of(reply).expects(piece.characters)
        spoken = Spoken(
            piece,
            slot,
            SpeechWindow(reply.latents.speaker),
            expected,
            TailGuard(expected, reply.rate),
            None if reply.rate == 1 else Stretch(1 / reply.rate),
        )
        speaking.spoken.append(spoken)
        self._by_slot[slot] = speaking, spoken

    def _step(self) -> None:
        if not self._by_slot:
            return
        began = time.perf_counter()
        try:
            made = self._batch.step()
        except OutOfMemory as error:
            self._shed(error)
            return
        self.cost.step(len(made), time.perf_counter() - began)
        for one in made:
            self._take(one)

    def _take(self, made: Made) -> None:
        speaking, spoken = self._by_slot[made.slot]
        if made.error is not None:
            self._drop(speaking, made.error)
            return
        runs_on = None if made.stop else spoken.guard.step(made.stop_rank, made.stop_probability)
        spoken.take(made.latent[None], last=made.stop or runs_on is not None)
        if made.stop:
            self._rates.of(speaking.reply).learn(spoken.piece.characters, spoken.codes)
        if spoken.ended:
            self._leave(spoken)

    def _shed(self, error: OutOfMemory) -> None:
        """Give up what is made ahead, or else the newest reply, so that the others go on."""
        self._makes_ahead = False
        with_more = (one for one in reversed(self._speaking) if len(one.spoken) > 1 and not one.spoken[-1].ended)
        if (ahead := next(with_more, None)) is not None:
            given_up = ahead.spoken.pop()
            self._leave(given_up)
            ahead.reply.pieces.appendleft(given_up.piece)
        else:
            self.streams = max(1, len(self._speaking) - 1)
            newest = next(one for one in reversed(self._speaking) if not one.waits_for_slot)
            self._drop(newest, error)
        logger.error("out of memory: a stream was given up", extra={"streams_left": len(self._by_slot)})
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _sound(self) -> None:
        """Make sound where enough codes wait."""
        running = max(1, len(self._by_slot))
        speed = Speed(step=self.cost.step_of(running), code=self.cost.per_code, streams=running)
        now = time.monotonic()
        due = [(one, one.spoken[0]) for one in self._speaking if one.spoken and self._due(one, speed, now)]
        if not due:
            return
        began = time.perf_counter()
        try:
            made = self._vocoder.decode([(spoken.window, spoken.ended) for _, spoken in due])
        except Exception as error:
            # Their windows may be in the middle of a pass; the batch and the other replies are whole.
            logger.exception("XTTS failed to make sound", extra={"replies": len(due)})
            tally("engine_failures", engine="xtts", code="vocoder_failed")
            for speaking, _ in due:
                self._drop(speaking, _told(error))
            return
        self.cost.vocoder(sum(spoken.waiting for _, spoken in due), time.perf_counter() - began)
        for (speaking, spoken), audio in zip(due, made, strict=True):
            self._hand_over(speaking, spoken, audio)

    def _due(self, speaking: Speaking, speed: Speed, now: float) -> bool:
        """Whether the sound of the piece that is heard should be made now."""
        spoken = speaking.spoken[0]
        if spoken.ended or not spoken.waiting:
            return spoken.ended
        left = None if speaking.began is None else speaking.left(now)
        to_come = spoken.waiting + spoken.to_come
        return spoken.waiting >= self._plan.next_chunk(speed, spoken.waiting, left, to_come)

    def _hand_over(self, speaking: Speaking, spoken: Spoken, audio: Audio) -> None:
        spoken.waiting = 0
        if not spoken.ended and spoken.guard.sound(audio):
            spoken.ended = True
            self._leave(spoken)
        if spoken.ended:
            audio = spoken.guard.finish(audio, spoken.sent)
            speaking.spoken.popleft()
        if len(audio):
            spoken.sent += len(audio)
            speaking.handed_over(len(audio), time.monotonic())
            speaking.reply.hand_over(audio)

    def _finish(self) -> None:
        for speaking in [one for one in self._speaking if one.over]:
            speaking.reply.hand_over(None)
            self._drop(speaking)
            self._failures = 0

    # --- failures ---

    def _failed(self, error: Exception) -> None:
        """End all replies with an error that says why, and make the batch anew."""
        self._failures += 1
        logger.error("XTTS failed in the middle of its work", exc_info=error, extra={"failures": self._failures})
        tally("engine_failures", engine="xtts", code="worker_restarted")
        self._end_all(_told(error))
        what = type(error).__name__
        if self._failures >= MOST_FAILURES:
            self.trouble = (
                f"XTTS failed {self._failures} times in a row, last with {what}; its checkpoint is loaded anew."
            )
            return
        del self._batch  # before there is another one: memory may not be enough for two
        try:
            self._batch = self._make_batch()
        except Exception as again:
            logger.exception("XTTS can't begin anew")
            self.trouble = f"XTTS couldn't begin anew ({type(again).__name__}); its checkpoint is loaded anew."

    def _end_all(self, error: EngineError) -> None:
        while not self._new.empty():
            self._speaking.append(Speaking(self._new.get()))
        self._by_slot.clear()
        for speaking in self._speaking:
            speaking.reply.hand_over(error)
        self._speaking.clear()
        self.cost.idle()


def _told(error: Exception) -> EngineError:
    """What a caller is told of a failure that isn't an engine's own error."""
    if isinstance(error, EngineError):
        return error
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return OutOfMemory("XTTS has no memory left; set XTTS_STREAMS to fewer replies at once.", retry_after=1.0)
    return EngineUnavailable(
        f"XTTS failed with {type(error).__name__} and goes on with the next reply; the log says where.", retry_after=1.0
    )
