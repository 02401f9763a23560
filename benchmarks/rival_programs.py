"""What people write to learn the width and height of pictures with other tools; run where `rivals.txt` is installed.

Each takes `names`, with the right width and height; the objects are at `base` on the web, and at `place` in S3.
"""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.child import Clock

Names = list[tuple[str, int, int]]
Sizes = dict[str, tuple[int, int]]
CONCURRENCY = 256
THREADS = 64
FIRST_BYTES = 32 * 1024


def timed(names: Names, ask: Callable[[list[str]], Sizes], prefix: str) -> dict[str, Any]:
    urls = [prefix + name for name, _, _ in names]
    clock = Clock()
    with clock.running():
        found = ask(urls)
    return clock.result(wrong=sum(found.get(prefix + name) != (width, height) for name, width, height in names))


def daft(folder: str, base: str, endpoint: str, place: str, names: Names) -> dict[str, Any]:
    """Daft, over S3, since it takes no certificates for the web."""
    import daft
    from daft.functions import decode_image, image_height, image_width

    access = daft.io.S3Config(
        endpoint_url=endpoint,
        key_id="AKIDEXAMPLE",
        access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        region_name="us-east-1",
        force_virtual_addressing=False,
        max_connections=THREADS,
    )

    def ask(urls: list[str]) -> Sizes:
        url = daft.col("url")
        config = daft.io.IOConfig(s3=access)
        picture = decode_image(daft.functions.download(url, max_connections=THREADS, io_config=config))
        frame = daft.from_pydict({"url": urls})
        frame = frame.select(url, image_width(picture).alias("width"), image_height(picture).alias("height"))
        columns = frame.to_pydict()
        return dict(zip(columns["url"], zip(columns["width"], columns["height"], strict=True), strict=True))

    return timed(names, ask, place)


def datachain(folder: str, base: str, endpoint: str, place: str, names: Names) -> dict[str, Any]:
    """DataChain, its files opened with Pillow, which reads of them what it needs."""
    with tempfile.TemporaryDirectory() as root:
        os.environ["DATACHAIN_ROOT_DIR"] = root
        import datachain
        from PIL import Image

        def size(file: datachain.File) -> list[int]:
            with file.open() as opened, Image.open(opened) as image:
                return list(image.size)

        size.__annotations__ = {"file": datachain.File, "return": list[int]}  # DataChain reads them

        def ask(urls: list[str]) -> Sizes:
            files = [datachain.File(source=base, path=url.removeprefix(f"{base}/")) for url in urls]
            chain = datachain.read_values(file=files, in_memory=True).settings(prefetch=THREADS).map(size=size)
            return {f"{base}/{file.path}": tuple(found) for file, found in chain.to_iter("file", "size")}

        return timed(names, ask, f"{base}/")


def duckdb(folder: str, base: str, endpoint: str, place: str, names: Names) -> dict[str, Any]:
    """DuckDB with httpfs, and a function of Pillow's."""
    import duckdb
    import duckdb_extension_httpfs
    from PIL import Image

    connection = duckdb.connect(config={"allow_unsigned_extensions": True})
    (extension,) = Path(duckdb_extension_httpfs.__file__).parent.rglob("*.duckdb_extension")
    connection.execute(f"LOAD '{extension}'")
    connection.execute(f"SET ca_cert_file = '{os.environ['SSL_CERT_FILE']}'")
    connection.execute(f"SET threads = {THREADS}")

    def size(content: bytes) -> str:
        return "x".join(map(str, Image.open(io.BytesIO(content)).size))

    connection.create_function("size", size, ["BLOB"], "VARCHAR")

    def ask(urls: list[str]) -> Sizes:
        rows = connection.execute("SELECT filename, size(content) FROM read_blob(?)", [urls]).fetchall()
        return {url: tuple(map(int, text.split("x"))) for url, text in rows}

    return timed(names, ask, f"{base}/")


def obstore(folder: str, base: str, endpoint: str, place: str, names: Names) -> dict[str, Any]:
    """obstore, the first bytes of many objects at a time, and Pillow; the whole object where these are too few."""
    import obstore
    from obstore.store import HTTPStore
    from PIL import Image

    store = HTTPStore.from_url(endpoint)

    async def size(path: str) -> tuple[int, int]:
        head = await obstore.get_range_async(store, path, start=0, length=FIRST_BYTES)
        try:
            return Image.open(io.BytesIO(head)).size
        except (OSError, SyntaxError):
            whole = await obstore.get_async(store, path)
            return Image.open(io.BytesIO(await whole.bytes_async())).size

    async def all_sizes(urls: list[str]) -> Sizes:
        found: Sizes = {}
        waiting = iter(urls)

        async def work() -> None:
            for url in waiting:
                found[url] = await size(url.removeprefix(f"{endpoint}/"))

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
        return found

    return timed(names, lambda urls: asyncio.run(all_sizes(urls)), f"{base}/")
