"""A ledger whose outages are told: once when one begins and once when it is over, not for each job that waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from otpost_worker.outage_log import OutageLog
from otpost_worker.ports import Archive, Ledger, LedgerUnavailable, Reports, Standings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping

    from otpost_worker.envelope import Step
    from otpost_worker.ports import ClaimReply, ClaimRequest, Entry, Noted, Recorded, SenderReport, Ticket
    from otpost_worker.standing import Heard, News
    from otpost_worker.stories import Amendment, JobStory, RunStory

T = TypeVar("T")


class WholeLedger(Ledger, Standings, Archive, Reports, Protocol):
    """Everything that a ledger does for a worker."""


class WatchedLedger:
    """Implements the same as *ledger* by asking it, and tells in the log when it cannot be used."""

    def __init__(self, ledger: WholeLedger, outage: OutageLog | None = None) -> None:
        self._ledger = ledger
        self._outage = outage or OutageLog("ledger")

    @property
    def trouble(self) -> str | None:
        """Why it cannot be used, as met last; None where it can."""
        return self._outage.trouble

    @property
    def identity(self) -> str:
        """See ``ports.Archive``."""
        return self._ledger.identity

    async def claim(self, request: ClaimRequest) -> ClaimReply:
        """See ``ports.Ledger``."""
        return await self._watched(self._ledger.claim(request))

    async def record(self, ticket: Ticket, entry: Entry) -> Noted:
        """See ``ports.Ledger``."""
        return await self._watched(self._ledger.record(ticket, entry))

    async def lapse(self, ticket: Ticket, entry: Entry) -> Recorded | None:
        """See ``ports.Ledger``."""
        return await self._watched(self._ledger.lapse(ticket, entry))

    async def conclude(self, request: ClaimRequest, step: Step) -> Recorded | None:
        """See ``ports.Ledger``."""
        return await self._watched(self._ledger.conclude(request, step))

    async def refuse(self, request: ClaimRequest, step: Step) -> Recorded | None:
        """See ``ports.Ledger``."""
        return await self._watched(self._ledger.refuse(request, step))

    async def release(self, ticket: Ticket) -> None:
        """See ``ports.Ledger``."""
        await self._watched(self._ledger.release(ticket))

    async def note_buried(self, job_id: str, run: int) -> None:
        """See ``ports.Ledger``."""
        await self._watched(self._ledger.note_buried(job_id, run))

    async def check(self) -> None:
        """See ``ports.Ledger``."""
        await self._watched(self._ledger.check())

    async def report(self, rates: Mapping[str, float], quotas: Mapping[str, str]) -> Mapping[str, SenderReport]:
        """See ``ports.Standings``."""
        return await self._watched(self._ledger.report(rates, quotas))

    async def probe_soon(self, senders: Iterable[str]) -> None:
        """See ``ports.Standings``."""
        await self._watched(self._ledger.probe_soon(senders))

    async def story(self, job_id: str) -> tuple[RunStory, ...]:
        """See ``ports.Archive``."""
        return await self._watched(self._ledger.story(job_id))

    async def hear(self, heard: Heard) -> tuple[News, ...]:
        """See ``ports.Reports``."""
        return await self._watched(self._ledger.hear(heard))

    async def find(self, message_id: str) -> tuple[str, int, int] | None:
        """See ``ports.Reports``."""
        return await self._watched(self._ledger.find(message_id))

    async def look_up(self, job_id: str) -> JobStory | None:
        """See ``ports.Reports``."""
        return await self._watched(self._ledger.look_up(job_id))

    async def amend(self, story: JobStory, amendment: Amendment) -> bool:
        """See ``ports.Reports``."""
        return await self._watched(self._ledger.amend(story, amendment))

    async def _watched(self, call: Awaitable[T]) -> T:
        try:
            answer = await call
        except LedgerUnavailable as error:
            self._outage.met("ledger.unavailable", str(error))
            raise
        self._outage.works()
        return answer
