"""What a session knows of objects: what it was told itself, and what others were told and left on disk."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from ..errors import MediaError, NotFound
from ..media.answers import DELAY, Answers
from ..media.kept import Kept, Outcome, found, is_failure, is_kept, is_of_statement
from ..media.probe import Answer
from ..storage.cache.database import AHEAD
from ..storage.cache.identity import Identity, is_plain
from ..storage.location import Location
from ..storage.paths import absolute, path_text
from ..storage.providers.base import Entry, ObjectInfo
from ..storage.providers.local import local_path
from ..storage.store import Store

T = TypeVar("T")
Place = tuple[Identity, str | None]  # by what name, and of local files in which version, an object is known on disk

MOST = 50_000  # objects; some 30 MB
GROWTH = 4
LONGEST = 2048  # answers that are loaded together
STRAYS = 64  # look-ups in no order, after each of which
AROUND = 512  # answers are loaded
NEAR = 8  # numbers between two answers that were asked for as they lie, for others may have been written between them
NEVER = float("-inf")  # the time of what has to be asked for anew, however long answers are good
_WRITTEN = 5 * DELAY  # seconds after which what was kept is on disk, mostly
_MOST_FAILURES = 10
_RACE = 2.0  # seconds within which a file may change without its time showing it


class Reader:
    """How many answers to load together: more each time that they are asked for as they lie, as a scan does."""

    def __init__(self) -> None:
        self._length = 1
        self._number = 0  # of the last that was looked up by itself
        self.next: str | None = None  # the one that follows those that were loaded
        self._failures = 0
        self._passed = 0
        self._strays = 0

    def length(self, key: str) -> int:
        """How many to load, beginning with `key`; 1 where it has to be looked up by itself."""
        self._length = min(self._length * GROWTH, LONGEST) if key == self.next else 1
        return self._length

    def follows(self, number: int) -> bool:
        """Whether the one of this number, looked up by itself, lies behind the one before, so that others may too."""
        follows = 0 < number - self._number <= NEAR and self._number > 0
        self._number = number
        if follows:
            self._length = GROWTH
        return follows

    def strays(self) -> bool:
        """Whether so many did not that it is worth loading what lies around, for those that come in any order.

        Where all that is known is asked for, that takes half of the time; where little of it is, it adds a third.
        """
        self._strays = (self._strays + 1) % STRAYS
        if not self._strays:
            self._length = AROUND
        return not self._strays

    def cut(self, rows: list[tuple[str, T]]) -> list[tuple[str, T]]:
        """`rows`, by key, but for the one more that tells what would come next."""
        self.next = rows[self._length][0] if len(rows) > self._length else None
        return rows[: self._length]

    def cut_values(self, values: dict[str, T]) -> dict[str, T]:
        """The same of values by key."""
        self.next = values.popitem()[0] if len(values) > self._length else None
        return values

    def told(self, found: bool) -> None:
        """Whether the last look was of use. The more were of none, the fewer are worth it."""
        self._failures = 0 if found else min(self._failures + 1, _MOST_FAILURES)
        self._passed = 0

    @property
    def worth(self) -> bool:
        """Whether to look at once, and not only where something is known to be there."""
        self._passed += 1
        return self._passed >= 1 << self._failures


class Memory:
    """Outcomes by key: the URL, for local files with what tells their versions apart (`Session.version`).

    Times are those of time.monotonic().
    """

    def __init__(self, store: Store, disk: Answers | None) -> None:
        self.disk = disk
        self._store = store
        # What was loaded with others is as it was on disk until somebody asks.
        self._known: OrderedDict[Hashable, tuple[float, Outcome | Kept]] = OrderedDict()
        self._forbidden: deque[str] = deque()  # URLs of which nothing may be known any more
        self._reader = Reader()
        self.recalled: Hashable = None  # the last that was found and is on disk
        self._absent: dict[Hashable, Place] = {}  # not on disk, but may come there
        self._generation = disk.generation if disk is not None else 0
        self._listed: dict[Hashable, tuple[float, ObjectInfo]] = {}  # what listings said, and nobody asked for since
        self._beside: tuple[str, str] | None = None  # a container that was asked for last, and its scope

    def find(self, key: Hashable) -> tuple[float, Outcome] | None:
        """What is known, and since when. Raises UsageError for what may not be asked."""
        if self.disk is not None and self.disk.generation != self._generation:
            self._generation = self.disk.generation
            self.clear()
        while self._forbidden:
            self._known.pop(self._forbidden.popleft(), None)
        if key not in self._known and (self.disk is None or key in self._absent or not self._load(self.disk, key)):
            return None
        return self.here(key)

    def here(self, key: Hashable) -> tuple[float, Outcome] | None:
        """The same, without looking on disk."""
        known = self._known.get(key)
        if known is None:
            return None
        at, outcome = known
        self._known.move_to_end(key)
        if isinstance(outcome, tuple):
            try:
                outcome = found(outcome)
            except (TypeError, ValueError):  # of a later version of this one, or damaged beyond what its seal tells
                del self._known[key]
                return None
            self.recalled = key
            self._remember(key, at, outcome)
        elif time.monotonic() - at > _WRITTEN:
            self.recalled = key
        return at, outcome

    def keep(self, key: Hashable, at: float, outcome: Outcome) -> float:
        """Know an outcome, which was so at that time, or before where it comes from bytes on disk. Returns when.

        What no other statement may have is not known afterwards, nor what was known of the object before.
        """
        if is_of_statement(outcome):
            self._known.pop(key, None)
            return at
        if not is_kept(outcome) or (isinstance(key, tuple) and not isinstance(outcome, Answer)):
            return at  # whether a local file may be read costs nothing to ask, and changes without its time
        if isinstance(outcome, Answer) and outcome.checked is not None:
            at = min(at, time.monotonic() + outcome.checked - time.time())
            outcome = replace(outcome, checked=None)
        self._remember(key, at, outcome)
        if self.disk is None or (place := self._absent.pop(key, None) or self._place(key)) is None:
            return at
        # A refusal is for whoever asked, with credentials that may be others in the next process.
        if isinstance(outcome, Answer) or (isinstance(outcome, NotFound) and place[0].key == key):
            self.disk.put(place[0], outcome, version=place[1], at=time.time() + at - time.monotonic())
        return at

    def listed(self, page: Iterable[Entry]) -> None:
        """A listing has just said this of these objects."""
        if len(self._listed) >= MOST:
            self._listed.clear()
        now = time.monotonic()
        self._listed.update((entry.url, (now, entry.info)) for entry in page if entry.info.size is not None)

    def said(self, key: Hashable, at: float, listed: ObjectInfo | None) -> ObjectInfo | None:
        """What a listing said of an object after that time; `listed` where there was none."""
        found = self._listed.get(key)
        if found is None:
            return listed
        if at < found[0]:
            return found[1]
        del self._listed[key]
        return None

    def confirm(self, key: Hashable, outcome: Answer) -> float:
        """An answer is true now. Returns when that is."""
        now = time.monotonic()
        self._listed.pop(key, None)
        self._remember(key, now, outcome)
        return now

    def expire(self, key: Hashable) -> None:
        """Take what is known of this object for old."""
        known = self.find(key)
        if known is not None:
            self._remember(key, NEVER, known[1])

    def outdate(self) -> None:
        """Have the other sessions of this process look on disk again."""
        if self.disk is not None:
            self._generation = self.disk.outdate()

    def forget(self, key: Hashable) -> None:
        """Know nothing of this object any more, in all sessions of this process."""
        self._known.pop(key, None)
        if self.disk is not None and (place := self._place(key)) is not None:
            self.disk.forget(place[0])
            self._generation = self.disk.outdate()

    def forbid(self, url: str) -> bool:
        """Know nothing of this object from the next look on. Whether anything was known. From any thread."""
        if url not in self._known:
            return False
        self._forbidden.append(url)
        return True

    def clear(self) -> None:
        """Know only what is on disk."""
        self._known.clear()
        self._absent.clear()

    def values(self, reader: Reader, url: str, column: str, since: float) -> dict[str, Any]:
        """By URL what `column` of MediaInfo is for them: for `url` and those that were kept on disk after it.

        `since` is a time.time().
        """
        if self.disk is None or self._store.policy is not None:
            return {}
        place = self._place(url)
        if place is None or place[0].key != url:  # a URL with secrets is kept under another name
            return {}
        length = reader.length(url)
        if length == 1:
            found = self.disk.value(place[0], column, since)
            reader.told(found is not None)
            if found is None or url in self._listed:
                return {}
            if reader.follows(found[0]):
                length = GROWTH
            elif reader.strays():
                length = AROUND
            else:
                return {url: found[1]}
        values = reader.cut_values(self.disk.values(place[0], column, since, length + 1))
        if self._listed:  # a value does not tell of which version it is
            values = {name: value for name, value in values.items() if name not in self._listed}
        container = "" if self._store.by_path else container_of(url)
        if container and "::" not in url:
            names = "\n".join(["", *values])
            if names.count("\n" + container) == names.count("\n") == len(values) and "::" not in names:  # as mostly
                return values
        return {name: value for name, value in values.items() if self._is_ours(place[0], name)}

    def _load(self, disk: Answers, key: Hashable) -> bool:
        """Bring what is known on disk of this object, and perhaps of others, here."""
        place = self._place(key)
        if place is None:
            return False
        identity, version = place
        alone = version is not None or identity.key != key or self._store.policy is not None
        length = 1 if alone else self._reader.length(identity.key)
        rows: list[tuple[str, Kept]] = []
        if length == 1:
            found = disk.find(identity, version)
            if found is not None and not (identity.key != key and version is None and is_failure(found[1])):
                rows = [(identity.key, found[1])]  # not that of the URL without its signature, or with one that ended
                if not alone and self._reader.follows(found[0]):
                    length = GROWTH
        if length > 1:
            rows = self._reader.cut(disk.run(identity, length + 1)) or rows
        now = time.time()
        clocks = time.monotonic() - now
        there = False
        for name, columns in rows:
            # Nobody knows how old it is when the clock was set back since.
            at = columns[1] + clocks if columns[1] <= now + AHEAD else NEVER
            if name == identity.key:
                self._remember(key, at, columns)
                there = True
            elif name not in self._known and self._is_ours(identity, name):
                self._remember(name, at, columns)
        if there:
            return True
        if len(self._absent) >= MOST:
            self._absent.clear()
        self._absent[key] = place
        return False

    def _is_ours(self, near: Identity, name: str) -> bool:
        """Whether what is kept under `name` beside `near` is what this session means by it.

        Another session may have had the same options for other URLs.
        """
        container = container_of(near.key)
        if container and "::" not in name and name.startswith(container) and not self._store.by_path:
            return True
        try:
            return self._place(name) == (Identity(near.scope, name), None)
        except MediaError:
            return False

    def _remember(self, key: Hashable, at: float, outcome: Outcome | Kept) -> None:
        self._known[key] = at, outcome
        if len(self._known) > MOST:
            self._known.popitem(last=False)

    def _place(self, key: Hashable) -> Place | None:
        """By what name and version the object is known on disk; None when it is not to be kept there."""
        if isinstance(key, tuple):
            url, modified, size, file = key
            if time.time() - modified / 1e9 < _RACE:
                return None
            return Identity("file", file_name(url)), f"{modified} {size} {file}"
        assert isinstance(key, str)
        if self._beside and key.startswith(self._beside[0]) and is_plain(key):
            return Identity(self._beside[1], key), None
        location = Location.parse(key)
        identity = self._store.identity(location)
        if identity is None:
            return None
        if location.container and identity.key == key and not self._store.by_path and self._store.policy is None:
            self._beside = f"{key[: key.find('://')]}://{location.container}/", identity.scope
        return identity, None


def container_of(url: str) -> str:
    """The beginning of a URL with the bucket or host, and the '/' behind that; '' where there is none."""
    return url[: url.find("/", url.find("://") + 3) + 1]


def file_name(url: str) -> str:
    """By what name a local file is known: its path, with bytes that are no UTF-8 in the way of Python's literals."""
    return path_text(absolute(local_path(Location.parse(url))))
