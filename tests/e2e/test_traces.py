"""Turns of a WebSocket and of a room, traced by the whole of Voice Node to a collector: ours alone, without a word."""

from __future__ import annotations

from pathlib import Path

from opentelemetry.trace import get_tracer_provider

from tests.collector import collecting
from tests.e2e.legacy_client import LegacyClient
from tests.e2e.room_client import RoomClient
from tests.e2e.stack import Stack
from tests.speech import spoken
from tests.spoken import pcm

QUESTION = "what do you think about music"


async def test_a_turn_is_traced_over_either_transport(tmp_path: Path, results: Path) -> None:
    with collecting() as collector:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_EXPORTER_OTLP_HEADERS": "x-key=k1"}
        with Stack(tmp_path, results / "traces.log", environment=environment).running() as stack:
            async with LegacyClient(stack.compat, "traced-diary", query="events=1") as caller:
                await caller.message("ready")
                await caller.reply(0)
                await caller.say(pcm(spoken(QUESTION)))
                await caller.reply(1)
            async with RoomClient(stack.page, "traced-room") as guest:
                await guest.agent()
                await guest.sound(0.5)
                await guest.silence(0.5)
                await guest.say(spoken(QUESTION))
                await guest.turn()
        # What the last turns left went out when their processes ended.
        collector.until(lambda: {"websocket", "room"} <= {_transport(root) for root in collector.turns()})
    assert {span.scope for span in collector.spans} == {"voice_node"}, "the framework's own spans hold words"
    for root in collector.turns():
        steps = [step.name for step in collector.below(root)]
        assert steps[:3] == ["commit", "first_audio", "sent"]
        assert root.attributes["voice_node.stt"] == "pocketsphinx"
    sent = b"".join(collector.bodies)
    assert not [word for word in (*QUESTION.split()[2:], "traced-diary", "traced-room") if word.encode() in sent]
    assert "sdk" not in type(get_tracer_provider()).__module__


def _transport(root: object) -> str:
    return str(root.attributes["voice_node.transport"])  # type: ignore[attr-defined]
