"""What the stack's other doors say while it serves."""

from __future__ import annotations

import uuid

import httpx
import pytest

from tests.e2e.stack import Stack, answer
from tests.speech import spoken, word_error_rate
from tests.spoken import pcm


@pytest.mark.parametrize("kind", ["stt", "chat", "tts"])
def test_every_service_says_that_it_is_well(stack: Stack, kind: str) -> None:
    status, body = answer(f"{stack.service(kind)}/health")
    assert status == 200, body


def test_one_answer_tells_the_health_of_every_part(stack: Stack) -> None:
    status, body = answer(f"{stack.page}/api/health")
    assert status == 200, body


async def test_the_speech_service_transcribes_a_recording(stack: Stack) -> None:
    text = "we are going to the park"
    async with httpx.AsyncClient(timeout=60) as http:
        sound = pcm(spoken(text, "awb"))
        heard = await http.post(f"{stack.service('stt')}/transcribe", files={"file": ("a.pcm", sound, "audio/pcm")})
    assert heard.status_code == 200, heard.text
    assert word_error_rate(text, heard.json()["text"]) <= 0.2


async def test_the_chat_service_remembers_its_own_callers(stack: Stack) -> None:
    session = f"chat-{uuid.uuid4().hex}"
    async with httpx.AsyncClient(timeout=60, base_url=stack.service("chat")) as http:
        for text in ("My name is Mary.", "What is my name?"):
            said = await http.post("/chat", json={"text": text, "session_id": session})
            assert said.status_code == 200, said.text
    assert "mary" in said.json()["response"].lower()
