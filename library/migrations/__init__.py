"""Alembic migrations; `REVISIONS` lists them, so that a database that is up to date opens without loading Alembic."""

from __future__ import annotations

REVISIONS = ("0001",)
"""Every revision, oldest first; a test holds this list against the files in `versions/`."""

HEAD = REVISIONS[-1]
"""The revision this program works with."""
