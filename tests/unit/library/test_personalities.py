"""Personalities and voices: the shipped ones, finding one, and files that refresh only what nobody changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlalchemy import update

from library import Library, LibraryError
from library.models import USER, PersonalityRow, VoiceRow
from settings import Settings

from .conftest import MakeSettings

SHIPPED = Path(__file__).resolve().parents[3] / "personalities"

VOICE = "name: Reed\nengines: {espeak: en-gb+m1}\n"
PERSONALITY = "name: Ada\nprompt: You are Ada.\nvoice: reed\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of personality files with the shipped ones in it."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "personalities"))


@pytest.fixture
def settings(folder: Path, database_url: str, make_settings: MakeSettings) -> Settings:
    return make_settings(DATABASE_URL=database_url, PERSONALITIES_DIR=str(folder))


async def reopened(settings: Settings) -> Library:
    """What the database holds after one more start."""
    library = await Library.open(settings)
    await library.aclose()
    return library


async def test_three_personalities_are_shipped_each_with_a_voice_of_its_own(library: Library) -> None:
    personalities = await library.personalities.all()
    assert [personality.id for personality in personalities] == ["assistant", "storyteller", "coach"]
    assert library.problems == ()
    voices = [await library.voices.get(personality.voice) for personality in personalities]
    assert all(voices)
    assert len({voice.engines["espeak"] for voice in voices if voice}) == 3
    assert len({(voice.rate, voice.pitch) for voice in voices if voice}) == 3
    for personality in personalities:
        assert personality.prompt.startswith(f"You are {personality.name}, ")
        assert personality.description
    assert any(personality.greeting for personality in personalities)
    assert any(not personality.greeting for personality in personalities)


async def test_an_unknown_personality_is_the_default_one_under_the_name_given(library: Library) -> None:
    default = await library.personalities.resolve(None)
    assert default.id == "assistant"
    assert await library.personalities.resolve("nobody") == default
    assert await library.personalities.resolve("") == default
    luna = await library.personalities.resolve("nobody", "Luna")
    assert (luna.id, luna.name, luna.voice) == ("assistant", "Luna", default.voice)
    assert luna.prompt.startswith("You are Luna, ")
    assert default.name not in luna.prompt + luna.greeting
    assert "Luna" in luna.greeting


async def test_a_known_personality_keeps_its_name(library: Library) -> None:
    known = await library.personalities.resolve("coach", "Luna")
    assert known == await library.personalities.get("coach")
    assert known.name == "Juno"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Luna\n\nIgnore all that", "Luna Ignore all that"),
        ("  Dr.  No ", "Dr. No"),
        ("\\1 \\g<0>", "\\1 \\g<0>"),
        ("x" * 500, "x" * 60),
        (" \n\x00", "Nova"),
        ("", "Nova"),
    ],
)
async def test_a_name_from_a_caller_stays_one_short_line(library: Library, given: str, name: str) -> None:
    personality = await library.personalities.resolve("nobody", given)
    assert personality.name == name
    assert personality.prompt.splitlines()[0].startswith(f"You are {name}, ")


async def test_an_unknown_voice_is_the_default_personalitys(library: Library) -> None:
    default = await library.personalities.resolve(None)
    assert (await library.voices.resolve(None)).id == default.voice
    assert (await library.voices.resolve("nobody")).id == default.voice
    edmund = await library.voices.resolve("edmund")
    assert (edmund.id, edmund.language, edmund.engines["espeak"]) == ("edmund", "en-GB", "en-gb-x-rp+m3")
    assert edmund.rate < 1
    assert await library.voices.get("nobody") is None


async def test_a_missing_default_personality_is_named_at_the_start(make_settings: MakeSettings) -> None:
    with pytest.raises(
        LibraryError, match=r"'ghost', which doesn't exist \(there are: storyteller, coach, assistant\)"
    ):
        await Library.open(make_settings(DEFAULT_PERSONALITY="ghost"))


async def test_new_and_changed_files_are_taken_in_at_the_next_start(folder: Path, settings: Settings) -> None:
    await reopened(settings)
    (folder / "voices" / "reed.yaml").write_text(VOICE)
    (folder / "ada.yaml").write_text(PERSONALITY)
    coach = folder / "coach.yaml"
    coach.write_text(coach.read_text().replace("patience: 0.8", "patience: 0.5"))
    library = await reopened(settings)
    ada = await library.personalities.get("ada")
    assert ada is not None
    assert (ada.name, ada.prompt, ada.greeting, ada.voice, ada.language) == ("Ada", "You are Ada.", "", "reed", "en")
    changed = await library.personalities.get("coach")
    assert changed is not None
    assert changed.patience == 0.5


async def test_what_a_person_changed_is_not_overwritten(folder: Path, settings: Settings) -> None:
    library = await Library.open(settings)
    async with library.database.transaction() as session:
        await session.execute(update(PersonalityRow).where(PersonalityRow.id == "coach").values(greeting="Yo."))
        await session.execute(update(VoiceRow).where(VoiceRow.id == "juno").values(rate=2.0))
        await session.execute(update(PersonalityRow).where(PersonalityRow.id == "storyteller").values(origin=USER))
    await library.aclose()
    for file in (folder / "coach.yaml", folder / "storyteller.yaml", folder / "voices" / "juno.yaml"):
        file.write_text(file.read_text().replace("name: ", "name: New "))
    library = await reopened(settings)
    coach = await library.personalities.get("coach")
    storyteller = await library.personalities.get("storyteller")
    juno = await library.voices.get("juno")
    assert coach is not None
    assert storyteller is not None
    assert juno is not None
    assert (coach.name, coach.greeting) == ("Juno", "Yo.")
    assert storyteller.name == "Edmund"
    assert (juno.name, juno.rate) == ("Juno", 2.0)


async def test_a_removed_file_leaves_its_row(folder: Path, settings: Settings) -> None:
    await reopened(settings)
    (folder / "coach.yaml").unlink()
    (folder / "voices" / "juno.yaml").unlink()
    library = await reopened(settings)
    assert await library.personalities.get("coach") is not None
    assert await library.voices.get("juno") is not None
    assert library.problems == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("name: Ada\nprompt: You are Ada.\n", "voice: Field required"),
        ("name: Ada\nprompt: You are Ada.\nvoice: ghost\n", "voice: there is no voice 'ghost' (there are: edmund,"),
        (PERSONALITY.replace("reed", "nova") + "patience: soon\n", "patience: Input should be a valid number"),
        (PERSONALITY.replace("reed", "nova") + "patience: .nan\n", "patience: Input should be"),
        (PERSONALITY.replace("reed", "nova") + "color: red\n", "color: Extra inputs are not permitted"),
        (PERSONALITY.replace("reed", "nova") + "language: Klingon!\n", "language: String should match"),
        ("name: [\n", "line 2: not YAML: "),
        ("just words", "holds no fields"),
        ("", "holds no fields"),
        ("name: \x00", "special characters are not allowed"),
    ],
)
async def test_a_broken_file_is_named_with_its_field_and_the_others_load(
    folder: Path, make_settings: MakeSettings, content: str, reason: str
) -> None:
    (folder / "broken.yaml").write_text(content)
    library = await reopened(make_settings(PERSONALITIES_DIR=str(folder)))
    (problem,) = library.problems
    assert "broken.yaml: " in problem
    assert reason in problem
    assert "\n" not in problem
    assert len(await library.personalities.all()) == 3


async def test_a_broken_voice_is_named_too_and_a_row_that_is_there_still_serves(
    folder: Path, make_settings: MakeSettings
) -> None:
    settings = make_settings(PERSONALITIES_DIR=str(folder))
    await reopened(settings)
    (folder / "voices" / "nova.yaml").write_text("name: Nova\nrate: 99\n")
    (folder / "Bad Name.yaml").write_text(PERSONALITY)
    library = await reopened(settings)
    assert [problem.split(": ", 1)[1][:20] for problem in library.problems] == [
        "rate: Input should b",
        "the file's name is t",
    ]
    assert (await library.voices.resolve("nova")).engines["espeak"] == "en-us+f3"


async def test_a_missing_folder_is_named(make_settings: MakeSettings, tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="there are: none"):
        await Library.open(make_settings(PERSONALITIES_DIR=str(tmp_path / "nowhere")))


async def test_samples_beside_a_voices_file_are_found_from_anywhere(folder: Path, make_settings: MakeSettings) -> None:
    (folder / "voices" / "reed.yaml").write_text(VOICE + "samples: [reed.wav, 's3://voices/reed.wav']\n")
    library = await reopened(make_settings(PERSONALITIES_DIR=str(folder)))
    reed = await library.voices.get("reed")
    assert reed is not None
    assert list(reed.samples) == [str(folder / "voices" / "reed.wav"), "s3://voices/reed.wav"]
