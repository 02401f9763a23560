"""What the connections of a process share on the loop: places at a host, connections to it, and reads on their way."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from .forking import at_fork

if TYPE_CHECKING:
    from .gate import Gate
    from .providers.base import Chunk
    from .web import Web


class Commons:
    """gates and webs are forgotten when nobody uses them any more.

    gates    by host, and how many requests that may get
    webs     by their settings
    reading  by range, with the outcome for whoever else asks for it
    """

    def __init__(self) -> None:
        self.gates: WeakValueDictionary[Hashable, Gate] = WeakValueDictionary()
        self.webs: WeakValueDictionary[Hashable, Web] = WeakValueDictionary()
        self.reading: dict[Hashable, asyncio.Future[Chunk | Exception | None] | None] = {}


_commons = Commons()


def commons() -> Commons:
    """What is shared in this process. Only for the loop."""
    return _commons


def _forget() -> None:
    """In a forked child: what the parent's loop has is the parent's."""
    global _commons
    _commons = Commons()


at_fork(in_child=_forget)
