"""Every test of a port runs once for each of its implementations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from ledger_implementations import Sqlite
from ports_in_memory import Clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from ledger_implementations import Implementation, OpenLedger

LEDGERS: Final[dict[str, Callable[[Path], Implementation]]] = {"sqlite": Sqlite}


@pytest.fixture(params=LEDGERS)
def implementation(request: pytest.FixtureRequest, tmp_path: Path) -> Implementation:
    """One kind of ledger, empty."""
    return LEDGERS[request.param](tmp_path)


@pytest.fixture
def clock() -> Clock:
    """The ledger's clock."""
    return Clock()


@pytest.fixture
async def ledger(implementation: Implementation, clock: Clock) -> AsyncIterator[OpenLedger]:
    """Open the ledger for one test."""
    async with implementation.open(clock) as opened:
        yield opened
