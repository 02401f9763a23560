"""Progress bars: on standard error, on a terminal unless asked for, for what takes longer than a second."""

from __future__ import annotations

import sys
from typing import Any


def bar(wanted: bool | None, total: int | None, description: str, unit: str) -> Any:
    """A tqdm bar as a context manager. `wanted` None means: where standard error is a terminal."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        delay=0 if wanted else 1,
        leave=False,
        disable=not (sys.stderr.isatty() if wanted is None else wanted),
        file=sys.stderr,
    )
