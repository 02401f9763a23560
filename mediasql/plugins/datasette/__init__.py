"""The Datasette plugin: functions and tables in its SQL, media in its cells, and the routes that they come from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from datasette import hookimpl

from . import errors_page, serving
from .banner import add_banner, counting
from .cells import render
from .reach import begin, reach_of


@hookimpl
def startup(datasette: Any) -> None:
    """Say what is wrong with the configuration before anything is served."""
    begin(datasette)


@hookimpl
def prepare_connection(conn: Any, database: str, datasette: Any) -> None:
    """Functions and tables, for all but Datasette's own database."""
    if database != "_internal":
        reach_of(datasette, database).attach(conn)


@hookimpl
def render_cell(value: Any, column: str, table: str | None, database: str, datasette: Any) -> Any:
    """Thumbnails and players for media; None, or what comes to None, for everything else."""
    return render(datasette, database, table, column, value)


@hookimpl
def asgi_wrapper(datasette: Any) -> Any:
    """Note with each request what had failed before."""
    return partial(counting, datasette=datasette)


@hookimpl
def extra_template_vars(database: str | None, request: Any, datasette: Any) -> dict[str, Any]:
    """Add the banner. This hook is the last before the page is rendered, and after its statements ran."""
    add_banner(datasette, database, request)
    return {}


@hookimpl
def register_routes() -> list[tuple[str, Callable[..., Awaitable[Any]]]]:
    return [
        (r"^/-/mediasql/media/(?P<token>[^/]+)$", serving.media),
        (r"^/-/mediasql/thumbnail/(?P<token>[^/]+)$", serving.thumbnail),
        (r"^/-/mediasql/errors$", errors_page.errors),
    ]


@hookimpl
def menu_links(datasette: Any) -> list[dict[str, str]]:
    return [{"href": datasette.urls.path("/-/mediasql/errors"), "label": "Media errors"}]
