"""One value of a result: as text, as HTML, and what kind of media it is.

Every value, name and URL is of the database, and may be hostile: all go through `escape`, and only http, https and
what is made here becomes an address.
"""

from __future__ import annotations

import html
import os
import re
from dataclasses import dataclass, field
from typing import Any

from ...media.kinds import KINDS
from ...media.probe import probe_bytes
from ...storage.location import Location
from ...storage.providers.local import local_path

LONGEST = 300  # characters of a value that are shown
_LONGEST_URL = 8192
# Of a reason. With a background of its own it can be read on pages of any colour.
REASON = "color:#8e1b12;background:#fdecea;padding:1px 6px;display:inline-block;font-size:smaller"
_DECLARED = {"IMAGE": "image", "VIDEO": "video", "AUDIO": "audio", "MEDIA": "media"}
_WORD = re.compile(r"\s*(\w+)")
_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]"
)  # also those that break lines, or turn text around


@dataclass(slots=True)
class Cell:
    """A value. `kind` is 'image', 'video', 'audio', 'media' (one of them) or None; `html` is set when it is drawn."""

    value: Any
    kind: str | None
    text: str = field(init=False)
    html: str = field(init=False)
    failed: bool = False

    def __post_init__(self) -> None:
        self.text = plain(self.value)
        grey = self.value is None or isinstance(self.value, bytes)
        self.html = f'<span style="opacity:.6">{escape(self.text)}</span>' if grey else escape(self.text)


def escape(text: str) -> str:
    """`text` for HTML, in an attribute too."""
    return html.escape(text.replace("\0", "\ufffd"), quote=True)


def plain(value: Any) -> str:
    """A value on one line, cut to a readable length."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"BLOB of {len(value):,} byte{'' if len(value) == 1 else 's'}"
    text = value if isinstance(value, str) else str(value)
    cut = text[:LONGEST] + "…" if len(text) > LONGEST else text
    return _CONTROL.sub(" ", cut)


def declared_kind(type: str | None) -> str | None:
    """The kind of media that a column was declared to hold."""
    word = _WORD.match(type or "")
    return _DECLARED.get(word[1].upper()) if word else None


def kind_of(declared: str | None, value: Any, policy: Any) -> str | None:
    """What kind of media a value is, as far as its column, its name or its first bytes tell.

    In columns that are not declared as media, a URL counts by its extension, and a path if there is such a file.
    """
    if isinstance(value, bytes):
        info = probe_bytes(value).info if value else None
        return info.media_type if info is not None else declared
    if not isinstance(value, str) or not value or "\0" in value:
        return None
    if len(value) > _LONGEST_URL and value[:5].lower() != "data:":
        return None
    location = Location.parse(value)
    if location.scheme == "data":
        said = value[5:].partition("/")[0].lower()
        return said if said in _DECLARED.values() else declared
    kind = KINDS.get(location.extension)
    if declared is not None:
        return declared if declared != "media" else kind or declared
    if kind is None or "\n" in value:
        return None
    if location.scheme == "file":
        return kind if (policy is None or policy.permits(location)) and os.path.isfile(local_path(location)) else None
    return kind
