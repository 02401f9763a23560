"""From bytes to MediaInfo: the header parsers first, Pillow and PyAV for what they leave.

Asks for as little as the question needs: one bounded read of the head, then the ranges that the parser names.
"""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import IO

from ..errors import DecodeError, MediaError, TransientError
from ..storage.providers.base import Chunk, ObjectInfo, changed
from ..storage.transport.engines import engine
from ..storage.transport.jobs import Steps, jobs_of
from .decoding import decoding
from .headers import GiveUp, Span, recognise
from .image import read_image
from .info import MediaInfo
from .sparse import Segments
from .video import read_container

KB = 1024
PEEK = 64  # a parser that asks for this little looks for a marker, and will go on from there
GROWTH = 4
LARGEST_GROWTH = 1024 * KB
JUMP = 64 * KB


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to read when a parser cannot say it.

    first   bytes of the first read, by extension; `other` for all other extensions
    block   bytes to read at the next marker, four times as many at each further one, JUMP at most; None: what was
            read grows fourfold, which takes the fewest requests, since a header is mostly read to its end
    """

    first: Mapping[str, int]
    other: int
    block: int | None = None


# Enough for the header of nearly every file of the kind (facts: 32 KB hold 87 % of JPEG headers, and a larger first
# read costs more than the second request of the rest).
FIRST_READ = {
    **dict.fromkeys(("png", "apng", "webp", "gif", "bmp", "dib"), 4 * KB),
    **dict.fromkeys(("avif", "heic", "heif", "tif", "tiff", "wav", "flac"), 16 * KB),
    **dict.fromkeys(
        ("mp4", "m4v", "m4a", "mov", "mkv", "webm", "mp3", "ogg", "oga", "opus", "ogv", "avi", "ts"), 64 * KB
    ),
}
FIRST_READ_ELSE = 32 * KB
FAST = Plan(FIRST_READ, FIRST_READ_ELSE)
# Where bytes cost more than requests: half of the bytes, a fifth more requests.
ECONOMY = Plan({kind: min(size, 16 * KB) for kind, size in FIRST_READ.items()}, 16 * KB, block=4 * KB)
PLANS = {"on": FAST, "off": FAST, "economy": ECONOMY}  # by Config.readahead

MOST = 128 * 1024 * KB  # of header; no real file needs it
RESTARTS = 3

Read = Callable[..., Steps[Chunk]]


class Want(IntEnum):
    """How much of an answer is needed. Each level includes the ones before it."""

    OBJECT = 0  # size and validators: what the first response tells
    HEADER = 1  # MediaInfo
    EXIF = 2  # and EXIF, even where it takes another range


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of one object. `info` is None when it was not asked for, or when `error` says why it cannot be.

    `checked` is since when it may have changed, as in Chunk.
    """

    object: ObjectInfo
    info: MediaInfo | None = None
    error: MediaError | None = None
    checked: float | None = None

    def satisfies(self, want: Want) -> bool:
        if want == Want.OBJECT or self.error is not None:
            return True
        return self.info is not None and (want < Want.EXIF or self.info.exif_read)


class _Changed(Exception):
    """The object is another than the one whose first bytes were read."""


class _Elsewhere(Exception):
    """The answer lies outside of the bytes that were read already, and only those were to be used."""


async def probe(
    read: Callable[[int, int], Awaitable[Chunk]], *, extension: str = "", want: Want = Want.HEADER, plan: Plan = FAST
) -> Answer:
    """Return what `probe_job` gives for a `read` that is a coroutine function, as those of the cache are."""
    return await engine().run(probe_job(jobs_of(read), extension=extension, want=want, plan=plan))


def probe_job(read: Read, *, extension: str = "", want: Want = Want.HEADER, plan: Plan = FAST) -> Steps[Answer]:
    """A job: read what `want` needs through `read`, which makes jobs, and understand it.

    Errors of `read` pass through; a file that cannot be understood is an Answer with its `error`.
    """
    for _ in range(RESTARTS):
        try:
            return (yield from _Probe(read, want, plan).run(plan.first.get(extension, plan.other)))
        except _Changed:
            continue
    raise TransientError(f"the object changed {RESTARTS} times while its header was read")


def probe_bytes(data: bytes, want: Want = Want.HEADER) -> Answer:
    """The same for media that is in memory."""
    known = ObjectInfo(size=len(data))
    if want == Want.OBJECT:
        return Answer(known)
    try:
        return Answer(known, _understand_bytes(data, want))
    except DecodeError as error:
        return Answer(known, error=error.again())


def _understand_bytes(data: bytes, want: Want) -> MediaInfo:
    if not data:
        raise DecodeError("the file is empty")
    if found := recognise(data[:FIRST_READ_ELSE]):
        steps = _sound(found.parse(data, len(data), want == Want.EXIF))
        try:
            span = next(steps)
            while True:
                span = steps.send(data[span.start : span.stop])
        except StopIteration as done:
            info: MediaInfo = done.value
            return info
        except GiveUp:
            pass
    return _decode(io.BytesIO(data))


def _sound(steps: Generator[Span, bytes, MediaInfo]) -> Generator[Span, bytes, MediaInfo]:
    """`steps`, whose own mistakes become GiveUp: one odd file must not end a query over a million."""
    try:
        return (yield from steps)
    except (DecodeError, GiveUp):
        raise
    except Exception as error:
        raise GiveUp(f"a mistake of the parser: {error!r}") from error


class _Probe:
    def __init__(self, read: Read, want: Want, plan: Plan) -> None:
        self._read = read
        self._want = want
        self._block = plan.block
        self._known = Segments()
        self._object = ObjectInfo()
        self._checked: float | None = None
        self._fetched = 0  # bytes, by decoders

    def run(self, first: int) -> Steps[Answer]:
        chunk = yield from self._read(0, first)
        self._object = chunk.info
        self._checked = chunk.checked
        self._known.add(0, chunk.data)
        try:
            info = yield from self._understand(chunk.data)
        except _Elsewhere:
            return Answer(self._object, checked=self._checked)
        except DecodeError as error:
            return Answer(self._object, error=error.again(), checked=self._checked)
        return Answer(self._object, info, checked=self._checked)

    def _understand(self, head: bytes) -> Steps[MediaInfo]:
        if not head:
            raise DecodeError("the file is empty")
        size = self._object.size
        if found := recognise(head):
            steps = _sound(found.parse(head, size, self._want == Want.EXIF))
            try:
                span = next(steps)
                while True:
                    # Not thrown into the parser when it fails: that is no affair of its.
                    span = steps.send((yield from self._get(span)))
            except StopIteration as done:
                info: MediaInfo = done.value
                return info
            except GiveUp:
                pass
        if self._want == Want.OBJECT:
            raise _Elsewhere
        return (yield from self._decode_sparse())

    def _decode_sparse(self) -> Steps[MediaInfo]:
        """What Pillow or PyAV makes of the file, of which they read what they want."""
        info: MediaInfo = yield from decoding(self._load_bounded, self._object.size, self._known, _decode)
        return info

    def _load_bounded(self, start: int, stop: int) -> Steps[bytes]:
        self._fetched += stop - start
        if self._fetched > MOST:
            raise DecodeError(f"its header is not within the {MOST // KB // KB} MB that were read")
        return (yield from self._load(start, stop))

    def _get(self, span: Span) -> Steps[bytes]:
        start, stop = span
        if self._object.size is not None:
            stop = min(stop, self._object.size)
        known = self._known.known_to(start)
        if known < stop:
            if self._want == Want.OBJECT:
                raise _Elsewhere
            if stop - start > MOST:
                raise DecodeError(f"its header of {stop - start} bytes is not believable")
            yield from self._load(*self._range(start, stop, known))
        return self._known.get(start, stop)

    def _range(self, start: int, stop: int, known: int) -> tuple[int, int]:
        """The range to fetch for bytes `start` to `stop`, of which those up to `known` are there.

        A parser that peeks at the next marker, just behind what was read, will peek again: then what was read grows
        fourfold. One that names a structure gets exactly that. A jump reads a block, which holds most structures.
        """
        if stop - start > PEEK:
            return known, stop
        if self._block is not None:
            block, self._block = self._block, min(self._block * GROWTH, JUMP)
            return known, max(stop, known + block)
        head = self._known.known_to(0)
        if start - head <= JUMP:
            return head, max(stop, head + min(head * (GROWTH - 1), LARGEST_GROWTH))
        return known, max(stop, known + JUMP)

    def _load(self, start: int, stop: int) -> Steps[bytes]:
        if self._object.size is not None:
            stop = min(stop, self._object.size)
        if stop <= start:
            return b""
        chunk = yield from self._read(start, stop)
        if changed(self._object, chunk.info):
            raise _Changed
        if self._object.size is None:
            self._object = replace(chunk.info, no_store=chunk.info.no_store or self._object.no_store)
        elif chunk.info.no_store:
            self._object = replace(self._object, no_store=True)
        if chunk.checked is not None:
            self._checked = min(chunk.checked, self._checked or chunk.checked)
        self._known.add(start, chunk.data)
        return chunk.data


def _decode(file: IO[bytes]) -> MediaInfo:
    """What Pillow, or else PyAV, makes of a file. They get a file object and never a name or URL."""
    for reader in (read_image, read_container):
        file.seek(0)
        if (info := reader(file)) is not None:
            return info
    raise DecodeError("not an image, video or audio file that can be read")
