"""OpenTelemetry: one trace a turn, made from its latency record and sent to the collector that the settings name.

The trace's root is `turn`, from the end of speech to the moment the answer was sent, or heard where a client told so;
below it lie the steps of the critical path, one after the other, and the work that was done ahead. Nothing that was
said is in it; the session id, which a caller may have chosen, goes out as a hash.

Spans are handed to a thread of OpenTelemetry's with a bounded queue: a collector that is slow or gone costs spans,
never a conversation. The provider is our own and not the process's global one, to which LiveKit's framework would
send spans of its own with everybody's words in them.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import Mapping, Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, Tracer, set_span_in_context
from opentelemetry.util.re import parse_env_headers

from conversation.latency import Record
from engines.tally import tally
from settings import Settings

logger = logging.getLogger("voice_node.tracing")

PATH = "v1/traces"
"""Where a collector takes traces, below its address."""
QUEUE, BATCH = 512, 128
"""Spans that wait at most, and that go out together; a turn has up to five."""
SEND_EVERY = 1000
"""Milliseconds between two batches."""
GOODBYE = 1.5
"""Seconds in which the last spans go out when a process ends."""
HEARD_WITHIN = 3.0
"""Seconds after `sent` in which a client tells when it heard the answer; the trace goes out without it then."""

CRITICAL_PATH = ("commit", "first_audio", "sent", "heard")
"""The stages that follow one another and add up to the whole (contract.md)."""
AHEAD = ("transcript", "first_token")
"""Stages on the way to those; they are marks in the trace."""


class _Watched(SpanExporter):
    """Counts what goes out and what doesn't, and says once that a collector can't be reached."""

    def __init__(self, exporter: SpanExporter, address: str) -> None:
        self._exporter = exporter
        self._address = address
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        turns = sum(span.parent is None for span in spans)
        try:
            result = self._exporter.export(spans)
        except Exception:  # the thread must outlive whatever a library raises
            result = SpanExportResult.FAILURE
        failed = result is not SpanExportResult.SUCCESS
        if turns:
            tally("traces", turns, outcome="failed" if failed else "exported")
        if failed and not self._failing:
            logger.warning("traces can't be exported, conversations go on", extra={"collector": self._address})
        elif self._failing and not failed:
            logger.info("traces are exported again")
        self._failing = failed
        return result

    def shutdown(self) -> None:
        """Stop waiting for the collector."""
        self._exporter.shutdown()


class TurnTracer:
    """The traces of all conversations of a process; make it after a fork, and close it at the end.

    Args:
        endpoint: Address of an OpenTelemetry collector that speaks OTLP over HTTP.
        headers: Sent with every batch.
    """

    def __init__(self, endpoint: str, headers: Mapping[str, str] | None = None) -> None:
        address = f"{endpoint.rstrip('/')}/{PATH}"
        # Its own lines would come with every batch that fails; ours comes once.
        logging.getLogger("opentelemetry.exporter").setLevel(logging.CRITICAL)
        logging.getLogger("opentelemetry.sdk").setLevel(logging.CRITICAL)
        self._exporter = _Watched(OTLPSpanExporter(endpoint=address, headers=dict(headers or {})), address)
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, where set, win.
        named = Resource({"service.name": "voice-node"}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=named, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter, max_queue_size=QUEUE, max_export_batch_size=BATCH, schedule_delay_millis=SEND_EVERY
            )
        )
        self.tracer: Tracer = self._provider.get_tracer("voice_node")

    @classmethod
    def of(cls, settings: Settings) -> TurnTracer | None:
        """A tracer as the settings ask for; None where they name no collector."""
        operations = settings.operations
        if not operations.otel_exporter_otlp_endpoint:
            return None
        headers = parse_env_headers(operations.otel_exporter_otlp_headers, liberal=True)
        return cls(operations.otel_exporter_otlp_endpoint, headers)

    async def aclose(self) -> None:
        """Send what waits, for `GOODBYE` seconds at most."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def finish() -> None:
            self._provider.shutdown()
            try:
                loop.call_soon_threadsafe(sent.set)
            except RuntimeError:
                return  # nobody waited that long, the loop is closed

        # A thread that may be left behind: a collector that hangs must not hold up the end of the process.
        threading.Thread(target=finish, name="last traces", daemon=True).start()
        try:
            async with asyncio.timeout(GOODBYE):
                await sent.wait()
        except TimeoutError:
            logger.warning("the last traces were dropped, the collector doesn't answer")
            self._exporter.shutdown()


class TurnTraces:
    """The traces of one conversation. A trace is made once its turn's record is whole.

    Args:
        tracer: The process's; None where nothing is traced.
        session: The conversation's id.
        transport: What carries it.
    """

    def __init__(self, tracer: TurnTracer | None, session: str, transport: str) -> None:
        self._tracer = tracer
        self._session = session
        self._transport = transport
        self._record: Record | None = None
        self._attributes: dict[str, str] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, record: Record, attributes: Mapping[str, str]) -> None:
        """Take a record, at `sent` and again at `heard`.

        Args:
            record: As LatencyLog publishes it.
            attributes: Who answered, and with which engines.
        """
        if self._tracer is None:
            return
        if self._record is not None and self._record["turn"] != record["turn"]:
            self.flush()
        if record["heard"] is not None and self._record is None:
            return  # told too late; its trace is out
        self._record, self._attributes = record, dict(attributes)
        if record["heard"] is not None or self._transport != "room":
            self.flush()
        else:
            self._timer = asyncio.get_running_loop().call_later(HEARD_WITHIN, self.flush)

    def flush(self) -> None:
        """Make the trace of the turn that waits to be heard, if one does."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        record, self._record = self._record, None
        if record is not None and self._tracer is not None:
            self._trace(self._tracer.tracer, record)

    def _trace(self, tracer: Tracer, record: Record) -> None:
        begin = record["speech_end"]
        assert isinstance(begin, float)
        ends = {
            stage: begin + after
            for stage in (*AHEAD, *CRITICAL_PATH)
            if isinstance(after := record[stage], int | float)
        }
        known = [stage for stage in CRITICAL_PATH if stage in ends]
        if not known:
            return
        root = tracer.start_span(
            "turn",
            context=set_span_in_context(NonRecordingSpan(INVALID_SPAN_CONTEXT)),
            start_time=_nanoseconds(begin),
            attributes={
                "voice_node.turn": int(record["turn"] or 0),
                "voice_node.session": hashed(self._session),
                "voice_node.transport": self._transport,
                **{f"voice_node.{name}": value for name, value in self._attributes.items()},
                **{f"voice_node.{stage}_seconds": round(at - begin, 4) for stage, at in ends.items()},
            },
        )
        for stage in AHEAD:
            if stage in ends:
                root.add_event(stage, timestamp=_nanoseconds(max(begin, ends[stage])))
        context = set_span_in_context(root)
        since = begin
        for stage in known:
            # What speculation had ready before the step it follows took no time of the turn's.
            until = max(since, ends[stage])
            tracer.start_span(stage, context=context, start_time=_nanoseconds(since)).end(_nanoseconds(until))
            since = until
        root.end(_nanoseconds(since))


def hashed(session: str) -> str:
    """A name for a conversation that tells its turns from others' and nothing about it."""
    return hashlib.sha256(session.encode()).hexdigest()[:16]


def _nanoseconds(at: float) -> int:
    return int(at * 1_000_000_000)
