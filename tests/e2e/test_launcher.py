"""The launcher starts a part of the house, and stops leaving nothing behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.e2e.legacy_client import HEARD_RATE, LegacyClient
from tests.e2e.stack import Stack, answer
from tests.sound import audible_seconds
from tests.speech import spoken, word_error_rate
from tests.spoken import pcm


async def test_the_server_alone_with_the_energy_detector(tmp_path: Path, results: Path) -> None:
    """It hears and answers, and interrupted in the middle of a reply it ends without a process left.

    kal16 and its like are quieter than the detector's threshold: the caller speaks up to a peak RMS of 0.3.
    """
    log = results / "energy-detector.log"
    log.unlink(missing_ok=True)
    stack = Stack(tmp_path, log, services=("server",), environment={"DETECTOR": "energy"})
    stack.start()
    try:
        stack.wait_until_serving()
        async with LegacyClient(stack.compat, "energy", agent="storyteller", query="events=1") as client:
            await client.message("ready")
            question = "what do you think about music"
            for number, voice in enumerate(("kal16", "awb")):
                await client.say(pcm(spoken(question, voice, peak_rms=0.3)))
                assert audible_seconds((await client.reply(number)).samples, HEARD_RATE) > 0.3
            assert word_error_rate(f"{question} {question}", " ".join(client.said("user"))) <= 0.2, client.messages
            assert answer(f"{stack.service('chat')}/health")[0] == 0, "only the server was asked for"
            await client.send({"type": "text", "text": "Tell me a story."})
            await client.sound(2, 0.5)
            status = await asyncio.to_thread(stack.stop)
    except BaseException:
        stack.stop()
        raise
    assert status in (0, 130)
    assert stack.processes() == {}
