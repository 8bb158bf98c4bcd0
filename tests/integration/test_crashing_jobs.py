"""As many jobs as the worker may hold crash, again and again: the healthy ones behind them in the queue go on."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import Final

import pytest
from structlog.testing import capture_logs

from otpost_worker.worker import InFlight, RestingPlaces

PATIENCE_S: Final = 20.0
DELIVERY_LIMIT: Final = 20


class Queue:
    """A quorum queue of job names: it delivers up to its prefetch, and what is given back comes first again."""

    def __init__(self, in_flight: InFlight, jobs: list[str], prefetch: int) -> None:
        self.places = RestingPlaces(prefetch)
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self._in_flight = in_flight
        self._waiting = deque((job, 0) for job in jobs)
        self._free = prefetch

    def deliver(self) -> None:
        while self._waiting and self._free:
            self._free -= 1
            job, deliveries = self._waiting.popleft()
            self._in_flight.take(job, Copy(self, job, deliveries), partial(self.work, job), places=self.places)

    async def work(self, job: str) -> None:
        if job.startswith("bad"):
            raise KeyError("a bug")

    def settle(self, job: str, deliveries: int, *, back: bool) -> None:
        self._free += 1
        if back and deliveries < DELIVERY_LIMIT:
            self._waiting.appendleft((job, deliveries + 1))
        else:
            self.ended.put_nowait(job)
        self.deliver()


@dataclass
class Copy:
    """One delivery of a job by that queue."""

    queue: Queue
    job: str
    deliveries: int
    is_lost: bool = False

    async def acknowledge(self) -> bool:
        self.queue.settle(self.job, self.deliveries, back=False)
        return True

    async def requeue(self) -> None:
        self.queue.settle(self.job, self.deliveries, back=True)


@pytest.mark.parametrize("prefetch", [1, 2, 10, 100])
async def test_however_many_jobs_crash_those_behind_them_in_the_queue_go_on(prefetch: int) -> None:
    def first_is_short(crashes: int) -> float:
        return 0.0 if crashes == 1 else PATIENCE_S * 100

    bad, good = [f"bad-{number}" for number in range(prefetch)], ["good-1", "good-2", "good-3"]
    # Each crash is logged with its trace, which takes its time.
    with capture_logs():
        async with asyncio.TaskGroup() as tasks:
            in_flight = InFlight(tasks, pause_s=first_is_short)
            queue = Queue(in_flight, bad + good, prefetch)
            queue.deliver()
            async with asyncio.timeout(PATIENCE_S):
                ended = [await queue.ended.get() for _ in range(prefetch - prefetch // 2 + len(good))]
            # Half of what may be held rests; nobody ends those before the pause is over.
            assert ended[-len(good) :] == good
            assert len(in_flight) == prefetch // 2
            assert await in_flight.drain(PATIENCE_S, at_once=asyncio.Event()) is True
