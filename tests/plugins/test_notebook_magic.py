"""`%load_ext mediasql` in a notebook that is executed, and what its magics say about wrong lines."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import nbformat
import pytest
from nbclient import NotebookClient

import mediasql
from tests.media.headers.pictures import picture


class Shell:
    """As much of IPython as the extension uses."""

    def __init__(self) -> None:
        self.user_ns: dict[str, Any] = {}
        self.magics: dict[str, Callable[..., Any]] = {}
        self.magics_manager = self

    def register_magic_function(self, function: Callable[..., Any], magic_kind: str, magic_name: str) -> None:
        assert magic_kind == "line_cell"
        self.magics[magic_name] = function

    def __call__(self, line: str, cell: str | None = None) -> Any:
        return self.magics["mediasql"](line, cell)


@pytest.fixture
def shell(environment: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.chdir(environment)
    shell = Shell()
    mediasql.load_ipython_extension(shell)
    yield shell
    shell.magics = {"line": {"mediasql": shell}, "cell": {"mediasql": shell}}  # type: ignore[dict-item]
    mediasql.unload_ipython_extension(shell)
    assert shell.magics == {"line": {}, "cell": {}}


def test_connections_are_kept(shell: Shell) -> None:
    assert str(shell("", "CREATE TABLE t(a); INSERT INTO t VALUES (1)")) == "1 row changed"
    assert shell("my.db") is None
    assert shell("") == "my.db"
    shell("", "CREATE TABLE u(a); INSERT INTO u VALUES (2)")
    assert str(shell(":memory: --rows 1", "SELECT a FROM t")).splitlines()[-1] == "1"
    assert str(shell("'my.db' --rows=3", "SELECT a FROM u")).splitlines()[-1] == "2"
    assert apsw.Connection("my.db").execute("SELECT a FROM u").get == 2
    con = shell.user_ns["con"] = mediasql.connect()
    con.execute("CREATE TABLE v(a)")
    assert str(shell("con", "SELECT name FROM sqlite_schema")).splitlines()[-1] == "v"
    con.close()


def test_variables_are_bindings(shell: Shell) -> None:
    shell.user_ns.update(least=3, path=Path("/a/b"), urls=["x", "y"], nothing=None, array=_Array())
    shown = shell("", "SELECT :least + 1, :path, (SELECT count(*) FROM json_each(:urls)), :nothing, $array")
    assert str(shown).splitlines()[-1].split() == ["4", "/a/b", "2", "NULL", "[1,", "2]"]
    assert str(shell("", "SELECT 1; SELECT :least")).splitlines()[-1] == "3"


class _Array:
    def tolist(self) -> list[int]:
        return [1, 2]


@pytest.mark.parametrize(
    ("line", "cell", "kind", "message"),
    [
        ("", "SELECT * FROM nowhere", apsw.SQLError, "SQLError: no such table: nowhere"),
        (
            "",
            "SELECT :unknown",
            mediasql.UsageError,
            "UsageError: the SQL has :unknown, and there is no variable unknown",
        ),
        ("", "SELECT ?", mediasql.UsageError, r"UsageError: a '\?' has no value here; write :name for the variable .*"),
        ("", "SELECT :shell", mediasql.UsageError, "UsageError: the variable shell is of type Shell: .*"),
        ("", "SELECT width('xy://a')", mediasql.UnknownScheme, r"UnknownScheme: width\('xy://a'\): .*"),
        ("--rows 0", "SELECT 1", mediasql.UsageError, "UsageError: --rows 0: a whole number of 1 or more is needed"),
        ("--rows", "SELECT 1", mediasql.UsageError, "UsageError: --rows : a whole number of 1 or more is needed"),
        ("a.db b.db", None, mediasql.UsageError, "UsageError: 'b.db' is not understood; .*"),
        ("--file a.db", None, mediasql.UsageError, "UsageError: '--file' is not understood; .*"),
        ("'a", None, mediasql.UsageError, "UsageError: No closing quotation; .*"),
        ("con", None, mediasql.UsageError, r"UsageError: there is no variable and no file con; .* write \./con"),
        ("shell", None, mediasql.UsageError, "UsageError: no connection is in the variable shell; .*"),
        ("/no/such/folder/a.db", None, apsw.CantOpenError, "CantOpenError: unable to open database file"),
    ],
)
def test_errors_are_one_line(shell: Shell, line: str, cell: str | None, kind: type[Exception], message: str) -> None:
    shell.user_ns["shell"] = shell
    with pytest.raises(kind) as raised:
        shell(line, cell)
    (rendered,) = raised.value._render_traceback_()  # type: ignore[attr-defined]
    assert re.fullmatch(message, rendered)


NOTEBOOK = """
%load_ext mediasql
---
folder = {folder!r}
---
%%mediasql
CREATE TABLE photos(image IMAGE, width INT AS (width(image)));
INSERT INTO photos(image) VALUES (:folder || '/a.png'), (:folder || '/none.png');
SELECT image, width FROM photos
---
import mediasql
con = mediasql.connect()
con.show("SELECT 5 AS five")
---
%%mediasql --rows 2
SELECT value FROM json_each('[1,2,3]')
---
%%mediasql
SELECT broken FROM photos
---
import os, signal, threading
def stop():
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
con.create_scalar_function("stop", stop)
---
%%mediasql con
SELECT stop();
WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r) SELECT count(*) FROM r
---
%%mediasql
SELECT 'still here' AS answer
---
%mediasql
---
%unload_ext mediasql
"""


def test_an_executed_notebook(environment: Path) -> None:
    (environment / "a.png").write_bytes(picture("PNG", size=(30, 20)))
    sources = NOTEBOOK.format(folder=str(environment)).strip().split("\n---\n")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, timeout=300, allow_errors=True, kernel_name="python3").execute()
    outputs = [cell.outputs for cell in notebook.cells]
    assert outputs[0] == outputs[1] == outputs[6] == outputs[10] == []
    photos = outputs[2][0].data
    assert photos["text/html"].count('<img src="data:image/jpeg;base64,') == 1
    assert photos["text/html"].count("no such file") == 1
    assert re.search(r" 30\n.* NULL\n1 value failed", photos["text/plain"])
    assert outputs[3][0].data["text/plain"] == "five\n────\n5"
    assert outputs[4][0].data["text/plain"].endswith("2\nThe first 2 rows; there are more: rows=8 shows more of them")
    assert (outputs[5][0].ename, outputs[5][0].traceback) == ("SQLError", ["SQLError: no such column: broken"])
    assert outputs[7][0].ename == "KeyboardInterrupt"
    assert outputs[7][0].traceback == ["KeyboardInterrupt: interrupted"]
    assert outputs[8][0].data["text/plain"].endswith("still here")
    assert outputs[9][0].data["text/plain"] == "'con'"
