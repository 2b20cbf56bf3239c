"""The ear that listens to nobody, as conversations reach it: a service of ours with another engine."""

from __future__ import annotations

import json

from websockets.sync.client import connect

from bench.stub_ear import QUESTION, stub_ear
from engines.types import HEARD_RATE


def test_every_utterance_is_the_same_question_and_silence_is_none() -> None:
    with stub_ear() as settings:
        assert settings["STT"].split(",")[0] == "service"
        with connect(settings["STT_SERVICE_URL"].replace("http", "ws", 1) + "/transcribe/stream") as socket:
            for seconds, wanted in ((1.0, QUESTION), (0.05, "")):
                socket.send(json.dumps({"type": "start", "language": "en"}))
                socket.send(bytes(int(HEARD_RATE * seconds) * 2))
                socket.send(json.dumps({"type": "finish"}))
                while (message := json.loads(socket.recv(timeout=30)))["type"] != "final":
                    assert message["type"] == "partial"
                assert message["text"] == wanted
