"""Setting up: what is skipped, what is asked of the system, and what is not trusted."""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("steps", "system", "python_env", "page", "livekit_server")


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, ModuleType]]:
    """The modules of `tools/`, their folder for stamps, logs and programs being a temporary one."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    loaded = {name: importlib.import_module(name) for name in NAMES}
    monkeypatch.setattr(loaded["steps"], "STAMPS", tmp_path / "stamps")
    monkeypatch.setattr(loaded["steps"], "LOGS", tmp_path / "logs")
    monkeypatch.setattr(loaded["livekit_server"], "PROGRAM", tmp_path / "bin" / "livekit-server")
    yield loaded
    for name in NAMES:
        sys.modules.pop(name, None)


def test_a_step_is_done_again_only_when_its_inputs_have_changed(tools: dict[str, ModuleType]) -> None:
    steps = tools["steps"]
    inputs = steps.fingerprint([ROOT / "pyproject.toml"], "one")
    assert not steps.is_done("some", inputs)
    steps.mark_done("some", inputs)
    assert steps.is_done("some", steps.fingerprint([ROOT / "pyproject.toml"], "one"))
    assert not steps.is_done("some", steps.fingerprint([ROOT / "pyproject.toml"], "two"))
    assert not steps.is_done("some", steps.fingerprint([ROOT / "Makefile"], "one"))


def test_a_failed_command_is_shown_with_the_end_of_its_output_and_the_fix(tools: dict[str, ModuleType]) -> None:
    steps = tools["steps"]
    program = "print('\\n'.join(map(str, range(100)))); raise SystemExit(3)"
    with pytest.raises(steps.StepFailed) as failed:
        steps.run("some", [sys.executable, "-c", program], fix="Do something else.")
    said = str(failed.value)
    assert "failed (3)" in said and "99" in said and said.endswith("Do something else.")
    assert "\n      69\n" not in said, "only the end of it"


def test_a_failure_ends_what_runs_beside_it(tools: dict[str, ModuleType]) -> None:
    steps = tools["steps"]

    def fails() -> None:
        while not steps._running:
            pass
        raise steps.StepFailed("no network")

    with pytest.raises(steps.StepFailed, match="no network"):
        steps.together(fails, lambda: steps.run("long", [sys.executable, "-c", "import time; time.sleep(600)"]))


def test_without_root_or_sudo_the_one_line_to_type_is_named(
    tools: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tools["system"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(system.shutil, "which", lambda name: None if name == "sudo" else f"/usr/bin/{name}")
    with pytest.raises(tools["steps"].StepFailed, match="apt-get install -y --no-install-recommends flite sox\n"):
        system.install_packages(["flite", "sox"])


def test_torch_comes_only_when_asked_for_or_with_a_gpu(
    tools: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    python_env = tools["python_env"]
    monkeypatch.setattr(python_env, "has_gpu", lambda: False)
    assert python_env.extras_wanted([]) == []
    assert python_env.extras_wanted(["local", "postgres"]) == ["local", "postgres"]
    monkeypatch.setattr(python_env, "has_gpu", lambda: True)
    assert python_env.extras_wanted([]) == ["local"]
    assert python_env.extras_wanted(["none"]) == []
    with pytest.raises(tools["steps"].StepFailed, match="no extra 'cuda': EXTRAS takes local, postgres or none"):
        python_env.extras_wanted(["cuda"])


def release(program: bytes) -> bytes:
    """A release's archive with this program in it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("livekit-server")
        entry.size = len(program)
        archive.addfile(entry, io.BytesIO(program))
    return packed.getvalue()


@pytest.fixture
def published(tools: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What the release holds, by file name; to be filled."""
    files: dict[str, bytes] = {}
    livekit_server = tools["livekit_server"]
    monkeypatch.setattr(livekit_server, "_fetch", files.__getitem__)
    monkeypatch.setattr(livekit_server.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(livekit_server.sys, "platform", "linux")
    return files


def test_a_release_with_the_right_checksum_is_taken(tools: dict[str, ModuleType], published: dict[str, bytes]) -> None:
    name = f"livekit_{tools['livekit_server'].VERSION}_linux_amd64.tar.gz"
    published[name] = release(b"#!/bin/sh\necho hello\n")
    published["checksums.txt"] = f"{hashlib.sha256(published[name]).hexdigest()}  {name}\n".encode()
    tools["livekit_server"]._download()
    program = tools["livekit_server"].PROGRAM
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "hello\n"


def test_a_release_with_another_checksum_is_refused(tools: dict[str, ModuleType], published: dict[str, bytes]) -> None:
    name = f"livekit_{tools['livekit_server'].VERSION}_linux_amd64.tar.gz"
    published[name] = release(b"#!/bin/sh\necho hello\n")
    published["checksums.txt"] = f"{'0' * 64}  {name}\n{hashlib.sha256(published[name]).hexdigest()}  other\n".encode()
    with pytest.raises(tools["steps"].StepFailed, match="checksum"):
        tools["livekit_server"]._download()
    assert not tools["livekit_server"].PROGRAM.exists()


@pytest.mark.parametrize(("said", "enough"), [("go1.26.8", True), ("go1.27.3", True), ("go1.19.8", False), ("", False)])
def test_go_is_taken_from_the_machine_only_when_it_is_new_enough(
    tools: dict[str, ModuleType], tmp_path: Path, said: str, enough: bool
) -> None:
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\necho {said}\n")
    go.chmod(0o755)
    livekit_server = tools["livekit_server"]
    assert (livekit_server._go_version(str(go)) >= livekit_server.OLDEST_GO) is enough
