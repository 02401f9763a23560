"""What stands in a cell for media: a thumbnail, a player, or the reason why there is none.

Browsers ask for thumbnails and media when they show them, so that the page itself waits for nothing. Every value is of
the database, and may be hostile: it is escaped, and no address in the page is made of one.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
import weakref
from collections import OrderedDict
from collections.abc import Awaitable
from typing import Any

from markupsafe import Markup

from ...errors import MediaError
from ...media.headers import recognise
from ...media.kinds import KINDS
from ...media.probe import FIRST_READ_ELSE
from ...media.thumbnail import thumbnail
from ...storage import loop
from ...storage.location import Location
from ..notebook.cells import REASON, declared_kind, kind_of, plain
from .reach import Reach, reach_of
from .tokens import Token

WIDTH, HEIGHT = 240, 160  # pixels of a thumbnail
MOST_BYTES = 10 * 1024  # of a thumbnail
_MOST_BLOB = 16 * 1024 * 1024  # bytes of a BLOB that is drawn
_MOST_DRAWN = 500  # thumbnails of BLOBs that are remembered
_COLUMNS_AGE = 5.0  # seconds for which the declared types of a table are taken as known
_SIZE = f"max-width:{WIDTH}px;max-height:{HEIGHT}px;display:block"
_FILM = f"width:{WIDTH}px;max-height:{HEIGHT}px;display:block;background:#000"  # upright ones have room for controls
_COLUMNS = "SELECT name, type FROM pragma_table_xinfo(?)"

_columns: weakref.WeakKeyDictionary[Any, dict[tuple[str, str], tuple[float, dict[str, str]]]] = (
    weakref.WeakKeyDictionary()
)
_drawn: OrderedDict[tuple[str | None, bytes], Markup | None] = OrderedDict()


def render(datasette: Any, database: str, table: str | None, column: str, value: Any) -> Any:
    """HTML for a value that is media, or None; or an awaitable of that."""
    if database == "_internal" or not value or not isinstance(value, str | bytes):
        return None
    if table is None:
        return _cell(datasette, database, None, None, value)
    known = _columns.setdefault(datasette, {}).get((database, table))
    if known is None or time.monotonic() - known[0] > _COLUMNS_AGE:
        return _looked_up(datasette, database, table, column, value)
    return _cell(datasette, database, table, declared_kind(known[1].get(column)), value)


async def _looked_up(datasette: Any, database: str, table: str, column: str, value: Any) -> Any:
    """The same, after looking how the columns of the table are declared."""
    rows = await datasette.get_database(database).execute(_COLUMNS, [table])
    types = dict(map(tuple, rows.rows))
    _columns.setdefault(datasette, {})[database, table] = time.monotonic(), types
    html = _cell(datasette, database, table, declared_kind(types.get(column)), value)
    return await html if asyncio.iscoroutine(html) else html


def _cell(
    datasette: Any, database: str, table: str | None, declared: str | None, value: str | bytes
) -> Markup | Awaitable[Markup | None] | None:
    if isinstance(value, bytes):
        drawn = declared in ("image", "media") or recognise(value[:FIRST_READ_ELSE]) is not None
        return _blob(declared, value) if drawn and len(value) <= _MOST_BLOB else None
    if declared is None and Location.parse(value).extension not in KINDS:
        return None  # which most values are
    reach = reach_of(datasette, database)
    kind = kind_of(declared, value, reach.policy)
    location = Location.parse(value)
    if kind is None or location.scheme == "data":
        return None
    try:
        reach.location(value)
    except MediaError as error:
        return _refused(reach, declared, value, error)
    return _media(Token(database, table, value).paths(datasette), kind, location.name or value, value)


def _refused(reach: Reach, declared: str | None, value: str, error: MediaError) -> Markup | None:
    """The reason, where the column says that it is media; elsewhere it may be any link."""
    if declared is None:
        return None
    reach.failures.add(value, "render_cell", error)
    return Markup("{}<br>{}").format(plain(value), _reason(str(error)))


def _reason(text: str) -> Markup:
    return Markup('<small style="{};max-width:{}px">{}</small>').format(REASON, 2 * WIDTH, plain(text))


def _media(paths: tuple[str, str], kind: str, name: str, url: str) -> Markup:
    source, picture = paths
    title = plain(url)
    name = plain(name)
    if kind == "video":
        shown = Markup('<video controls preload="none" src="{}" poster="{}" title="{}" style="{}"></video>').format(
            source, f"{picture}?poster", title, _FILM
        )
        return shown + Markup('<a href="{}" title="{}"><small>{}</small></a>').format(source, title, name)
    # Its name stands beside it, and would be read out twice.
    image = Markup('<img loading="lazy" src="{}" alt="" style="{}">').format(picture, _SIZE)
    if kind == "audio":  # with its cover, or the reason why it does not play
        player = Markup('<audio controls preload="none" src="{}" title="{}" style="{}"></audio>').format(
            source, title, _SIZE
        )
        return image + player + Markup('<a href="{}" title="{}"><small>{}</small></a>').format(source, title, name)
    return Markup('<a href="{}" title="{}" style="display:inline-block">{}<small>{}</small></a>').format(
        source, title, image, name
    )


async def _blob(declared: str | None, data: bytes) -> Markup | None:
    """The thumbnail of an image in the database, within the page; None leaves it to Datasette's link."""
    key = declared, hashlib.blake2b(data, digest_size=20).digest()
    if key not in _drawn:
        _drawn[key] = await loop.in_decoder(lambda: _inline(declared, data))
        if len(_drawn) > _MOST_DRAWN:
            _drawn.popitem(last=False)
    return _drawn.get(key)


def _inline(declared: str | None, data: bytes) -> Markup | None:
    if kind_of(declared, data, None) != "image":
        return None
    size = f"{len(data):,} bytes"
    try:
        picture = make(data)
    except MediaError as error:
        return Markup("BLOB of {}<br>{}").format(size, _reason(str(error)))
    source = f"data:{picture_type(picture)};base64,{base64.b64encode(picture).decode()}"
    return Markup('<img src="{}" alt="an image" style="{}"><small>{}</small>').format(source, _SIZE, size)


def make(media: bytes | Any) -> bytes:
    """The thumbnail of media, bytes or a file. Raises DecodeError."""
    return thumbnail(media, WIDTH, HEIGHT, MOST_BYTES)


def picture_type(picture: bytes) -> str:
    """The MIME type of what `thumbnail` made."""
    return "image/webp" if picture[8:12] == b"WEBP" else "image/jpeg"
