"""Deliveries: consuming, settling, and coming back when a connection or a consumer is lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from otpost import declaring, rabbitmq
from otpost.declaring import TopologyDiffers
from otpost.errors import AccessRefused, BrokerUnreachable, QueueRefused
from otpost.provisioning import TopologyMode, provision
from otpost.rabbitmq import ConnectionLost
from otpost_worker.brokers.rabbitmq.reconnecting import CONNECT_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import DeliveredMessage

    from otpost.topology import Topology
    from otpost_worker.brokers.rabbitmq.reconnecting import Reconnecting
    from otpost_worker.ports import Observer

_STARVED_CHECKS: Final = 2
_LAST_ACKNOWLEDGEMENTS_S: Final = 0.5

_log = structlog.get_logger("otpost.rabbitmq")


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message that was delivered, and how to settle it with the broker that delivered it."""

    message: DeliveredMessage
    consumer: rabbitmq.Consumer

    @property
    def is_lost(self) -> bool:
        """Whether it can no longer be acknowledged; the broker delivers the message once more."""
        return self.consumer.is_dead

    async def acknowledge(self) -> bool:
        """Tell the broker that it is taken care of; False where it will be delivered again all the same."""
        return await self.consumer.acknowledge(self._tag)

    async def requeue(self) -> None:
        """Give it back to its queue, counted toward the delivery limit."""
        await self.consumer.requeue(self._tag)

    @property
    def _tag(self) -> int:
        tag = self.message.delivery_tag
        assert tag is not None  # noqa: S101 - only basic.get-empty has none
        return tag


@dataclass(frozen=True, slots=True)
class Subscription:
    """A queue to consume from, how many of its messages to hold at most, and who takes them."""

    queue: str
    prefetch: int
    take: Callable[[Incoming], None]


class Intake:
    """Keeps consuming: opens the connection again when it is lost, and notices consumers that died in silence.

    *idle* tells whether no job is in hand; every *check_every_s* seconds the broker is asked for its side.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        topology: Topology,
        mode: TopologyMode,
        subscriptions: tuple[Subscription, ...],
        reconnecting: Reconnecting,
        observer: Observer,
        idle: Callable[[], bool],
        check_every_s: float = 15.0,
    ) -> None:
        self._url = url
        self._name = name
        self._topology = topology
        self._mode = mode
        self._subscriptions = subscriptions
        self._reconnecting = reconnecting
        self._observer = observer
        self._idle = idle
        self._check_every_s = check_every_s
        self._was_ready = False
        self._delivered = 0
        # *connected*: there is a connection. *ready*: consuming now. *quiet*: nothing more will be delivered, ever.
        self.connected = asyncio.Event()
        self.ready = asyncio.Event()
        self.quiet = asyncio.Event()

    async def run(self, *, stopping: asyncio.Event, drained: asyncio.Event) -> None:
        """Consume until *stopping*, then keep the connection for acknowledgements until *drained*.

        :raises TopologyDiffers: what exists on the broker is not what is needed, at the start. :raises
        BrokerUnreachable: it refused the very first login or what comes with it, which waiting does not mend.
        """
        try:
            await self._keep_consuming(stopping=stopping, drained=drained)
        finally:
            self.quiet.set()

    async def _keep_consuming(self, *, stopping: asyncio.Event, drained: asyncio.Event) -> None:
        failures = 0
        while not stopping.is_set():
            try:
                connection = await rabbitmq.connect(self._url, name=f"{self._name} jobs", timeout_s=CONNECT_TIMEOUT_S)
            except BrokerUnreachable as error:
                if error.permanent and not self._was_ready:
                    raise
                pause_s = self._reconnecting.pause_s(failures)
                failures += 1
                _log.warning("broker.unreachable", error=str(error), retry_in_s=round(pause_s, 2))
                await _first(stopping.wait(), asyncio.sleep(pause_s))
                continue
            self.connected.set()
            try:
                await self._consume(connection, stopping=stopping, drained=drained)
            except (TopologyDiffers, AccessRefused) as error:
                if not self._was_ready:
                    raise
                # Whoever worked until now waits for it to be mended: started anew, it would only be refused.
                _log.error("topology.differs", error=str(error))
                failures = await self._rest(failures, stopping)
            except (ConnectionLost, QueueRefused) as error:
                _log.warning("broker.lost", error=str(error))
                failures = await self._rest(failures, stopping)
            finally:
                self.ready.clear()
                self.connected.clear()
                await rabbitmq.close_quietly(connection)

    async def _rest(self, failures: int, stopping: asyncio.Event) -> int:
        """Wait before the next connection; returns how many failures in a row that makes."""
        failures = 0 if self.ready.is_set() else failures
        await _first(stopping.wait(), asyncio.sleep(self._reconnecting.pause_s(failures)))
        return failures + 1

    async def _consume(
        self, connection: AbstractConnection, *, stopping: asyncio.Event, drained: asyncio.Event
    ) -> None:
        consumed = [subscription.queue for subscription in self._subscriptions]
        await provision(connection, self._topology, self._mode, consumed=consumed)
        consumers = [await self._subscribe(connection, subscription) for subscription in self._subscriptions]
        if self._was_ready:
            self._observer.reconnected("jobs")
        self._was_ready = True
        self.ready.set()
        _log.info("consuming", queues=[consumer.queue for consumer in consumers])
        lost = [consumer.died() for consumer in consumers]
        await _first(stopping.wait(), self._watch(connection, consumers), *lost)
        if not stopping.is_set():
            raise ConnectionLost("a consumer has died")
        for consumer in consumers:
            await consumer.cancel()
        self.quiet.set()
        await _first(drained.wait(), *(consumer.died() for consumer in consumers))
        if self._delivered:
            # A channel that is closed drops the acknowledgements that its queue has not taken yet, beyond the first
            # 32 or so (measured on RabbitMQ 3.10), and they have no answer to wait for.
            await asyncio.sleep(_LAST_ACKNOWLEDGEMENTS_S)

    async def _subscribe(self, connection: AbstractConnection, subscription: Subscription) -> rabbitmq.Consumer:
        holder: list[rabbitmq.Consumer] = []
        early: list[DeliveredMessage] = []

        def take(message: DeliveredMessage) -> None:
            # The broker may deliver before basic.consume has returned the consumer to acknowledge with.
            self._delivered += 1
            if holder:
                subscription.take(Incoming(message, holder[0]))
            else:
                early.append(message)

        consumer = await rabbitmq.Consumer.open(connection, subscription.queue, take, prefetch=subscription.prefetch)
        holder.append(consumer)
        for message in early:
            subscription.take(Incoming(message, consumer))
        return consumer

    async def _watch(self, connection: AbstractConnection, consumers: list[rabbitmq.Consumer]) -> None:
        """Return when the broker no longer serves a consumer that we believe to have.

        Its count of consumers includes other workers', so a queue that fills while nothing at all arrives here,
        with hands free, is taken for a sign too.
        """
        starved = 0
        while True:
            delivered = self._delivered
            await asyncio.sleep(self._check_every_s)
            missing, waiting = [], False
            for queue in (consumer.queue for consumer in consumers):
                state = await declaring.inspect_queue(connection, queue, timeout_s=CONNECT_TIMEOUT_S)
                if state is None or state.consumers == 0:
                    missing.append(queue)
                waiting = waiting or (state is not None and state.ready > 0)
            starved = starved + 1 if waiting and self._idle() and delivered == self._delivered else 0
            if missing or starved >= _STARVED_CHECKS:
                _log.warning("consumer.missing", queues=missing, starved=starved > 0)
                return


async def _first(*waits: Awaitable[object]) -> None:
    """Wait for the first of *waits*, end the others, and raise what the first raised."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
