"""A conversation whose replies XTTS speaks with a small checkpoint: sound comes, and gives way to the caller."""

from __future__ import annotations

import re
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.legacy_client import HEARD_RATE, LegacyClient
from tests.e2e.stack import Stack
from tests.e2e.test_barge_in import FACT, LONG_QUESTION, OVER_IT
from tests.integration.services.sockets import until
from tests.models import xtts as models
from tests.speech import spoken
from tests.spoken import pcm

CODES = 30
"""Codes of every piece of text: 1.4 s."""

PIECE = CODES * 1024 / 22_050


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, results: Path) -> Iterator[Stack]:
    """Everything, with XTTS as the only voice."""
    checkpoint = models.base(tmp_path_factory.mktemp("checkpoint"), ends_after=CODES)
    log = results / "xtts.log"
    log.unlink(missing_ok=True)
    environment = {
        "TTS": "xtts",
        "XTTS_MODEL_PATH": str(checkpoint),
        "XTTS_DEVICE": "cpu",
        "XTTS_STREAMS": "2",
    }
    with Stack(tmp_path_factory.mktemp("stack"), log, environment=environment).running() as running:
        yield running


def held(stack: Stack) -> float:
    """Replies that XTTS speaks now."""
    with urllib.request.urlopen(f"{stack.service('tts')}/metrics") as answer:
        found = re.search(r"^voice_node_engine_calls_held (\S+)$", answer.read().decode(), re.MULTILINE)
    assert found
    return float(found[1])


async def test_replies_are_spoken_and_give_way_to_the_caller(stack: Stack) -> None:
    session = f"xtts-{uuid.uuid4().hex}"
    async with LegacyClient(stack.compat, session, agent="storyteller", query="events=1") as client:
        await client.message("ready")
        await client.send({"type": "text", "text": FACT})
        first = await client.reply(0)
        sound = np.array(first.samples)
        assert first.seconds > 0.8 * PIECE
        # The vocoder's noise: it isn't silence, and not what eSpeak says either, whose vowels are far louder.
        assert 0.001 < float(np.sqrt((sound**2).mean())) < 0.05, f"{len(sound) / HEARD_RATE:.1f} s"

        await client.send({"type": "text", "text": LONG_QUESTION})
        await client.sound(1, 0.5)
        assert held(stack) == 1
        await client.say(pcm(spoken(OVER_IT, "awb")))
        cut = await client.reply(1)
        await client.message("interrupted")
        assert cut.seconds > 0.5
        await client.reply(2)
        assert client.said("user")[-1]
        await until(lambda: held(stack) == 0)
