"""The HTTP face of the token server: tokens and their refusals, collections, health, the page."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.integration.token_server.stage import PAGE, Served, serving, worker_alive
from token_server import admission


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "WORKER_PATIENCE", 0.0)


async def test_without_a_worker_the_refusal_names_the_command(served: Served, no_patience: None) -> None:
    answer = await served.http.post("/api/token", json={})
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert error["code"] == "unavailable"
    assert "python agent/main.py start" in error["message"]
    assert int(answer.headers["Retry-After"]) > 0


async def test_a_worker_that_is_just_starting_is_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "WORKER_PATIENCE", 30.0)
    asked = asyncio.create_task(served.http.post("/api/token", json={}))
    await asyncio.sleep(0.2)
    async with worker_alive(served):
        assert (await asked).status_code == 201


async def test_when_every_place_is_taken_the_caller_is_told_when_to_come_back(served: Served) -> None:
    async with worker_alive(served, limit=1) as worker:
        await worker.claim("talk-1", "room-1")
        answer = await served.http.post("/api/token", json={"room_name": "room-2"})
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "full"
        assert int(answer.headers["Retry-After"]) > 0
        again = await served.http.post("/api/token", json={"room_name": "room-1"})
        assert again.status_code == 201  # its agent is there


async def test_one_place_is_not_promised_twice(served: Served) -> None:
    async with worker_alive(served, limit=1):
        answers = await asyncio.gather(*(served.http.post("/api/token", json={}) for _ in range(4)))
        assert sorted(answer.status_code for answer in answers) == [201, 503, 503, 503]


async def test_a_request_without_a_body_is_a_request_for_anything(served: Served) -> None:
    async with worker_alive(served):
        answer = await served.http.post("/api/token")
        assert answer.status_code == 201
        assert set(answer.json()) == {"server_url", "participant_token"}
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'"text"', b'{"room_name": 3}', b'{"participant_attributes": {"session_id": 7}}', b"\xff\xfe"],
)
async def test_a_body_that_is_none_gets_the_contracts_error(served: Served, body: bytes) -> None:
    answer = await served.http.post("/api/token", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "bad_request"


async def test_a_body_that_is_too_large_is_not_read(served: Served) -> None:
    answer = await served.http.post("/api/token", content=b" " * 300_000, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


async def test_where_livekit_is_given_its_address_is_passed_on(environment: pytest.MonkeyPatch, page: Path) -> None:
    environment.setenv("LIVEKIT_URL", "wss://livekit.example")
    async with serving(page) as served, worker_alive(served):
        url, _ = await served.token()
        assert url == "wss://livekit.example"


async def test_with_keys_set_everything_but_the_page_wants_one(environment: pytest.MonkeyPatch, page: Path) -> None:
    environment.setenv("API_KEYS", "k1,k2")
    async with serving(page) as served, worker_alive(served):
        for method, path in (("POST", "/api/token"), ("GET", "/api/personalities"), ("GET", "/api/health")):
            refused = await served.http.request(method, path)
            assert refused.status_code == 401
            assert refused.json()["error"]["code"] == "unauthorized"
            with_key = await served.http.request(method, path, headers={"Authorization": "Bearer k2"})
            assert with_key.status_code != 401
        assert (await served.http.get("/")).text == PAGE
        assert (await served.http.get("/health")).status_code == 200


async def test_personalities_are_listed_and_shown_whole(served: Served) -> None:
    listed = (await served.http.get("/api/personalities")).json()
    assert len(listed["personalities"]) >= 3
    first = listed["personalities"][0]
    assert first["id"] == listed["default"] == "assistant"
    assert set(first) == {"id", "name", "description", "language", "voice"}
    whole = (await served.http.get("/api/personalities/assistant")).json()
    assert whole["name"] == first["name"]
    assert whole["prompt"]
    unknown = await served.http.get("/api/personalities/nobody")
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "not_found"


async def test_voices_are_listed_and_shown_whole(served: Served) -> None:
    listed = (await served.http.get("/api/voices")).json()["voices"]
    assert {voice["id"] for voice in listed} >= {"nova", "juno", "edmund"}
    whole = (await served.http.get("/api/voices/nova")).json()
    assert whole["engines"]
    assert (await served.http.get("/api/voices/nobody")).status_code == 404


async def test_health_asks_every_part_and_names_those_that_are_away(
    environment: pytest.MonkeyPatch, page: Path
) -> None:
    for name in ("AGENT_PORT", "STT_PORT", "CHAT_PORT", "TTS_PORT", "COMPAT_PORT"):
        environment.setenv(name, "1")  # nobody listens there
    async with serving(page) as served:
        answer = await served.http.get("/api/health")
        assert answer.status_code == 503
        parts = answer.json()["parts"]
        assert set(parts) == {"database", "livekit", "agent", "stt", "chat", "tts", "compat"}
        assert parts["database"]["ok"] and parts["livekit"]["ok"]
        for name in ("agent", "stt", "chat", "tts", "compat"):
            assert not parts[name]["ok"]
            assert "not running" in parts[name]["reason"]


async def test_health_counts_the_places_of_the_workers(served: Served) -> None:
    async with worker_alive(served, limit=3):
        database = (await served.http.get("/api/health")).json()["parts"]["database"]
        assert (database["agent_workers"], database["free_places"]) == (True, 3)


async def test_the_page_is_served_with_its_policy(served: Served) -> None:
    answer = await served.http.get("/")
    assert answer.text == PAGE
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert (await served.http.get("/api/nothing")).json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("path", ["/../secret.txt", "/%2e%2e/secret.txt", "/assets/..%2f..%2fsecret.txt"])
async def test_a_path_that_climbs_out_finds_nothing(served: Served, page: Path, path: str) -> None:
    (page.parent / "secret.txt").write_text("secret")
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert b" 404 " in answer.split(b"\r\n")[0]
    assert b"secret" not in answer.split(b"\r\n\r\n", 1)[1]


async def test_metrics_are_there(served: Served) -> None:
    await served.http.get("/health")
    text = (await served.http.get("/metrics")).text
    assert "voice_node_redispatches" in text
    assert 'route="/health"' in text
