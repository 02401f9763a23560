"""Where the cache is, how large it may be, and who is told when it is of no use."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

from ...config import Config
from ...errors import CacheWarning

GB = 1024**3
MOST = 20 * GB
SHARE = 0.2  # of what is free on the disk

_told: set[Path] = set()


def folder(config: Config) -> Path | None:
    """Return the folder of the cache, made or not; None where nothing is to be kept, or nobody can say where."""
    if config.cache_size == 0:
        return None
    try:
        if config.cache_dir is not None:
            return Path(config.cache_dir).expanduser().absolute()
        from platformdirs import user_cache_path

        return user_cache_path("mediasql", appauthor=False).expanduser().absolute()
    except RuntimeError:  # of a user id without an entry and without HOME, as in containers
        warn(Path(config.cache_dir or "~"), "this user has no home directory")
    except OSError as error:  # of a relative path below a working directory that is gone, or may not be looked at
        warn(Path(config.cache_dir or "~"), f"there is no working directory: {error.strerror}")
    return None


def capacity(config: Config, folder: Path, held: int = 0) -> int:
    """Bytes that it may take: as configured, by default the smaller of 20 GB and 20 % of what is free on the disk.

    `held` is what it takes already, and would be free without it.
    """
    if config.cache_size is not None:
        return config.cache_size
    try:
        there = next(path for path in (folder, *folder.parents) if os.path.exists(path))
        return min(MOST, int((shutil.disk_usage(there).free + held) * SHARE))
    except OSError:
        return MOST


def warn(folder: Path, reason: str) -> None:
    """Say once why a cache is of no use. Queries go on without it."""
    if folder in _told:
        return
    _told.add(folder)
    message = (
        f"the cache in {os.fspath(folder)} cannot be used for now: {reason}. Queries go on without it; "
        "MEDIASQL_CACHE_DIR or `cache_dir` names another folder, MEDIASQL_CACHE_SIZE=0 does without a cache"
    )
    warnings.warn(message, CacheWarning, stacklevel=2)
