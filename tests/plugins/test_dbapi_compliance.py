"""The DB-API 2.0 compliance suite of PyPI's `dbapi-compliance`."""

from __future__ import annotations

from pathlib import Path

import dbapi20
import pytest

from mediasql.plugins import dbapi


class TestCompliance(dbapi20.DatabaseAPI20Test):
    driver = dbapi

    @pytest.fixture(autouse=True)
    def _database(self, tmp_path: Path) -> None:
        self.connect_args = (str(tmp_path / "compliance.db"),)

    def test_nextset(self) -> None:
        """Optional, and not for a database whose statements give one result."""
        assert not hasattr(dbapi.Cursor, "nextset")

    def test_setoutputsize(self) -> None:
        cursor = dbapi.connect().cursor()
        cursor.setoutputsize(1000)
        cursor.setoutputsize(2000, 0)
        assert cursor.execute("SELECT 1").fetchall() == [(1,)]

    def test_non_idempotent_close(self) -> None:
        """To close twice is allowed, as in `sqlite3`; PEP 249 does not say."""
        connection = self._connect()
        connection.close()
        connection.close()
