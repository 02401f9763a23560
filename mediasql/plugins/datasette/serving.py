"""The routes of media and thumbnails: bytes of what a database may reach, for who may see that database.

What is served is what its first bytes say, and only images, video and audio: pages and drawings that could run scripts
are not, whatever the store calls them.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any
from xml.sax.saxutils import escape

from datasette import Response

from ...errors import DecodeError, Forbidden, ForbiddenByPolicy, MediaError, NotFound, TransientError, Unsupported
from ...media.probe import Answer, probe
from ...sql.pictures import Drawn, drawn
from ...storage.location import Location
from ...storage.providers.base import ObjectInfo
from ..notebook.cells import plain
from . import cells
from .reach import Reach, on_loop, reach_of
from .streaming import Stream
from .tokens import opened

SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox allow-same-origin"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
_MOST_AGE = 3600.0  # seconds for which a browser may keep what it got
_MOST_AT_A_TIME = 16  # thumbnails being made
_LINE = 38  # characters of a reason
_KINDS = ("image", "video", "audio")
_STATUS: list[tuple[type[MediaError], int]] = [
    (NotFound, 404),
    (Forbidden, 403),
    (ForbiddenByPolicy, 403),
    (DecodeError, 415),
    (TransientError, 503),
]
# For sounds without a cover: there is nothing to see, and nothing is wrong.
_NOTHING = '<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'

_making = asyncio.Semaphore(_MOST_AT_A_TIME)  # of the fetching loop


async def media(datasette: Any, request: Any, receive: Any) -> Any:
    """`/-/mediasql/media/TOKEN`: the media itself, also in ranges, or a redirect to a signed URL of its store."""
    if request.method not in ("GET", "HEAD"):
        return Response.text("Method not allowed", status=405, headers={"Allow": "GET, HEAD"})
    token = await opened(datasette, request)
    reach = reach_of(datasette, token.database)
    try:
        location = reach.location(token.url)
        if reach.presigned is not None and (url := await asyncio.to_thread(_signed, reach, location, reach.presigned)):
            kept = f"private, max-age={reach.presigned // 2}"
            return Response("", status=302, headers={**SAFE, "Location": url, "Cache-Control": kept})
        answer = await on_loop(_known(reach, location))
        if answer.error is not None:
            raise answer.error.again()
        assert answer.info is not None
        if answer.info.media_type not in _KINDS or "svg" in answer.info.mime_type:
            raise DecodeError(f"{answer.info.mime_type} is not shown")
    except MediaError as error:
        reach.failures.add(token.url, "media", error)
        return Response.text(str(error), status=_status(error), headers={**SAFE, "Cache-Control": "no-store"})
    reach.failures.mended(token.url, "media")
    headers = {**SAFE, "Cache-Control": _cache_control(reach, answer.object)}
    return Stream(reach.store, location, answer.object, answer.info.mime_type, headers, request, receive)


async def thumbnail(datasette: Any, request: Any) -> Any:
    """`/-/mediasql/thumbnail/TOKEN`: a small picture; where there is none, one that says why."""
    token = await opened(datasette, request)
    reach = reach_of(datasette, token.database)
    try:
        picture, info = await _picture(reach, token.url)
    except MediaError as error:
        reach.failures.add(token.url, "thumbnail", error)
        poster = request.query_string == "poster"
        return _svg(_explained(error, poster), _status(error), "no-store")
    reach.failures.mended(token.url, "thumbnail")
    if not picture:
        return _svg(_NOTHING, 200, _cache_control(reach, info))
    headers = {**SAFE, "Cache-Control": _cache_control(reach, info)}
    return Response(picture, headers=headers, content_type=cells.picture_type(picture))


async def _picture(reach: Reach, url: str) -> Drawn:
    """The thumbnail; an empty one for sounds without a cover. Raises MediaError."""
    location = reach.location(url)
    now = time.monotonic()
    if (known := reach.pictures.get(url)) is not None and now - known[0] < reach.picture_age:
        return known[1]
    made = await on_loop(_made(reach, location))
    if not made.info.no_store:
        reach.keep_picture(url, now, made)
    return made


async def _made(reach: Reach, location: Location) -> Drawn:
    async with _making:
        try:
            return await drawn(reach.store, location, cells.make)
        except DecodeError:
            answer = await _known(reach, location)
            if answer.info is not None and answer.info.media_type == "audio":
                return Drawn(b"", answer.object)
            raise


async def _known(reach: Reach, location: Location) -> Answer:
    """What the header tells. Raises MediaError where it cannot be read."""
    read = reach.store.keeper(location, time.monotonic() + reach.config.timeout)
    return await probe(read, extension=location.extension)


def _signed(reach: Reach, location: Location, seconds: int) -> str | None:
    """A URL of the store itself; None where it signs none, and of the web, where it would be the database's."""
    if location.scheme in ("http", "https"):
        return None
    try:
        url = reach.store.presign(location, seconds)
    except Unsupported:
        return None
    return url if url.startswith(("https://", "http://")) else None


def _cache_control(reach: Reach, info: ObjectInfo) -> str:
    if info.no_store:
        return "no-store"
    age = reach.config.max_age
    return f"private, max-age={int(_MOST_AGE if age is None else min(age, _MOST_AGE))}"


def _status(error: MediaError) -> int:
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 502)


def _svg(svg: str, status: int, cache: str) -> Any:
    return Response(svg, status=status, headers={**SAFE, "Cache-Control": cache}, content_type="image/svg+xml")


def _explained(error: MediaError, poster: bool) -> str:
    """A picture of the reason, in lines; dark in a player, whose controls cast a shadow."""
    text = "".join(letter for letter in plain(str(error)) if letter.isprintable())
    lines = [""]
    for word in text.split(" "):
        while len(word) > _LINE:
            lines += [word[:_LINE]]
            word = word[_LINE:]
        if len(lines[-1]) + len(word) >= _LINE:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    rows = "".join(f'<tspan x="6" dy="15">{escape(line)}</tspan>' for line in lines if line)
    height = 15 * len(lines) + 10
    if poster:
        height = max(height, cells.HEIGHT)
    paper, ink = ("#3b1512", "#ffcdc7") if poster else ("#fdecea", "#8e1b12")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{cells.WIDTH}" height="{height}">'
        f'<rect width="100%" height="100%" fill="{paper}"/>'
        f'<text y="2" font-family="sans-serif" font-size="11" fill="{ink}">{rows}</text></svg>'
    )
