"""SQL over media, wherever it lives: images, video and audio in S3, GCS, Azure, HTTP and local files, from SQLite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import errors
from .errors import (
    CacheWarning,
    ConfigError,
    CredentialsError,
    DecodeError,
    Forbidden,
    ForbiddenByPolicy,
    MediaError,
    MediaWarning,
    MissingExtra,
    NotFound,
    SetupError,
    SigningError,
    TransientError,
    UnavailableError,
    UnknownScheme,
    Unsupported,
    UsageError,
)

if TYPE_CHECKING:
    from .config import Config
    from .connection import MediaConnection, MediaCursor, connect, media_function, register
    from .plugins.notebook import load_ipython_extension, unload_ipython_extension
    from .sql.loadable.loading import load, loadable_path
    from .storage.filesystem import filesystem

__version__ = "0.1.0"

__all__ = [
    "CacheWarning",
    "Config",
    "ConfigError",
    "CredentialsError",
    "DecodeError",
    "Forbidden",
    "ForbiddenByPolicy",
    "MediaConnection",
    "MediaCursor",
    "MediaError",
    "MediaWarning",
    "MissingExtra",
    "NotFound",
    "SetupError",
    "SigningError",
    "TransientError",
    "UnavailableError",
    "UnknownScheme",
    "Unsupported",
    "UsageError",
    "__version__",
    "connect",
    "errors",
    "filesystem",
    "load",
    "load_ipython_extension",
    "loadable_path",
    "media_function",
    "register",
    "unload_ipython_extension",
]

_LAZY = {
    "Config": "config",
    "MediaConnection": "connection",
    "MediaCursor": "connection",
    "connect": "connection",
    "filesystem": "storage.filesystem",
    "load": "sql.loadable.loading",
    "loadable_path": "sql.loadable.loading",
    "load_ipython_extension": "plugins.notebook",
    "media_function": "connection",
    "register": "connection",
    "unload_ipython_extension": "plugins.notebook",
}


def __getattr__(name: str) -> Any:
    """Import what needs APSW when it is first asked for, so that `import mediasql` stays quick."""
    if name not in _LAZY:
        raise AttributeError(f"module 'mediasql' has no attribute {name!r}")
    from .storage.imports import module

    value = globals()[name] = getattr(module(f"mediasql.{_LAZY[name]}"), name)
    return value
