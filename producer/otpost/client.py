"""The producer: publishes jobs, and reads what became of them."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal, Self

from otpost import declaring, rabbitmq
from otpost.errors import BrokerUnreachable, NotConfirmed, UnknownSender
from otpost.job import JOB_TYPE, OtpJob, is_sender_name
from otpost.results import Position, read_results
from otpost.topology import DEFAULT_SENDER, JOBS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from types import TracebackType

    from aio_pika.abc import AbstractConnection

    from otpost.result import OtpResult

BROKER_URL_VARIABLE: Final = "OTPOST_BROKER_URL"
_RECONNECT_PAUSE_S: Final = 0.2


class Producer:
    """Publishes jobs to RabbitMQ; an async context manager, safe to share between tasks.

        async with Producer() as producer:
            job_id = await producer.send(OtpJob(to="+12015553931", code="493817", ttl_s=300))

    *broker_url* defaults to the environment's ``OTPOST_BROKER_URL``, then to RabbitMQ on this machine. A lost
    connection is opened again by the next call. *timeout_s* (seconds) bounds each call from connecting to the
    broker's confirm; *max_in_flight* is how many jobs ``send_many`` lets wait for their confirms at once.
    """

    def __init__(
        self,
        broker_url: str | None = None,
        *,
        sender: str = DEFAULT_SENDER,
        timeout_s: float = 10.0,
        max_in_flight: int = 256,
    ) -> None:
        self._url = broker_url or os.environ.get(BROKER_URL_VARIABLE) or rabbitmq.DEFAULT_BROKER_URL
        self._sender = sender
        self._timeout_s = timeout_s
        self._max_in_flight = max_in_flight
        self._connecting = asyncio.Lock()
        self._connection: AbstractConnection | None = None
        self._publisher: rabbitmq.Publisher | None = None
        self._known_senders: set[str] = set()

    async def __aenter__(self) -> Self:
        """Connect.

        :raises BrokerUnreachable: with what is wrong and what to do about it.
        """
        await self._connected()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection; what was confirmed stays published."""
        await self._disconnect()

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
        """
        body = job.to_json()
        properties = rabbitmq.properties(
            kind=JOB_TYPE,
            message_id=job.id,
            timestamp=datetime.now(UTC),
            reply_to=reply_to,
            correlation_id=correlation_id,
        )
        trouble: rabbitmq.ConnectionLost | BrokerUnreachable | None = None
        published = False
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    try:
                        publisher = await self._connected()
                        await self._check_sender(sender or self._sender)
                        published = True
                        await publisher.publish(
                            body, properties, exchange=JOBS, key=sender or self._sender, timeout_s=self._timeout_s
                        )
                    except rabbitmq.ConnectionLost as error:
                        # The id makes a second copy harmless, so a lost confirm is simply asked for again.
                        trouble = error
                    except BrokerUnreachable as error:
                        if error.permanent:
                            raise
                        trouble = error
                    else:
                        return job.id
                    await asyncio.sleep(_RECONNECT_PAUSE_S)
        except BrokerUnreachable as error:
            if not published:
                raise
            raise NotConfirmed([job.id], str(error)) from error
        except (rabbitmq.Nacked, rabbitmq.Unroutable) as error:
            raise NotConfirmed([job.id], str(error)) from error
        except TimeoutError:
            reason = f"{trouble or rabbitmq.visible_url(self._url) + ': no answer'}, for {self._timeout_s:g} s"
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

        :raises UnknownSender: nothing was published. :raises NotConfirmed: naming exactly the jobs to send again.
        """
        ids: list[str] = []
        failed: list[str] = []
        reason = ""
        slots = asyncio.Semaphore(self._max_in_flight)

        async def one(job: OtpJob) -> None:
            nonlocal reason
            try:
                await self.send(job, sender=sender)
            except (NotConfirmed, BrokerUnreachable) as error:
                failed.append(job.id)
                reason = str(error)
            else:
                if on_confirmed is not None:
                    on_confirmed(job)
            finally:
                slots.release()

        await self._reach(sender or self._sender)
        async with asyncio.TaskGroup() as sending:
            for job in jobs:
                await slots.acquire()
                ids.append(job.id)
                sending.create_task(one(job))
        if failed:
            raise NotConfirmed(failed, reason)
        return ids

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
        """
        if isinstance(since, timedelta):
            since = datetime.now(UTC) - since
        return read_results(self._url, Position(queue, since), timeout_s=self._timeout_s)

    async def _reach(self, sender: str) -> None:
        """Find out whether jobs for *sender* can be published at all.

        :raises UnknownSender: nobody has declared it. :raises BrokerUnreachable: not within the time-out.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                while True:
                    try:
                        await self._connected()
                        await self._check_sender(sender)
                    except rabbitmq.ConnectionLost:
                        await asyncio.sleep(_RECONNECT_PAUSE_S)
                    else:
                        return
        except TimeoutError:
            where = rabbitmq.visible_url(self._url)
            raise BrokerUnreachable(f"{where}: no lasting connection within {self._timeout_s:g} s") from None

    async def _connected(self) -> rabbitmq.Publisher:
        if self._publisher is not None and self._publisher.is_open:
            return self._publisher
        async with self._connecting:
            if self._publisher is None or not self._publisher.is_open:
                await self._disconnect()
                self._connection = await rabbitmq.connect(self._url, name="otpost producer", timeout_s=self._timeout_s)
                try:
                    self._publisher = await rabbitmq.Publisher.open(self._connection)
                except rabbitmq.ConnectionLost as error:
                    raise BrokerUnreachable(f"{rabbitmq.visible_url(self._url)}: {error}") from error
            return self._publisher

    async def _disconnect(self) -> None:
        connection, self._connection, self._publisher = self._connection, None, None
        if connection is not None:
            with suppress(Exception):
                await rabbitmq.close_quietly(connection)

    async def _check_sender(self, sender: str) -> None:
        if sender in self._known_senders:
            return
        connection = self._connection
        if not is_sender_name(sender):
            raise UnknownSender(sender)
        if connection is None:
            raise rabbitmq.ConnectionLost("the connection was closed")
        if not await declaring.sender_exists(connection, sender, timeout_s=self._timeout_s):
            raise UnknownSender(sender)
        self._known_senders.add(sender)
