"""A webhook's body taken apart: each of its updates goes its own way, and one that crashes costs no other.

The provider puts up to 1,000 updates into a body, of as many jobs. What crashes comes again by itself, at growing
intervals: what made it crash may be mended meanwhile; and if it is not, it is given up and said so.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import structlog

from otpost_worker.updates import MessageReport, Posted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from otpost_worker.ports import Broker, Observer
    from otpost_worker.updates import Update

# In all about 75 minutes, in which a worker can be mended; more of them than a report that is early comes back.
PAUSES_AFTER_CRASH_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 600.0, 3600.0)
# Of one body at once, and of all together: with a ledger and a broker that have to be waited for a body of 1,000 would
# take many seconds one by one; and jobs wait for the same ledger.
_OF_ONE_BODY: Final = 8
_OF_ALL: Final = 50

_log = structlog.get_logger("otpost.reports")


@dataclass(frozen=True, slots=True)
class _Crash:
    """What happened to the update that stands at *index* of its body."""

    index: int
    update: Update
    error: Exception


class WebhookUpdates:
    """Takes bodies apart; safe to use for many at once.

    *read*: reads a body. *write*: makes a body of one report. *job_of*: the job that a report's own word names. *hear*
    sees to one update; what it is given with it is the body's, with a token of this update's own.
    """

    def __init__(
        self,
        *,
        read: Callable[[bytes], Iterable[Update]],
        write: Callable[[MessageReport], bytes],
        job_of: Callable[[MessageReport], str | None],
        hear: Callable[[Update, Posted], Awaitable[None]],
        broker: Broker,
        observer: Observer,
    ) -> None:
        self._read = read
        self._write = write
        self._job_of = job_of
        self._hear = hear
        self._broker = broker
        self._observer = observer
        self._places = asyncio.Semaphore(_OF_ALL)

    async def take(self, posted: Posted) -> None:
        """See to everything that a webhook says; once it returns, what crashed is confirmed as a message of its own."""
        numbered = enumerate(self._read(posted.body))
        chosen = [(index, update) for index, update in numbered if not posted.only or index in posted.only]
        lanes = self._lanes(chosen)
        crashes: list[_Crash] = []

        async def work(lanes: Iterator[Sequence[tuple[int, Update]]]) -> None:
            for lane in lanes:
                for index, update in lane:
                    async with self._places:
                        try:
                            await self._hear(update, replace(posted, token=_token(posted, index)))
                        except Exception as error:  # noqa: BLE001 - a bug must cost one update, not its neighbours
                            crashes.append(_Crash(index, update, error))

        await _together(work, iter(lanes), min(len(lanes), _OF_ONE_BODY))
        if crashes:
            await self._bring_back(posted, sorted(crashes, key=lambda crash: crash.index))

    def _lanes(self, updates: Iterable[tuple[int, Update]]) -> list[list[tuple[int, Update]]]:
        """Part what may go side by side: reports of one job would only get in each other's way."""
        lanes: dict[object, list[tuple[int, Update]]] = {}
        for index, update in updates:
            key = (self._job_of(update) or update.message_id) if isinstance(update, MessageReport) else None
            lanes.setdefault(key, []).append((index, update))
        return list(lanes.values())

    async def _bring_back(self, posted: Posted, crashes: Sequence[_Crash]) -> None:
        """Have what crashed come again, if it did not do so often enough."""
        is_over = posted.tries >= len(PAUSES_AFTER_CRASH_S)
        pause_s = None if is_over else PAUSES_AFTER_CRASH_S[posted.tries]
        self._tell(crashes, posted.tries, pause_s)
        if pause_s is None:
            return
        others = []
        for crash in crashes:
            if isinstance(crash.update, MessageReport):
                body, token = self._write(crash.update), _token(posted, crash.index)
                await self._broker.postpone_report(Posted(body, token, posted.tries + 1), pause_s)
            else:
                others.append(crash.index)
        if others:
            # They are few, and nobody writes bodies of them: it is the same one, of which nothing else is read.
            again = Posted(posted.body, posted.token, posted.tries + 1, tuple(others))
            await self._broker.postpone_report(again, pause_s)

    def _tell(self, crashes: Sequence[_Crash], tries: int, pause_s: float | None) -> None:
        """One line for what crashed of the same cause: the error's type and its place, as its words may be anything."""
        causes: dict[tuple[str, str], list[_Crash]] = {}
        for crash in crashes:
            self._observer.report_heard("crashed" if pause_s is not None else "given_up")
            causes.setdefault((type(crash.error).__name__, _place(crash.error)), []).append(crash)
        for (error, where), those in causes.items():
            jobs = [self._job_of(crash.update) for crash in those if isinstance(crash.update, MessageReport)]
            told = {
                "error": error,
                "where": where,
                "updates": len(those),
                "kinds": sorted({type(crash.update).__name__ for crash in those}),
                "job_id": next((job_id for job_id in jobs if job_id is not None), None),
                "tries": tries + 1,
            }
            if pause_s is not None:
                _log.error("update.crashed", **told, again_in_s=pause_s)
            else:
                _log.error("update.given_up", **told)


def _token(posted: Posted, index: int) -> str:
    """Tell an update from all others: the same whenever it comes back, by itself or with its body.

    The same report twice in one body is a copy, and not the same message once more.
    """
    is_alone = posted.tries > 0 and not posted.only
    return posted.token if is_alone else f"{posted.token}/{index}"


def _place(error: Exception) -> str:
    """Name the line that raised *error*."""
    place, trace = "", error.__traceback__
    while trace is not None:
        place = f"{trace.tb_frame.f_globals.get('__name__', '')}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


async def _together(
    work: Callable[[Iterator[Sequence[tuple[int, Update]]]], Awaitable[None]],
    lanes: Iterator[Sequence[tuple[int, Update]]],
    many: int,
) -> None:
    """Have *many* do the same work; once one of them is ended, all are."""
    if many <= 1:
        await work(lanes)
        return
    tasks = [asyncio.ensure_future(work(lanes)) for _ in range(many)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
