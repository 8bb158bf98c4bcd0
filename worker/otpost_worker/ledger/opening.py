"""From ``OTPOST_LEDGER_URL`` to a ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from otpost_worker.ledger.sqlite import SqliteLedger
from otpost_worker.ledger.watched import WholeLedger

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from otpost_worker.ports import Clock

SQLITE: Final = "sqlite:///"


class KeptLedger(WholeLedger, Protocol):
    """A ledger with the work that keeping it makes."""

    async def keep_small(self) -> None:
        """Forget what is past its time, for ever."""


def open_ledger(url: str, *, clock: Clock) -> AbstractAsyncContextManager[KeptLedger]:
    """Give the ledger that *url* names, to be entered.

    :raises LedgerUnavailable: now or on entering it, where it cannot be used.
    """
    if url.startswith(SQLITE):
        return SqliteLedger(Path(url.removeprefix(SQLITE)), clock=clock)
    # Here and not above: it takes a sixth of a second and 11 MB that SQLite's users need not spend.
    from otpost_worker.ledger.redis import RedisLedger  # noqa: PLC0415 - as said above

    return RedisLedger(url, clock=clock)
