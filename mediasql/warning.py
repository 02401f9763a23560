"""Gives warnings at the line of the application that caused them."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

from .errors import MediaWarning, redact

# Packages between the application and SQLite: a warning points to the code that called them.
_BETWEEN = frozenset({"mediasql", "apsw", "sqlite3", "sqlite_utils", "click", "sqlalchemy", "pandas"})


def application_frame() -> FrameType | None:
    """Return the frame of the application that called mediasql; None when the caller is not Python code."""
    frame: FrameType | None = sys._getframe(1)
    found = None
    while frame is not None:
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if package != "mediasql":
            found = frame
            if package not in _BETWEEN:
                break
        frame = frame.f_back
    return found


def warn(message: str, category: type[MediaWarning] = MediaWarning) -> None:
    """Give a warning, with secrets redacted, at the line of the application that called mediasql."""
    frame = application_frame()
    if frame is None:
        warnings.warn_explicit(redact(message), category, "mediasql", 1)
        return
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    module = str(frame.f_globals.get("__name__", "<unknown>"))
    warnings.warn_explicit(redact(message), category, frame.f_code.co_filename, frame.f_lineno, module, registry)
