"""Where a receiver stores what it got: the queue ``otpost.webhooks``, over a connection that comes back by itself."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, assert_never
from uuid import uuid4

import structlog

from otpost import rabbitmq
from otpost.declaring import TopologyDiffers
from otpost.errors import AccessRefused, BrokerUnreachable
from otpost.provisioning import provision
from otpost.rabbitmq import ConnectionLost, Nacked, NoConfirm, Unroutable
from otpost.topology import WEBHOOKS, Topology, topology
from otpost.urls import visible_url
from otpost_worker.brokers.rabbitmq.reconnecting import CONNECT_TIMEOUT_S
from otpost_worker.brokers.rabbitmq.reports import WEBHOOK_TYPE
from otpost_worker.outage_log import OutageLog
from otpost_worker.ports import NotStored

if TYPE_CHECKING:
    from datetime import datetime

    from aio_pika.abc import AbstractConnection

    from otpost.topology import TopologyMode
    from otpost_worker.brokers.rabbitmq.reconnecting import Reconnecting

# The provider's own patience is said to be 5 s, and it asks for less than 1 s in 99 of 100 cases.
STORED_WITHIN_S: Final = 3.0

_Refusal = NoConfirm | Nacked | Unroutable | AccessRefused

_log = structlog.get_logger("otpost.rabbitmq")


def what_is_needed() -> Topology:
    """List what a receiver needs of the broker: one queue, without a binding."""
    return Topology((), tuple(queue for queue in topology(()).queues if queue.name == WEBHOOKS), ())


@dataclass(frozen=True, slots=True, eq=False)
class _Line:
    """A channel that is published on, until *over*: then its connection is given up, with all that it has not sent."""

    publisher: rabbitmq.Publisher
    over: asyncio.Event = field(default_factory=asyncio.Event)


class WebhookQueue:
    """Implements ``ports.RawWebhooks``. Many bodies may be on their way at once, and wait for their confirms together.

    *part*: the connection's name, for logs, metrics and, behind *name*, the broker's own list.
    """

    def __init__(self, url: str, *, name: str, part: str, mode: TopologyMode, reconnecting: Reconnecting) -> None:
        self._url = url
        self._name = name
        self._part = part
        self._mode: TopologyMode = mode
        self._reconnecting = reconnecting
        self._outage = reconnecting.outage
        self._storing = OutageLog("webhooks")
        self._was_open = False
        self._has_confirmed = False
        self._line: _Line | None = None
        self._open = asyncio.Event()

    @property
    def trouble(self) -> str | None:
        """Why nothing can be stored now; None where there is a connection for it."""
        if self._open.is_set():
            return None
        return self._outage.trouble or self._storing.trouble or "there is no connection to the broker yet"

    @property
    def notice(self) -> str | None:
        """What kept a body from being stored, as met last and not yet over; None where nothing did."""
        return self._storing.trouble

    async def run(self) -> None:
        """Keep a connection open until cancelled.

        :raises BrokerUnreachable: the broker refused the very first login, which waiting does not mend.
        :raises TopologyDiffers: the queue is not as needed, at the start. :raises AccessRefused: the user may not
        do what it has to, at the start.
        """
        failures = 0
        while True:
            self._has_confirmed = False
            try:
                await self._keep_open()
            except BrokerUnreachable as error:
                if error.permanent and not self._was_open:
                    raise
                aspect = "refused" if error.permanent else ""
                self._outage.met("broker.unreachable", str(error), part=self._part, aspect=aspect)
            except (TopologyDiffers, AccessRefused) as error:
                if not self._was_open:
                    raise
                event = "topology.differs"
                self._outage.met(event, str(error), part=self._part, aspect=event, level=logging.ERROR)
            except ConnectionLost:
                reason = (
                    f"{visible_url(self._url)}: the connection for webhooks is lost; it is opened again, and the "
                    "provider, who is told so, sends again what comes meanwhile"
                )
                self._outage.met("broker.lost", reason, part=self._part)
            failures = 0 if self._has_confirmed else failures
            await asyncio.sleep(self._reconnecting.pause_s(failures))
            failures += 1

    async def _keep_open(self) -> None:
        """Have one connection until its channel is closed or given up.

        :raises ConnectionLost: it was closed, and not by us; and what ``run`` names.
        """
        connection = await rabbitmq.connect(self._url, name=f"{self._name} {self._part}", timeout_s=CONNECT_TIMEOUT_S)
        try:
            await self._serve(connection)
        finally:
            self._withdraw(self._line)
            await rabbitmq.close_quietly(connection)

    async def _serve(self, connection: AbstractConnection) -> None:
        await provision(connection, what_is_needed(), self._mode, consumed=[WEBHOOKS])
        line = _Line(await rabbitmq.Publisher.open(connection))
        if self._was_open:
            self._reconnecting.observer.reconnected(self._part)
        else:
            _log.info("storing", queue=WEBHOOKS)
        self._was_open = True
        self._line = line
        self._open.set()
        self._outage.works(self._part)
        waits = [asyncio.ensure_future(line.over.wait()), asyncio.ensure_future(line.publisher.closed())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not line.over.is_set():
            raise ConnectionLost("the channel was closed")

    def _withdraw(self, line: _Line | None) -> None:
        """Publish nothing more on *line*, unless there is another one already."""
        if line is self._line:
            self._line = None
            self._open.clear()

    def _give_up(self, line: _Line) -> None:
        """Have the connection of *line* closed: only that lets go of what it has not sent yet."""
        line.over.set()
        self._withdraw(line)

    async def put(self, body: bytes, came_at: datetime) -> None:
        """See ``ports.RawWebhooks``."""
        # One id for each POST: it tells a redelivery of this message from a POST that the provider repeats.
        told = rabbitmq.properties(kind=WEBHOOK_TYPE, message_id=uuid4().hex, timestamp=came_at)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STORED_WITHIN_S
        while True:
            line = await self._line_until(deadline)
            try:
                await line.publisher.publish(
                    body, told, exchange="", key=WEBHOOKS, timeout_s=max(0.0, deadline - loop.time())
                )
            except (NoConfirm, Nacked, Unroutable, AccessRefused) as error:
                raise self._not_stored(line, error) from error
            except ConnectionLost:
                # It may be stored; then the same id comes twice.
                self._withdraw(line)
            else:
                self._has_confirmed = True
                self._storing.works()
                return

    async def _line_until(self, deadline: float) -> _Line:
        """Return what to publish on, once there is something.

        :raises NotStored: there is nothing by *deadline*, a time of the loop.
        """
        while self._line is None:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._open.wait()
            except TimeoutError:
                raise NotStored(self.trouble or "the connection to the broker comes and goes") from None
        return self._line

    def _not_stored(self, line: _Line, error: _Refusal) -> NotStored:
        """Tell what is wrong, in the log too."""
        if not isinstance(error, Nacked):
            # With the next connection the queue is looked for, and declared where that is our business.
            self._give_up(line)
        event, level, reason = _told(error)
        self._storing.met(event, reason, aspect=event, level=level)
        return NotStored(reason)


def _told(error: _Refusal) -> tuple[str, int, str]:
    """Name the event in the log, its level, and what is wrong."""
    match error:
        case NoConfirm():
            reason = (
                f"no confirm within {STORED_WITHIN_S:g} s: does the broker block publishers (memory or disk alarm; "
                "'rabbitmqctl status' tells)? The provider, who is told so, sends it again"
            )
            return "publish.unconfirmed", logging.WARNING, reason
        case Nacked():
            reason = f"{error}: is {WEBHOOKS} full, or under a policy with max-length? Does a worker read it?"
            return "publish.refused", logging.ERROR, reason
        case Unroutable():
            reason = f"there is no queue {WEBHOOKS}; 'otpost topology declare' makes it"
            return "publish.unroutable", logging.WARNING, reason
        case AccessRefused():
            return "publish.not_permitted", logging.ERROR, str(error)
        case _ as never:  # pragma: no cover
            assert_never(never)
