"""The files that packaging rests on agree: requirements with pyproject.toml, .env.example with the settings."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from settings.__main__ import example

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SETS = sorted(path.stem for path in (ROOT / "requirements").glob("*.txt"))


def wanted_by(extra: str) -> list[str]:
    """What an extra asks for; other extras of this project that it names stand for what they ask for."""
    wanted: list[str] = []
    for dependency in PROJECT["optional-dependencies"][extra]:
        named = Requirement(dependency)
        own = named.name == PROJECT["name"]
        wanted += [more for other in named.extras for more in wanted_by(other)] if own else [dependency]
    return wanted


def pins(name: str) -> dict[str, list[Requirement]]:
    """Packages of a requirement file with their pins (several where they differ by Python version)."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text().splitlines():
        if line and not line.startswith(("#", " ")):
            pin = Requirement(line.removesuffix("\\").strip())
            found.setdefault(canonicalize_name(pin.name), []).append(pin)
    return found


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("base", PROJECT["dependencies"]),
        *((extra, wanted_by(extra)) for extra in ("dev", "local", "postgres")),
    ],
)
def test_every_dependency_is_pinned_to_a_version_it_allows(name: str, wanted: list[str]) -> None:
    pinned = pins(name)
    for dependency in map(Requirement, wanted):
        found = pinned.get(canonicalize_name(dependency.name), [])
        assert found, f"{dependency} is not pinned: type 'make lock'"
        versions = [next(iter(pin.specifier)).version for pin in found]
        assert all(dependency.specifier.contains(version) for version in versions), f"{dependency}: type 'make lock'"


@pytest.mark.parametrize("name", ["dev", "local", "postgres"])
def test_a_set_that_is_added_to_the_base_changes_none_of_its_versions(name: str) -> None:
    added = pins(name)
    for package, versions in pins("base").items():
        assert list(map(str, added[package])) == list(map(str, versions))


def test_the_base_carries_no_torch() -> None:
    assert not {"torch", "torchaudio", "triton"} & set(pins("base"))


@pytest.mark.parametrize("name", SETS)
def test_every_pin_has_hashes_and_no_file_names_a_registry(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    assert all("--hash=sha256:" in entry for entry in entries if not entry.startswith("#"))
    assert not re.search(r"://|--index|--extra-index|--find-links|file:", text)


def test_the_page_is_locked_without_a_registry_s_address() -> None:
    assert '"resolved"' not in (ROOT / "web" / "package-lock.json").read_text()


def test_the_example_of_settings_is_current() -> None:
    assert (ROOT / ".env.example").read_text() == example(), "type '.venv/bin/python -m settings > .env.example'"
