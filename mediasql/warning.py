"""Warnings for the line of code of the application that led to them."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

from .errors import MediaWarning, redact

# Packages through which a statement comes from the application: a warning points to whoever called them.
_BETWEEN = frozenset({"mediasql", "apsw", "sqlite3", "sqlite_utils", "click", "sqlalchemy", "pandas"})


def application_frame() -> FrameType | None:
    """Return the frame of the application that called mediasql; None where that is no Python code."""
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
    """Give a warning, without secrets, for the line of the application that led here."""
    frame = application_frame()
    if frame is None:
        warnings.warn_explicit(redact(message), category, "mediasql", 1)
        return
    registry = frame.f_globals.setdefault("__warningregistry__", {})
    module = str(frame.f_globals.get("__name__", "<unknown>"))
    warnings.warn_explicit(redact(message), category, frame.f_code.co_filename, frame.f_lineno, module, registry)
