"""An outcome's way into the ledger, on good days and on bad ones."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from otpost_worker.claiming import LEDGER_PAUSE_S
from otpost_worker.ports import Claimed, LedgerUnavailable, Recorded, Ticket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from otpost_worker.ports import ClaimRequest, Entry, Ledger, Noted
    from otpost_worker.standing import News

T = TypeVar("T")


class Records:
    """Records in *ledger*, and asks it again for as long as it cannot be reached.

    *background*: keeps a coroutine running that must outlive a job. *tell* hears what is new about the sender.
    """

    def __init__(
        self, ledger: Ledger, *, background: Callable[[Awaitable[None]], None], tell: Callable[[News], None]
    ) -> None:
        self._ledger = ledger
        self._background = background
        self._tell = tell

    async def record(self, request: ClaimRequest, entry: Entry) -> Recorded | None:
        """Record the outcome of the claim that *request* was granted; returns the step to publish, if there is one."""
        if not entry.step.ends_job:
            # Without its record the retry could not be told from the attempt before it.
            return await self.insist(lambda: self._record(request, entry))
        try:
            return await self._record(request, entry)
        except LedgerUnavailable:
            # Whoever waits for the end of the job shall not wait for the ledger too.
            self.insist_later(lambda: self._record(request, entry))
            return Recorded(request.envelope, entry.step)

    async def _record(self, request: ClaimRequest, entry: Entry) -> Recorded | None:
        ticket = Ticket(request.job_id, request.wish.run, request.wish.attempt, request.token)
        noted = await self._note(ticket, entry)
        if not noted.known:
            # A ledger that died has lost what it was told last, or all of it. Claimed once more, without a second start
            # that would have to be waited for, the attempt has its outcome; unless somebody else has claimed it.
            again = await self._ledger.claim(replace(request, lane=None))
            if isinstance(again, Claimed):
                noted = await self._note(ticket, replace(entry, heard=None))
        return noted.recorded

    async def _note(self, ticket: Ticket, entry: Entry) -> Noted:
        noted = await self._ledger.record(ticket, entry)
        for news in noted.news:
            self._tell(news)
        return noted

    async def insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat *call* until the ledger answers; that it does not is told by the ledger, once for all jobs."""
        while True:
            try:
                return await call()
            except LedgerUnavailable:
                await asyncio.sleep(LEDGER_PAUSE_S)

    def insist_later(self, call: Callable[[], Awaitable[object]]) -> None:
        """Repeat *call* until the ledger answers, while the job goes on without it."""
        self._background(self._insist_quietly(call))

    async def _insist_quietly(self, call: Callable[[], Awaitable[object]]) -> None:
        await self.insist(call)
