"""Consuming: one in-flight table for all senders, so that a redelivered job joins itself, and draining."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from otpost_worker.envelope import Envelope

_FIRST_PAUSE_S: Final = 0.5
_MAX_PAUSE_S: Final = 30.0
# Of so many jobs that crashed it is remembered how often; of the rest, the next crash counts as the first.
_MAX_CRASHED: Final = 1000

_log = structlog.get_logger("otpost.worker")


class Settleable(Protocol):
    """A delivery as the broker sees it."""

    @property
    def is_lost(self) -> bool:
        """Whether its connection is gone, so that the broker delivers the same message once more."""

    async def acknowledge(self) -> bool:
        """It is taken care of; False where the broker delivers it again all the same."""

    async def requeue(self) -> None:
        """Give it back, counted toward the delivery limit."""


def pause_after_crash_s(crashes: int) -> float:
    """Seconds until a job that crashed that many times in a row is given back: doubling, 30 at the most."""
    return min(_FIRST_PAUSE_S * 2.0 ** (min(crashes, 10) - 1), _MAX_PAUSE_S)


class RestingPlaces:
    """How many of one queue's jobs may rest for long, where we hold *prefetch* at the most: each takes up one of those.

    Half of them, so that those who crash never keep out all others.
    """

    def __init__(self, prefetch: int) -> None:
        self._free = prefetch // 2

    def take(self) -> bool:
        """Take a place, if there is one."""
        if not self._free:
            return False
        self._free -= 1
        return True

    def leave(self) -> None:
        """Give a place back."""
        self._free += 1


class InFlight:
    """The jobs in hand. Each has a task that the loss of a connection cannot cancel.

    When the broker loses a connection it delivers that connection's jobs again, perhaps to this very process,
    which still has them in hand. Such a delivery joins its job and is acknowledged with it. But a copy that comes
    while the first delivery can still be acknowledged is a message of its own, perhaps the very one that this job
    was just handed back as: it goes its own way, and the ledger tells what that is.

    A job that crashes is given back after a pause, *pause_s* of how often in a row it has: the broker would deliver it
    again at once, and its whole circle be over, or have used up a processor, before anybody could mend the cause. Where
    as many jobs of its queue rest as may, that pause is the first one, however often it has crashed.
    """

    def __init__(self, tasks: asyncio.TaskGroup, *, pause_s: Callable[[int], float] = pause_after_crash_s) -> None:
        self._tasks = tasks
        self._pause_s = pause_s
        self._draining = asyncio.Event()
        # By the hash of each job's key, which holds its body; the one that crashed longest ago comes first.
        self._crashes: dict[int, int] = {}
        self._deliveries: dict[object, list[Settleable]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        """How many jobs are in hand."""
        return len(self._deliveries)

    def take(
        self,
        key: object,
        delivery: Settleable,
        way: Callable[[], Awaitable[None]],
        *,
        places: RestingPlaces | None = None,
    ) -> None:
        """Begin *way* for the delivery; or, where it is one of *key* again, settle it with what is in hand.

        *places* are those of its queue; None is one without a limit.
        """
        deliveries = self._deliveries.get(key)
        if deliveries is not None and all(earlier.is_lost for earlier in deliveries):
            deliveries.append(delivery)
            return
        own_key = key if deliveries is None else object()
        self._deliveries[own_key] = [delivery]
        self._start(self._go(own_key, hash(key), way, places))

    def background(self, work: Awaitable[None]) -> None:
        """Keep *work* running until it is done or the grace period is over; a bug in it costs only itself."""

        async def run() -> None:
            try:
                await work
            except Exception as error:  # noqa: BLE001 - no job waits for it, and none may die of it
                _log.error("background.crashed", error=type(error).__name__, exc_info=error)

        self._start(run())

    def _start(self, coroutine: Coroutine[None, None, None]) -> None:
        task = self._tasks.create_task(coroutine)
        self._running.add(task)
        self._idle.clear()
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not self._running:
            self._idle.set()

    async def _go(
        self, key: object, crash_key: int, way: Callable[[], Awaitable[None]], places: RestingPlaces | None
    ) -> None:
        crashed = False
        try:
            await way()
        except Exception as error:  # noqa: BLE001 - a bug must cost one job, not the worker
            _log.error("job.crashed", error=type(error).__name__, exc_info=error)
            crashed = True
            await self._rest(crash_key, places)
        else:
            self._crashes.pop(crash_key, None)
        finally:
            # From here on a delivery of the same job begins anew, also one that comes during the lines below.
            deliveries = self._deliveries.pop(key)
        for delivery in deliveries:
            # The queue's delivery limit ends the circle, if it is the job's fault.
            await (delivery.requeue() if crashed else delivery.acknowledge())

    async def _rest(self, crash_key: int, places: RestingPlaces | None) -> None:
        """Wait before a job that crashed is given back, unless the worker stops."""
        crashes = self._crashes.pop(crash_key, 0) + 1
        self._crashes[crash_key] = crashes
        if len(self._crashes) > _MAX_CRASHED:
            del self._crashes[next(iter(self._crashes))]
        if places is None or crashes == 1:
            await self._pause(crashes)
        elif places.take():
            try:
                await self._pause(crashes)
            finally:
                places.leave()
        else:
            await self._pause(1)

    async def _pause(self, crashes: int) -> None:
        try:
            async with asyncio.timeout(self._pause_s(crashes)):
                await self._draining.wait()
        except TimeoutError:
            return

    async def drain(self, grace_s: float, *, at_once: asyncio.Event) -> bool:
        """Wait until nothing is in hand, *grace_s* at the most or until *at_once*; then cancel the rest.

        Returns whether everything came to its end by itself.
        """
        self._draining.set()
        hurry = asyncio.ensure_future(at_once.wait())
        idle = asyncio.ensure_future(self._idle.wait())
        try:
            await asyncio.wait({hurry, idle}, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurry.cancel()
            idle.cancel()
        left = list(self._running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return not left


def job_key(envelope: Envelope) -> object:
    """Tell copies of the same step apart from other jobs: same body, run and attempt are the same copy."""
    return (envelope.sender, envelope.run, envelope.attempt, envelope.body)
