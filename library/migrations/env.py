"""Alembic's environment: migrates on the connection that library/upgrade.py hands over, within its transaction."""

from __future__ import annotations

from alembic import context

from library.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,  # SQLite changes tables by copying them
    transactional_ddl=True,
)
context.run_migrations()
