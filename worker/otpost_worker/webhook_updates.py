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

    from otpost_worker.observer import Observer
    from otpost_worker.ports import Broker
    from otpost_worker.updates import Update

# In all about 75 minutes, in which a worker can be mended; more of them than a report that is early comes back.
PAUSES_AFTER_CRASH_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 600.0, 3600.0)
# Of one body at once, and of all together: with a ledger and a broker that have to be waited for a body of 1,000 would
# take many seconds one by one; and jobs wait for the same ledger.
_OF_ONE_BODY: Final = 8
_OF_ALL: Final = 50

_log = structlog.get_logger("otpost.reports")


@dataclass(frozen=True, slots=True)
class _Numbered:
    """An update, where it stands in its body, and the token that tells it from all others."""

    index: int
    token: str
    update: Update


@dataclass(frozen=True, slots=True)
class _Crash:
    """What happened to an update; to the whole body where that is None."""

    of: _Numbered | None
    error: Exception

    @property
    def report(self) -> MessageReport | None:
        """The report that it happened to; None where it is something else."""
        return self.of.update if self.of is not None and isinstance(self.of.update, MessageReport) else None

    @property
    def kind(self) -> str:
        """What it happened to, in a word."""
        return type(self.of.update).__name__ if self.of is not None else "body"


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
        try:
            updates = _numbered(posted, list(self._read(posted.body)))
        except Exception as error:  # noqa: BLE001 - as below, with a body that cannot even be read
            await self._bring_back(posted, [_Crash(None, error)])
            return
        lanes = self._lanes(updates)
        crashes: list[_Crash] = []

        async def work(lanes: Iterator[Sequence[_Numbered]]) -> None:
            for lane in lanes:
                for one in lane:
                    async with self._places:
                        try:
                            await self._hear(one.update, replace(posted, token=one.token))
                        except Exception as error:  # noqa: BLE001 - a bug must cost one update, not its neighbours
                            crashes.append(_Crash(one, error))

        await _together(work, iter(lanes), min(len(lanes), _OF_ONE_BODY))
        if crashes:
            await self._bring_back(posted, crashes)

    def _lanes(self, updates: Iterable[_Numbered]) -> list[list[_Numbered]]:
        """Part what may go side by side: reports of one job would only get in each other's way."""
        lanes: dict[object, list[_Numbered]] = {}
        for one in updates:
            report = one.update if isinstance(one.update, MessageReport) else None
            key = None if report is None else self._job_of(report) or report.message_id
            lanes.setdefault(key, []).append(one)
        return list(lanes.values())

    async def _bring_back(self, posted: Posted, crashes: Sequence[_Crash]) -> None:
        """Have what crashed come again, if it did not do so often enough."""
        is_over = posted.tries >= len(PAUSES_AFTER_CRASH_S)
        pause_s = None if is_over else PAUSES_AFTER_CRASH_S[posted.tries]
        self._tell(crashes, posted.tries, pause_s)
        if pause_s is None:
            return
        left: list[_Numbered | None] = []
        for crash in crashes:
            body = self._written(crash.report) if crash.report is not None else None
            if crash.of is None or body is None:
                left.append(crash.of)
            else:
                await self._broker.postpone_report(Posted(body, crash.of.token, posted.tries + 1), pause_s)
        if left:
            # They are few, and nobody writes bodies of them: it is the same one, of which nothing else is heard then.
            only = tuple(sorted(one.index for one in left if one is not None)) or posted.only
            await self._broker.postpone_report(replace(posted, tries=posted.tries + 1, only=only), pause_s)

    def _written(self, report: MessageReport) -> bytes | None:
        try:
            return self._write(report)
        except Exception:  # noqa: BLE001 - what it is that crashes is told already
            return None

    def _tell(self, crashes: Sequence[_Crash], tries: int, pause_s: float | None) -> None:
        """One line for what crashed of the same cause: the error's type and its place, as its words may be anything."""
        causes: dict[tuple[str, str], list[_Crash]] = {}
        for crash in crashes:
            self._observer.report_heard("crashed" if pause_s is not None else "given_up")
            causes.setdefault((type(crash.error).__name__, _place(crash.error)), []).append(crash)
        for (error, where), those in causes.items():
            jobs = [self._job_of(crash.report) for crash in those if crash.report is not None]
            told = {
                "error": error,
                "where": where,
                "updates": len(those),
                "kinds": sorted({crash.kind for crash in those}),
                "job_id": next((job_id for job_id in jobs if job_id is not None), None),
                "tries": tries + 1,
            }
            if pause_s is not None:
                _log.error("update.crashed", **told, again_in_s=pause_s)
            else:
                _log.error("update.given_up", **told)


def _numbered(posted: Posted, updates: Sequence[Update]) -> list[_Numbered]:
    """Give each update that is left to be seen to its token: the same whenever it comes back, alone or with its body.

    The same report twice in one body is a copy, and not the same message once more.
    """
    if posted.tries > 0 and not posted.only and len(updates) == 1:
        return [_Numbered(0, posted.token, updates[0])]
    chosen = posted.only or range(len(updates))
    return [_Numbered(index, f"{posted.token}/{index}", updates[index]) for index in chosen if index < len(updates)]


def _place(error: Exception) -> str:
    """Name the line that raised *error*."""
    place, trace = "", error.__traceback__
    while trace is not None:
        place = f"{trace.tb_frame.f_globals.get('__name__', '')}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


async def _together(
    work: Callable[[Iterator[Sequence[_Numbered]]], Awaitable[None]],
    lanes: Iterator[Sequence[_Numbered]],
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
