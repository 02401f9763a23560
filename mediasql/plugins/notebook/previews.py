"""What stands in a cell for media: a thumbnail or a player, all made at a time, and the reason where there is none."""

from __future__ import annotations

import base64
from collections.abc import Hashable, Iterable

from ...errors import DecodeError, MediaError, Unsupported
from ...media.probe import Answer, Want, probe_bytes
from ...sql import calls
from ...sql.ahead import Outcome, Wanted
from ...sql.pictures import Picture
from ...sql.session import Session
from ...sql.workshop import Result
from ...storage import loop
from ...storage.location import Location
from .cells import REASON, Cell, escape, plain

WIDTH, HEIGHT = 240, 160  # pixels of a thumbnail
MOST_BYTES = 10 * 1024  # of a thumbnail
SECONDS = 3600  # for which a signed URL lets the browser play
MOST_INLINE = 1024 * 1024  # bytes of a file that has no URL for a browser, and is written into the page
MOST_INLINE_ALL = 16 * 1024 * 1024


class Previews:
    """Draws cells for one result. `failures` counts those that show a reason instead."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._inlined = 0
        self.failures = 0

    def draw(self, cells: Iterable[Cell]) -> None:
        """Set the `html` of cells with media, and forget their BLOBs. A failure is shown in its cell."""
        cells = [cell for cell in cells if cell.kind is not None]
        self._find_kinds([cell for cell in cells if cell.kind in ("audio", "media") and isinstance(cell.value, str)])
        pictured = [cell for cell in cells if cell.kind in ("image", "video") and not cell.failed]
        for cell, outcome in zip(pictured, self._made([self._picture(cell) for cell in pictured]), strict=True):
            self._show(cell, outcome)
        for cell in cells:
            if cell.kind == "audio" and not cell.failed:
                self._show(cell, None)
            if isinstance(cell.value, bytes):
                cell.value = None

    def _find_kinds(self, cells: list[Cell]) -> None:
        """Read the headers of these: to know what they are, and that they are there."""
        for cell, outcome in zip(cells, self._made([self._header(cell) for cell in cells]), strict=True):
            error = outcome.error if isinstance(outcome, Answer) else outcome
            if isinstance(error, MediaError):
                self._fail(cell, error)
            elif isinstance(outcome, Answer) and outcome.info is not None:
                cell.kind = outcome.info.media_type

    def _header(self, cell: Cell) -> Wanted | MediaError:
        try:
            return Wanted(("shown", self._session.version(cell.value)), cell.value, Want.HEADER)
        except MediaError as error:
            return error

    def _picture(self, cell: Cell) -> Wanted | MediaError:
        try:
            work = Picture(cell.value, WIDTH, HEIGHT, MOST_BYTES)
            return calls.wanted(self._session, "shown", cell.value, (), work)
        except MediaError as error:
            return error

    def _made(self, wanted: list[Wanted | MediaError]) -> list[Outcome]:
        """What these come to, all on their way at the same time; the same one is made once."""
        ahead, check = self._session.ahead, self._session.check
        different = {item.key: item for item in wanted if isinstance(item, Wanted)}
        outcomes: dict[Hashable, Outcome] = {}
        try:
            ahead.start(list(different.values()))
            for key in different:
                outcomes[key] = ahead.take(key, check)[1]
        except BaseException:
            ahead.give_up(None)
            raise
        return [outcomes[item.key] if isinstance(item, Wanted) else item for item in wanted]

    def _show(self, cell: Cell, outcome: Outcome | None) -> None:
        picture: bytes | None = outcome.value if isinstance(outcome, Result) else None
        error = outcome if isinstance(outcome, MediaError) else None
        # What cannot be decoded here may still play in the browser; what cannot be had cannot.
        if error is not None and (cell.kind == "image" or not isinstance(error, DecodeError)):
            return self._fail(cell, error)
        if cell.kind == "image" and picture is not None:
            cell.html = _image(cell, picture)
            return None
        try:
            source = self._source(cell.value)
        except MediaError as unplayable:
            return self._fail(cell, unplayable, picture)
        cell.html = _player(cell, source, picture)
        if error is not None:
            self._reason(cell, str(error))
        return None

    def _fail(self, cell: Cell, error: MediaError, picture: bytes | None = None) -> None:
        cell.html = (_image(cell, picture) if picture else escape(cell.text)) + "<br>"
        self._reason(cell, str(error))

    def _reason(self, cell: Cell, reason: str) -> None:
        cell.failed = True
        self.failures += 1
        cell.html += f'<span style="{REASON}">{escape(plain(reason))}</span>'

    def _source(self, value: str | bytes) -> str:
        """An address that a browser plays: of the web, signed for an hour, or the bytes themselves when they are few.

        Raises MediaError where there is none.
        """
        if isinstance(value, bytes):
            return self._inline(value)
        store, location = self._session.store, Location.parse(value)
        try:
            url = store.presign(location, SECONDS)
        except Unsupported:
            url = ""
        if url[:7].lower() == "http://" or url[:8].lower() == "https://":
            return url
        chunk = loop.run(store.read(location, 0, MOST_INLINE + 1), self._session.check)
        return self._inline(chunk.data)

    def _inline(self, data: bytes) -> str:
        if len(data) > MOST_INLINE:
            raise Unsupported(f"more than {MOST_INLINE // 2**20} MB without a URL that a browser can play")
        self._inlined += len(data)
        if self._inlined > MOST_INLINE_ALL:
            raise Unsupported(f"more than {MOST_INLINE_ALL // 2**20} MB in this table without URLs to play")
        info = probe_bytes(data).info
        if info is None or info.media_type not in ("video", "audio"):
            raise DecodeError("not video or audio that can be read")
        return _data_url(data, info.mime_type)


def _data_url(data: bytes, mime_type: str) -> str:
    return f"data:{mime_type};base64,{base64.b64encode(data).decode()}"


def _picture_url(picture: bytes) -> str:
    return _data_url(picture, "image/webp" if picture[8:12] == b"WEBP" else "image/jpeg")


def _titled(cell: Cell) -> tuple[str, str]:
    """A name for the media, and the whole of its URL; both escaped."""
    name = cell.text
    if isinstance(cell.value, str):
        name = Location.parse(cell.value).name or cell.text.partition(",")[0]  # of a data: URL its type
    return escape(plain(name)), escape(cell.text)


def _image(cell: Cell, picture: bytes) -> str:
    name, title = _titled(cell)
    size = f"max-width:{WIDTH}px;max-height:{HEIGHT}px"
    image = f'<img src="{_picture_url(picture)}" alt="{name}" title="{title}" style="{size};display:block">'
    return f'{image}<span style="opacity:.6;font-size:smaller">{name}</span>'


def _player(cell: Cell, source: str, picture: bytes | None) -> str:
    name, title = _titled(cell)
    common = f'controls preload="none" src="{escape(source)}" title="{title}"'
    if cell.kind == "audio":
        player = f'<audio {common} style="max-width:{WIDTH}px;display:block"></audio>'
    else:
        poster = f' poster="{_picture_url(picture)}"' if picture else ""
        size = f"width:{WIDTH}px;max-height:{HEIGHT}px;background:#000"  # upright ones have room for controls
        player = f'<video {common}{poster} style="{size};display:block"></video>'
    return f'{player}<span style="opacity:.6;font-size:smaller">{name}</span>'


def blobs(cells: Iterable[Cell]) -> int:
    """Bytes of BLOBs that cells hold."""
    return sum(len(cell.value) for cell in cells if isinstance(cell.value, bytes))
