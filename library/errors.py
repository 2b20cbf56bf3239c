"""What can go wrong in the library, each with a sentence that names the fix."""

from __future__ import annotations


class LibraryError(Exception):
    """The library cannot be used as it stands; the message is one line that names the fix."""


class DatabaseError(LibraryError):
    """The database can't be reached, read or brought up to date; the message names the fix."""


class SessionIdError(ValueError):
    """A conversation's name is empty, too long or not printable."""


class LeaseLost(LibraryError):
    """The conversation belongs to another holder now; nothing was written."""
