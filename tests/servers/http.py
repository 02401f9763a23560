"""A web server whose answers go wrong in every way that we know, on request.

`/photo.jpg` is served faithfully. A path may begin with the name of one or more behaviours and their
arguments, each of which changes the answer to the rest: `/norange/photo.jpg`, `/flaky/2/503/photo.jpg`,
`/slow/200/nolength/photo.jpg`. The table BEHAVIOURS at the end is the list. What is put with the content type
`status/503` is answered with that status, whatever it was before.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import math
import sys
import urllib.parse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from mimetypes import guess_type
from pathlib import Path

from tests.servers.process import python_module, running
from tests.servers.server import Server
from tests.servers.wire import Answer, Call, Service, ranged, serve

USER, PASSWORD = "user", "pass"
BEARER = "secret-bearer"
TOKEN = "secret"
LAST_MODIFIED = 1_700_000_000


class HttpServer(Server):
    """A bucket is a folder, and may be empty; `at(path)` is a URL with the path percent-encoded."""

    def at(self, path: str) -> str:
        return f"{self.url}/{urllib.parse.quote(path)}"

    def release(self) -> None:
        """Answer the requests for `/held/…`, those that are to come until the next `reset` too."""
        self.control("POST", "/_release")


@contextmanager
def start(folder: Path | None = None) -> Iterator[HttpServer]:
    """Serve what is put, and the files under `folder`."""
    with running(python_module("tests.servers.http", *([str(folder)] if folder else []))) as child:
        yield HttpServer(child.port, {})


@dataclass
class Visit:
    """One request on its way through the behaviours that its path names; `path` is what is left of it."""

    call: Call
    path: str
    site: Site

    def serve(self) -> Answer:
        """Let the next behaviour answer, or the file itself."""
        name, _, rest = self.path.partition("/")
        if name not in BEHAVIOURS:
            return self.site.file(self)
        behaviour, count = BEHAVIOURS[name]
        *arguments, self.path = rest.split("/", count)
        return behaviour(self, *arguments)


class Site:
    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.files: dict[str, tuple[bytes, str, str]] = {}
        self.visits: Counter[str] = Counter()
        self.forget()

    def forget(self) -> None:
        self.visits.clear()
        self.met: Counter[str] = Counter()
        self.meetings: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.released = asyncio.Event()

    def release(self, call: Call) -> Answer:
        self.released.set()
        return Answer(204)

    async def handle(self, call: Call) -> Answer:
        self.visits[call.path] += 1
        return Visit(call, call.path[1:], self).serve()

    def put(self, bucket: str, key: str, data: bytes, content_type: str | None) -> None:
        kind = content_type or guess_type(key)[0] or "application/octet-stream"
        self.files[f"{bucket}/{key}" if bucket else key] = (data, kind, hashlib.md5(data).hexdigest())

    def file(self, visit: Visit) -> Answer:
        name = urllib.parse.unquote(visit.path)
        if name not in self.files and self.folder and (self.folder / name).is_file():
            self.put("", name, (self.folder / name).read_bytes(), None)
        if name not in self.files:
            return Answer(404, b"Not Found")
        data, kind, digest = self.files[name]
        if kind.startswith("status/"):
            return status(visit, kind.partition("/")[2])
        headers = {
            "Content-Type": kind,
            "ETag": f'"{digest}"',
            "Last-Modified": formatdate(LAST_MODIFIED, usegmt=True),
        }
        asked = visit.call.headers
        unmodified = "if-none-match" not in asked and asked.get("if-modified-since") == headers["Last-Modified"]
        if unmodified or asked.get("if-none-match") == headers["ETag"]:
            return Answer(304, b"", headers)
        if asked.get("if-match", headers["ETag"]) != headers["ETag"]:
            return Answer(412, b"", headers)
        current = asked.get("if-range") in (None, headers["ETag"], headers["Last-Modified"])
        return ranged(data, asked.get("range") if current else None, headers)


def whole(visit: Visit) -> Answer:
    """200 with everything, whatever was asked."""
    visit.call.headers.pop("range", None)
    answer = visit.serve()
    answer.headers.pop("Accept-Ranges", None)
    return answer


def no_length(visit: Visit) -> Answer:
    answer = whole(visit)
    answer.chunked = True
    return answer


def bare(visit: Visit) -> Answer:
    """Neither ETag nor Last-Modified."""
    answer = visit.serve()
    for name in ("ETag", "Last-Modified"):
        answer.headers.pop(name, None)
    return answer


def token(visit: Visit) -> Answer:
    return visit.serve() if visit.call.parameters.get("token") == TOKEN else Answer(403, b"Forbidden")


def authorized(scheme: str, expected: str) -> Callable[[Visit], Answer]:
    def answer(visit: Visit) -> Answer:
        if visit.call.headers.get("authorization") == expected:
            return visit.serve()
        return Answer(401, b"Unauthorized", {"WWW-Authenticate": scheme})

    return answer


def redirect(status: int) -> Callable[[Visit], Answer]:
    def answer(visit: Visit) -> Answer:
        query = f"?{visit.call.query}" if visit.call.query else ""
        return Answer(status, b"", {"Location": f"/{visit.path}{query}"})

    return answer


def elsewhere(visit: Visit, target: str) -> Answer:
    """To a URL, given percent-encoded."""
    return Answer(302, b"", {"Location": urllib.parse.unquote(target)})


def loop(visit: Visit) -> Answer:
    return Answer(302, b"", {"Location": visit.call.target})


def status(visit: Visit, code: str) -> Answer:
    headers = {"Retry-After": "1"} if code in ("429", "503") else {}
    return Answer(int(code), f"status {code}\n".encode(), headers)


def flaky(visit: Visit, times: str, code: str) -> Answer:
    """Fail the first times that this path is asked for."""
    if visit.site.visits[visit.call.path] > int(times):
        return visit.serve()
    return Answer(int(code), b"", {"Retry-After": "0"} if code in ("429", "503") else {})


def short(visit: Visit) -> Answer:
    """Half of what Content-Length declares, then the end."""
    answer = visit.serve()
    answer.declared, answer.ending = len(answer.body), "close"
    answer.body = answer.body[: len(answer.body) // 2]
    return answer


def long(visit: Visit) -> Answer:
    """More than was asked for: ten bytes too many, declared in Content-Length but not in Content-Range."""
    answer = visit.serve()
    answer.body += b"0123456789"
    return answer


def undeclared(visit: Visit) -> Answer:
    """More on the connection than Content-Length declares."""
    answer = visit.serve()
    answer.declared, answer.ending = len(answer.body), "close"
    answer.body += b"0123456789"
    return answer


def wrong_range(visit: Visit) -> Answer:
    """206, but the bytes after the ones asked for."""
    unit, _, spec = visit.call.headers.get("range", "bytes=0-").partition("=")
    first, _, last = spec.partition("-")
    visit.call.headers["range"] = f"{unit}={int(first or 0) + 1}-{int(last) + 1 if last else ''}"
    return visit.serve()


def lie(visit: Visit) -> Answer:
    """A Content-Range whose total is not the size of the file."""
    answer = visit.serve()
    if answer.status == 206:
        span, _, total = answer.headers["Content-Range"].partition("/")
        answer.headers["Content-Range"] = f"{span}/{int(total) + 1000}"
    return answer


def slow(visit: Visit, milliseconds: str) -> Answer:
    answer = visit.serve()
    answer.delay += float(milliseconds) / 1000
    return answer


def together(visit: Visit, count: str) -> Answer:
    """Each waits until so many such requests have come: those that are made one by one are never answered."""
    site, answer = visit.site, visit.serve()
    site.met[count] += 1
    answer.until = site.meetings[count]
    if site.met[count] >= int(count):
        answer.until.set()
    return answer


def held(visit: Visit) -> Answer:
    """Answered when the test says so."""
    answer = visit.serve()
    answer.until = visit.site.released
    return answer


def hang(visit: Visit) -> Answer:
    return Answer(delay=math.inf)


def stalls(visit: Visit, at: str) -> Answer:
    """Ranges that begin at byte `at` or behind it are not answered."""
    first, _, _ = visit.call.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
    return hang(visit) if int(first) >= int(at) else visit.serve()


def reset(visit: Visit) -> Answer:
    """The connection breaks (RST) in the middle of the body."""
    answer = short(visit)
    answer.ending = "reset"
    return answer


def zipped(visit: Visit) -> Answer:
    """Content-Encoding gzip, even to a client that asked for identity."""
    answer = whole(visit)
    answer.body = gzip.compress(answer.body, mtime=0)
    answer.headers["Content-Encoding"] = "gzip"
    return answer


def changing(visit: Visit) -> Answer:
    """Another ETag, date and content (8 bytes at the end) at each request."""
    visit.call.headers.pop("if-range", None)
    count = visit.site.visits[visit.call.path]
    asked = visit.call.headers.pop("range", None)
    answer = visit.serve()
    if answer.status != 200:
        return answer
    headers = {
        **answer.headers,
        "ETag": f'"version-{count}"',
        "Last-Modified": formatdate(LAST_MODIFIED + count, usegmt=True),
    }
    return ranged(answer.body[:-8] + b"%08d" % count, asked, headers)


def no_store(visit: Visit, first: str) -> Answer:
    """Forbids to keep the answer, from the request for this path that has the number `first` on."""
    answer = visit.serve()
    if visit.site.visits[visit.call.path] >= int(first):
        answer.headers["Cache-Control"] = "private, No-Store, max-age=600"
    return answer


def head_forbidden(visit: Visit) -> Answer:
    return Answer(403) if visit.call.method == "HEAD" else visit.serve()


BEHAVIOURS: dict[str, tuple[Callable[..., Answer], int]] = {
    "norange": (whole, 0),
    "nolength": (no_length, 0),
    "novalidators": (bare, 0),
    "token": (token, 0),
    "auth": (authorized("Basic", "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()), 0),
    "bearer": (authorized("Bearer", f"Bearer {BEARER}"), 0),
    "r301": (redirect(301), 0),
    "r302": (redirect(302), 0),
    "r307": (redirect(307), 0),
    "r308": (redirect(308), 0),
    "to": (elsewhere, 1),
    "loop": (loop, 0),
    "s": (status, 1),
    "flaky": (flaky, 2),
    "short": (short, 0),
    "long": (long, 0),
    "undeclared": (undeclared, 0),
    "wrongrange": (wrong_range, 0),
    "lie": (lie, 0),
    "slow": (slow, 1),
    "together": (together, 1),
    "held": (held, 0),
    "hang": (hang, 0),
    "stalls": (stalls, 1),
    "reset": (reset, 0),
    "gzip": (zipped, 0),
    "changing": (changing, 0),
    "nostore": (no_store, 1),
    "head-forbidden": (head_forbidden, 0),
}


if __name__ == "__main__":
    site = Site(Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    serve(Service(site.handle, site.put, {"/_release": site.release}, site.forget), int(sys.argv[1]))
