"""The producer: publishes jobs, waits for their ends, and reads what became of them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, Self

from otpost import declaring, rabbitmq
from otpost.batch import Batch, UnderWay
from otpost.environment import broker_url as environments_url
from otpost.environment import sealing_key
from otpost.errors import (
    AccessRefused,
    BrokerUnreachable,
    NoResult,
    NotConfirmed,
    OtpostError,
    ProducerClosed,
    UnknownSender,
)
from otpost.job import JOB_TYPE, OtpJob, is_sender_name
from otpost.link import Link
from otpost.replies import Replies
from otpost.results import Position, read_results
from otpost.topology import DEFAULT_SENDER, JOBS
from otpost.urls import visible_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
    from types import TracebackType

    from aio_pika import Connection
    from aiormq import spec

    from otpost.result import OtpResult
    from otpost.sealing import PublicKey

_RECONNECT_PAUSE_S: Final = 0.2
# A request without an end is published again after the first of these, which is longer than all but a few jobs take,
# then after twice as long each time. Where its reply queue was lost, at once, and the pauses begin with the second.
_ASK_AGAIN_S: Final = 8.0
_ASK_AGAIN_AFTER_LOSS_S: Final = 1.0


class _ReplyTo(NamedTuple):
    """Where the results of a job go besides."""

    queue: str | None
    correlation_id: str | None


class Producer:
    """Publishes jobs to RabbitMQ; an async context manager, safe to share between tasks.

        async with Producer() as producer:
            job_id = await producer.send(OtpJob(to="+12015553931", code="493817", ttl_s=300))

    All of its calls share one connection, which the next call opens again when it is lost; only ``results`` opens
    one for each iteration. *broker_url* defaults to the environment's ``OTPOST_BROKER_URL``, or to what is in the
    file that ``OTPOST_BROKER_URL_FILE`` names, then to RabbitMQ on this machine. *timeout_s* (seconds) bounds each
    call from connecting to the broker's confirm; *max_in_flight* is how many jobs ``send_many`` lets wait for their
    confirms at once.

    *public_key*, the workers' one, or else the environment's ``OTPOST_PUBLIC_KEY``: with it every job is published
    with its code sealed, and no call keeps the code itself; callbacks are given the job as it was published. A job
    that is sealed already is left as it is.

    *connection*, an open one of aio-pika's, is used in place of one of our own and never closed here. One of
    ``aio_pika.connect_robust`` is waited for when it is lost; any other is not opened again, and every further call
    raises ``BrokerUnreachable``.
    """

    def __init__(
        self,
        broker_url: str | None = None,
        *,
        connection: Connection | None = None,
        sender: str = DEFAULT_SENDER,
        timeout_s: float = 10.0,
        max_in_flight: int = 256,
        public_key: PublicKey | str | None = None,
    ) -> None:
        """Make one; it connects later.

        :raises InvalidKey: *public_key* is none. :raises SealingUnavailable: there is one, but PyNaCl is missing.
        :raises BrokerUnreachable: the file with the broker's URL cannot be used.
        """
        self._public_key = sealing_key(public_key)
        known_url = broker_url or (str(connection.url) if connection is not None else None)
        self._url = known_url or environments_url()
        self._sender = sender
        self._timeout_s = timeout_s
        self._max_in_flight = max_in_flight
        self._link = Link(self._url, given=connection, timeout_s=timeout_s)
        self._replies = Replies()
        self._known_senders: set[str] = set()

    async def __aenter__(self) -> Self:
        """Connect.

        :raises BrokerUnreachable: with what is wrong and what to do about it.
        """
        self._link.reopen()
        await self._link.publisher()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.close()

    async def close(self) -> None:
        """Close the connection; what was confirmed stays published. Calls that still wait raise ``ProducerClosed``."""
        await self._replies.close(ProducerClosed())
        await self._link.close()

    async def send(
        self,
        job: OtpJob,
        *,
        sender: str | None = None,
        reply_to: str | None = None,
        correlation_id: str | None = None,
    ) -> str:
        """Publish one job and return its id once the broker has stored it.

        *reply_to* names a queue of the caller's to which every result of this job goes as well.

        :raises UnknownSender: no worker has declared that sender. :raises BrokerUnreachable: nothing was published.
        :raises NotConfirmed: it may be stored; the same job may safely be sent again.
        :raises ProducerClosed: nothing was published.
        """

        async def place() -> _ReplyTo:
            return _ReplyTo(reply_to, correlation_id)

        job = self._sealed(job)
        await self._publish(job, sender, place, within_s=self._timeout_s)
        return job.id

    async def request(
        self,
        job: OtpJob,
        *,
        sender: str | None = None,
        timeout_s: float = 30.0,
        on_confirmed: Callable[[OtpJob], None] | None = None,
        on_result: Callable[[OtpResult], None] | None = None,
    ) -> OtpResult:
        """Publish one job and return its end: ``accepted``, ``failed`` or ``expired``.

        *timeout_s* (seconds) bounds all of it. *on_confirmed* is called with the job once it is stored,
        *on_result* with every result as it comes, those that end nothing (``retrying``) and the end. A job that
        has ended before has its recorded end told again; nothing is sent then.

        :raises NoResult: the job is stored and goes on, but its end was not told in time; ask again with the same
        job. :raises UnknownSender, BrokerUnreachable, NotConfirmed, ProducerClosed: as ``send`` does.
        :raises QueueRefused: this user may not have a queue for replies; nothing was published.
        """
        ends_at = asyncio.get_running_loop().time() + timeout_s
        job = self._sealed(job)
        with self._replies.inbox(job.id) as inbox:
            await self._publish_asking(job, sender, within_s=min(timeout_s, self._timeout_s))
            if on_confirmed is not None:
                on_confirmed(job)
            asking = asyncio.create_task(self._keep_asking(job, sender, inbox.lost))
            try:
                while True:
                    # One wait, and nothing of the caller's in it: a TimeoutError of theirs is not ours.
                    try:
                        async with asyncio.timeout_at(ends_at):
                            result = await inbox.next()
                    except TimeoutError:
                        raise NoResult(job.id, timeout_s) from None
                    if on_result is not None:
                        on_result(result)
                    if result.ends_job:
                        return result
            finally:
                asking.cancel()

    async def _keep_asking(self, job: OtpJob, sender: str | None, lost: asyncio.Event) -> None:
        """Publish a job again and again, as long as its end has not been told.

        A reply queue goes with its connection, and whatever was in it; a reply is tried once and no more; and
        a job that was under way already replies to whoever sent it first. In each case the end is recorded, and told
        to the next copy of the job that comes after it. A copy that comes before it costs a look into the ledger
        and is silent, hence more than one, and the growing intervals. The alternative, to read everybody's
        results from the stream, costs each producer the traffic of all.
        """
        pause_s = _ASK_AGAIN_S
        while True:
            try:
                async with asyncio.timeout(pause_s):
                    await lost.wait()
            except TimeoutError:
                pause_s *= 2
            else:
                lost.clear()
                pause_s = _ASK_AGAIN_AFTER_LOSS_S
            # One that fails is followed by the next one; the request's own time-out ends them all.
            with suppress(OtpostError):
                await self._publish_asking(job, sender, within_s=self._timeout_s)

    async def _publish_asking(self, job: OtpJob, sender: str | None, *, within_s: float) -> None:
        """Publish with our own queue for replies, whichever that is by the time that there is a connection."""

        async def place() -> _ReplyTo:
            queue = await self._replies.queue_on(self._link.connection, timeout_s=self._timeout_s)
            return _ReplyTo(queue, job.id)

        await self._publish(job, sender, place, within_s=within_s)

    async def _publish(
        self, job: OtpJob, sender: str | None, place: Callable[[], Awaitable[_ReplyTo]], *, within_s: float
    ) -> None:
        """Publish until it is confirmed, over as many connections as it takes; *place* tells where replies go."""
        body = job.to_json()
        sender = sender or self._sender
        trouble: rabbitmq.ConnectionLost | BrokerUnreachable | None = None
        published = False
        try:
            async with asyncio.timeout(within_s):
                while True:
                    try:
                        publisher = await self._link.publisher()
                        await self._check_sender(sender)
                        properties = _properties(job, await place())
                        published = True
                        await publisher.publish(body, properties, exchange=JOBS, key=sender, timeout_s=within_s)
                    except rabbitmq.ConnectionLost as error:
                        # The id makes a second copy harmless, so a lost confirm is simply asked for again.
                        trouble = error
                    except BrokerUnreachable as error:
                        if error.permanent:
                            raise
                        trouble = error
                    else:
                        return
                    await asyncio.sleep(_RECONNECT_PAUSE_S)
        except (BrokerUnreachable, ProducerClosed) as error:
            if not published or isinstance(error, AccessRefused):
                raise
            raise NotConfirmed.because([job.id], error) from error
        except (rabbitmq.Nacked, rabbitmq.Unroutable) as error:
            raise NotConfirmed([job.id], str(error)) from error
        except TimeoutError:
            reason = f"{trouble or visible_url(self._url) + ': no answer'}, for {within_s:g} s"
            raise (NotConfirmed([job.id], reason) if published else BrokerUnreachable(reason)) from trouble

    async def send_many(
        self,
        jobs: Iterable[OtpJob],
        *,
        sender: str | None = None,
        on_confirmed: Callable[[OtpJob], None] | None = None,
    ) -> list[str]:
        """Publish many jobs, their confirms pipelined, and return their ids.

        *jobs* may be a generator; it is read only as fast as the broker confirms. *on_confirmed* is called with
        each job once it is stored (for a progress bar). Every job is tried, whatever became of the others.

        What *jobs* or *on_confirmed* itself raises is raised again, but only when the jobs under way have had their
        confirms: no further job is taken, and *on_confirmed* is called for every one that is stored.

        :raises UnknownSender: nothing was published. :raises NotConfirmed: naming exactly the jobs to send again.
        """
        batch = Batch(on_confirmed)

        async def one(job: OtpJob) -> None:
            with batch.outcome_of(job):
                await self.send(job, sender=sender)

        await self._reach(sender or self._sender)
        async with UnderWay(self._max_in_flight) as under_way:
            for job in jobs:
                if not await under_way.has_room():
                    break
                batch.ids.append(job.id)
                under_way.begin(one(self._sealed(job)))
        return batch.stored_ids()

    def results(
        self,
        *,
        queue: str | None = None,
        since: datetime | timedelta | Literal["first", "last", "next"] = "next",
    ) -> AsyncIterator[OtpResult]:
        """Iterate over results as they come, for ever; lost connections are opened again.

        Without *queue* they come from the results stream, kept 7 days, beginning at *since*: a time, that long
        ago, the ``first`` kept, the ``last`` chunk, or the ``next`` to come. With *queue*, the name of a queue of
        your own bound to the exchange ``otpost.results``, each is acknowledged when the next is asked for.

        :raises BrokerUnreachable: the first connection failed. :raises QueueRefused: there is nothing to read.
        :raises UnreadableResult: a message says that it is a result, but is none that is known here. A queue of your
        own does not hold it any more: iterate again. Other types of message are left out.
        """
        if isinstance(since, timedelta):
            since = datetime.now(UTC) - since
        return read_results(self._url, Position(queue, since), timeout_s=self._timeout_s)

    def _sealed(self, job: OtpJob) -> OtpJob:
        return job.sealed(self._public_key) if self._public_key is not None else job

    async def _reach(self, sender: str) -> None:
        """Find out whether jobs for *sender* can be published at all.

        :raises UnknownSender: nobody has declared it. :raises BrokerUnreachable: not within the time-out.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    try:
                        await self._link.publisher()
                        await self._check_sender(sender)
                    except rabbitmq.ConnectionLost:
                        await asyncio.sleep(_RECONNECT_PAUSE_S)
                    else:
                        return
        except TimeoutError:
            where = visible_url(self._url)
            raise BrokerUnreachable(f"{where}: no lasting connection within {self._timeout_s:g} s") from None

    async def _check_sender(self, sender: str) -> None:
        if sender in self._known_senders:
            return
        if not is_sender_name(sender):
            raise UnknownSender(sender)
        if not await declaring.sender_exists(self._link.connection, sender, timeout_s=self._timeout_s):
            raise UnknownSender(sender)
        self._known_senders.add(sender)


def _properties(job: OtpJob, reply_to: _ReplyTo) -> spec.Basic.Properties:
    return rabbitmq.properties(
        kind=JOB_TYPE,
        message_id=job.id,
        timestamp=datetime.now(UTC),
        reply_to=reply_to.queue,
        correlation_id=reply_to.correlation_id,
    )
