"""The recipe, the other examples and the README: they run, and say what they print."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import pytest

import mediasql
from tests import store

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(path.stem for path in (ROOT / "sql_examples").glob("*.sql"))
SESSIONS = sorted(path.stem for path in (ROOT / "sql_examples").glob("*.sh"))
SCRIPTS = sorted(path.stem for path in (ROOT / "sql_examples").glob("[0-9]*.py"))


@pytest.fixture
def recipe(sample_environment: store.Store, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The statements of the recipe by their first words, in a directory where they find their files."""
    sys.path.insert(0, str(ROOT / "sql_examples"))
    from demo import statements

    monkeypatch.chdir(Path(sample_environment.environment["SAMPLES_FOLDER"]).parent)
    return {statement: statement for statement in statements((ROOT / "sql_examples" / "01_recipe.sql").read_text())}


def test_the_recipe_makes_no_more_requests_than_it_says(
    recipe: dict[str, str], sample_environment: store.Store
) -> None:
    servers = [sample_environment.http, sample_environment.s3, sample_environment.gcs]
    con = mediasql.connect()

    def requests_of(meant: Callable[[str], bool]) -> list[tuple[str, int]]:
        for server in servers:
            server.reset()
        for statement in recipe:
            if meant(statement):
                con.execute(statement).fetchall()
        asked = [request for server in servers for request in server.requests()]
        # The one request for a bucket, which tells its region, is no request for an object.
        assert {request.method for request in asked} <= {"GET", "HEAD"}
        assert all(request.path.count("/") <= 1 for request in asked if request.method == "HEAD")
        return [(request.path, request.bytes) for request in asked if request.method == "GET"]

    assert requests_of(lambda sql: "SELECT" not in sql) == [], "to create, insert and alter costs nothing"
    photographs = requests_of(lambda sql: "SELECT image, width" in sql)
    assert len(photographs) == 3
    assert con.execute("SELECT width, height FROM images").fetchall() == [(481, 640), (640, 429), (640, 426)]
    videos = requests_of(lambda sql: "FROM videos;" in sql and "duration" in sql)
    assert len(videos) <= 4, "tide.mp4 has its index at the end"
    assert requests_of(lambda sql: "presigned_url(video, 3600" in sql) == []
    con.close()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_readme_shows_each_example(name: str) -> None:
    assert f"<!-- begin example {name} -->" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_readme_shows_each_script(name: str) -> None:
    assert f"<!-- begin script {name} -->" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", SESSIONS)
def test_the_readme_shows_each_session(name: str) -> None:
    assert f"<!-- begin session {name} -->" in (ROOT / "README.md").read_text()


@pytest.mark.skipif(not av.__version__.startswith("18."), reason="FFmpeg 9 writes the films of the examples otherwise")
def test_the_readme_says_what_running_it_prints() -> None:
    # In a process of its own, since TLS takes its certificates from the environment when it is first used.
    command = [sys.executable, "-m", "tests.readme", "--check"]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
