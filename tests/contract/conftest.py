"""Every test of a port runs once for each of its implementations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from ledger_implementations import Memory, Redis, Sqlite
from ports_in_memory import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ledger_implementations import Implementation, Lasting, OpenLedger
    from private_redis import PrivateRedis

LASTING: Final = ("sqlite", "redis")
LEDGERS: Final = (*LASTING, "memory")


def _lasting(name: str, request: pytest.FixtureRequest, folder: Path, redis: str) -> Lasting:
    if name == "redis":
        server: PrivateRedis = request.getfixturevalue(redis)
        return Redis(server)
    return Sqlite(folder / "ledger.db")


@pytest.fixture(params=LEDGERS)
def implementation(request: pytest.FixtureRequest, tmp_path: Path) -> Implementation:
    """One kind of ledger, empty."""
    return Memory() if request.param == "memory" else _lasting(request.param, request, tmp_path, "redis_server")


@pytest.fixture(params=LASTING)
def lasting(request: pytest.FixtureRequest, tmp_path: Path) -> Lasting:
    """One kind of ledger that outlives its process and may be out of reach, empty."""
    return _lasting(request.param, request, tmp_path, "own_redis")


@pytest.fixture
def own_redis_ledger(own_redis: PrivateRedis) -> Redis:
    """A ledger in a Redis of its own, empty."""
    return Redis(own_redis)


@pytest.fixture
def clock() -> Clock:
    """The ledger's clock."""
    return Clock()


@pytest.fixture
async def ledger(implementation: Implementation, clock: Clock) -> AsyncIterator[OpenLedger]:
    """Open the ledger for one test."""
    async with implementation.open(clock) as opened:
        yield opened
