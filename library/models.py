"""The tables: personalities, voices, latents, conversations and their messages, leases and their holders.

Moments are unix seconds (float) everywhere, so that both databases and the wire formats agree on them.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Double, ForeignKey, Index, Integer, MetaData, String, Text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ID_LENGTH = 64
"""Longest id of a personality or voice, in characters."""

SESSION_ID_LENGTH = 200
"""Longest name of a conversation, in characters."""

SHIPPED = "shipped"
"""Origin of a row that came from a file of the personalities folder."""

USER = "user"
"""Origin of a row that a person made through the API."""

Json = JSON().with_variant(JSONB(), "postgresql")
RowNumber = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts up INTEGER keys only


class Base(DeclarativeBase):
    """All tables, with names for their constraints so that later migrations can change them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class _Shippable:
    """Columns of what may come from a file: who made the row, and what the file last put into it."""

    origin: Mapped[str] = mapped_column(String(16))
    shipped_hash: Mapped[str | None] = mapped_column(String(64))
    """Hash of the content the file put here; a row whose content hashes otherwise was changed by a person."""
    created_at: Mapped[float] = mapped_column(Double)
    updated_at: Mapped[float] = mapped_column(Double)


class VoiceRow(_Shippable, Base):
    """A voice, with what each engine needs to speak in it."""

    __tablename__ = "voices"

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    language: Mapped[str] = mapped_column(String(35))
    engines: Mapped[dict[str, str]] = mapped_column(Json)
    samples: Mapped[list[str]] = mapped_column(Json)
    rate: Mapped[float] = mapped_column(Double)
    pitch: Mapped[float] = mapped_column(Double)


class PersonalityRow(_Shippable, Base):
    """Who the agent is: its prompt, its greeting, its voice."""

    __tablename__ = "personalities"

    id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    description: Mapped[str] = mapped_column(Text)
    language: Mapped[str] = mapped_column(String(35))
    prompt: Mapped[str] = mapped_column(Text)
    greeting: Mapped[str] = mapped_column(Text)
    voice_id: Mapped[str] = mapped_column(ForeignKey("voices.id", ondelete="RESTRICT"), index=True)
    patience: Mapped[float] = mapped_column(Double)


class LatentsRow(Base):
    """A voice's conditioning for one checkpoint of an engine that clones; the numbers are in a file."""

    __tablename__ = "latents"
    __table_args__ = (Index("uq_latents_voice_id_checkpoint", "voice_id", "checkpoint", unique=True),)

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    voice_id: Mapped[str] = mapped_column(ForeignKey("voices.id", ondelete="CASCADE"))
    checkpoint: Mapped[str] = mapped_column(String(200))
    path: Mapped[str] = mapped_column(Text)
    meta: Mapped[dict[str, Any]] = mapped_column(Json)
    created_at: Mapped[float] = mapped_column(Double)


class ConversationRow(Base):
    """A conversation by its session id, and what it was held with."""

    __tablename__ = "conversations"

    id: Mapped[str] = mapped_column(String(SESSION_ID_LENGTH), primary_key=True)
    personality: Mapped[str | None] = mapped_column(Text)
    voice: Mapped[str | None] = mapped_column(Text)
    user: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[float] = mapped_column(Double)
    updated_at: Mapped[float] = mapped_column(Double)


class MessageRow(Base):
    """One message of a conversation; its number gives the order."""

    __tablename__ = "messages"
    __table_args__ = (Index(None, "conversation_id", "id"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(RowNumber, primary_key=True)
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.id", ondelete="CASCADE"))
    role: Mapped[str] = mapped_column(String(16))
    content: Mapped[str] = mapped_column(Text)
    at: Mapped[float] = mapped_column(Double)
    interrupted: Mapped[bool] = mapped_column(Boolean)


class LeaseTable(Base):
    """Who holds a conversation now; the newest claim owns the row."""

    __tablename__ = "leases"

    session_id: Mapped[str] = mapped_column(String(SESSION_ID_LENGTH), primary_key=True)
    token: Mapped[str] = mapped_column(String(32), unique=True)
    """Made anew by each claim; who carries it may write the conversation."""
    holder: Mapped[str] = mapped_column(String(120))
    kind: Mapped[str] = mapped_column(String(16))
    place: Mapped[str] = mapped_column(Text)
    """Where the conversation goes on: a room's name, a socket."""
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", Json)
    claimed_at: Mapped[float] = mapped_column(Double)
    expires_at: Mapped[float] = mapped_column(Double, index=True)


class HolderTable(Base):
    """What each process holds and how much it would hold."""

    __tablename__ = "holders"

    id: Mapped[str] = mapped_column(String(120), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    held: Mapped[int] = mapped_column(Integer)
    limit: Mapped[int | None] = mapped_column(Integer)
    at: Mapped[float] = mapped_column(Double)
