"""Opening the database: made from nothing, left alone when current, and refused in words when it can't be used."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert, inspect, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateTable

import library.migrations
from library import Database, DatabaseError
from library.__main__ import main
from library.address import parse
from library.migrations import HEAD, REVISIONS
from library.models import Base, ConversationRow, LatentsRow, MessageRow, VoiceRow

from .conftest import MakeSettings


def voice_row(id: str) -> VoiceRow:
    values = {"name": id, "language": "en", "engines": {}, "samples": [], "rate": 1.0, "pitch": 1.0}
    return VoiceRow(id=id, origin="user", created_at=1.0, updated_at=1.0, **values)


async def test_migrations_make_exactly_the_models_tables(database_url: str, make_settings: MakeSettings) -> None:
    database = await Database.open(make_settings(DATABASE_URL=database_url))

    def differences(connection: Connection) -> list[object]:
        return compare_metadata(MigrationContext.configure(connection), Base.metadata)

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await database.aclose()


def test_the_list_of_revisions_is_that_of_the_files() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(library.migrations.__file__).parent))
    files = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert list(reversed(files)) == list(REVISIONS)


async def test_an_open_database_keeps_what_was_written(database_url: str, make_settings: MakeSettings) -> None:
    settings = make_settings(DATABASE_URL=database_url)
    for number in range(3):
        database = await Database.open(settings)
        async with database.transaction() as session:
            session.add(voice_row(f"v{number}"))
        async with database.session() as session:
            assert len(list(await session.scalars(select(VoiceRow)))) == number + 1
        await database.aclose()


async def test_many_can_open_a_fresh_database_at_once(database_url: str, make_settings: MakeSettings) -> None:
    settings = make_settings(DATABASE_URL=database_url)
    for database in await asyncio.gather(*(Database.open(settings) for _ in range(6))):
        async with database.session() as session:
            assert (await session.execute(text("SELECT version_num FROM alembic_version"))).scalar() == HEAD
        await database.aclose()


async def test_sqlite_is_set_up_for_several_writers(make_settings: MakeSettings) -> None:
    database = await Database.open(make_settings())
    async with database.session() as session:
        found = {
            name: (await session.execute(text(f"PRAGMA {name}"))).scalar()
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        }
    await database.aclose()
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 1, "busy_timeout": 500}


async def test_a_failed_transaction_leaves_nothing(database_url: str, make_settings: MakeSettings) -> None:
    database = await Database.open(make_settings(DATABASE_URL=database_url))
    with pytest.raises(KeyError):
        async with database.transaction() as session:
            session.add(voice_row("v"))
            await session.flush()
            raise KeyError
    async with database.session() as session:
        assert await session.get(VoiceRow, "v") is None
    await database.aclose()


async def test_writing_in_a_reading_session_is_a_mistake_that_is_told(make_settings: MakeSettings) -> None:
    database = await Database.open(make_settings())
    with pytest.raises(RuntimeError, match="transaction"):
        async with database.session() as session:
            session.add(voice_row("v"))
    await database.aclose()


async def test_rows_that_belong_to_others_follow_them(database_url: str, make_settings: MakeSettings) -> None:
    database = await Database.open(make_settings(DATABASE_URL=database_url))
    latents = {"checkpoint": "c", "path": "p", "meta": {"seconds": 6.5}, "created_at": 1.0}
    async with database.transaction() as session:
        session.add(voice_row("v"))
        await session.flush()
        session.add(LatentsRow(voice_id="v", **latents))
    with pytest.raises(IntegrityError):
        async with database.transaction() as session:
            session.add(LatentsRow(voice_id="v", **latents))
    with pytest.raises(IntegrityError):
        async with database.transaction() as session:
            session.add(MessageRow(conversation_id="none", role="user", content="", at=1.0, interrupted=False))
    async with database.transaction() as session:
        await session.delete(await session.get_one(VoiceRow, "v"))
    async with database.session() as session:
        assert list(await session.scalars(select(LatentsRow))) == []
    await database.aclose()


async def test_a_newer_database_is_refused(database_url: str, make_settings: MakeSettings) -> None:
    settings = make_settings(DATABASE_URL=database_url)
    database = await Database.open(settings)
    async with database.transaction() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await database.aclose()
    with pytest.raises(DatabaseError, match=r"made by a newer Voice Node .*9999.* update this program"):
        await Database.open(settings)


async def test_another_programs_database_is_refused_untouched(database_url: str, make_settings: MakeSettings) -> None:
    settings = make_settings(DATABASE_URL=database_url)
    if database_url.startswith("sqlite"):
        settings.storage.data_dir.mkdir()
    database = Database(parse(database_url))
    async with database.transaction() as session:
        await session.execute(text("CREATE TABLE theirs (a INTEGER)"))
    with pytest.raises(DatabaseError, match=r"tables of another program \(theirs\)"):
        await Database.open(settings)
    async with database.engine.connect() as connection:
        assert await connection.run_sync(lambda sync: inspect(sync).get_table_names()) == ["theirs"]
    await database.aclose()


@pytest.mark.parametrize("keep", [0, 4096])
async def test_a_damaged_file_is_refused_with_the_fix(make_settings: MakeSettings, keep: int) -> None:
    settings = make_settings()
    await (await Database.open(settings)).aclose()
    file = settings.storage.data_dir / "voice-node.db"
    whole = file.read_bytes()
    file.write_bytes(whole[:keep] + b"\x5a" * (len(whole) - keep))
    with pytest.raises(DatabaseError, match=r"voice-node.db: .*(not a database|malformed).*move it away"):
        await Database.open(settings)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("no address", "not a database address"),
        ("mysql://user:geheim@host/name", "asks for mysql, which is not supported"),
        ("sqlite+aiosqlite://", "names no file"),
        ("sqlite+aiosqlite:///:memory:", "names no file"),
        ("postgresql://user:geheim@127.0.0.1:1/name", r"user:\*\*\*@127.0.0.1:1/name fails .*check that it runs"),
    ],
)
async def test_a_wrong_address_is_refused_without_showing_its_password(
    make_settings: MakeSettings, address: str, reason: str
) -> None:
    with pytest.raises(DatabaseError, match=reason) as caught:
        await Database.open(make_settings(DATABASE_URL=address))
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_common_spellings_of_addresses_are_understood(scheme: str) -> None:
    assert parse(f"{scheme}://u@h/n").drivername == "postgresql+asyncpg"
    assert parse("sqlite:///file.db").drivername == "sqlite+aiosqlite"


def test_the_tables_compile_for_postgresql_with_its_own_types() -> None:
    ddl = {
        name: str(CreateTable(table).compile(dialect=postgresql.dialect()))
        for name, table in Base.metadata.tables.items()
    }
    assert "id BIGSERIAL NOT NULL" in ddl["messages"]
    assert "metadata JSONB NOT NULL" in ddl["leases"]
    assert "at DOUBLE PRECISION NOT NULL" in ddl["messages"]


async def test_two_writers_on_one_conversation_row_dont_collide(database_url: str, make_settings: MakeSettings) -> None:
    database = await Database.open(make_settings(DATABASE_URL=database_url))
    row = {"id": "s", "personality": None, "voice": None, "user": None, "created_at": 1.0, "updated_at": 1.0}

    async def write(number: int) -> None:
        async with database.transaction() as session:
            await session.execute(database.upsert(ConversationRow, "id", row, changes={"user": str(number)}))
            message = {"conversation_id": "s", "role": "user", "content": str(number), "at": 1.0, "interrupted": False}
            await session.execute(insert(MessageRow).values(message))

    await asyncio.gather(*(write(number) for number in range(20)))
    async with database.session() as session:
        written = list(await session.scalars(select(MessageRow.content).order_by(MessageRow.id)))
        kept = await session.get_one(ConversationRow, "s")
    assert sorted(map(int, written)) == list(range(20))
    assert kept.user == written[-1]
    await database.aclose()


def test_the_command_line_makes_and_checks_the_database(
    make_settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    make_settings()
    assert main(["check"]) == 0
    assert "not there yet" in capsys.readouterr().out
    assert main(["migrate"]) == 0
    assert f"up to date (revision {HEAD})" in capsys.readouterr().out
    assert main(["check"]) == 0
    assert "personalities: assistant, storyteller, coach" in capsys.readouterr().out


def test_the_command_line_tells_what_is_wrong(
    make_settings: MakeSettings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    make_settings(DATABASE_URL="sqlite+aiosqlite:////proc/nowhere/x.db")
    assert main(["migrate"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    (tmp_path / "personalities").mkdir()
    (tmp_path / "personalities" / "x.yaml").write_text("name: X\n")
    make_settings(PERSONALITIES_DIR=str(tmp_path / "personalities"))
    assert main(["check"]) == 1
    assert "x.yaml: prompt: Field required; voice: Field required" in capsys.readouterr().err
