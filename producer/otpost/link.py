"""The one connection of a producer, and its channel to publish on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aio_pika.abc import AbstractRobustConnection

from otpost import rabbitmq
from otpost.errors import BrokerUnreachable, ProducerClosed
from otpost.urls import visible_url
from otpost.wire import let_go_when_closed

if TYPE_CHECKING:
    from aio_pika import Connection
    from aio_pika.abc import AbstractConnection

_NAME: Final = "otpost producer"


class Link:
    """Opened by whoever needs it first, and again after it was lost; safe to share between tasks.

    *given*: a connection of the caller's to be used in place of one of our own. It is never closed here; once it
    is lost it can come back only by itself, as those of ``aio_pika.connect_robust`` do.
    """

    def __init__(self, url: str, *, given: Connection | None, timeout_s: float) -> None:
        self._url = url
        self._given = given
        self._timeout_s = timeout_s
        self._opening = asyncio.Lock()
        self._closed = asyncio.Event()
        self._connection: AbstractConnection | None = None
        self._publisher: rabbitmq.Publisher | None = None

    @property
    def connection(self) -> AbstractConnection:
        """The open connection.

        :raises ConnectionLost: it was closed since ``publisher`` returned.
        """
        if self._connection is None:
            raise rabbitmq.ConnectionLost("the connection was closed")
        return self._connection

    def reopen(self) -> None:
        """Allow it to be opened, also after it was closed."""
        self._closed.clear()

    async def publisher(self) -> rabbitmq.Publisher:
        """Return the open channel, within the time-out.

        :raises BrokerUnreachable: there is none to be had now. :raises ProducerClosed: nor ever again.
        """
        if self._publisher is not None and self._publisher.is_open:
            return self._publisher
        async with self._opening:
            if self._closed.is_set():
                raise ProducerClosed
            if self._publisher is None or not self._publisher.is_open:
                await self._let_go()
                self._connection = await self._connect()
                try:
                    async with asyncio.timeout(self._timeout_s):
                        self._publisher = await rabbitmq.Publisher.open(self._connection)
                except (rabbitmq.ConnectionLost, TimeoutError) as error:
                    reason = str(error) or f"no channel within {self._timeout_s:g} s"
                    raise BrokerUnreachable(f"{visible_url(self._url)}: {reason}") from error
                if self._closed.is_set():  # while it was being opened
                    await self._let_go()
                    raise ProducerClosed
            return self._publisher

    async def close(self) -> None:
        """Close what was opened here, for good; safe at any time."""
        self._closed.set()
        await self._let_go()

    async def _connect(self) -> AbstractConnection:
        if self._given is None:
            return await rabbitmq.connect(self._url, name=_NAME, timeout_s=self._timeout_s)
        where = visible_url(self._url)
        if not self._given.connected.is_set():
            if self._given.is_closed or not isinstance(self._given, AbstractRobustConnection):
                raise BrokerUnreachable(
                    f"{where}: the connection that this producer was given is closed; make a new producer with a new "
                    "connection, or give it one of aio_pika.connect_robust, which comes back by itself",
                    permanent=True,
                )
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._given.connected.wait()
            except TimeoutError:
                reason = f"the connection that this producer was given did not come back within {self._timeout_s:g} s"
                raise BrokerUnreachable(f"{where}: {reason}") from None
        let_go_when_closed(self._given)
        return self._given

    async def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        publisher, self._publisher = self._publisher, None
        if connection is not None and connection is not self._given:
            await rabbitmq.close_quietly(connection)
        elif publisher is not None:
            await publisher.close()
