"""Asking the ledger for claims; in a line, where the sender is at its limit.

All jobs of a sender's queue wait for the same limit, so whoever waits for it in hand stands in nobody's way; sent to
the ladder instead, they would only come back behind those that are still in the queue. The line keeps their order,
and has the first few of them ask at a time instead of all at once. Nobody stands there beyond its deadline, and who
is not to be sent any more need not stand there at all.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from otpost_worker.ports import Claimed, ClaimReply, ClaimRequest, Crowded, LedgerUnavailable, Ticket

if TYPE_CHECKING:
    from collections.abc import Callable

    from otpost_worker.ports import Clock, Ledger

LEDGER_PAUSE_S: Final = 1.0
# At a very low rate a job might stand in line for its whole life, unseen: now and then it goes round by the ladder.
MAX_IN_LINE_S: Final = 10.0
# So many ask at a time: one alone would be held up by a ledger that is slower than the sender's rate.
ASKING: Final = 8
# A start this near says that the sender is no longer at its limit.
_NEAR_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Asked:
    """The ledger's reply to *request*, which was asked for at *at* (Unix seconds, our clock)."""

    reply: ClaimReply
    request: ClaimRequest
    at: float


class Claims:
    """Asks for the claims of one sender's jobs. *stopping*: once set, nothing new is asked for."""

    def __init__(self, ledger: Ledger, *, clock: Clock, stopping: asyncio.Event) -> None:
        self._ledger = ledger
        self._clock = clock
        self._stopping = stopping
        self._line = asyncio.Semaphore(ASKING)
        self._crowded_until = 0.0
        self._crowded = False

    async def ask(self, request: Callable[[], ClaimRequest]) -> Asked | None:
        """Ask, and wait in line if need be; *request* is made anew each time, as time goes by.

        None where the worker stops before there is a reply; ``Crowded`` where the line is too long.
        """
        if not self._crowded or _is_over(request()):
            asked = await self._claim(request)
            if asked is None or not isinstance(asked.reply, Crowded):
                return asked
            self._note_crowd(asked.reply)
        return await self._ask_in_line(request)

    async def _ask_in_line(self, request: Callable[[], ClaimRequest]) -> Asked | None:
        leave_at = min(self._clock() + MAX_IN_LINE_S, request().deadline)
        try:
            async with asyncio.timeout(leave_at - self._clock()):
                await self._line.acquire()
        except TimeoutError:
            return await self._leave(request)
        try:
            while True:
                await self.wait_until(min(self._crowded_until, leave_at))
                # Whoever is cancelled while the ledger answers would leave a claim that nobody holds.
                asked = await self._claim(request)
                if asked is None or not isinstance(asked.reply, Crowded) or self._clock() >= leave_at:
                    self._note_room(asked)
                    return asked
                self._note_crowd(asked.reply)
        finally:
            self._line.release()

    async def _leave(self, request: Callable[[], ClaimRequest]) -> Asked | None:
        made, now = request(), self._clock()
        if _is_over(made):
            return await self._claim(request)
        return Asked(Crowded(max(self._crowded_until, now)), made, now)

    def _note_crowd(self, crowded: Crowded) -> None:
        self._crowded, self._crowded_until = True, crowded.until

    def _note_room(self, asked: Asked | None) -> None:
        # As it is now, and not as it was asked for: a slow answer is no sign of a crowd.
        if asked is not None and isinstance(asked.reply, Claimed) and asked.reply.start_at - self._clock() < _NEAR_S:
            self._crowded = False

    async def _claim(self, request: Callable[[], ClaimRequest]) -> Asked | None:
        """Ask the ledger until it answers; None where the worker stops before."""
        in_vain: ClaimRequest | None = None
        while not self._stopping.is_set():
            made, at = request(), self._clock()
            try:
                return Asked(await self._ledger.claim(made), made, at)
            except LedgerUnavailable:
                # The ledger itself tells of it, once for all jobs.
                in_vain = made
                await self.wait_until(self._clock() + LEDGER_PAUSE_S)
        if in_vain is not None:
            await self._take_back(in_vain)
        return None

    async def _take_back(self, request: ClaimRequest) -> None:
        """Release what may have been claimed by a request whose answer was lost."""
        await self.release(Ticket(request.job_id, request.wish.run, request.wish.attempt, request.token))

    async def release(self, ticket: Ticket) -> None:
        """Take back a claim whose request never left; where nobody hears of it before the worker stops, it lapses."""
        while True:
            try:
                await self._ledger.release(ticket)
            except LedgerUnavailable:
                if self._stopping.is_set():
                    return
                await self.wait_until(self._clock() + LEDGER_PAUSE_S)
            else:
                return

    async def wait_until(self, moment: float) -> None:
        """Wait until *moment* (Unix seconds), or until the worker stops."""
        wait_s = moment - self._clock()
        if wait_s <= 0:
            return
        try:
            async with asyncio.timeout(wait_s):
                await self._stopping.wait()
        except TimeoutError:
            return


def _is_over(request: ClaimRequest) -> bool:
    """Tell whether the job wants no start any more, but only to end."""
    return request.wish.late or request.wish.end
