"""SQLAlchemy's own tests for dialects: what passes with the standard library's `sqlite3` passes with mediasql."""

from __future__ import annotations

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
    "test_suite.py": "from sqlalchemy.testing.suite import *\n",
}


def run(folder: Path, url: str) -> subprocess.Popen[str]:
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--disable-warnings", "--maxfail=1000", "-rA"]
    return subprocess.Popen(
        [*command, "--tb=no", "-q", "--dburi", url, "test_suite.py"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def passed(process: subprocess.Popen[str]) -> set[str]:
    output, _ = process.communicate(timeout=1200)
    # The name of a test contains the driver and the version of SQLite.
    found = re.findall(r"^PASSED test_suite\.py::(\w+?)_sqlite\+\w+(::.*)$", output, re.MULTILINE)
    assert found, output[-3000:]
    return {"".join(parts) for parts in found}


def test_what_passes_with_sqlite3_passes(tmp_path: Path) -> None:
    processes = [run(tmp_path / "theirs", "sqlite://"), run(tmp_path / "ours", "sqlite+mediasql://")]
    theirs, ours = map(passed, processes)
    # The rest are skipped, for what SQLite has not (schemas, sequences, comments), or fail with both: they expect of
    # temporary tables and of foreign keys without columns what other databases reflect.
    assert len(theirs) > 550
    assert not theirs - ours
