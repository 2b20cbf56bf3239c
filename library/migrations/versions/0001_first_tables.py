"""The first tables: voices, personalities, latents, conversations, messages, leases, holders."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
_ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "voices",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("language", sa.String(35), nullable=False),
        sa.Column("engines", _JSON, nullable=False),
        sa.Column("samples", _JSON, nullable=False),
        sa.Column("rate", sa.Double(), nullable=False),
        sa.Column("pitch", sa.Double(), nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("shipped_hash", sa.String(64)),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_voices"),
    )
    op.create_table(
        "personalities",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("language", sa.String(35), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("greeting", sa.Text(), nullable=False),
        sa.Column("voice_id", sa.String(64), nullable=False),
        sa.Column("patience", sa.Double(), nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("shipped_hash", sa.String(64)),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_personalities"),
        sa.ForeignKeyConstraint(["voice_id"], ["voices.id"], name="fk_personalities_voice_id", ondelete="RESTRICT"),
    )
    op.create_index("ix_personalities_voice_id", "personalities", ["voice_id"])
    op.create_table(
        "latents",
        sa.Column("id", _ROW_NUMBER, nullable=False),
        sa.Column("voice_id", sa.String(64), nullable=False),
        sa.Column("checkpoint", sa.String(200), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("meta", _JSON, nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_latents"),
        sa.ForeignKeyConstraint(["voice_id"], ["voices.id"], name="fk_latents_voice_id", ondelete="CASCADE"),
    )
    op.create_index("uq_latents_voice_id_checkpoint", "latents", ["voice_id", "checkpoint"], unique=True)
    op.create_table(
        "conversations",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("personality", sa.Text()),
        sa.Column("voice", sa.Text()),
        sa.Column("user", sa.Text()),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_conversations"),
    )
    op.create_table(
        "messages",
        sa.Column("id", _ROW_NUMBER, nullable=False),
        sa.Column("conversation_id", sa.String(200), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("interrupted", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_messages"),
        sa.ForeignKeyConstraint(
            ["conversation_id"], ["conversations.id"], name="fk_messages_conversation_id", ondelete="CASCADE"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_messages_conversation_id_id", "messages", ["conversation_id", "id"])
    op.create_table(
        "leases",
        sa.Column("session_id", sa.String(200), nullable=False),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("holder", sa.String(120), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("claimed_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_leases"),
        sa.UniqueConstraint("token", name="uq_leases_token"),
    )
    op.create_index("ix_leases_expires_at", "leases", ["expires_at"])
    op.create_table(
        "holders",
        sa.Column("id", sa.String(120), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("held", sa.Integer(), nullable=False),
        sa.Column("limit", sa.Integer()),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_holders"),
    )


def downgrade() -> None:
    for table in ("holders", "leases", "messages", "conversations", "latents", "personalities", "voices"):
        op.drop_table(table)
