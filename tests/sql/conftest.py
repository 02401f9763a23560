"""Pictures on a web server that counts its requests."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image

import mediasql
from mediasql.storage import fetch
from tests.servers.http import HttpServer

Connect = Callable[..., mediasql.MediaConnection]


def picture(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "JPEG")
    return file.getvalue()


@dataclass
class Web:
    """`url(n)` is a picture of 100 + n by 50 pixels, n from 0 to 9."""

    server: HttpServer

    def url(self, number: int, behaviour: str = "") -> str:
        return f"{self.server.url}/{behaviour}p{number}.jpg"

    def asked(self) -> Counter[str]:
        """Requests by path since the last call."""
        asked = Counter(request.path for request in self.server.requests())
        self.server.reset()
        return asked


@pytest.fixture(scope="session")
def pictures(http_server: HttpServer) -> Web:
    for number in range(10):
        http_server.put("", f"p{number}.jpg", picture(100 + number, 50))
    http_server.put("", "text.jpg", b"This is not a picture. " * 20)
    return Web(http_server)


@pytest.fixture
def web(pictures: Web) -> Web:
    pictures.server.reset()
    return pictures


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed for the moment is tried again at once."""
    monkeypatch.setattr(fetch, "FIRST_DELAY", 0.01)


@pytest.fixture
def connect(environment: object) -> Iterator[Connect]:
    """Makes connections that are closed when the test ends."""
    made: list[mediasql.MediaConnection] = []

    def connect(**config: Any) -> mediasql.MediaConnection:
        made.append(mediasql.connect(**{"timeout": 20, **config}))
        return made[-1]

    yield connect
    for connection in made:
        connection.close()


@pytest.fixture
def con(environment: object) -> Iterator[mediasql.MediaConnection]:
    connection = mediasql.connect(timeout=20)
    yield connection
    connection.close()
