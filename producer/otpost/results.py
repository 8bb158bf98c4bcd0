"""Reading results: from the stream, or from a queue of one's own."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from otpost import rabbitmq
from otpost.errors import BrokerUnreachable, QueueRefused
from otpost.result import EVENT_TYPE, OtpResult
from otpost.topology import RESULTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import DeliveredMessage

_PREFETCH: Final = 200
_PAUSE_S: Final = (0.2, 5.0)


@dataclass(frozen=True, slots=True)
class Position:
    """Where to read: a *queue* of one's own, or else the stream from *since* (or one past a known offset)."""

    queue: str | None
    since: datetime | str | int

    def past(self, offset: object) -> Position:
        """The position behind a message that was read."""
        return replace(self, since=offset + 1) if isinstance(offset, int) else self


async def read_results(url: str, position: Position, *, timeout_s: float) -> AsyncIterator[OtpResult]:
    """Yield results from *position* on, for ever, over as many connections as it takes.

    :raises BrokerUnreachable: the very first connection failed. :raises QueueRefused: nothing to read there.
    :raises UnreadableResult: somebody else's message.
    """
    connected_once = False
    while True:
        try:
            async with _open_feed(url, position, timeout_s=timeout_s) as feed:
                connected_once = True
                async for message in feed:
                    if message.header.properties.message_type != EVENT_TYPE:
                        yield OtpResult.parse(message.body)
                    await feed.acknowledge(message)
                    position = position.past((message.header.properties.headers or {}).get("x-stream-offset"))
        except (rabbitmq.ConnectionLost, QueueRefused, BrokerUnreachable):
            # A queue that was there before comes back with its broker.
            if not connected_once:
                raise
        await asyncio.sleep(random.uniform(*_PAUSE_S))  # noqa: S311 - spreads reconnects, keeps no secret


class _Feed:
    """The messages of one consumer; the iteration ends when no more can come."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
        self._consumer: rabbitmq.Consumer | None = None

    async def open(self, connection: AbstractConnection, position: Position) -> None:
        arguments = None if position.queue else {"x-stream-offset": position.since}
        self._consumer = await rabbitmq.Consumer.open(
            connection,
            position.queue or RESULTS,
            self._messages.put_nowait,
            prefetch=_PREFETCH,
            arguments=arguments,
        )

    async def __aiter__(self) -> AsyncIterator[DeliveredMessage]:
        assert self._consumer is not None  # noqa: S101 - opened by _open_feed
        died = asyncio.ensure_future(self._consumer.died())
        try:
            while not died.done():
                arrived = asyncio.ensure_future(self._messages.get())
                try:
                    await asyncio.wait({arrived, died}, return_when=asyncio.FIRST_COMPLETED)
                    if arrived.done():
                        yield arrived.result()
                finally:
                    arrived.cancel()
        finally:
            died.cancel()

    async def acknowledge(self, message: DeliveredMessage) -> None:
        assert self._consumer is not None  # noqa: S101 - opened by _open_feed
        if message.delivery_tag is not None:
            await self._consumer.acknowledge(message.delivery_tag)


@asynccontextmanager
async def _open_feed(url: str, position: Position, *, timeout_s: float) -> AsyncIterator[_Feed]:
    connection = await rabbitmq.connect(url, name="otpost results", timeout_s=timeout_s)
    try:
        feed = _Feed()
        await feed.open(connection, position)
        yield feed
    finally:
        await rabbitmq.close_quietly(connection)
