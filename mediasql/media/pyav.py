"""Opens files with PyAV, which is FFmpeg, and nothing but the file; owns what differs between PyAV's versions.

PyAV 18 decodes metadata as `metadata_errors` of `av.open` tells. PyAV 19, which needs Python 3.12, has no such
argument: what is not UTF-8 becomes lone surrogates, for which SQLite has no text. With both it is U+FFFD here.
Rates and ratios that are not known are None in PyAV 18, and 0/1 or 0/0 in PyAV 19: test them for truth, not for None.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ..errors import DecodeError, UsageError

_SANDBOX = {"protocol_whitelist": "none"}


def damages() -> tuple[type[Exception], ...]:
    """Return the exceptions that PyAV raises for files that it cannot read."""
    import av

    return av.FFmpegError, ValueError, IndexError


def unreadable(wanted: str, error: Exception) -> DecodeError:
    """Return the DecodeError for a file that is not `wanted`, in FFmpeg's words without the number of its error."""
    return DecodeError(f"not {wanted} that can be read: {getattr(error, 'strerror', None) or error}")


def open_container(file: Any, options: dict[str, str] | None = None, referred: list[str] | None = None) -> Any:
    """Open an `av.container.InputContainer` over this file alone.

    URLs that the file refers to are not opened, but appended to `referred`. Raises one of `damages()` for a file that
    FFmpeg cannot read, and UsageError for a version of PyAV that cannot be kept from opening other files.
    """
    import av

    def refuse(url: str, flags: int, options: dict[str, str]) -> Any:
        # Nothing may raise here: PyAV would keep the exception for the next file that this thread opens.
        if referred is not None:
            referred.append(url)
        return io.BytesIO()

    container = av.open(file, options={**(options or {}), **_SANDBOX}, io_open=refuse, **_of_version(av.open))
    for metadata in (container.metadata, *(stream.metadata for stream in container.streams)):
        _replace_surrogates(metadata)
    return container


@lru_cache
def _of_version(av_open: Callable[..., Any]) -> dict[str, Any]:
    """Return what else this version's `av.open` is to be given, found by calling it: it has no signature to look at."""
    refused: TypeError | None = None
    for arguments in ({"metadata_errors": "replace"}, {}):
        try:
            av_open(io.BytesIO(), options=_SANDBOX, io_open=lambda *_: io.BytesIO(), **arguments)
        except TypeError as error:
            refused = error
        except damages():  # an empty file
            return arguments
    raise UsageError(
        f"PyAV cannot be used, since it opens files in a way that is not known here ({refused}); install a version that"
        ' mediasql was tested with: pip install "av>=18.1,<20"'
    )


def _replace_surrogates(metadata: dict[str, str]) -> None:
    """Put U+FFFD for what was not UTF-8, in place, as the handler of errors `replace` does."""
    for key, value in list(metadata.items()):
        if not (key.isascii() and value.isascii()):
            del metadata[key]
            metadata[_replaced(key)] = _replaced(value)


def _replaced(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
