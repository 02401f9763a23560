"""Paths of files, whose bytes need not be UTF-8: as text for SQL and for people, and as SQLite takes them."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from ..errors import NotFound


def absolute(path: str, *, normalised: bool = True) -> str:
    """Return a path from the root on; `normalised` is without '.' and '..', which may be another where links are.

    Raises NotFound for a relative path where the working directory is gone.
    """
    try:
        return os.path.abspath(path) if normalised else os.fspath(Path(path).absolute())
    except OSError as error:
        raise NotFound(f"there is no working directory: {error.strerror}") from None


def path_text(path: str) -> str:
    """Return a path as text that can be stored and shown: bytes that are not UTF-8 become escapes such as `\\xe9`."""
    return path if path.isascii() else os.fsencode(path).decode(errors="backslashreplace")


def is_utf8(path: str) -> bool:
    """Return whether a path can be given to SQLite as it is."""
    return path_text(path) == path


def sqlite_uri(path: str) -> str:
    """Return the URI by which SQLite opens the file at `path`, whatever its name; for SQLITE_OPEN_URI."""
    return f"file:{quote(os.fsencode(path), safe='')}"  # with slashes, it might have an authority
