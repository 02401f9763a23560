"""Whole media as Python code wants it: an image, a container, the bytes, or a file on disk."""

from __future__ import annotations

import io
import mimetypes
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import DecodeError
from . import pyav
from .probe import probe_bytes

# What `mimetypes` knows no extension for, or another than people use.
_EXTENSIONS = {"image/jpeg": "jpg", "image/avif": "avif", "audio/mp4": "m4a", "audio/mpeg": "mp3", "video/webm": "webm"}


@contextmanager
def opened_image(data: bytes, extension: str = "") -> Iterator[Any]:
    """A `PIL.Image.Image` with its pixels loaded; EXIF, its orientation too, is left as it is. Raises DecodeError."""
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except Image.DecompressionBombError as error:
        raise DecodeError(
            f"too large an image to be decoded: {error}; the limit is PIL.Image.MAX_IMAGE_PIXELS"
        ) from None
    except Exception as error:  # the plugins raise whatever a damaged file leads them to
        reason = "not an image that can be read" if "cannot identify" in str(error) else f"a damaged image: {error}"
        raise DecodeError(reason) from None
    with image:
        yield image


@contextmanager
def opened_container(data: bytes, extension: str = "") -> Iterator[Any]:
    """An `av.container.InputContainer` over the bytes, which opens nothing else. Raises DecodeError."""
    try:
        container = pyav.open_container(io.BytesIO(data))
    except pyav.damages() as error:
        raise pyav.unreadable("video or audio", error) from None
    with container:
        yield container


@contextmanager
def opened_bytes(data: bytes, extension: str = "") -> Iterator[bytes]:
    """The bytes themselves."""
    yield data


@contextmanager
def opened_path(data: bytes, extension: str = "") -> Iterator[Path]:
    """A temporary file with these bytes and an extension that fits them; gone afterwards."""
    suffix = extension or _extension(data)
    handle, name = tempfile.mkstemp(prefix="mediasql-", suffix=f".{suffix}" if suffix else "")
    path = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        yield path
    finally:
        path.unlink(missing_ok=True)


def _extension(data: bytes) -> str:
    """The extension by what the bytes are; empty for what is not known."""
    info = probe_bytes(data).info
    if info is None:
        return ""
    return _EXTENSIONS.get(info.mime_type) or (mimetypes.guess_extension(info.mime_type) or "").lstrip(".")
