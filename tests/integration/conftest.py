"""Fixtures of the integration tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ledger_implementations import Redis, Sqlite

if TYPE_CHECKING:
    from pathlib import Path

    from ledger_implementations import Implementation
    from private_redis import PrivateRedis


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Implementation:
    """Give each kind of ledger that outlives its workers, empty."""
    if request.param == "sqlite":
        return Sqlite(tmp_path / "ledger.db")
    server: PrivateRedis = request.getfixturevalue("redis_server")
    return Redis(server)
