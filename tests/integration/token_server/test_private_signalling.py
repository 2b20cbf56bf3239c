"""What is kept of livekit-server's log of people who join, are named, and write: neither words nor tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from livekit import api

from launching.output import without_tokens
from tests.integration.token_server.stage import serving, worker_alive
from tests.livekit_server import running_livekit_server

WORD = "zwiebelkuchen"


async def test_neither_words_nor_tokens_stand_in_livekit_servers_log(
    tmp_path: Path, page: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("LIVEKIT_URL", "API_KEYS", "DATABASE_URL", "HOST", "MAX_CONVERSATIONS"):
        monkeypatch.delenv(name, raising=False)
    with running_livekit_server(level="info") as livekit:
        for name, value in {
            "DATA_DIR": str(tmp_path / "data"),
            "LIVEKIT_PORT": str(livekit.port),
            "LIVEKIT_API_KEY": livekit.key,
            "LIVEKIT_API_SECRET": livekit.secret,
        }.items():
            monkeypatch.setenv(name, value)
        async with serving(page) as served, worker_alive(served):
            room = await served.join(
                participant_identity="ada",
                participant_metadata=WORD,
                participant_attributes={"note": WORD},
                room_config={"metadata": WORD, "agents": [{"metadata": WORD}]},
            )
            _, token = await served.token(participant_identity="ben", participant_metadata=WORD)
            await room.local_participant.set_attributes({"mood": WORD})
            await room.local_participant.set_metadata(WORD)
            await room.local_participant.send_text(WORD, topic="lk.chat")
            await room.local_participant.publish_data(WORD, topic="any")
            # What can't work: a token with a spoiled signature, over either of our own paths to livekit-server.
            for path in ("/rtc/validate", "/rtc/v1/validate"):
                assert (await served.http.get(f"{path}?access_token={token}x")).status_code >= 400
            admin = api.LiveKitAPI(livekit.url.replace("ws", "http"), livekit.key, livekit.secret)
            await admin.room.list_participants(api.ListParticipantsRequest(room=room.name))
            await admin.aclose()  # type: ignore[no-untyped-call]
        # It writes out tokens that it refuses; what is kept of its lines is what the launcher makes of them.
        written = "\n".join(map(without_tokens, livekit.written().splitlines()))
    assert "(token)" in written
    assert "ada" in written, "the log is there"
    for secret in (WORD, token, livekit.secret, token.split(".")[1]):
        assert secret not in written, [line for line in written.splitlines() if secret in line]
        assert secret not in caplog.text
