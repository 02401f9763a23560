"""What differs between PyAV's versions: the argument for metadata, and what becomes of text that is not UTF-8."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import av
import pytest

from mediasql import connect
from mediasql.errors import UsageError
from mediasql.media import pyav
from tests.media import make

TITLE = b"caf\xe9 \xff \xc3\xa9"  # Latin-1, no text at all, and UTF-8
SHOWN = "caf\ufffd \ufffd \u00e9"


def tagged_wave() -> bytes:
    """A WAVE file whose title is not UTF-8."""
    data = make.audio("wav", codec="pcm_s16le", seconds=0.1)
    title = struct.pack("<4sI", b"INAM", len(TITLE)) + TITLE + b"\0" * (len(TITLE) & 1)
    info = struct.pack("<4sI", b"LIST", 4 + len(title)) + b"INFO" + title
    return data[:4] + struct.pack("<I", len(data) + len(info) - 8) + data[8:] + info


class FakePyAV:
    """What `av.open` gives in one version: a container whose metadata is decoded as `decode` does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, av_open: Callable[..., Any]) -> None:
        self.calls: list[dict[str, Any]] = []

        def recorded(file: Any, **arguments: Any) -> Any:
            found = av_open(file, **arguments)
            self.calls.append(arguments)
            return found

        monkeypatch.setattr(av, "open", recorded)


def _opened(file: Any, errors: str) -> Any:
    if not file.read():
        raise av.error.InvalidDataError(1, "Invalid data found when processing input", "")
    title = TITLE.decode("utf-8", errors)
    stream = SimpleNamespace(metadata={"language": title})
    return SimpleNamespace(metadata={"title": title, title: "plain"}, streams=[stream])


def pyav_18(file: Any, *, options: dict[str, str], io_open: Any, metadata_errors: str = "strict") -> Any:
    return _opened(file, metadata_errors)


def pyav_19(file: Any, *, options: dict[str, str], io_open: Any) -> Any:
    return _opened(file, "surrogateescape")


def pyav_to_come(file: Any, *, options: dict[str, str], open_more: Any) -> Any:
    return _opened(file, "surrogateescape")


@pytest.mark.parametrize("av_open", [pyav_18, pyav_19])
def test_every_version_gives_text_that_sqlite_can_hold(
    monkeypatch: pytest.MonkeyPatch, av_open: Callable[..., Any]
) -> None:
    fake = FakePyAV(monkeypatch, av_open)
    referred: list[str] = []
    container = pyav.open_container(io.BytesIO(b"media"), referred=referred)
    assert container.metadata == {"title": SHOWN, SHOWN: "plain"}
    assert [stream.metadata for stream in container.streams] == [{"language": SHOWN}]
    assert fake.calls
    for arguments in fake.calls:
        assert arguments["options"]["protocol_whitelist"] == "none"
        assert arguments["io_open"]("file:///etc/passwd", 0, {}).read() == b""
    assert referred == ["file:///etc/passwd"]


def test_a_version_that_cannot_be_kept_from_other_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    FakePyAV(monkeypatch, pyav_to_come)
    with pytest.raises(UsageError, match=r'io_open.*pip install "av>='):
        pyav.open_container(io.BytesIO(b"media"))


def test_the_installed_version_gives_text_that_sqlite_can_hold() -> None:
    with pyav.open_container(io.BytesIO(tagged_wave())) as container:
        assert container.metadata["title"] == SHOWN


def test_a_function_of_the_application_may_return_metadata() -> None:
    con = connect()

    @con.media_function
    def title(sound: av.container.InputContainer) -> str:
        return sound.metadata["title"]

    assert con.execute("SELECT title(?)", (tagged_wave(),)).get == SHOWN
    con.close()
