"""A ledger on whose calls a worker may die, and which may be out of reach."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from otpost_worker.ports import LedgerUnavailable

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Coroutine

    from ledger_implementations import OpenLedger
    from otpost_worker.envelope import Step
    from otpost_worker.ports import ClaimReply, ClaimRequest, Entry, Noted, Recorded, Ticket
    from otpost_worker.standing import Heard, News
    from otpost_worker.stories import Amendment, JobStory
    from ports_in_memory import Fate

T = TypeVar("T")


class FatefulLedger:
    """A ledger on whose every call the worker may die, and which may be out of reach.

    `unavailable` counts, for each operation, how many of its next calls fail before they reach the ledger; the
    first that does sets `refused`.
    `after_claim` runs when a claim has been granted but not yet answered.
    """

    def __init__(self, ledger: OpenLedger, fate: Fate, unavailable: Counter[str]) -> None:
        self._ledger = ledger
        self._fate = fate
        self._unavailable = unavailable
        self.refused = asyncio.Event()
        self.after_claim: Callable[[], None] | None = None

    async def claim(self, request: ClaimRequest) -> ClaimReply:
        self._begin("claim", "claim")
        reply = await self._ledger.claim(request)
        self._fate.meet("after", "claim")
        if self.after_claim is not None:
            self.after_claim()
        return reply

    async def record(self, ticket: Ticket, entry: Entry) -> Noted:
        return await self._recording("record", self._ledger.record(ticket, entry))

    async def lapse(self, ticket: Ticket, entry: Entry) -> Recorded | None:
        return await self._recording("lapse", self._ledger.lapse(ticket, entry))

    async def conclude(self, request: ClaimRequest, step: Step) -> Recorded | None:
        return await self._recording("conclude", self._ledger.conclude(request, step))

    async def refuse(self, request: ClaimRequest, step: Step) -> Recorded | None:
        return await self._recording("refuse", self._ledger.refuse(request, step))

    async def release(self, ticket: Ticket) -> None:
        self._begin("release", "release")
        await self._ledger.release(ticket)
        self._fate.meet("after", "release")

    async def check(self) -> None:
        await self._ledger.check()

    async def note_buried(self, job_id: str, run: int) -> None:
        self._begin("note_buried", "note")
        await self._ledger.note_buried(job_id, run)
        self._fate.meet("after", "note")

    async def find(self, message_id: str) -> tuple[str, int, int] | None:
        return await self._ledger.find(message_id)

    async def look_up(self, job_id: str) -> JobStory | None:
        self._begin("look_up", "look")
        return await self._ledger.look_up(job_id)

    async def hear(self, heard: Heard) -> tuple[News, ...]:
        return await self._recording("hear", self._ledger.hear(heard))

    async def amend(self, story: JobStory, amendment: Amendment) -> bool:
        return await self._recording("amend", self._ledger.amend(story, amendment))

    async def _recording(self, operation: str, call: Coroutine[Any, Any, T]) -> T:
        try:
            self._begin(operation, "record")
        except BaseException:
            call.close()
            raise
        recorded = await call
        self._fate.meet("after", "record")
        return recorded

    def _begin(self, operation: str, arrow: str) -> None:
        self._fate.meet("before", arrow)
        if self._unavailable[operation] > 0:
            self._unavailable[operation] -= 1
            self.refused.set()
            raise LedgerUnavailable(f"{operation}: the test says so")
