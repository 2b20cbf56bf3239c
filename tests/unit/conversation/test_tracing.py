"""A turn's trace, as a collector gets it over OTLP, and a conversation that doesn't care whether one is there."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from conversation.latency import Record
from conversation.tracing import TurnTracer, TurnTraces, hashed
from services.tally_counter import TallyCounter
from settings import Settings
from tests.collector import Collector, collecting
from tests.e2e.stack import free_ports

BEGIN = 1_800_000_000.0
ENGINES = {"personality": "assistant", "stt": "pocketsphinx", "chat": "companion", "tts": "espeak"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


def record(turn: int = 1, heard: float | None = None, **stages: float) -> Record:
    known = {"commit": 0.2, "transcript": 0.15, "first_token": -0.02, "first_audio": 0.18, "sent": 0.24} | stages
    return {"turn": turn, "session": "my-diary", "speech_end": BEGIN, **known, "heard": heard}


async def traced(url: str, transport: str, *records: Record) -> None:
    """The records of a conversation that is over then."""
    tracer = TurnTracer(url, {"x-key": "k1"})
    traces = TurnTraces(tracer, "my-diary", transport)
    for each in records:
        traces.add(each, ENGINES)
    traces.flush()
    await tracer.aclose()


async def test_a_turn_is_one_trace_whose_steps_add_up(collector: Collector) -> None:
    await traced(collector.url, "websocket", record())
    assert collector.paths == ["/v1/traces"]
    assert {name.lower(): value for name, value in collector.headers[0].items()}["x-key"] == "k1"
    (root,) = collector.turns()
    assert (root.name, root.service, root.scope) == ("turn", "voice-node", "voice_node")
    assert root.start == pytest.approx(BEGIN, abs=1e-3)
    assert root.end - root.start == pytest.approx(0.24, abs=1e-3)
    steps = collector.below(root)
    assert [step.name for step in steps] == ["commit", "first_audio", "sent"]
    assert steps[0].start == root.start and steps[-1].end == root.end
    for before, after in itertools.pairwise(steps):
        assert after.start == before.end
    assert {step.trace for step in steps} == {root.trace}
    assert sorted(root.events) == ["first_token", "transcript"]


async def test_it_says_who_answered_and_how_but_not_whose_conversation_it_was(collector: Collector) -> None:
    await traced(collector.url, "websocket", record(turn=7))
    (root,) = collector.turns()
    told = root.attributes
    assert told["voice_node.turn"] == 7
    assert told["voice_node.transport"] == "websocket"
    assert told["voice_node.session"] == hashed("my-diary")
    assert {name: told[f"voice_node.{name}"] for name in ENGINES} == ENGINES
    assert told["voice_node.first_token_seconds"] == -0.02
    assert b"my-diary" not in b"".join(collector.bodies)


async def test_in_a_room_the_trace_waits_until_the_answer_was_heard(collector: Collector) -> None:
    await traced(collector.url, "room", record(), record(heard=0.41))
    (root,) = collector.turns()
    assert [step.name for step in collector.below(root)][-1] == "heard"
    assert root.end - root.start == pytest.approx(0.41, abs=1e-3)


async def test_a_turn_whose_hearing_nobody_told_is_traced_with_the_next_or_at_the_end(
    collector: Collector,
) -> None:
    await traced(collector.url, "room", record(1), record(2), record(1, heard=0.5))
    assert sorted(root.attributes["voice_node.turn"] for root in collector.turns()) == [1, 2]
    assert "heard" not in {span.name for span in collector.spans}


async def test_each_turn_has_a_trace_of_its_own(collector: Collector) -> None:
    await traced(collector.url, "websocket", record(1), record(2), record(3))
    assert len({root.trace for root in collector.turns()}) == 3


async def failing(url: str, caplog: pytest.LogCaptureFixture) -> tuple[str, list[str], float]:
    """The metrics, the log and the seconds of handing turns over, with a collector that fails."""
    registry = CollectorRegistry()
    counter = TallyCounter(registry)
    with counter.counting(), caplog.at_level(logging.INFO):
        tracer = TurnTracer(url)
        traces = TurnTraces(tracer, "s", "websocket")
        began = time.perf_counter()
        for turn in range(2000):
            traces.add(record(turn), ENGINES)
        took = time.perf_counter() - began
        await tracer.aclose()
        await asyncio.sleep(0.1)
    return generate_latest(registry).decode(), [line.getMessage() for line in caplog.records], took


async def test_a_dead_collector_costs_traces_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    metrics, lines, took = await failing(f"http://127.0.0.1:{free_ports(1)[0]}", caplog)
    assert took < 10, "2000 turns are handed over without waiting for anybody"
    assert sum("conversations go on" in line for line in lines) <= 1, "said once, not with every batch"
    assert not [line for line in lines if "Traceback" in line or "Failed to export" in line]
    assert 'outcome="exported"' not in metrics


async def test_a_collector_that_refuses_is_counted_and_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    with collecting(status=400) as refusing:
        metrics, lines, _ = await failing(refusing.url, caplog)
    assert 'voice_node_traces_total{outcome="failed"}' in metrics
    assert sum("conversations go on" in line for line in lines) == 1


async def test_a_collector_that_hangs_holds_up_no_end() -> None:
    with collecting(hangs=60.0) as hanging:
        began = time.monotonic()
        async with asyncio.timeout(30):
            await traced(hanging.url, "websocket", record())
        assert time.monotonic() - began < 30


def test_without_an_address_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert TurnTracer.of(Settings()) is None
    TurnTraces(None, "s", "websocket").add(record(), ENGINES)
