"""SQL over media, wherever it lives: images, video and audio in S3, GCS, Azure, HTTP and local files, from SQLite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import errors
from .errors import (
    ConfigError,
    CredentialsError,
    DecodeError,
    Forbidden,
    MediaError,
    MissingExtra,
    NotFound,
    SigningError,
    TransientError,
    UnavailableError,
    UnknownScheme,
    Unsupported,
    UsageError,
)

if TYPE_CHECKING:
    from .config import Config
    from .connection import MediaConnection, connect, media_function, register

__version__ = "0.1.0"

__all__ = [
    "Config",
    "ConfigError",
    "CredentialsError",
    "DecodeError",
    "Forbidden",
    "MediaConnection",
    "MediaError",
    "MissingExtra",
    "NotFound",
    "SigningError",
    "TransientError",
    "UnavailableError",
    "UnknownScheme",
    "Unsupported",
    "UsageError",
    "__version__",
    "connect",
    "errors",
    "media_function",
    "register",
]

_LAZY = {
    "Config": "config",
    "MediaConnection": "connection",
    "connect": "connection",
    "media_function": "connection",
    "register": "connection",
}


def __getattr__(name: str) -> Any:
    """Import what needs APSW when it is first asked for, so that `import mediasql` stays quick."""
    if name not in _LAZY:
        raise AttributeError(f"module 'mediasql' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"mediasql.{_LAZY[name]}"), name)
    return value
