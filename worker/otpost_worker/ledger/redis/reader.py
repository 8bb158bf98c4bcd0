"""Looking into a ledger in Redis: it is asked, and nothing is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otpost_worker.ledger.redis import replies
from otpost_worker.ledger.redis.fitness import refusal, warnings_of
from otpost_worker.ledger.redis.ledger import IDENTITY, SCHEMA, RedisLedger, turns_key
from otpost_worker.ports import LedgerUnavailable, NoLedger

if TYPE_CHECKING:
    from collections.abc import Sequence


class RedisReader(RedisLedger):
    """Implements ``reading.LedgerReader``: what a ``RedisLedger`` tells, without introducing itself to Redis."""

    writable = True
    warnings: Sequence[str] = ()

    async def turn(self, job_id: str) -> float | None:
        """See ``reading.LedgerReader``."""
        (turns,) = await self._link.ask(("HGETALL", turns_key(job_id)))
        return replies.latest_turn(turns, self._offset)

    async def _inspect(self) -> None:
        info = await self._link.info()
        if info is not None and (reason := refusal(info)) is not None:
            raise LedgerUnavailable(f"the ledger {self._link.where} cannot be used: {reason} (OTPOST_LEDGER_URL)")
        self.warnings = warnings_of(info)

    async def _introduce(self) -> None:
        identity, schema = await self._link.ask(("GET", IDENTITY), ("GET", SCHEMA))
        if identity is None:
            raise NoLedger(f"there is no ledger in {self._link.where}; if workers have run, check OTPOST_LEDGER_URL")
        self._check_schema(schema)
        self._identity = identity.decode()
        await self._now()
