"""mediasql itself: its version and configuration."""

from __future__ import annotations

from typing import Any

from ... import __version__
from ...config import Config
from ...errors import ConfigError, redact
from ..registry import Session, function


@function()
def media_version() -> str:
    """The version of mediasql.

    sql> SELECT media_version() GLOB '[0-9]*.[0-9]*.[0-9]*'
    1
    """
    return __version__


@function(deterministic=False)
def media_config(session: Session, name: str) -> Any:
    """One option of this connection's configuration. Credentials in `storage_options` are not shown.

    sql> SELECT media_config('timeout'), media_config('on_error')
    60.0|null
    """
    if name not in Config.describe():
        raise ConfigError(f"there is no option {name!r}; there are: {', '.join(Config.describe())}")
    value = getattr(session.config, name)
    if name == "storage_options":
        return {prefix: sorted(options) for prefix, options in value.items()}
    return redact(value) if isinstance(value, str) else value
