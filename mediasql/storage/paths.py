"""Paths of files, whose bytes need not be UTF-8: as text for SQL and for people, and as SQLite takes them."""

from __future__ import annotations

import os
from urllib.parse import quote


def path_text(path: str) -> str:
    """Return a path as text that can be stored and shown: bytes that are not UTF-8 become escapes such as `\\xe9`."""
    return path if path.isascii() else os.fsencode(path).decode(errors="backslashreplace")


def is_utf8(path: str) -> bool:
    """Return whether a path can be given to SQLite as it is."""
    return path_text(path) == path


def sqlite_uri(path: str) -> str:
    """Return the URI by which SQLite opens the file at `path`, whatever its name; for SQLITE_OPEN_URI."""
    return f"file:{quote(os.fsencode(path), safe='')}"  # with slashes, it might have an authority
