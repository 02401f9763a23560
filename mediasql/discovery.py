"""Finds what others may add: providers, header parsers, functions and tables.

A distribution names its packages or modules in the entry point group `mediasql`; all modules of a package named
there are imported, and what they define by decorator or subclass is registered. The built-ins come in the same way.
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from types import ModuleType
from typing import TYPE_CHECKING

from .errors import ConfigError

if TYPE_CHECKING:
    from .storage.providers.base import Provider


@cache
def load_all() -> tuple[ModuleType, ...]:
    """Import every module that an entry point of group `mediasql` names, and the modules of its packages."""
    modules: list[ModuleType] = []
    for point in sorted(entry_points(group="mediasql")):
        try:
            modules.extend(_modules(point.module))
        except Exception as error:
            if point.module.partition(".")[0] == __package__:
                raise
            # Somebody's broken extension must not take the rest away.
            warnings.warn(f"mediasql goes without {point.module}: {error!r}", RuntimeWarning, stacklevel=2)
    if not modules:
        raise ConfigError("mediasql was not installed, so that it cannot find its own parts; `pip install` it")
    return tuple(modules)


def _modules(name: str) -> Iterator[ModuleType]:
    """A module and, if it is a package, those in it."""
    root = importlib.import_module(name)
    yield root
    for found in pkgutil.iter_modules(getattr(root, "__path__", ()), f"{root.__name__}."):
        yield importlib.import_module(found.name)


@cache
def providers() -> dict[str, type[Provider]]:
    """Provider classes by scheme; '*' serves the schemes that no other claims.

    A provider from elsewhere takes a scheme from a built-in one.
    """
    load_all()
    from .storage.providers.base import Provider

    kinds: list[type[Provider]] = Provider.__subclasses__()
    for kind in kinds:  # grows on the way
        kinds.extend(kind.__subclasses__())
    kinds.sort(key=lambda kind: kind.__module__.partition(".")[0] != __package__)
    return {scheme: kind for kind in kinds for scheme in kind.__dict__.get("schemes", ())}
