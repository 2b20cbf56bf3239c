"""What is said in a room, aloud and typed, and every secret of a whole stack stay out of all that it logs."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from tests.e2e.legacy_client import LegacyClient
from tests.e2e.room_client import RoomClient
from tests.e2e.stack import Stack
from tests.speech import spoken
from tests.spoken import pcm

SECRETS = {
    "LIVEKIT_API_SECRET": "secret-of-more-than-32-characters-9kohlrabi4",
    "API_KEYS": "caller-7fenchel2",
    "ADMIN_KEYS": "admin-6pastinake1",
    "SERVICE_API_KEY": "service-2mangold8",
    "GROQ_API_KEY": "vendor-3radish1",
    "CARTESIA_API_KEY": "vendor-4chicory5",
    "ELEVENLABS_API_KEY": "vendor-5endive6",
    "HUGGINGFACE_API_KEY": "vendor-6lovage7",
}
ISSUER = {"LIVEKIT_API_KEY": "APIsellerie8"}
"""The name of the secret's owner, which stands readable in every token and in livekit-server's log."""
WORD = "Zwiebelkuchen"
"""A word that nothing but the test says."""
QUESTION = "what do you think about music"
TOGETHER = 4
"""Words in a row that are no accident."""


async def test_neither_words_nor_secrets_stand_in_what_a_whole_stack_logs(tmp_path: Path, results: Path) -> None:
    log = results / "private.log"
    log.unlink(missing_ok=True)
    said: list[str] = []
    with Stack(tmp_path, log, environment=SECRETS | ISSUER).running() as stack:
        attributes = {"personality": "storyteller", "mood": WORD}
        async with RoomClient(stack.page, f"private-{uuid.uuid4().hex}", key=stack.key, **attributes) as caller:
            await caller.agent()
            await caller.state("listening")
            await caller.say(spoken(QUESTION, "awb"))
            await caller.heard("agent", 0)
            await caller.sound(0.5)
            await caller.silence(0.5)
            await caller.type(f"My name is {WORD}.")
            assert WORD in await caller.heard("agent", 1)
            await caller.type(f"{WORD} " * 4000)  # more than is read, which the log does tell
            await caller.type("What is my name?")
            assert WORD in await caller.heard("agent", 2)
            said += caller.said("user") + caller.said("agent")
            token = caller.token["participant_token"]
        async with LegacyClient(
            stack.compat, "private", agent="storyteller", query=f"events=1&api_key={stack.key}"
        ) as it:
            await it.message("ready")
            await it.say(pcm(spoken(QUESTION, "awb")))
            await it.reply(0)
            said += it.said("user") + it.said("agent")
    written = log.read_text(encoding="utf-8", errors="replace")
    for proof in ("job ended", "a text from the room is too long", "turn", "tester"):
        assert proof in written, "the log of each part is there"
    secrets = [*SECRETS.values(), WORD, *token.split(".")]
    found = [secret for secret in secrets if secret.lower() in written.lower()]
    assert not found, [line for line in written.splitlines() if found[0].lower() in line.lower()]
    plain = words(written)
    leaked = [part for text in said for part in parts(words(text)) if part in plain]
    assert not leaked, leaked
    assert len(said) >= 7, said


def words(text: str) -> str:
    """Words alone, each between spaces."""
    return f" {' '.join(re.findall(r'[a-z0-9]+', text.lower()))} "


def parts(text: str) -> list[str]:
    """A few words in a row, from each of them on."""
    each = text.split()
    return [f" {' '.join(each[at : at + TOGETHER])} " for at in range(len(each) - TOGETHER + 1)]
