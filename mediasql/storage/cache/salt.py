"""What the digests of one cache are made with, so that those of another tell nothing about them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from . import place
from .database import make_private

_LENGTH = 32  # bytes
_salts: dict[Path | None, bytes] = {}


def salt(folder: Path | None) -> bytes:
    """Return the salt of the cache in `folder`, made when there is none; one of this process where none can be kept."""
    found = _salts.get(folder)
    if found is None:
        try:
            found = _shared(folder) if folder is not None else secrets.token_bytes(_LENGTH)
        except OSError as error:
            found = secrets.token_bytes(_LENGTH)
            if folder is not None:
                place.warn(folder, f"its file 'salt' cannot be read or made: {error.strerror}")
        found = _salts.setdefault(folder, found)
    return found


def _shared(folder: Path) -> bytes:
    path = folder / "salt"
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        found = b""
    if len(found) != _LENGTH:
        make_private(folder)
        found = secrets.token_bytes(_LENGTH)
        draft = folder / f"salt-{secrets.token_hex(8)}"
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(found)
        os.replace(draft, path)
        found = path.read_bytes()  # of whoever was last, should others have done so too
    return found
