"""What tests of the cache start from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mediasql.storage.cache import database, shelf
from tests.storage.objects import CAPACITY, Cache, Objects


@pytest.fixture(params=["curl", "aiohttp"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each test runs over both, and expects the same of them."""
    monkeypatch.setenv("MEDIASQL_TRANSPORT", request.param)
    return str(request.param)


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Cache]]:
    made: list[Cache] = []

    def new(folder: Path = tmp_path / "cache", capacity: int = CAPACITY) -> Cache:
        made.append(Cache(folder, capacity))
        return made[-1]

    yield new
    for one in made:
        one.close()


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again at once."""
    monkeypatch.setattr(shelf, "PAUSE", 0.0)
    monkeypatch.setattr(database, "PAUSE", 0.0)
