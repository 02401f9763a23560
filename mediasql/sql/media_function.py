"""`media_function`: Python functions of the application as SQL functions.

What the first parameter receives is decided by its annotation. The function runs in threads of a pool, for several
media at a time; one that takes batches has one batch at a time, since models are seldom made for threads.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin

from ..errors import MediaError, UnavailableError, Unsupported, UsageError
from ..media import opening
from ..storage import loop
from ..storage.location import Location
from . import calls
from .batches import Batches
from .call import sql_value
from .media import Media
from .registry import Function, Parameter, functions, returned
from .session import Session
from .workshop import Ticket

_WANTED = "PIL.Image.Image, av.container.InputContainer, bytes, pathlib.Path or str (the URL)"
_PLAIN = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def describe(
    session: Session, call: Callable[..., Any], name: str | None, deterministic: bool, batch_size: int | None
) -> Function:
    """The registry's entry for `call`. Raises UsageError for a signature or an option that cannot be used."""
    if not callable(call):
        raise UsageError(f"media_function takes a function, not {call!r}")
    name = name if name is not None else getattr(call, "__name__", "")
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise UsageError(f"media_function: {name!r} cannot be the name of an SQL function; give name='…'")
    if name.lower() in functions():
        raise UsageError(f"media_function: {name} is a function of mediasql; give another name='…'")
    if inspect.iscoroutinefunction(call):
        raise UsageError(f"media_function: {name} is a coroutine function; a plain one is needed")
    if batch_size is not None and (isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1):
        raise UsageError(f"media_function: batch_size is {batch_size!r}; a whole number of 1 or more is needed")
    first, *others = _parameters(call, name)
    work = _UserFunction(call, name, _receives(first, name, batch_size), batch_size, tuple(p.name for p in others))
    return Function(
        name=name,
        call=partial(work.value, session),
        parameters=(
            Parameter(first.name, Media, False),
            *(Parameter(other.name, object, other.default is not other.empty) for other in others),
        ),
        deterministic=deterministic,
        directonly=False,
        perishable=False,
        remembered=False,
        reads_media=True,
        wants_session=False,
        doc=inspect.getdoc(call) or "",
        returns=_returns(call, batch_size),
    )


def _returns(call: Callable[..., Any], batch_size: int | None) -> type | None:
    """The SQL type of one value; a batched function returns a list of them."""
    annotation = inspect.signature(call, eval_str=True).return_annotation
    if batch_size is not None:
        annotation = next(iter(get_args(annotation)), None) if get_origin(annotation) is list else None
    return returned(annotation)


def _parameters(call: Callable[..., Any], name: str) -> list[inspect.Parameter]:
    try:
        found = inspect.signature(call, eval_str=True).parameters.values()
    except (NameError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"media_function: the signature of {name} cannot be read: {error}") from None
    for parameter in found:
        if parameter.kind not in _PLAIN and (
            parameter.kind != parameter.KEYWORD_ONLY or parameter.default is parameter.empty
        ):
            raise UsageError(f"media_function: {name} has a parameter {parameter}, which SQL cannot give")
    plain = [parameter for parameter in found if parameter.kind in _PLAIN]
    if not plain:
        raise UsageError(f"media_function: {name} needs a first parameter for the media")
    return plain


def _receives(first: inspect.Parameter, name: str, batch_size: int | None) -> Any:
    """What opens the media for this parameter; None where it takes the URL."""
    annotation = first.annotation
    if annotation is first.empty:
        raise UsageError(f"media_function: the parameter {first.name} of {name} needs an annotation: {_WANTED}")
    kind = annotation
    if isinstance(annotation, types.GenericAlias) and get_origin(annotation) is list:
        if batch_size is None:
            raise UsageError(f"media_function: {name} takes a list; give batch_size=…, how long it may be")
        (kind,) = get_args(annotation)
    if kind is str:
        return None
    if kind is bytes:
        return opening.opened_bytes
    if kind is Path:
        return opening.opened_path
    place = f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', '')}"
    if place == "PIL.Image.Image":
        return opening.opened_image
    if place.startswith("av.container") and place.endswith(".InputContainer"):
        return opening.opened_container
    shown = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    raise UsageError(f"media_function: {name} takes {first.name}: {shown}; one of these is needed: {_WANTED}")


class _UserFunction:
    """One function of the application. `opened` opens what it receives; None where that is the URL."""

    def __init__(
        self, call: Callable[..., Any], name: str, opened: Any, batch_size: int | None, others: tuple[str, ...]
    ) -> None:
        self.call = call
        self.name = name
        self.opened = opened
        self.others = others
        self.batches = Batches(batch_size, self._batch) if batch_size is not None else None
        self.together = batch_size or 1

    def value(self, session: Session, media: Media, *others: Any) -> Any:
        """The SQL value for one call."""
        if self.opened is None and isinstance(media.value, bytes):
            raise Unsupported("a BLOB has no URL")
        work = _Call(self, media.value, others)
        return calls.call(session, calls.wanted(session, self, media.value, others, work))

    def one(self, source: _Source, others: tuple[Any, ...]) -> Any:
        """Open the media and call the function, in this thread. An outcome that is an error is returned."""
        try:
            with self._open(source) as given:
                return self._converted(self._called(given, others))
        except BaseException as error:
            return self._failure(error)

    def _open(self, source: _Source) -> Any:
        opened = self.opened or opening.opened_bytes
        return opened(source.data, source.extension)

    def _called(self, *arguments: Any) -> Any:
        first, others = arguments
        try:
            return self.call(first, *others)
        except MediaError:
            raise
        except BaseException as error:  # SystemExit too must not end our threads
            raise UnavailableError(f"{type(error).__name__}: {error}") from None

    def _converted(self, value: Any) -> Any:
        try:
            return sql_value(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"it returned a {type(value).__name__}, which SQL has no value for: {error}") from None

    def _failure(self, error: BaseException) -> MediaError:
        if isinstance(error, MediaError):
            return error.again()
        return UnavailableError(f"{type(error).__name__}: {error}")

    async def _batch(self, others: Any, sources: list[_Source]) -> list[Any]:
        return await loop.in_worker(partial(self._many, sources, tuple(value for _, value in others)))

    def _many(self, sources: list[_Source], others: tuple[Any, ...]) -> list[Any]:
        """Outcomes for a batch, in this thread: what cannot be opened fails by itself."""
        outcomes: list[Any] = [None] * len(sources)
        with ExitStack() as stack:
            given: dict[int, Any] = {}
            for at, source in enumerate(sources):
                try:
                    given[at] = stack.enter_context(self._open(source))
                except BaseException as error:
                    outcomes[at] = self._failure(error)
            if given:
                try:
                    values = self._listed(self._called(list(given.values()), others), len(given))
                except UsageError as error:
                    values = [error.again()] * len(given)
                except MediaError as error:
                    alone = len(given) == 1
                    values = [error.again() if alone else self._alone(sources[at], others) for at in given]
                for at, value in zip(given, values, strict=True):
                    outcomes[at] = value
        return outcomes

    def _alone(self, source: _Source, others: tuple[Any, ...]) -> Any:
        """One of a batch that failed, again: opened anew, since the call may have used it up."""
        return self._many([source], others)[0]

    def _listed(self, values: Any, count: int) -> list[Any]:
        """The values of a batch, or what is wrong with each."""
        try:
            if isinstance(values, str | bytes | dict):
                raise TypeError
            listed = list(values)
        except TypeError:
            raise UsageError(
                f"it was called with a batch of {count} and returned a {type(values).__name__}; a list is needed"
            ) from None
        if len(listed) != count:
            raise UsageError(f"it was called with a batch of {count} and returned {len(listed)} values")
        outcomes: list[Any] = []
        for value in listed:
            try:
                outcomes.append(self._converted(value))
            except UsageError as error:
                outcomes.append(error.again())
        return outcomes


@dataclass(frozen=True, slots=True)
class _Source:
    """The media of one call: its bytes, or its URL where the function takes that."""

    data: Any
    extension: str


class _Call:
    """One call of a user's function on one media."""

    def __init__(self, function: _UserFunction, value: str | bytes, others: tuple[Any, ...]) -> None:
        self._function = function
        self._value = value
        self._others = others
        self.given = len(value) if isinstance(value, bytes) else 0
        self.fetches = function.opened is not None and isinstance(value, str)
        self.together = function.together
        self.gathered = function.batches

    async def run(self, ticket: Ticket) -> Any:
        data, extension = self._value, ""
        if isinstance(data, str) and self.fetches:
            location = Location.parse(data)
            data, extension = await ticket.fetch(location), location.extension
        source = _Source(data, extension)
        if self.gathered is not None:
            others = tuple((type(value), value) for value in self._others)
            outcome = await self.gathered.result(ticket, source, others)
        else:
            outcome = await ticket.in_thread(partial(self._function.one, source, self._others))
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome
