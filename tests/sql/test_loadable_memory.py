"""The C of the loadable extension under valgrind: no access to memory that is not its own, and none that it keeps."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from mediasql.sql.loadable import build
from tests.sql.conftest import picture
from tests.sql.hosts import environment

WORST = {"InvalidRead", "InvalidWrite", "InvalidFree", "MismatchedFree", "InvalidJump"}


def is_of_linker(error: ElementTree.Element) -> bool:
    """Whether it is the dynamic linker at work, of whose reading of RPATH valgrind thinks wrongly."""
    return "ld-linux" in frames(error)[0][0]


def frames(error: ElementTree.Element) -> list[tuple[str, str, str]]:
    """Library, function and line, the innermost first; without valgrind's own, which stand for malloc and free."""
    stack = error.find("stack")
    assert stack is not None
    found = [(frame.findtext("obj", ""), frame.findtext("fn", "?"), frame.findtext("line", "?")) for frame in stack]
    return [frame for frame in found if "vgpreload" not in frame[0]]


def test_memory_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Python's own allocator would hide from valgrind what is freed.
    monkeypatch.setenv("CC", f"{' '.join(build.compiler())} -g -DIGNORE_ENVIRONMENT=0")
    library = build.build(tmp_path / "debug/with/its/own" / build.NAME)
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(picture(100 + number, 50))
    script = f"""
        PRAGMA trusted_schema = ON;
        SELECT width('{tmp_path}/1.jpg'), typeof(content('{tmp_path}/1.jpg')), width(NULL), url_ext('x.png');
        CREATE TABLE t(image, w AS (width(image)));
        INSERT INTO t(image) VALUES ('{tmp_path}/2.jpg'), ('nowhere.jpg');
        SELECT name, width FROM media('{tmp_path}/*.jpg') WHERE name IN ('0.jpg', '2.jpg') ORDER BY name;
        CREATE VIRTUAL TABLE photos USING media('{tmp_path}/*.jpg');
        SELECT count(rowid) FROM photos;
        DROP TABLE photos;
        SELECT name FROM media;
        SELECT width(3);
        SELECT sum(w) FROM t;
    """
    another = f".open :memory:\n.load {library.with_suffix('')}\nSELECT width('{tmp_path}/1.jpg');\n"
    watched = ["valgrind", "--xml=yes", f"--xml-file={tmp_path}/found.xml", "--leak-check=full"]
    done = subprocess.run(
        [*watched, "sqlite3", "-cmd", f".load {library.with_suffix('')}", ":memory:"],
        input=f"{script}\n{2 * another}",
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=environment(PYTHONMALLOC="malloc"),
    )
    assert done.stdout.splitlines() == ["101|blob||png", "0.jpg|100", "2.jpg|102", "3", "102", "101", "101"]
    first, second = done.stderr.splitlines()
    assert "media needs its pattern" in first
    assert "width(3): media is a number" in second
    errors = ElementTree.parse(tmp_path / "found.xml").getroot().findall("error")
    wrong = [error for error in errors if error.findtext("kind") in WORST and not is_of_linker(error)]
    ours = [error for error in errors if frames(error)[0][0] == str(library)]
    # Python, which does not end in a shell, may still have what belongs to the last of the three connections.
    kept = [error for error in ours if error.findtext("xwhat/leakedblocks") == "1"]
    bad = [error for error in [*wrong, *ours] if error not in kept[:1]]
    assert [(error.findtext("kind"), error.findtext("xwhat/text"), frames(error)[:8]) for error in bad] == []
