"""A queue of one's own for the results of one's own jobs, as long as one is there to read them."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from otpost import declaring, rabbitmq
from otpost.errors import OtpostError, ProducerClosed, QueueRefused
from otpost.result import RESULT_TYPE, OtpResult, UnreadableResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import DeliveredMessage

# Not below "otpost.": no queue of that name may be a place for replies.
_PREFIX: Final = "reply.otpost."
_PREFETCH: Final = 100


class Inbox:
    """What one request is told. *lost* is set when the queue that it named as ``reply_to`` has gone."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self._arrived: asyncio.Queue[OtpResult | OtpostError] = asyncio.Queue()

    def put(self, news: OtpResult | OtpostError) -> None:
        """Take a result; or an error, after which nothing more comes."""
        self._arrived.put_nowait(news)

    async def next(self) -> OtpResult:
        """Wait for the next result. Raises the error that was put in its place."""
        news = await self._arrived.get()
        if isinstance(news, OtpostError):
            raise news
        return news


class Replies:
    """One reply queue for any number of requests; each is told by its correlation id, which is its job's id."""

    def __init__(self) -> None:
        self._inboxes: dict[str, set[Inbox]] = {}
        self._opening: asyncio.Task[rabbitmq.Consumer] | None = None

    @contextmanager
    def inbox(self, job_id: str) -> Iterator[Inbox]:
        """Collect what comes for this job while the block runs."""
        inbox = Inbox()
        inboxes = self._inboxes.setdefault(job_id, set())
        inboxes.add(inbox)
        try:
            yield inbox
        finally:
            inboxes.discard(inbox)
            if not inboxes and self._inboxes.get(job_id) is inboxes:
                del self._inboxes[job_id]

    async def queue_on(self, connection: AbstractConnection, *, timeout_s: float) -> str:
        """Return the queue's name; it is declared on *connection* where there is none any more.

        :raises QueueRefused: we may not declare or read it. :raises ConnectionLost: the connection is gone.
        :raises ProducerClosed: ``close`` was called meanwhile.
        """
        if self._opening is None or _is_over(self._opening):
            self._opening = asyncio.create_task(self._open(connection, timeout_s))
            # Everybody who waited for it may be gone by the time that it fails.
            self._opening.add_done_callback(lambda opening: opening.cancelled() or opening.exception())
        before = rabbitmq.times_cancelled()
        try:
            # Shielded: who opens it opens it for all, and may give up meanwhile.
            return (await asyncio.shield(self._opening)).queue
        except asyncio.CancelledError:
            if rabbitmq.times_cancelled() > before:
                raise
            raise ProducerClosed from None  # nobody has cancelled us, but closing the opening

    async def close(self, reason: OtpostError) -> None:
        """Delete the queue; whoever still waits is told *reason*."""
        for inboxes in self._inboxes.values():
            for inbox in inboxes:
                inbox.put(reason)
        opening, self._opening = self._opening, None
        if opening is None:
            return
        opening.cancel()
        if opening.done() and not _is_over(opening):
            await opening.result().close()

    async def _open(self, connection: AbstractConnection, timeout_s: float) -> rabbitmq.Consumer:
        name = _PREFIX + uuid4().hex
        try:
            await declaring.declare_exclusive(connection, name, timeout_s=timeout_s)
            return await rabbitmq.Consumer.open(
                connection,
                name,
                self._take,
                prefetch=_PREFETCH,
                no_ack=True,
                on_death=self._lost,
                timeout_s=timeout_s,
            )
        except QueueRefused as error:
            raise QueueRefused(
                f"{error}; to be told results this user needs the permissions 'configure' and 'read' "
                f"for '{_PREFIX}*', or else send without waiting and read 'results'"
            ) from error

    def _take(self, message: DeliveredMessage) -> None:
        # Whoever knows the queue's name can write into it.
        if message.header.properties.message_type != RESULT_TYPE:
            return
        try:
            result = OtpResult.parse(message.body)
        except UnreadableResult:
            return
        for inbox in self._inboxes.get(message.header.properties.correlation_id or "", ()):
            inbox.put(result)

    def _lost(self) -> None:
        for inboxes in self._inboxes.values():
            for inbox in inboxes:
                inbox.lost.set()


def _is_over(opening: asyncio.Task[rabbitmq.Consumer]) -> bool:
    """Whether there is no queue and none is about to be there."""
    if not opening.done():
        return False
    return opening.cancelled() or opening.exception() is not None or opening.result().is_dead
