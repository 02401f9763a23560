"""What the plugin's configuration lets each database reach, and what failed there."""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import fields
from typing import Any, TypeVar

import click
from datasette.utils import StartupError

from ...config import Config
from ...errors import ConfigError, MediaError
from ...sql.failures import Failures
from ...sql.loadable.loading import attach
from ...sql.pictures import Drawn
from ...storage import forking, loop
from ...storage.location import Location
from ...storage.policy import Policy
from ...storage.store import Store

NAME = "mediasql"  # in Datasette's configuration
_MOST_PICTURES = 1000  # of 10 KB at most
_PICTURE_AGE = 300.0  # seconds
_MOST_CALLS = 10_000

T = TypeVar("T")


class BadConfiguration(StartupError, click.ClickException):  # type: ignore[misc]
    """The plugin's configuration is not valid; the program shows the message and no traceback."""


class Unread:
    """Calls of SQL functions that failed for the moment. Any thread may add."""

    def __init__(self) -> None:
        self.added = 0
        self._lock = forking.lock()
        self._last: OrderedDict[str, tuple[int, str]] = OrderedDict()  # by call, the last that failed at the end

    def add(self, call: str, reason: str) -> None:
        with self._lock:
            self.added += 1
            self._last[call] = self.added, reason
            self._last.move_to_end(call)
            if len(self._last) > _MOST_CALLS:
                self._last.popitem(last=False)

    def since(self, before: int) -> list[str]:
        """Return which calls failed, and why, since there were `before` added; each call once, the first first.

        A page makes several statements of a table, in which the same call may fail.
        """
        with self._lock:
            return [f"{call}: {reason}" for call, (number, reason) in self._last.items() if number > before]


class Reach:
    """What one database reaches, by `plugins: mediasql:` of its own configuration, or else of all.

    Raises ConfigError for options that do not exist or are not valid.
    """

    def __init__(self, options: Any) -> None:
        if not isinstance(options, dict):
            raise ConfigError("a mapping of options is needed, such as {'allow': ['s3://bucket/photos']}")
        given = dict(options)
        # Seconds for which players get a signed URL of the store; None: all bytes go through Datasette.
        self.presigned = _seconds(given.pop("presigned", None))
        if "profile" in given:
            raise ConfigError("profile: in Datasette it is always 'hosted', which reaches what `allow` names")
        if unknown := sorted(set(given) - {option.name for option in fields(Config)}):
            known = ", ".join([option.name for option in fields(Config) if option.name != "profile"] + ["presigned"])
            raise ConfigError(f"there is no option {unknown[0]!r}; there are: {known}")
        # An `allow` of the environment was meant for another program.
        self.config = Config.load(**{"allow": [], **given, "profile": "hosted"})
        self.store = Store(self.config)
        self.failures = Failures()  # of cells, and of the SQL of all connections
        self.unread = Unread()
        self.pictures: OrderedDict[str, tuple[float, Drawn]] = OrderedDict()

    @property
    def policy(self) -> Policy:
        policy = self.store.policy
        assert policy is not None  # 'hosted' has one
        return policy

    @property
    def picture_age(self) -> float:
        """Seconds for which a thumbnail is used again."""
        return _PICTURE_AGE if self.config.max_age is None else min(self.config.max_age, _PICTURE_AGE)

    def warm_up(self) -> None:
        """Begin to load what the allowed stores need, and to look for credentials: it may take longer than a query."""
        asyncio.run_coroutine_threadsafe(self._warm_up(), loop.get())

    async def _warm_up(self) -> None:
        for prefix in self.config.allow:
            location = Location.parse(f"{prefix.rstrip('/')}/x")
            with suppress(MediaError):  # a query will say what is wrong
                await self.store.provider(location).request(location)

    def attach(self, connection: Any) -> None:
        """Give an `sqlite3.Connection` functions and tables, with this configuration."""
        session = attach(connection, self.config)
        session.failures = self.failures
        session.transients.instead = self.unread.add

    def location(self, url: str) -> Location:
        """The Location of a URL that may be reached. Raises MediaError for others."""
        location = Location.parse(url)
        self.policy.check(location)
        return location

    def keep_picture(self, url: str, now: float, picture: Drawn) -> None:
        """Have a thumbnail ready for who asks next."""
        self.pictures[url] = now, picture
        self.pictures.move_to_end(url)
        while len(self.pictures) > _MOST_PICTURES:
            self.pictures.popitem(last=False)


def _seconds(value: Any) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ConfigError(f"presigned: {value!r} is not valid; a whole number of seconds, 1 or more, is needed")


_lock = forking.lock()
_known: weakref.WeakKeyDictionary[Any, dict[str, Reach]] = weakref.WeakKeyDictionary()


def reach_of(datasette: Any, database: str) -> Reach:
    """The Reach of a database; databases with the same configuration have one each. Raises ConfigError."""
    with _lock:
        known = _known.setdefault(datasette, {})
        if database not in known:
            known[database] = Reach(datasette.plugin_config(NAME, database=database) or {})
        return known[database]


def known(datasette: Any) -> dict[str, Reach]:
    """The databases of which a Reach was made."""
    with _lock:
        return dict(_known.get(datasette, {}))


def begin(datasette: Any) -> None:
    """Get ready. Raises BadConfiguration for a configuration that is not valid, that of all databases or of one."""
    for database in datasette.databases:
        if database == "_internal":
            continue
        try:
            reach_of(datasette, database).warm_up()
        except MediaError as error:
            raise BadConfiguration(f"the configuration of mediasql for database {database!r}: {error}") from None


async def on_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine of the fetching loop, for the event loop of Datasette."""
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop.get()))
