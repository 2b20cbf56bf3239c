"""`download-files` against a hub of our own: what it shows, asks, fetches, resumes and verifies."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web
from huggingface_hub import constants

from agent.downloads import XTTS, DownloadError, Downloads
from engines.chat.llama.folder import find
from settings import Settings
from tests.models.llama import FOLDER
from tests.vendors.hugging_face import HubServer

LLAMA = "somebody/tiny-llama"
CHUNK = 10 << 20
"""Bytes that the hub's client writes at a time; what it has of a chunk that broke off is fetched again."""


class Person:
    """Somebody at the terminal."""

    def __init__(self, answer: str = "y") -> None:
        self._answer = answer
        self.read: list[str] = []
        self.asked: list[str] = []

    def ask(self, question: str) -> str:
        """Answer a question."""
        self.asked.append(question)
        return self._answer

    @property
    def saw(self) -> str:
        """All lines."""
        return "\n".join(self.read)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Settings from these variables alone, with data and cache in a temporary folder."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def made(**variables: str) -> Settings:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return Settings()

    return made


async def run(hub: HubServer, settings: Settings, name: str, person: Person, agreed: bool = False) -> str:
    """Run the command for one name against a hub."""
    runner = web.AppRunner(hub.app())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    downloads = Downloads(
        settings, agreed=agreed, ask=person.ask, say=person.read.append, endpoint=f"http://{host}:{port}"
    )
    try:
        return await asyncio.to_thread(downloads.run, [name])
    finally:
        await runner.cleanup()


def xtts(size: int = 200_000) -> HubServer:
    files = {"config.json": b"{}", "vocab.json": b"{}", "model.pth": os.urandom(size), "samples/en.wav": bytes(50)}
    return HubServer(XTTS, files)


def llama(**more: object) -> HubServer:
    files = {file.name: file.read_bytes() for file in FOLDER.iterdir()} | {"original/consolidated.pth": bytes(5000)}
    return HubServer(LLAMA, files, license="llama3", **more)  # type: ignore[arg-type]


async def test_size_and_license_are_shown_before_anything_is_fetched(settings: Callable[..., Settings]) -> None:
    hub, person = xtts(), Person("n")
    with pytest.raises(DownloadError, match="nothing was downloaded"):
        await run(hub, settings(), "xtts", person)
    assert "200 kB" in person.saw and "model.pth" in person.saw
    assert "Coqui Public Model License" in person.saw
    assert len(person.asked) == 1 and not hub.fetched


async def test_xtts_comes_whole_and_says_what_to_set(settings: Callable[..., Settings], tmp_path: Path) -> None:
    hub, person = xtts(), Person()
    said = await run(hub, settings(), "xtts", person)
    folder = tmp_path / "data" / "models" / "xtts-v2"
    assert f"XTTS_MODEL_PATH={folder}" in said
    assert (folder / "model.pth").read_bytes() == hub.files["model.pth"]
    assert not (folder / "samples").exists(), "what no engine reads stays there"
    hub.fetched.clear()
    await run(hub, settings(), "xtts", person, agreed=True)
    assert not hub.fetched and len(person.asked) == 1, "what is there isn't fetched again, and --yes isn't asked"


async def test_a_download_that_broke_off_goes_on(
    settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    hub = xtts(3 * CHUNK)
    hub.breaks = CHUNK + CHUNK // 2
    said = await run(hub, settings(), "xtts", Person())
    assert "whole" in said
    assert next(asked for name, asked in hub.ranges if name == "model.pth") == f"bytes={CHUNK}-"
    assert (tmp_path / "data/models/xtts-v2/model.pth").read_bytes() == hub.files["model.pth"]


async def test_a_file_that_was_changed_on_the_way_is_refused(settings: Callable[..., Settings], tmp_path: Path) -> None:
    hub = xtts()
    hub.altered = True
    with pytest.raises(DownloadError, match=r"model\.pth isn't what the hub says.*again"):
        await run(hub, settings(), "xtts", Person())
    assert not (tmp_path / "data/models/xtts-v2/model.pth").exists()


async def test_the_chat_model_is_found_by_its_name_afterwards(settings: Callable[..., Settings]) -> None:
    person = Person()
    said = await run(
        llama(key="hf_secret"), settings(CHAT_MODEL=LLAMA, HUGGINGFACE_API_KEY="hf_secret"), "chat", person
    )
    assert "ENABLE_LOCAL_MODEL=True" in said
    assert "License: llama3" in person.saw and "original" not in person.saw
    assert "hf_secret" not in person.saw + said
    assert (find(LLAMA) / "model.safetensors").read_bytes() == (FOLDER / "model.safetensors").read_bytes()


async def test_a_model_in_a_folder_needs_nothing(settings: Callable[..., Settings]) -> None:
    assert "nothing to download" in await run(llama(), settings(CHAT_MODEL=str(FOLDER)), "chat", Person())


async def test_what_the_hub_refuses_is_named_with_what_to_do(settings: Callable[..., Settings]) -> None:
    chosen = settings(CHAT_MODEL=LLAMA)
    with pytest.raises(DownloadError, match=rf"gated.*huggingface\.co/{LLAMA}.*HUGGINGFACE_API_KEY"):
        await run(llama(gated=True), chosen, "chat", Person())
    with pytest.raises(DownloadError, match=r"no model.*HUGGINGFACE_API_KEY"):
        await run(llama(key="hf_other"), chosen, "chat", Person())
    with pytest.raises(DownloadError, match=r"no model.*check its name"):
        await run(llama(), settings(CHAT_MODEL="somebody/else"), "chat", Person())


async def test_a_hub_that_is_away_is_named(settings: Callable[..., Settings], unused_tcp_port: int) -> None:
    downloads = Downloads(settings(), agreed=True, endpoint=f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(DownloadError, match="can't be reached"):
        await asyncio.to_thread(downloads.run, ["xtts"])


async def test_a_disk_without_room_is_named_before_the_download(
    settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr("agent.hub.shutil.disk_usage", lambda _: Usage)
    hub = xtts()
    with pytest.raises(DownloadError, match=r"1 kB left.*make room"):
        await run(hub, settings(), "xtts", Person())
    assert not hub.fetched


def test_without_anybody_to_ask_it_says_how(settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    from agent.downloads import _asked

    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115, PTH123
    with pytest.raises(DownloadError, match="--yes"):
        _asked("Download?")
