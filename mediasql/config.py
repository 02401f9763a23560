"""Configuration: one immutable Config, and the only code that reads `MEDIASQL_*` variables.

The same names serve as keyword arguments of `connect`, as variables and in `media_config`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .errors import ConfigError

StorageOptions = Mapping[str, Mapping[str, Any]]


def _option(default: Any, parse: Callable[[Any], Any], doc: str) -> Any:
    metadata = {"parse": parse, "doc": doc}
    return (
        field(default_factory=default, metadata=metadata)
        if default is dict
        else field(default=default, metadata=metadata)
    )


def _positive(value: Any) -> float:
    number = float(value)
    if not 0 < number < float("inf"):
        raise ValueError("a positive number is needed")
    return number


def _count(value: Any) -> int:
    number = int(value)
    if number < 1 or number != float(value):
        raise ValueError("a whole number of 1 or more is needed")
    return number


def _age(value: Any) -> float | None:
    if value is None or str(value).lower() == "none":
        return None
    number = float(value)
    if not number >= 0:
        raise ValueError("seconds of 0 or more, or None, are needed")
    return number


def _one_of(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"one of {', '.join(map(repr, choices))} is needed")
        return str(value)

    return parse


def _flag(value: Any) -> bool | None:
    words = {
        "1": True,
        "true": True,
        "on": True,
        "0": False,
        "false": False,
        "off": False,
        "auto": None,
        "none": None,
    }
    word = str(value).lower()
    if word not in words:
        raise ValueError("'on', 'off' or 'auto' is needed")
    return words[word]


def _storage_options(value: Any) -> StorageOptions:
    if isinstance(value, str):
        value = json.loads(value)
    if not isinstance(value, Mapping) or not all(isinstance(part, Mapping) for part in value.values()):
        raise ValueError("a mapping of schemes or URL prefixes to mappings is needed, such as {'s3': {'anon': true}}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How one connection works. Build it with `Config.load`, which reads the environment and checks values."""

    timeout: float = _option(60.0, _positive, "seconds for one object, all retries included")
    concurrency: int = _option(256, _count, "most connections open at a time")
    max_age: float | None = _option(
        86400.0, _age, "seconds for which an answer is used again without asking the store; None: for ever"
    )
    on_error: str = _option(
        "null", _one_of("null", "raise"), "whether unavailable media becomes NULL or raises in queries"
    )
    progress: bool | None = _option(
        None, _flag, "progress bars on standard error: 'on', 'off', or 'auto' (on a terminal only)"
    )
    storage_options: StorageOptions = _option(
        dict, _storage_options, "fsspec options by scheme or URL prefix; the longest prefix wins"
    )

    @classmethod
    def load(cls, **given: Any) -> Config:
        """A Config of the arguments given, of `MEDIASQL_*` variables for the rest, of defaults for what remains.

        Raises ConfigError for a name that does not exist and a value that is not valid.
        """
        known = {option.name: option for option in fields(cls)}
        if unknown := sorted(set(given) - set(known)):
            raise ConfigError(f"mediasql has no option {unknown[0]!r}; there are: {', '.join(known)}")
        values: dict[str, Any] = {}
        for name, option in known.items():
            variable = f"MEDIASQL_{name.upper()}"
            if name in given:
                source, value = name, given[name]
            elif variable in os.environ:
                source, value = variable, os.environ[variable]
            else:
                continue
            try:
                values[name] = option.metadata["parse"](value)
            except (ValueError, TypeError) as error:
                shown = "the value given" if name == "storage_options" else repr(value)
                raise ConfigError(f"{source}: {shown} is not valid: {error}") from None
        return cls(**values)

    @classmethod
    def describe(cls) -> dict[str, str]:
        """Option names with what they mean, in order."""
        return {option.name: option.metadata["doc"] for option in fields(cls)}

    def options_for(self, url: str, scheme: str) -> dict[str, Any]:
        """The storage options for `url`: those of its scheme, overridden by each longer prefix that fits.

        A prefix ends at a path boundary: 's3://data' says nothing about 's3://database/key'.
        """
        chosen = dict(self.storage_options.get(scheme, {}))
        for prefix in sorted((key for key in self.storage_options if "://" in key), key=len):
            bare = prefix.rstrip("/")
            if url == bare or url.startswith((bare + "/", bare + "?", bare + "#")):
                chosen.update(self.storage_options[prefix])
        return chosen
