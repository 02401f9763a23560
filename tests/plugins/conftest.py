"""The pictures of the SQL tests."""

from __future__ import annotations

from tests.sql.conftest import pictures, web

__all__ = ["pictures", "web"]
