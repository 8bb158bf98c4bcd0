"""Publishing on a connection of its own, for a message that seems to cost every connection that it is published on."""

from __future__ import annotations

import asyncio
from copy import copy
from typing import TYPE_CHECKING

from otpost import rabbitmq
from otpost.topology import HEADER_TRACEPARENT
from otpost_worker.brokers.rabbitmq.reconnecting import CONNECT_TIMEOUT_S

if TYPE_CHECKING:
    from aiormq import spec


class Aside:
    """One such connection at a time, opened for one try: whatever happens to it happens to nobody else.

    *name* is the connection's, in the broker's own list.
    """

    def __init__(self, url: str, *, name: str) -> None:
        self._url = url
        self._name = name
        self._alone = asyncio.Lock()

    async def publish(
        self, body: bytes, told: spec.Basic.Properties, *, exchange: str, key: str, timeout_s: float
    ) -> None:
        """See ``otpost.rabbitmq.Publisher.publish``.

        :raises BrokerUnreachable: no connection; and what that raises.
        """
        async with self._alone:
            connection = await rabbitmq.connect(self._url, name=self._name, timeout_s=CONNECT_TIMEOUT_S)
            try:
                publisher = await rabbitmq.Publisher.open(connection)
                await publisher.publish(body, told, exchange=exchange, key=key, timeout_s=timeout_s)
            finally:
                await rabbitmq.close_quietly(connection)


def without_trace(told: spec.Basic.Properties) -> spec.Basic.Properties:
    """Copy the properties but for the one that nobody needs, and that is another's text."""
    kept = {name: value for name, value in (told.headers or {}).items() if name != HEADER_TRACEPARENT}
    plain = copy(told)
    plain.headers = kept or None
    return plain
