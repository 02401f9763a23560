"""The registry on an APSW connection, or what presents the interface of one: functions and tables."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable
from functools import cache
from typing import cast

import apsw

from ..config import Config
from ..errors import MediaWarning
from ..lifetime import leak
from .call import bind
from .computed import ROW
from .executions import Executions
from .loadable.mixing import files_of, refuse_apsw
from .media_indexes import IndexWarnings
from .registry import Function, functions, tables
from .session import Session
from .statements import Statements
from .trust import warn_if_distrusted
from .vtable import Module

# APSW calls the methods of virtual tables by names that are freed with its module, and Python frees connections after
# modules where something outlives these: a hook of `sys`, a handler of logging, whatever refers to a script's globals.
leak(apsw)


def attach(connection: apsw.Connection, config: Config, statements: Statements | None = None) -> Session:
    """Give `connection` all functions and tables of the registry. `statements` tells of another SQLite than APSW's."""
    if statements is None:
        refuse_apsw(files_of(connection))
        statements = Statements(connection)
    session = Session(connection, config, statements, _interrupted_of(connection))
    statements.watch = IndexWarnings(session)
    if config.readahead != "off":
        session.scout.executions = Executions(session)
        if statements.unseen is not None:
            _warn_of_reading_singly(statements.unseen)
    for function in functions().values():
        add_function(connection, session, function)
    for count in (0, 2):
        connection.create_scalar_function(ROW, session.computes_row, count, flags=apsw.SQLITE_DIRECTONLY)
    for table in tables().values():
        connection.create_module(
            table.name,
            cast("apsw.VTModule", Module(table, session)),
            use_bestindex_object=True,
            eponymous=True,
            read_only=True,
            iVersion=1,
        )
    warn_if_distrusted(session)
    return session


@cache
def _warn_of_reading_singly(reason: str) -> None:
    """Warn once per process."""
    warnings.warn(
        f"mediasql does not read ahead, so that a query waits for one file after the other: {reason}. "
        "The wheels of APSW on PyPI can; readahead='off' turns this warning off",
        MediaWarning,
        stacklevel=4,  # where `connect` or `register` is called
    )


def _interrupted_of(connection: apsw.Connection) -> Callable[[], bool]:
    reference = weakref.ref(connection)

    def interrupted() -> bool:
        connection = reference()
        return connection is not None and connection.is_interrupted

    return interrupted


def add_function(connection: apsw.Connection, session: Session, function: Function) -> None:
    """Register one function in all its arities."""
    flags = apsw.SQLITE_DIRECTONLY if function.directonly else 0
    if session.config.trust_schema and not function.directonly:
        flags |= apsw.SQLITE_INNOCUOUS
    for arity in function.arities:
        connection.create_scalar_function(
            function.name, bind(function, session, arity), arity, deterministic=function.deterministic, flags=flags
        )
