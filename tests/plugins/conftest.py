"""The pictures of the SQL tests."""

from __future__ import annotations

from tests.sql.conftest import _pictures, web

__all__ = ["_pictures", "web"]
