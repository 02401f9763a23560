"""Pages of media in a browser: pictures are seen, films play and are sought in, reasons can be read."""

from __future__ import annotations

import io
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from typing import Any

import av
import nbformat
import pytest
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from tests.servers import chromium
from tests.servers import datasette as datasette_program
from tests.servers.chromium import Page
from tests.store import Store

SECONDS = 25
IMAGES = "[...document.querySelectorAll('img')]"
LOADED = f"{IMAGES}.every(image => image.complete)"


@cache
def noise() -> bytes:
    """A film of some 20 MB, more than a browser reads ahead of where it plays; its index is at the end."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.options = {"preset": "ultrafast", "qp": "22", "g": "10"}
        for _ in range(10 * SECONDS):
            frame = av.VideoFrame(320, 240, "yuv420p")
            for plane in frame.planes:
                plane.update(os.urandom(plane.buffer_size))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


@pytest.fixture(scope="session")
def _browser() -> Iterator[int]:
    with chromium.start() as port:
        yield port


@pytest.fixture
def page(_browser: int) -> Iterator[Page]:
    with chromium.opened(_browser) as tab:
        yield tab


def shown(page: Page) -> list[dict[str, Any]]:
    """The images of a page, which loads them as they come into sight."""
    page.run(f"{IMAGES}.forEach(image => image.loading = 'eager')")
    page.wait(LOADED)
    script = "image => ({natural: image.naturalWidth, width: image.width, height: image.height, alt: image.alt})"
    found: list[dict[str, Any]] = page.run(f"{IMAGES}.map({script})")
    return found


def bytes_of(page: Page, selector: str, property: str = "src") -> int:
    script = (
        f"fetch(document.querySelector({selector!r}).{property}).then(r => r.arrayBuffer()).then(b => b.byteLength)"
    )
    return int(page.run(script))


def contrast(page: Page, selector: str) -> float:
    """That of a text and its own background, by WCAG 2.2."""
    script = """(() => {
        const style = getComputedStyle(document.querySelector(%r));
        const light = colour => colour.match(/\\d+/g).slice(0, 3).map(part => part / 255)
            .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
            .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0.05);
        return light(style.backgroundColor) / light(style.color);
    })()"""
    return float(page.run(script % selector))


# --- Datasette -------------------------------------------------------------------------------------------------------
@pytest.fixture
def datasette(environment: Path, sample_store: Store, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """`datasette(rows, …)` starts the program over a table of them, and gives the table's address."""
    with ExitStack() as stack:

        def start(*rows: tuple[Any, ...], columns: str = "media MEDIA", **options: Any) -> str:
            path = tmp_path / "gallery.db"
            with closing(sqlite3.connect(path)) as connection:
                connection.execute(f"CREATE TABLE t(id INTEGER PRIMARY KEY, {columns})")
                for row in rows:
                    connection.execute(f"INSERT INTO t VALUES (NULL, {', '.join('?' * len(row))})", row)
                connection.commit()
            allowed = {"allow": ["s3://media-samples", sample_store.http.url], **options}
            env = {**sample_store.environment, "MEDIASQL_CACHE_DIR": str(environment / "cache")}
            address = stack.enter_context(datasette_program.start(path, plugin=allowed, env=env))
            return f"{address}/gallery/t"

        yield start


def test_a_gallery_of_datasette(datasette: Callable[..., str], sample_store: Store, page: Page) -> None:
    names = ("alps.jpg", "berlin.jpg", "cape town.jpg", "lisbon.jpg", "scan.png", "tokyo.webp")
    rows = [(f"s3://media-samples/photos/{name}",) for name in names]
    rows += [(f"{sample_store.http.url}/images/{name}",) for name in ("logo.png", "000000000036.jpg")]
    page.open(datasette(*rows, columns="image IMAGE"))
    images = shown(page)
    assert [image["natural"] for image in images] == [213, 240, 120, 107, 213, 213, 160, 120]
    assert all(image["natural"] == image["width"] and image["height"] <= 160 for image in images), "none is stretched"
    assert page.run("document.documentElement.scrollWidth <= innerWidth")
    assert page.complaints == []
    page.run("document.querySelector('td img').click()")
    page.wait("location.pathname.startsWith('/-/mediasql/media/')")
    page.wait("document.images.length === 1 && document.images[0].naturalWidth === 1600")


def test_reasons_in_datasette(datasette: Callable[..., str], sample_store: Store, page: Page) -> None:
    missing = "s3://media-samples/photos/none.jpg"
    damaged = "s3://media-samples/inbox/damaged.jpg"
    rows = [(missing,), (damaged,), ("s3://media-samples/videos/none.mp4",), ("https://example.com/a.jpg",)]
    address = datasette(*rows)
    page.open(address)
    assert [(image["natural"], image["height"] >= 25) for image in shown(page)] == [(240, True)] * 2
    text = "document.querySelector({!r}).{}"
    said = [
        page.run(f"fetch({text.format(where, what)}).then(answer => answer.text())")
        for where, what in (("tr:nth-child(1) img", "src"), ("tr:nth-child(2) img", "src"), ("video", "poster"))
    ]
    for svg, reason in zip(said, ("404 Not Found", "not an image, video or audio", "404 Not Found"), strict=True):
        assert reason in svg
        assert "Errno" not in svg
    assert contrast(page, "td small[style]") > 7
    refused = page.run("document.querySelector('tr:nth-child(4) td:last-child').innerText")
    assert refused.startswith("https://example.com/a.jpg\nrefused by policy")
    page.wait("document.querySelector('video').muted = true")
    assert page.run("document.querySelector('video').play().catch(error => error.name)") == "NotSupportedError"
    page.open(address.replace("gallery/t", "-/mediasql/errors"))
    table = page.run("document.querySelector('table').innerText")
    assert all(url in table for (url,) in rows)


@pytest.mark.parametrize("presigned", [None, 600])
def test_a_film_in_datasette(
    datasette: Callable[..., str], sample_store: Store, page: Page, presigned: int | None
) -> None:
    """Through Datasette, and from the store itself with a signed URL."""
    film = noise()
    sample_store.s3.put("media-samples", "noise.mp4", film, "video/mp4")
    page.open(datasette(("s3://media-samples/noise.mp4",), presigned=presigned))
    assert not [answer for answer in page.responses if "/media/" in answer.url], "nothing until it is started"
    assert bytes_of(page, "video", "poster") <= 10 * 1024
    sample_store.s3.reset()
    page.run("window.film = document.querySelector('video'); film.muted = true; film.play()")
    page.wait("film.currentTime > 0.3 && film.readyState >= 2")
    assert page.run("[film.videoWidth, film.videoHeight, Math.round(film.duration)]") == [320, 240, SECONDS]

    page.responses.clear()
    page.run(f"film.currentTime = {SECONDS - 4}")
    page.wait(f"!film.seeking && film.currentTime > {SECONDS - 3.8}")
    parts = [answer.headers["content-range"] for answer in page.responses if answer.status == 206]
    starts = [int(part.removeprefix("bytes ").partition("-")[0]) for part in parts]
    assert any(start > len(film) // 2 for start in starts), parts
    page.run("film.pause()")
    asked = [request for request in sample_store.s3.requests() if request.path.endswith("noise.mp4")]
    assert {request.status for request in asked} <= {206, 304}, "each was for a range"
    if presigned is None:
        assert sum(request.bytes for request in asked) < len(film), "what was skipped was not read"
    else:
        assert any(answer.url.startswith(sample_store.s3.url) for answer in page.responses)


# --- notebooks -------------------------------------------------------------------------------------------------------
NOTEBOOK = """
%load_ext mediasql
---
%%mediasql --rows 8
CREATE TABLE photos(image IMAGE, width INT AS (width(image)));
INSERT INTO photos(image) SELECT url FROM media('s3://media-samples/photos/*');
INSERT INTO photos(image) VALUES ('{web}/images/logo.png'), ('s3://media-samples/photos/none.jpg');
INSERT INTO photos(image) SELECT url FROM media('s3://media-samples/inbox/*');
SELECT image, width FROM photos
---
%%mediasql
SELECT 's3://media-samples/videos/tide.mp4' AS video, '{folder}/bell.wav' AS audio
---
%%mediasql
SELECT broken FROM photos
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_notebook(sample_environment: Store, page: Page, tmp_path: Path, theme: str) -> None:
    folder = sample_environment.environment["SAMPLES_FOLDER"]
    sources = NOTEBOOK.format(web=sample_environment.http.url, folder=folder).strip().split("\n---\n")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, timeout=300, allow_errors=True, kernel_name="python3").execute()
    file = tmp_path / "notebook.html"
    file.write_text(HTMLExporter(theme=theme).from_notebook_node(notebook)[0])
    page.open(file.as_uri())

    images = shown(page)
    assert [image["natural"] for image in images] == [213, 240, 120, 107, 213, 213, 160]
    assert all(image["natural"] == image["width"] and image["alt"] for image in images)
    assert max(page.run(f"{IMAGES}.map(image => image.src.length * 3 / 4)")) <= 10 * 1024
    assert page.run("document.querySelectorAll('tbody')[0].rows.length") == 8
    text = page.run("document.body.innerText")
    assert "s3://media-samples/photos/none.jpg\n404 Not Found (NoSuchKey)" in text
    assert "SQLError: no such column: broken" in text
    assert "The first 8 rows;" in text
    assert contrast(page, "td span[style*=background]") > 7
    assert page.run("document.documentElement.scrollWidth <= innerWidth")

    for player, seconds in (("video", 10), ("audio", 2)):
        page.run(f"window.player = document.querySelector('{player}'); player.muted = true; player.play()")
        page.wait("player.currentTime > 0.3 && player.readyState >= 2")
        assert page.run("Math.round(player.duration)") == seconds
