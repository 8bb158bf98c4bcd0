"""Fakes for the tests of services that publish jobs."""

from __future__ import annotations

import asyncio
import queue as queues
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Self

from otpost.errors import UnknownSender
from otpost.job import is_sender_name
from otpost.result import OtpResult, ResultError, Status, mask_number
from otpost.topology import DEFAULT_SENDER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterable
    from datetime import timedelta
    from types import TracebackType

    from otpost.errors import OtpostError
    from otpost.job import OtpJob


@dataclass(frozen=True, slots=True)
class RecordedJob:
    """One job that was "published", and how."""

    job: OtpJob
    sender: str
    reply_to: str | None = None
    correlation_id: str | None = None


def end_of(
    job: OtpJob, status: Status | str = Status.ACCEPTED, *, kind: str | None = None, sender: str = DEFAULT_SENDER
) -> OtpResult:
    """Make the end of a job as a worker would tell it; *kind* is its error's, such as ``recipient``."""
    accepted = status == Status.ACCEPTED
    return OtpResult(
        event_id=f"{job.id}/1/1/{status}",
        job_id=job.id,
        sender=sender,
        status=Status(status),
        run=1,
        attempt=1,
        at=datetime.now(UTC),
        provider="cloud_api",
        provider_message_id=f"wamid.{job.id}" if accepted else None,
        to=mask_number(job.to),
        ref=job.ref,
        error=ResultError(kind=kind) if kind is not None else None,
    )


class _Recording:
    """What both fakes remember, and are told to do."""

    def __init__(self, *, sender: str = DEFAULT_SENDER) -> None:
        self.sent: list[RecordedJob] = []
        self.fails_with: OtpostError | None = None
        self.answer: Callable[[OtpJob], OtpResult] = end_of
        self._sender = sender

    @property
    def jobs(self) -> list[OtpJob]:
        """The jobs that were sent, in order."""
        return [record.job for record in self.sent]

    def _record(
        self, job: OtpJob, sender: str | None, *, reply_to: str | None = None, correlation_id: str | None = None
    ) -> str:
        self._maybe_fail()
        if not is_sender_name(sender or self._sender):
            raise UnknownSender(sender or self._sender)
        self.sent.append(RecordedJob(job, sender or self._sender, reply_to, correlation_id))
        return job.id

    def _record_many(
        self, jobs: Iterable[OtpJob], sender: str | None, on_confirmed: Callable[[OtpJob], None] | None
    ) -> list[str]:
        ids = []
        for job in jobs:
            ids.append(self._record(job, sender))
            if on_confirmed is not None:
                on_confirmed(job)
        return ids

    def _maybe_fail(self) -> None:
        if self.fails_with is not None:
            raise self.fails_with


class RecordingProducer(_Recording):
    """Stands in for ``Producer``: needs no broker and remembers what was sent.

        producer = RecordingProducer()
        await sign_in(producer, "+12015553931")
        assert producer.jobs[0].to == "+12015553931"

    Set *fails_with* to have every following call raise that error. ``request`` returns what *answer*, a function,
    makes of the job, ``accepted`` unless you set another; it may also raise:

        producer.answer = lambda job: end_of(job, "failed", kind="recipient")

    Put results into *to_come* to have ``results`` yield them (it then waits, as the real one does).

    It never seals, whatever ``OTPOST_PUBLIC_KEY`` says: ``jobs[0].code`` is the code that your service sent. A job
    that your service has sealed itself is remembered as it came; ``otpost.Opener`` opens its ``sealed_code``.
    """

    def __init__(self, *, sender: str = DEFAULT_SENDER) -> None:
        super().__init__(sender=sender)
        self.to_come: asyncio.Queue[OtpResult] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        """Raise *fails_with*, as connecting would."""
        self._maybe_fail()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: there is nothing to close."""

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""

    async def send(
        self,
        job: OtpJob,
        *,
        sender: str | None = None,
        reply_to: str | None = None,
        correlation_id: str | None = None,
    ) -> str:
        """Remember the job and return its id."""
        return self._record(job, sender, reply_to=reply_to, correlation_id=correlation_id)

    async def send_many(
        self,
        jobs: Iterable[OtpJob],
        *,
        sender: str | None = None,
        on_confirmed: Callable[[OtpJob], None] | None = None,
    ) -> list[str]:
        """Remember the jobs and return their ids."""
        return self._record_many(jobs, sender, on_confirmed)

    async def request(
        self,
        job: OtpJob,
        *,
        sender: str | None = None,
        timeout_s: float = 30.0,  # noqa: ARG002 - the signature is the real one's
        on_confirmed: Callable[[OtpJob], None] | None = None,
        on_result: Callable[[OtpResult], None] | None = None,
    ) -> OtpResult:
        """Remember the job and return what *answer* makes of it."""
        self._record_many([job], sender, on_confirmed)
        result = self.answer(job)
        if on_result is not None:
            on_result(result)
        return result

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


class RecordingBlockingProducer(_Recording):
    """Stands in for ``BlockingProducer``, as ``RecordingProducer`` does for ``Producer``."""

    def __init__(self, *, sender: str = DEFAULT_SENDER) -> None:
        super().__init__(sender=sender)
        self.to_come: queues.Queue[OtpResult] = queues.Queue()

    def __enter__(self) -> Self:
        """Raise *fails_with*, as connecting would."""
        self._maybe_fail()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: there is nothing to close."""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def send(
        self,
        job: OtpJob,
        *,
        sender: str | None = None,
        reply_to: str | None = None,
        correlation_id: str | None = None,
    ) -> str:
        """Remember the job and return its id."""
        return self._record(job, sender, reply_to=reply_to, correlation_id=correlation_id)

    def send_many(
        self,
        jobs: Iterable[OtpJob],
        *,
        sender: str | None = None,
        on_confirmed: Callable[[OtpJob], None] | None = None,
    ) -> list[str]:
        """Remember the jobs and return their ids."""
        return self._record_many(jobs, sender, on_confirmed)

    def request(
        self,
        job: OtpJob,
        *,
        sender: str | None = None,
        timeout_s: float = 30.0,  # noqa: ARG002 - the signature is the real one's
    ) -> OtpResult:
        """Remember the job and return what *answer* makes of it."""
        self._record(job, sender)
        return self.answer(job)

    def results(
        self,
        *,
        queue: str | None = None,  # noqa: ARG002 - the signature is the real one's
        since: datetime | timedelta | Literal["first", "last", "next"] = "next",  # noqa: ARG002 - as above
    ) -> Generator[OtpResult, None, None]:
        """Yield what is put into *to_come*, for ever."""
        while True:
            self._maybe_fail()
            yield self.to_come.get()
