"""The doctor: what it finds, what it says to do, and that it changes nothing."""

from __future__ import annotations

import asyncio
import datetime
import http.server
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web

from launching import disk, doctor_machine, doctor_network, parts
from launching.doctor import doctor
from launching.doctor_network import browsers, certificate, livekit
from launching.doctor_network import ports as look_at_ports
from launching.doctor_settings import clouds, keys, models
from launching.finding import Finding
from launching.holders import Holder
from launching.parts import Part, Port
from settings import GROUPS, Settings, made_certificate
from settings import tls as settings_tls
from settings.livekit_keys import keys_path, livekit_keys
from tests.vendors.cartesia import CartesiaServer
from tests.vendors.openai_style import MODEL, OpenAIStyle
from tests.vendors.trouble import KEY, serving

SECRET = "a-secret-of-more-than-32-characters-indeed"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (name.upper() for group in GROUPS for name in group.model_fields):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=["tcp", "udp"])
def taken(request: pytest.FixtureRequest) -> Iterator[Port]:
    kind = socket.SOCK_STREAM if request.param == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", 0))
        if request.param == "tcp":
            other.listen()
        yield Port(other.getsockname()[1], "SOME_PORT", "127.0.0.1", request.param)


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever holds a port is this Voice Node."""
    ours = Holder(os.getpid(), "python -m token_server", ours=True)
    monkeypatch.setattr(doctor_network, "holder", lambda port: ours)


def part(*ports: Port, name: str = "some") -> Part:
    return Part(name, (), ports, "", "")


def only(found: Iterator[Finding]) -> Finding:
    (one,) = found
    return one


def findings(*ports: Port) -> dict[str, str]:
    """The doctor's findings: the first word of each with its state."""
    return {finding.text.split(":")[0].split()[0]: finding.state for finding in doctor(Settings(), [part(*ports)])}


def test_the_doctor_makes_nothing(tmp_path: Path) -> None:
    assert "FAIL" not in findings().values()
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_finds_a_key_file_that_others_can_read() -> None:
    livekit_keys(Settings())
    assert findings()["LiveKit"] == "ok"
    keys_path(Settings()).chmod(0o644)
    assert findings()["LiveKit"] == "warn"
    assert keys_path(Settings()).stat().st_mode & 0o777 == 0o644, "looking changes nothing"


def test_the_doctor_finds_a_damaged_key_file() -> None:
    livekit_keys(Settings())
    keys_path(Settings()).write_text("nothing here")
    assert findings()["LiveKit"] == "FAIL"


def test_the_doctor_finds_a_port_in_use(taken: Port) -> None:
    assert findings(taken)["port"] == "FAIL"


def test_the_doctor_finds_a_missing_livekit_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "livekit_server", lambda: None)
    assert findings()["livekit-server"] == "warn", "nobody asked for it"
    needs_it = [Part("livekit", (), (), "", "")]
    assert next(f.state for f in doctor(Settings(), needs_it) if f.text.startswith("livekit-server")) == "FAIL"


def test_the_doctor_finds_a_data_folder_that_is_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DATA_DIR", "file")
    monkeypatch.setenv("LIVEKIT_URL", "wss://example.org")
    assert findings()["data"] == "FAIL"


@pytest.mark.usefixtures("running")
def test_ports_of_a_running_voice_node_are_no_failure(taken: Port) -> None:
    found = only(look_at_ports([part(taken)]))
    assert found.state == "ok" and "in use by Voice Node (running)" in found.text


def test_keys_are_named_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", "open-sesame,abracadabra")
    monkeypatch.setenv("GROQ_API_KEY", "gsk-very-private")
    monkeypatch.setenv("GROQ_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LIVEKIT_API_KEY", "the-key")
    monkeypatch.setenv("LIVEKIT_API_SECRET", SECRET)
    assert "API_KEYS (2), GROQ_API_KEY" in only(keys(Settings())).text
    said = " ".join(finding.text for finding in doctor(Settings(), [part()]))
    for private in ("open-sesame", "abracadabra", "gsk-very-private", SECRET):
        assert private not in said


def test_a_configured_engine_that_this_version_lacks_is_said_to_be_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(models(Settings())).state == "ok"
    monkeypatch.setenv("WHISPER_MODEL", "tiny.en")
    found = only(models(Settings()))
    assert found.state == "warn" and "WHISPER_MODEL is set" in found.text and "carries no engine" in found.text


def test_an_incomplete_xtts_checkpoint_is_said_to_be_incomplete(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "xtts"
    monkeypatch.setenv("XTTS_MODEL_PATH", str(folder))
    found = only(models(Settings()))
    assert found.state == "FAIL" and "no such folder" in found.text
    folder.mkdir()
    (folder / "config.json").touch()
    (folder / "vocab.json").touch()
    found = only(models(Settings()))
    assert found.state == "warn" and "no model.pth or best_model.pth" in found.text
    (folder / "best_model.pth").touch()
    assert only(models(Settings())).state == "ok"
    monkeypatch.setenv("XTTS_VOICE", "./nobody.wav")
    states = {finding.text.split("=")[0].split()[0]: finding.state for finding in models(Settings())}
    assert states == {"XTTS_MODEL_PATH": "ok", "XTTS_VOICE": "FAIL"}


def test_a_cloud_whose_key_is_set_can_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk-very-private")
    assert [(found.state, found.text) for found in models(Settings())] == [
        ("ok", "GROQ_API_KEY is set: groq can answer, for stt"),
        ("ok", "GROQ_API_KEY is set: groq can answer, for chat"),
    ]


def test_each_cloud_is_asked_whether_it_takes_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(clouds(Settings())) == []
    groq, cartesia = OpenAIStyle(), CartesiaServer()
    with in_background(groq.app()) as groq_url, in_background(cartesia.app()) as cartesia_url:
        for name, value in {
            "GROQ_API_KEY": KEY, "GROQ_URL": groq_url, "GROQ_CHAT_MODEL": MODEL,
            "CARTESIA_API_KEY": "sk-wrong", "CARTESIA_URL": cartesia_url,
            "ELEVENLABS_API_KEY": "xi-private", "ELEVENLABS_URL": "http://127.0.0.1:9",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        found = list(clouds(Settings()))
    assert [each.state for each in found] == ["warn", "ok", "warn", "warn"]
    hears, answers, eleven, cartesia_says = [each.text for each in found]
    assert "knows no model 'whisper-large-v3-turbo'; set GROQ_STT_MODEL" in hears
    assert answers == "GROQ_API_KEY, for chat: groq answers, and takes it"
    assert "ElevenLabs can't be reached" in eleven
    assert "Cartesia refuses the key; set CARTESIA_API_KEY to a valid one" in cartesia_says
    for private in (KEY, "sk-wrong", "xi-private"):
        assert private not in str(found)


@contextmanager
def in_background(app: web.Application) -> Iterator[str]:
    """The app on a free port, in a thread: the doctor has no event loop of its own to share."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    running = serving(app)
    try:
        yield asyncio.run_coroutine_threadsafe(running.__aenter__(), loop).result(20)
        asyncio.run_coroutine_threadsafe(running.__aexit__(None, None, None), loop).result(20)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


def test_a_chat_server_at_a_broken_address_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT_URL", "localhost:11434")
    found = only(models(Settings()))
    assert found.state == "warn" and "write it as http://host:port/v1" in found.text


def test_a_missing_engine_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAT", "groq")
    assert findings_in_full()["chat"].state == "FAIL"


def findings_in_full() -> dict[str, Finding]:
    every = parts.all_parts(Settings())
    return {finding.text.split(":")[0].split()[0]: finding for finding in doctor(Settings(), every)}


def test_a_clock_that_is_behind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(doctor_machine.clock()).state == "ok"
    monkeypatch.setattr(doctor_machine.time, "time", lambda: 0.0)
    found = only(doctor_machine.clock())
    assert found.state == "FAIL" and "Set the clock" in found.text


def test_a_disk_that_is_full_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "free", lambda folder: 12 * 1024**2)
    found = only(doctor_machine.folder(Path("data")))
    assert found.state == "FAIL" and "12 MB free" in found.text and "Make room" in found.text


def test_a_gpu_is_named_or_its_absence_is_fine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor_machine, "DRIVER", tmp_path / "no-driver")
    assert only(doctor_machine.gpu()) == Finding("ok", doctor_machine.NO_GPU)
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA L4, 23034 MiB, 550.1'\n")
    program.chmod(0o755)
    assert only(doctor_machine.gpu()) == Finding("ok", "GPU: NVIDIA L4, 23034 MiB, 550.1")
    program.write_text("#!/bin/sh\necho 'driver mismatch'; exit 18\n")
    assert only(doctor_machine.gpu()) == Finding("warn", "GPU: nvidia-smi says: driver mismatch")


def test_where_browsers_give_no_microphone_that_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    page = [part(name="page")]
    assert only(browsers(Settings(), page)).state == "ok"
    monkeypatch.setenv("HOST", "192.0.2.7")
    found = only(browsers(Settings(), page))
    assert found.state == "FAIL" and "Set TLS=1" in found.text
    monkeypatch.setenv("PUBLIC_URL", "https://voice.example")
    assert only(browsers(Settings(), page)).state == "ok"


class Answers(http.server.BaseHTTPRequestHandler):
    """Says what the server was told to say."""

    def do_GET(self) -> None:
        status, body = self.server.said  # type: ignore[attr-defined]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: object) -> None:
        pass


class Somebody(http.server.ThreadingHTTPServer):
    said: tuple[int, bytes] = (200, b'{"status": "ok"}')


@pytest.fixture
def somebody() -> Iterator[Somebody]:
    with Somebody(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.usefixtures("running")
def test_a_running_page_is_fetched_as_a_browser_would(monkeypatch: pytest.MonkeyPatch, somebody: Somebody) -> None:
    port = somebody.server_address[1]
    page = [part(Port(port, "PAGE_PORT", "127.0.0.1"), name="page")]
    monkeypatch.setenv("PUBLIC_URL", f"http://127.0.0.1:{port}")
    assert [found.state for found in browsers(Settings(), page)] == ["ok", "ok"]
    somebody.said = 200, b"<h1>It works!</h1>"
    assert [found.state for found in browsers(Settings(), page)] == ["ok", "FAIL"]
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("PUBLIC_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        _, found = browsers(Settings(), page)
    assert found.state == "FAIL" and "isn't reached" in found.text


@pytest.mark.parametrize(
    ("said", "state", "words"),
    [
        ((200, b"success"), "ok", "knows our key"),
        ((401, b"invalid API key"), "FAIL", "refuses our key"),
        ((503, b""), "FAIL", "answers 503"),
    ],
)
def test_a_livekit_server_of_ones_own_is_really_asked(
    monkeypatch: pytest.MonkeyPatch, somebody: Somebody, said: tuple[int, bytes], state: str, words: str
) -> None:
    somebody.said = said
    monkeypatch.setenv("LIVEKIT_URL", f"ws://127.0.0.1:{somebody.server_address[1]}")
    monkeypatch.setenv("LIVEKIT_API_KEY", "the-key")
    monkeypatch.setenv("LIVEKIT_API_SECRET", SECRET)
    found = only(livekit(Settings(), []))
    assert found.state == state and words in found.text


def test_a_livekit_server_that_is_not_there_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("LIVEKIT_URL", f"ws://127.0.0.1:{unused.getsockname()[1]}")
        monkeypatch.setenv("LIVEKIT_API_KEY", "the-key")
        monkeypatch.setenv("LIVEKIT_API_SECRET", SECRET)
        found = only(livekit(Settings(), []))
    assert found.state == "FAIL" and "no answer" in found.text


def test_a_certificate_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert list(certificate(Settings())) == []
    monkeypatch.setenv("TLS", "1")
    assert "will be made" in only(certificate(Settings())).text
    assert list(tmp_path.iterdir()) == []
    settings_tls.certificate(Settings())
    assert only(certificate(Settings())).state == "ok"
    monkeypatch.setenv("PUBLIC_URL", "https://voice.example")
    found = only(certificate(Settings()))
    assert found.state == "FAIL" and "not for voice.example" in found.text
    monkeypatch.setenv("TLS_CERT", "data/tls/cert.pem")
    found = only(certificate(Settings()))
    assert found.state == "FAIL" and "TLS_KEY is not set" in found.text


@pytest.mark.parametrize(("ago", "state", "words"), [(810, "FAIL", "expired"), (790, "warn", "expires in")])
def test_a_certificate_near_its_end_is_found(monkeypatch: pytest.MonkeyPatch, ago: int, state: str, words: str) -> None:
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=ago)
    monkeypatch.setattr(made_certificate, "_now", lambda: then)
    monkeypatch.setenv("TLS", "1")
    settings_tls.certificate(Settings())
    found = only(certificate(Settings()))
    assert found.state == state and words in found.text
