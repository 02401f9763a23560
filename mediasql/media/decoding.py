"""Decoders at work on files that are not here: they read, and what they read is fetched."""

from __future__ import annotations

import atexit
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from functools import partial
from typing import IO, Any, TypeVar, cast

from ..errors import TransientError
from ..storage import loop
from ..storage.transport.engines import engine
from ..storage.transport.jobs import Engine, Job, Steps, jobs_of
from .sparse import Segments, SparseFile

T = TypeVar("T")


class _Decoding:
    """An operation: `work` in a thread, over a file whose reads are jobs."""

    def __init__(
        self,
        load: Callable[[int, int], Steps[bytes]],
        size: int | None,
        known: Segments,
        work: Callable[[IO[bytes]], Any],
    ) -> None:
        self._load, self._size, self._known, self._work = load, size, known, work
        self._failures: list[BaseException] = []
        self._read: Job | None = None
        self._reading: Future[bytes] | None = None
        self._give_up: Callable[[], None] = lambda: None

    def begin(self, engine: Engine, job: Job) -> None:
        self._give_up = partial(engine.cancel, job)
        _under_way.add(self)

        def run() -> None:
            try:
                value = self._work(cast(IO[bytes], SparseFile(fetch, self._size, self._known)))
                error = None
            except BaseException as failure:
                value, error = None, failure
            _under_way.discard(self)
            if self._failures:
                error = self._failures[0]
            engine.call(finish, value, error)

        def fetch(start: int, stop: int) -> bytes:
            if self._failures:
                return b""
            reading: Future[bytes] = Future()
            self._reading = reading
            engine.call(read, start, stop, reading)
            try:
                return reading.result()
            except BaseException as error:
                self._failures.append(error)
                return b""

        def read(start: int, stop: int, reading: Future[bytes]) -> None:
            def done(value: Any, error: BaseException | None) -> None:
                if reading.done():
                    return
                if error is not None:
                    reading.set_exception(error)
                else:
                    reading.set_result(value)

            if job.over:
                reading.set_exception(TransientError("given up"))
            else:
                self._read = engine.start(self._load(start, stop), done)

        def finish(value: Any, error: BaseException | None) -> None:
            if error is None:
                engine.resume(job, value)
            else:
                engine.fail(job, error)

        loop.decoders().submit(run)

    def cancel(self, engine: Engine) -> None:
        """Have the thread, too, come to its end."""
        self._failures.append(TransientError("given up"))
        if self._read is not None and not self._read.over:
            engine.cancel(self._read)
            if self._reading is not None and not self._reading.done():
                self._reading.set_exception(self._failures[0])

    def give_up(self) -> None:
        """Give up the job, so that the thread comes to its end whatever it waits for. From any thread."""
        self._give_up()


_under_way: set[_Decoding] = set()


def _before_python_ends() -> None:
    """Before `loop` waits for the threads that decode, which may wait for a server."""
    for each in list(_under_way):
        each.give_up()


atexit.register(_before_python_ends)


def decoding(
    load: Callable[[int, int], Steps[bytes]], size: int | None, known: Segments, work: Callable[[IO[bytes]], T]
) -> Steps[T]:
    """A job: what `work`, in a thread, makes of a file of which it reads what it wants.

    A read that fails looks to decoders like the end of the file, and raises when they are done: they would swallow
    the exception, or keep it for the next file that they open.
    """
    found: T = yield _Decoding(load, size, known, work)
    return found


async def decoded(
    load: Callable[[int, int], Awaitable[bytes]], size: int | None, known: Segments, work: Callable[[IO[bytes]], T]
) -> T:
    """The same where `load` is a coroutine function."""
    return await engine().run(decoding(jobs_of(load), size, known, work))
