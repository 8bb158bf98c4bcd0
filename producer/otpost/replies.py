"""A queue of one's own for the results of one's own jobs, as long as one is there to read them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from otpost import declaring, rabbitmq
from otpost.result import OtpResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiormq.abc import DeliveredMessage

# Not below "otpost.": no queue of that name may be a place for replies.
_PREFIX: Final = "reply.otpost."
_PREFETCH: Final = 100


class Replies:
    """The results that were sent to *queue*, to be named as ``reply_to`` of a job."""

    def __init__(self, queue: str) -> None:
        self.queue = queue
        self._arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()

    def put(self, message: DeliveredMessage) -> None:
        """Take a delivery."""
        self._arrived.put_nowait(message)

    async def next(self) -> OtpResult:
        """Wait for the next result."""
        return OtpResult.parse((await self._arrived.get()).body)


@asynccontextmanager
async def open_replies(url: str, *, timeout_s: float = 10.0) -> AsyncIterator[Replies]:
    """Declare a queue that lives as long as its connection, and read it.

    :raises BrokerUnreachable: no connection. :raises ConnectionLost: it broke at once.
    """
    connection = await rabbitmq.connect(url, name="otpost replies", timeout_s=timeout_s)
    try:
        replies = Replies(_PREFIX + uuid4().hex)
        await declaring.declare_exclusive(connection, replies.queue, timeout_s=timeout_s)
        await rabbitmq.Consumer.open(
            connection, replies.queue, replies.put, prefetch=_PREFETCH, no_ack=True, timeout_s=timeout_s
        )
        yield replies
    finally:
        await rabbitmq.close_quietly(connection)
