"""Configuration: one immutable Config, and the only code that reads `MEDIASQL_*` variables.

The same names serve as keyword arguments of `connect`, as variables and in `media_config`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .errors import ConfigError

StorageOptions = Mapping[str, Mapping[str, Any]]


def _option(default: Any, parse: Callable[[Any], Any], wanted: str, doc: str) -> Any:
    """A field of Config. `parse` makes the value out of what was given, and raises when that is not `wanted`."""
    return field(default=default, metadata={"parse": parse, "wanted": wanted, "doc": doc})


def _number(value: Any) -> float:
    if isinstance(value, bool):  # a number to Python, a mistake here
        raise TypeError
    return float(value)


def _positive(value: Any) -> float:
    number = _number(value)
    if not 0 < number < float("inf"):
        raise ValueError
    return number


def _count(value: Any) -> int:
    number = _number(value)
    if number < 1 or not number.is_integer():
        raise ValueError
    return int(number)


def _age(value: Any) -> float | None:
    if value is None or str(value).lower() == "none":
        return None
    number = _number(value)
    if not number >= 0:
        raise ValueError
    return number


def _prefixes(value: Any) -> tuple[str, ...]:
    parts = re.split(r"[,\n]", value) if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise TypeError
    found = tuple(part.strip() for part in parts if part.strip())
    for prefix in found:
        # A bare name would be a directory wherever the program happens to run, and was meant to be a host or a bucket.
        if not re.match(r"[A-Za-z][A-Za-z0-9+.-]+://|data:|[/~\\]|\.\.?(?:/|$)|[A-Za-z]:[/\\]", prefix):
            raise ValueError
        # Nor do wildcards, dots and what comes behind a '?' on the web do what they seem to.
        path = prefix.partition("://")[2]
        if prefix.endswith("*") or {".", ".."} & set(path.split("/")):
            raise ValueError
        if re.search(r"[?#@\\]" if prefix[:4].lower() == "http" else "::", prefix):
            raise ValueError
    return found


def _path(value: Any) -> str | None:
    path = None if value is None else os.fsdecode(value)
    if path is not None and "\0" in path:
        raise ValueError
    return path


_UNITS = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"\s*(\d+(?:\.\d*)?)\s*([a-z]*)\s*", re.IGNORECASE)


def _size(value: Any) -> int | None:
    if value is None or str(value).lower() == "none":
        return None
    if isinstance(value, str):
        if (match := _SIZE.fullmatch(value)) is None:
            raise ValueError
        return int(float(match[1]) * _UNITS[match[2].lower()])
    number = _number(value)
    if number < 0 or not number.is_integer():
        raise ValueError
    return int(number)


def _one_of(*choices: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError
        return str(value)

    return parse


_FLAGS = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False, "auto": None, "none": None}


def _flag(value: Any) -> bool | None:
    return _FLAGS[str(value).lower()]


def _switch(value: Any) -> bool:
    if (flag := _flag(value)) is None:
        raise ValueError
    return flag


def _storage_options(value: Any) -> StorageOptions:
    if isinstance(value, str):
        value = json.loads(value)
    # Copied, so that what the caller does with his dictionaries later changes nothing here.
    options = {key: dict(part) for key, part in value.items() if isinstance(part, Mapping)}
    if len(options) < len(value) or not all(isinstance(key, str) for key in options):
        raise ValueError
    return options


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How one connection works. Build it with `Config.load`, which reads the environment and checks values."""

    timeout: float = _option(
        60.0,
        _positive,
        "a positive number of seconds",
        "seconds for one object, all retries included, but not the wait for others of its host",
    )
    concurrency: int = _option(256, _count, "a whole number of 1 or more", "most connections open at a time")
    max_age: float | None = _option(
        86400.0,
        _age,
        "a number of seconds, 0 or more, or None",
        "seconds for which an answer is used again without asking the store; None: for ever",
    )
    cache_dir: str | None = _option(
        None,
        _path,
        "a folder",
        "folder of the cache; None: `mediasql` in the platform's cache folder",
    )
    cache_size: int | None = _option(
        None,
        _size,
        "bytes, such as 20000000000 or '20GB'",
        "bytes that the cache may take on disk, 0 for none; None: 20 GB, or 20 % of what is free if that is less",
    )
    failure_age: float | None = _option(
        30.0,
        _age,
        "a number of seconds, 0 or more, or None",
        "seconds for which a missing or refused object is not asked for again; None: for ever",
    )
    on_error: str = _option(
        "null",
        _one_of("null", "raise"),
        "'null' or 'raise'",
        "whether unavailable media becomes NULL or raises in queries",
    )
    readahead: str = _option(
        "on",
        _one_of("on", "off", "economy"),
        "'on', 'off' or 'economy'",
        "whether files are fetched ahead of the rows that need them; 'economy' spends requests to save bytes",
    )
    profile: str = _option(
        "owner",
        _one_of("owner", "untrusted", "hosted"),
        "'owner', 'untrusted' or 'hosted'",
        "what may be reached: 'owner' everything, 'untrusted' cloud stores and public web servers, 'hosted' nothing",
    )
    allow: tuple[str, ...] = _option(
        (),
        _prefixes,
        "a list of URL prefixes (without wildcards, '..' or '::') and directories, such as 's3://bucket/photos,/data',",
        "URL prefixes and directories that may be reached although the profile forbids them",
    )
    deny: tuple[str, ...] = _option(
        (),
        _prefixes,
        "a list of URL prefixes (without wildcards, '..' or '::') and directories, such as 's3://bucket/photos,/data',",
        "URL prefixes and directories that may not, whatever the profile and `allow` say",
    )
    trust_schema: bool = _option(
        False,
        _switch,
        "'on' or 'off'",
        "whether columns, indexes, views and triggers may call functions where PRAGMA trusted_schema is OFF",
    )
    transport: str = _option(
        "auto",
        _one_of("auto", "curl", "aiohttp"),
        "'auto', 'curl' or 'aiohttp'",
        "what makes HTTP requests: 'curl' (libcurl), 'aiohttp', or 'auto' for the first of them that is installed",
    )
    progress: bool | None = _option(
        None,
        _flag,
        "'on', 'off' or 'auto'",
        "progress bars on standard error: 'on', 'off', or 'auto' (on a terminal only)",
    )
    storage_options: StorageOptions = field(
        default_factory=dict,
        repr=False,  # it holds keys and passwords
        metadata={
            "parse": _storage_options,
            "wanted": "a mapping of schemes or URL prefixes to mappings, such as {'s3': {'anon': true}},",
            "doc": "fsspec options by scheme or URL prefix; the longest prefix wins",
        },
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
            elif os.environ.get(variable):  # set to nothing is not set, as in shells
                source, value = variable, os.environ[variable]
            else:
                continue
            try:
                values[name] = option.metadata["parse"](value)
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
                shown = "the value given" if name == "storage_options" else repr(value)
                raise ConfigError(f"{source}: {shown} is not valid; {option.metadata['wanted']} is needed") from None
        if values.get("allow") and values.get("profile", "owner") == "owner":
            raise ConfigError(
                "allow: profile 'owner' reaches everything, so that `allow` would restrict nothing; give "
                "profile='untrusted' or profile='hosted' (MEDIASQL_PROFILE) with it, or use `deny`"
            )
        return cls(**values)

    @classmethod
    def describe(cls) -> dict[str, str]:
        """Option names with what they mean, in order."""
        return {option.name: option.metadata["doc"] for option in fields(cls)}

    def options_for(self, url: str, scheme: str, *, named: bool = False) -> dict[str, Any]:
        """The storage options for `url`: those of its scheme, overridden by each longer prefix that fits.

        A prefix ends at a path boundary: 's3://data' says nothing about 's3://database/key'. `named` has only those of
        prefixes that name a host or a container.
        """
        url = _lower_scheme(url)
        chosen = {} if named else dict(self.storage_options.get(scheme, {}))
        for prefix in sorted((key for key in self.storage_options if "://" in key), key=len):
            bare = _lower_scheme(prefix).rstrip("/")
            if named and bare.endswith(":"):
                continue
            if url == bare or url.startswith((bare + "/", bare + "?", bare + "#")):
                chosen.update(self.storage_options[prefix])
        return chosen


def _lower_scheme(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return scheme.lower() + separator + rest
