"""Many jobs on their way at once, and what became of each."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from otpost.errors import BrokerUnreachable, NotConfirmed, ProducerClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from types import TracebackType

    from otpost.errors import OtpostError
    from otpost.job import OtpJob


class Batch:
    """The jobs of one ``send_many``; *ids* are those that were taken. *on_confirmed* is told what is stored."""

    def __init__(self, on_confirmed: Callable[[OtpJob], None] | None) -> None:
        self.ids: list[str] = []
        self._failed: list[str] = []
        self._trouble: OtpostError | None = None
        self._on_confirmed = on_confirmed

    @contextmanager
    def outcome_of(self, job: OtpJob) -> Iterator[None]:
        """Remember whether the block, which waits for the job's confirm, gets it."""
        try:
            yield
        except (NotConfirmed, BrokerUnreachable, ProducerClosed) as error:
            self._failed.append(job.id)
            self._trouble = error
        else:
            if self._on_confirmed is not None:
                self._on_confirmed(job)

    def stored_ids(self) -> list[str]:
        """Return the ids of all jobs.

        :raises NotConfirmed: naming those that may not be stored.
        """
        if self._trouble is not None:
            raise NotConfirmed.because(self._failed, self._trouble)
        return self.ids


class UnderWay:
    """Tasks, *most* of them at a time, that are waited for when the block ends, also where it fails.

    A task group would cancel them, on one mistake of the caller's, and nobody would know which jobs are stored. Only
    who is cancelled cancels them. The first error of a task is raised as it is when all have ended.
    """

    def __init__(self, most: int) -> None:
        self._slots = asyncio.Semaphore(most)
        self._tasks: set[asyncio.Task[None]] = set()
        self._mistakes: list[BaseException] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while self._tasks and (error is None or isinstance(error, Exception)):
                await asyncio.wait(self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
        if error is None and self._mistakes:
            raise self._mistakes[0]

    async def has_room(self) -> bool:
        """Wait until one more may begin; False where none should, since one has failed."""
        await self._slots.acquire()
        return not self._mistakes

    def begin(self, work: Coroutine[None, None, None]) -> None:
        """Begin one, for which there is room."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._slots.release()
        if not task.cancelled() and (mistake := task.exception()) is not None:
            self._mistakes.append(mistake)
