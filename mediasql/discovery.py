"""Finds what others may add: providers, header parsers, functions and tables.

A distribution names its packages or modules in the entry point group `mediasql`; all modules of a package named
there are imported, and what they define by decorator or subclass is registered. The built-ins come in the same way.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .storage.providers.base import Provider


@cache
def load_all() -> tuple[ModuleType, ...]:
    """Import every module that an entry point of group `mediasql` names, and the modules of its packages."""
    modules = []
    for point in sorted(entry_points(group="mediasql")):
        root = importlib.import_module(point.module)
        modules.append(root)
        for found in pkgutil.iter_modules(getattr(root, "__path__", ()), f"{root.__name__}."):
            modules.append(importlib.import_module(found.name))
    return tuple(modules)


@cache
def providers() -> dict[str, type[Provider]]:
    """Provider classes by scheme; '*' serves the schemes that no other claims."""
    load_all()
    from .storage.providers.base import Provider

    found: dict[str, type[Provider]] = {}
    pending = Provider.__subclasses__()
    while pending:
        kind = pending.pop()
        pending.extend(kind.__subclasses__())
        found.update(dict.fromkeys(kind.schemes, kind))
    return found
