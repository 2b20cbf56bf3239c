"""Malformed requests for room tokens: a token or the contract's error, whatever is posted; the next one is served."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from settings import GROUPS
from tests.integration.token_server.stage import serving, worker_alive
from tests.malformed import Malformed, seed_named, shown

PROPER = [
    {"room_name": "kitchen", "participant_identity": "ada", "participant_name": "Ada", "participant_metadata": "{}"},
    {"participant_attributes": {"session_id": "s1", "personality": "sage"}, "room_config": {"max_participants": 3}},
    {"room_config": {"agents": [{"agent_name": "any", "metadata": "{}"}], "empty_timeout": 10, "metadata": "x"}},
]


async def test_whatever_is_posted_gets_a_token_or_the_contracts_error(
    tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    for group in GROUPS:
        for name in group.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
    for name, value in {
        "DATA_DIR": str(tmp_path / "data"),
        "LIVEKIT_API_KEY": "devkey",
        "LIVEKIT_API_SECRET": "s" * 40,
        "LIVEKIT_PORT": "1",
        "STT": "pocketsphinx",
        "CHAT": "companion",
        "TTS": "espeak",
    }.items():
        monkeypatch.setenv(name, value)
    made = Malformed("tokens")
    async with serving(page) as served, worker_alive(served, limit=None):
        with seed_named():
            for _ in range(2100):
                sent = made.text(PROPER)
                body = sent.encode(errors="surrogatepass") if isinstance(sent, str) else sent
                answer = await served.http.post(
                    "/api/token", content=body, headers={"Content-Type": "application/json"}
                )
                check(answer, sent)
        assert (await served.http.post("/api/token", json=PROPER[0])).status_code == 201
        for path in ("/api/personalities/%00", "/api/voices/%ff", "/api/voices/" + "a" * 5000, "/api/voices/%20"):
            answer = await served.http.get(path)
            assert answer.status_code == 404
            assert answer.json()["error"]["code"] == "not_found"
    assert not [record for record in caplog.records if record.exc_info]


def check(answer: httpx.Response, sent: str | bytes) -> None:
    """It is a token or a refusal."""
    if answer.status_code == 201:
        assert set(answer.json()) == {"server_url", "participant_token"}
        return
    assert answer.status_code in (400, 413), f"{answer.status_code} {answer.text[:300]} for {shown(sent)}"
    assert set(answer.json()["error"]) == {"code", "message"}
