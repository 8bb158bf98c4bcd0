"""Fakes for the tests of services that publish jobs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from otpost.errors import UnknownSender
from otpost.job import is_sender_name
from otpost.topology import DEFAULT_SENDER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from datetime import datetime, timedelta
    from types import TracebackType

    from otpost.errors import OtpostError
    from otpost.job import OtpJob
    from otpost.result import OtpResult


@dataclass(frozen=True, slots=True)
class RecordedJob:
    """One job that was "published", and how."""

    job: OtpJob
    sender: str
    reply_to: str | None = None
    correlation_id: str | None = None


class RecordingProducer:
    """Stands in for ``Producer``: needs no broker and remembers what was sent.

        producer = RecordingProducer()
        await sign_in(producer, "+12015553931")
        assert producer.jobs[0].to == "+12015553931"

    Set *fails_with* to have every following call raise that error; put results into *to_come* to have
    ``results`` yield them (it then waits, as the real one does).
    """

    def __init__(self, *, sender: str = DEFAULT_SENDER) -> None:
        self.sent: list[RecordedJob] = []
        self.to_come: asyncio.Queue[OtpResult] = asyncio.Queue()
        self.fails_with: OtpostError | None = None
        self._sender = sender

    async def __aenter__(self) -> Self:
        """Raise *fails_with*, as connecting would."""
        self._maybe_fail()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: there is nothing to close."""

    @property
    def jobs(self) -> list[OtpJob]:
        """The jobs that were sent, in order."""
        return [record.job for record in self.sent]

    async def send(
        self,
        job: OtpJob,
        *,
        sender: str | None = None,
        reply_to: str | None = None,
        correlation_id: str | None = None,
    ) -> str:
        """Remember the job and return its id."""
        self._maybe_fail()
        if not is_sender_name(sender or self._sender):
            raise UnknownSender(sender or self._sender)
        self.sent.append(RecordedJob(job, sender or self._sender, reply_to, correlation_id))
        return job.id

    async def send_many(
        self,
        jobs: Iterable[OtpJob],
        *,
        sender: str | None = None,
        on_confirmed: Callable[[OtpJob], None] | None = None,
    ) -> list[str]:
        """Remember the jobs and return their ids."""
        ids = []
        for job in jobs:
            ids.append(await self.send(job, sender=sender))
            if on_confirmed is not None:
                on_confirmed(job)
        return ids

    async def results(
        self,
        *,
        queue: str | None = None,  # noqa: ARG002 - the signature is the real one's
        since: datetime | timedelta | Literal["first", "last", "next"] = "next",  # noqa: ARG002 - as above
    ) -> AsyncIterator[OtpResult]:
        """Yield what is put into *to_come*, for ever."""
        while True:
            self._maybe_fail()
            yield await self.to_come.get()

    def _maybe_fail(self) -> None:
        if self.fails_with is not None:
            raise self.fails_with
