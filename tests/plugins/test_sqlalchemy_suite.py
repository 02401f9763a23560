"""SQLAlchemy's own tests for dialects: what passes with the standard library's `sqlite3` passes with mediasql."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

FILES = {
    "conftest.py": """
import pytest
pytest.register_assert_rewrite("sqlalchemy.testing.assertions")
from sqlalchemy.testing.plugin.pytestplugin import *
import sqlalchemy.dialects.sqlite.provision
""",
    "requirements_here.py": """
from sqlalchemy.testing import exclusions
from sqlalchemy.testing.requirements import SuiteRequirements

class Requirements(SuiteRequirements):
    schemas = exclusions.closed()
    savepoints = ctes = window_functions = autocommit = exclusions.open()
    insert_returning = update_returning = delete_returning = exclusions.open()
    computed_columns = computed_columns_stored = computed_columns_virtual = exclusions.open()
    computed_columns_reflect_persisted = exclusions.open()
""",
    "setup.cfg": """
[tool:pytest]
python_files = test_*.py
[sqla_testing]
requirement_cls = requirements_here:Requirements
profile_file = profiles.txt
""",
    "without.py": """
import re
from pathlib import Path
import pytest

@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    passed = set(Path("passed").read_text().splitlines())
    done = [item for item in items if re.sub(r"_sqlite\\+\\w+::", "::", item.nodeid).partition("::")[2] in passed]
    items[:] = [item for item in items if item not in done]
    config.hook.pytest_deselected(items=done)
""",
    "test_suite.py": "from sqlalchemy.testing.suite import *\n",
}


def run(folder: Path, url: str, without: set[str]) -> set[str]:
    """The tests that pass, of all but some."""
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (folder / "passed").write_text("\n".join(without))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--disable-warnings", "--maxfail=1000", "-rA"]
    done = subprocess.run(
        [*command, "--tb=no", "-q", "-p", "without", "--dburi", url, "test_suite.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
        check=False,
    )
    # The name of a test contains the driver and the version of SQLite.
    found = re.findall(r"^PASSED test_suite\.py::(\w+?)_sqlite\+\w+(::.*)$", done.stdout, re.MULTILINE)
    assert " failed" in done.stdout, done.stdout[-3000:]  # some do with both, so that it has come to its end
    return {"".join(parts) for parts in found}


def test_what_passes_with_sqlite3_passes(tmp_path: Path) -> None:
    ours = run(tmp_path / "ours", "sqlite+mediasql://", set())
    # The rest are skipped, for what SQLite has not (schemas, sequences, comments), or fail with both: they expect of
    # temporary tables and of foreign keys without columns what other databases reflect.
    assert len(ours) > 550
    assert not run(tmp_path / "theirs", "sqlite://", ours)
