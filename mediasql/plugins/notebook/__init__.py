"""Query results that a notebook shows: thumbnails, players, and what failed. Nothing here needs IPython."""

from __future__ import annotations

from .magic import load_ipython_extension, unload_ipython_extension
from .results import ROWS, Shown, show

__all__ = ["ROWS", "Shown", "load_ipython_extension", "show", "unload_ipython_extension"]
