"""Jobs: generators that yield what they need and are sent the outcome, and the engine that drives them.

A job does no I/O, so its path to an answer is plain code: no coroutine, no task and no timeout object for each file.
What it may yield is an `Operation`: an HTTP exchange, a delay, a place at a host, or work done elsewhere.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Generator, Hashable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar
from weakref import WeakSet, WeakValueDictionary

from .. import loop as event_loop
from .. import threads

if TYPE_CHECKING:
    from .exchange import Exchange
    from .limiter import AdaptiveLimiter

P = ParamSpec("P")
T = TypeVar("T")
Steps = Generator["Operation", Any, T]


class Timer(Protocol):
    def cancel(self) -> None: ...


class Operation(Protocol):
    """What a job waits for."""

    def begin(self, engine: Engine, job: Job) -> None:
        """Begin it; `engine.resume` or `engine.fail` goes on with the job when it is done."""

    def cancel(self, engine: Engine) -> None:
        """Give it up; the job is over."""


class Job:
    """A generator that an engine drives. `done` is called on the engine's thread with its value or its exception, and
    not at all after `cancel`."""

    __slots__ = ("done", "operation", "over", "steps")

    def __init__(self, steps: Steps[Any], done: Callable[[Any, BaseException | None], None]) -> None:
        self.steps = steps
        self.done = done
        self.operation: Operation | None = None
        self.over = False


class Engine(ABC):
    """Drives jobs on one thread. `submit`, `cancel`, `run`, `call` and `now` may be used on any."""

    name: str

    def __init__(self) -> None:
        # By host, and how many requests it may get; forgotten when nobody uses them any more.
        self.limiters: WeakValueDictionary[Hashable, AdaptiveLimiter] = WeakValueDictionary()
        # Reads under way, by range; Shared where others wait for the outcome.
        self.reading: dict[Hashable, Shared | None] = {}
        self.users: WeakSet[Hashable] = WeakSet()

    def leave(self, user: Hashable) -> None:
        """Close the connections, unless another uses them. For the engine's own thread."""
        self.users.discard(user)
        if not self.users:
            self.close_idle()

    @abstractmethod
    def call(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Have the engine's thread call this soon."""

    def perform(self, callback: Callable[..., T], *arguments: Any) -> Future[T]:
        """Have the engine's thread call this; the Future has what came of it."""
        future: Future[T] = Future()

        def call() -> None:
            try:
                future.set_result(callback(*arguments))
            except BaseException as error:
                future.set_exception(error)

        self.call(call)
        return future

    @abstractmethod
    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Call this in a while. For the engine's own thread."""

    @abstractmethod
    def send(self, exchange: Exchange, job: Job) -> object:
        """Send a request; the job goes on with its Response, or with the error. For the engine's own thread."""

    @abstractmethod
    def abort(self, exchange: Exchange, handle: Any) -> None:
        """Give up a request; `handle` is what `send` returned. For the engine's own thread."""

    @abstractmethod
    def close_idle(self) -> None:
        """Close the connections that no exchange uses. For the engine's own thread."""

    def submit(self, jobs: Sequence[Job]) -> None:
        """Begin these jobs."""
        self.call(self._begin, jobs)

    def cancel(self, job: Job) -> None:
        """Give up a job; it is neither resumed nor told."""
        self.call(self._cancel, job)

    def begin(self, job: Job) -> None:
        """Begin one job at once. For the engine's own thread."""
        self._advance(job, None, None)

    def start(self, steps: Steps[Any], done: Callable[[Any, BaseException | None], None]) -> Job:
        """Begin one job at once. For the engine's own thread."""
        job = Job(steps, done)
        self._advance(job, None, None)
        return job

    async def run(self, steps: Steps[T]) -> T:
        """Return the value of a job, awaited on any event loop."""
        here = asyncio.get_running_loop()
        future: asyncio.Future[T] = here.create_future()

        def deliver(value: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

        def done(value: Any, error: BaseException | None) -> None:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                here.call_soon_threadsafe(deliver, value, error)

        job = Job(steps, done)
        self.submit([job])
        try:
            return await future
        except asyncio.CancelledError:
            self.cancel(job)
            raise

    def resume(self, job: Job, value: Any = None) -> None:
        """Go on with a job whose operation is done."""
        if not job.over:
            job.operation = None
            self._advance(job, value, None)

    def fail(self, job: Job, error: BaseException) -> None:
        """Go on with a job whose operation failed: it raises there."""
        if not job.over:
            job.operation = None
            self._advance(job, None, error)

    def _begin(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            if not job.over:
                self._advance(job, None, None)

    def _advance(self, job: Job, value: Any, error: BaseException | None) -> None:
        try:
            operation = job.steps.send(value) if error is None else job.steps.throw(error)
        except StopIteration as done:
            job.over = True
            job.done(done.value, None)
        except Exception as failure:
            job.over = True
            job.done(None, failure)
            del failure
        else:
            job.operation = operation
            try:
                operation.begin(self, job)
            except Exception as failure:  # somebody waits for an outcome, whatever it is
                self.call(self.fail, job, failure)

    def _cancel(self, job: Job) -> None:
        if job.over:
            return
        job.over = True
        operation, job.operation = job.operation, None
        if operation is not None:
            operation.cancel(self)
        job.steps.close()


class Delay:
    """A pause of so many seconds."""

    __slots__ = ("_timer", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._timer: Timer | None = None

    def begin(self, engine: Engine, job: Job) -> None:
        self._timer = engine.call_later(self.seconds, lambda: engine.resume(job))

    def cancel(self, engine: Engine) -> None:
        if self._timer is not None:
            self._timer.cancel()


class _Elsewhere:
    """The result of a concurrent Future; TimeoutError after `seconds`, where the work itself may go on."""

    __slots__ = ("_future", "_seconds", "_timer")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._future: Future[Any] | None = None
        self._timer: Timer | None = None

    def submit(self) -> Future[Any]:
        raise NotImplementedError

    def begin(self, engine: Engine, job: Job) -> None:
        self._future = future = self.submit()

        def go_on() -> None:
            if self._timer is not None:
                self._timer.cancel()
            if job.operation is not self:
                return
            error = future.exception() if not future.cancelled() else TimeoutError()
            if error is None:
                engine.resume(job, future.result())
            else:
                engine.fail(job, error)

        def give_up() -> None:
            if job.operation is self:
                future.cancel()
                engine.fail(job, TimeoutError())

        if self._seconds is not None:
            self._timer = engine.call_later(max(0.0, self._seconds), give_up)
        future.add_done_callback(lambda _: engine.call(go_on))

    def cancel(self, engine: Engine) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._future is not None:
            self._future.cancel()


class Await(_Elsewhere):
    """The result of a coroutine on the event loop."""

    __slots__ = ("_coroutine", "_loop")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        seconds: float | None = None,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(seconds)
        self._coroutine, self._loop = coroutine, loop

    def submit(self) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(self._coroutine, self._loop or event_loop.get())


def jobs_of(call: Callable[P, Awaitable[T]]) -> Callable[P, Steps[T]]:
    """Return what makes jobs of a coroutine function, which runs on the loop that is running now."""
    here = asyncio.get_running_loop()

    async def awaited(*arguments: P.args, **options: P.kwargs) -> T:
        return await call(*arguments, **options)

    def job(*arguments: P.args, **options: P.kwargs) -> Steps[T]:
        found: T = yield Await(awaited(*arguments, **options), loop=here)
        return found

    return job


class InThread(_Elsewhere):
    """The result of `work` in a thread of its kind (see `threads`). `left` is called when the thread is free again."""

    __slots__ = ("_kind", "_left", "_work")

    def __init__(
        self, kind: str, work: Callable[[], Any], seconds: float | None, left: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(seconds)
        self._kind, self._work, self._left = kind, work, left

    def submit(self) -> Future[Any]:
        return threads.of(self._kind).submit(self._work)

    def begin(self, engine: Engine, job: Job) -> None:
        super().begin(engine, job)
        assert self._future is not None
        self._future.add_done_callback(lambda _: engine.call(self._left))


class Shared:
    """The outcome of a job that others may wait for: single flight."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[tuple[Engine, Job]] = []

    def set(self, outcome: Any) -> None:
        """Hand the outcome to all that wait."""
        waiting, self._waiting = self._waiting, []
        for engine, job in waiting:
            engine.call(engine.resume, job, outcome)

    def begin(self, engine: Engine, job: Job) -> None:
        self._waiting.append((engine, job))

    def cancel(self, engine: Engine) -> None:
        self._waiting = [(other, job) for other, job in self._waiting if not job.over]
