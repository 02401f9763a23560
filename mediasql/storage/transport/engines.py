"""The engines of this process: one for each transport, started when first needed."""

from __future__ import annotations

from ...errors import MissingExtra
from ...lifetime import leak
from .. import forking
from ..imports import importing
from .jobs import Engine

TRANSPORTS = ("auto", "curl", "aiohttp")
MAX_CONNECTIONS = 1024  # kept open by one engine

_lock = forking.lock()
_engines: dict[str, Engine] = {}


def engine(transport: str = "auto") -> Engine:
    """Return the engine of this process on a transport: 'curl', 'aiohttp', or 'auto' for the first that is to be had.

    Raises MissingExtra where it is not installed.
    """
    found = _engines.get(transport)
    if found is not None:
        return found
    with _lock:
        name = resolve(transport)
        found = _engines.get(name)
        if found is None:
            found = _engines[name] = _make(name)
        _engines[transport] = found
        return found


def resolve(transport: str) -> str:
    """Return the transport that 'auto' stands for here, without starting anything."""
    if transport != "auto":
        return transport
    try:
        import pycurl  # noqa: F401
    except ImportError:
        return "aiohttp"
    return "curl"


def _make(name: str) -> Engine:
    try:
        if name == "curl":
            with importing("mediasql.storage.transport.curl"):
                from .curl import CurlEngine

            return CurlEngine(MAX_CONNECTIONS)
        with importing("mediasql.storage.transport.aio"):
            from .aio import AiohttpEngine  # aiohttp takes 0.2 s to import

        return AiohttpEngine(MAX_CONNECTIONS)
    except ImportError as error:
        package = "pycurl" if name == "curl" else "aiohttp"
        raise MissingExtra(f"transport={name!r} needs {package} ({error}): pip install {package}") from None


def _forget() -> None:
    """In a forked child the engine's thread does not exist, and its connections are the parent's to close."""
    leak(dict(_engines))
    _engines.clear()


forking.at_fork(in_child=_forget)
