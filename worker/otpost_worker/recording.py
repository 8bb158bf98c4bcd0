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
        # The runs whose ends are told but not recorded yet; and whether the dead letter is there meanwhile.
        self._late: dict[tuple[str, int], bool] = {}

    async def record(self, request: ClaimRequest, entry: Entry) -> Recorded | None:
        """Record the outcome of the claim that *request* was granted; returns the step to publish, if there is one."""
        if not entry.step.ends_job:
            # Without its record the retry could not be told from the attempt before it.
            return await self.insist(lambda: self._record(request, entry))
        try:
            return await self._record(request, entry)
        except LedgerUnavailable:
            # Whoever waits for the end of the job shall not wait for the ledger too.
            self._late[request.job_id, request.wish.run] = False
            self._background(self._record_late(request, entry))
            return Recorded(request.envelope, entry.step)

    async def _record_late(self, request: ClaimRequest, entry: Entry) -> None:
        await self.insist(lambda: self._record(request, entry))
        if self._late.pop((request.job_id, request.wish.run), False):
            await self._note_buried(request.job_id, request.wish.run)

    async def note_buried(self, job_id: str, run: int) -> None:
        """Note that the run's dead letter is confirmed: now, or later where the ledger cannot be reached."""
        if (job_id, run) in self._late:
            # The ledger would not take a note about a run that has not ended.
            self._late[job_id, run] = True
            return
        try:
            await self._ledger.note_buried(job_id, run)
        except LedgerUnavailable:
            # Without the note a later copy of the job would write its dead letter again, and the ledger keep its body.
            self._background(self._note_buried(job_id, run))

    async def _note_buried(self, job_id: str, run: int) -> None:
        await self.insist(lambda: self._ledger.note_buried(job_id, run))

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
