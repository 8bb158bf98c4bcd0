"""RabbitMQ: deliveries in; results, the delay ladder and dead letters out.

Two connections, so that a broker which blocks publishers (no memory, no disk) does not hold up acknowledgements.
Both come back by themselves. Neither is aio-pika's "robust" kind: that one cancels the handlers of a connection
that is lost, and a cancelled request is a code sent twice.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self
from uuid import uuid4

import structlog

from otpost import declaring, rabbitmq
from otpost.declaring import TopologyDiffers
from otpost.errors import AccessRefused, BrokerUnreachable, QueueRefused
from otpost.provisioning import TopologyMode, provision
from otpost.rabbitmq import ConnectionLost, Nacked, Unroutable
from otpost.result import RESULT_TYPE
from otpost.topology import DEAD, HEADER_TRACEPARENT, JOBS, RESULTS, Topology, delay_route
from otpost_worker.brokers.rabbitmq_messages import job_properties, letter_headers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import TracebackType

    from aio_pika.abc import AbstractConnection
    from aiormq import spec
    from aiormq.abc import DeliveredMessage

    from otpost_worker.envelope import Envelope, Event, Letter
    from otpost_worker.ports import Observer

_CONNECT_TIMEOUT_S: Final = 10.0
# A broker that has not confirmed by then is stuck or gone: the connection is given up and the message published anew.
_CONFIRM_TIMEOUT_S: Final = 15.0
_REPLY_TIMEOUT_S: Final = 2.0
_RESULT_TRIES: Final = 3
_STARVED_CHECKS: Final = 2
_LAST_ACKNOWLEDGEMENTS_S: Final = 0.5
# A right that is missing is given by hand, which takes a while: the pause is as long as after so many failures.
_NOT_PERMITTED_ROUNDS: Final = 4
_FIRST_PAUSE_S: Final = 0.25
_MAX_PAUSE_S: Final = 10.0

_log = structlog.get_logger("otpost.rabbitmq")


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """How to come back: *random* (0 to 1) keeps workers that lost the same broker from coming back at once."""

    random: Callable[[], float]

    def pause_s(self, failures: int) -> float:
        """Seconds to wait after that many failures in a row: doubling, half of it by chance."""
        longest: float = min(_FIRST_PAUSE_S * 2.0 ** min(failures, 10), _MAX_PAUSE_S)
        return longest * (0.5 + 0.5 * self.random())


class Outbox:
    """Implements ``ports.Broker``: every call returns once confirmed, over as many connections as it takes."""

    def __init__(self, url: str, *, name: str, reconnecting: Reconnecting, observer: Observer) -> None:
        self._url = url
        self._name = name
        self._reconnecting = reconnecting
        self._observer = observer
        self._opening = asyncio.Lock()
        self._opened_before = False
        self._connection: AbstractConnection | None = None
        self._publisher: rabbitmq.Publisher | None = None
        # When each message that is not confirmed yet was first published, the oldest first.
        self._unconfirmed: dict[object, float] = {}

    async def __aenter__(self) -> Self:
        """Nothing is opened yet: the first message opens the connection."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection."""
        await self._give_up(self._publisher)

    @property
    def unconfirmed_for_s(self) -> float:
        """How long the oldest message has waited for its confirm; 0 where none waits.

        A broker that blocks publishers (memory, disk) tells so to those alone who try; this is what they see.
        """
        oldest = next(iter(self._unconfirmed.values()), None)
        return 0.0 if oldest is None else asyncio.get_running_loop().time() - oldest

    async def publish_event(self, event: Event, envelope: Envelope) -> None:
        """See ``ports.Broker``."""
        headers: dict[str, str | int] = {HEADER_TRACEPARENT: envelope.traceparent} if envelope.traceparent else {}
        reply = envelope.reply
        told = rabbitmq.properties(
            kind=RESULT_TYPE,
            message_id=event.id,
            headers=headers,
            correlation_id=reply.correlation_id if reply else None,
        )
        with self._waiting():
            await self._publish_result(event, told, f"{envelope.sender}.{event.status}")
        if reply is not None:
            await self._try_to_reply(event, told, reply.queue)

    async def _publish_result(self, event: Event, told: spec.Basic.Properties, key: str) -> None:
        for tries in range(_RESULT_TRIES):
            try:
                await self._publish_routed(event.body, told, exchange=RESULTS, key=key)
            except Nacked:
                # Somebody's own queue is full. The stream has the event then, but there is no telling whether.
                await asyncio.sleep(self._reconnecting.pause_s(tries))
            else:
                return
        _log.warning("result.refused", event_id=event.id, to_stream_alone=True)
        await self._publish(event.body, told, exchange="", key=RESULTS)

    async def _try_to_reply(self, event: Event, told: spec.Basic.Properties, queue: str) -> None:
        """Best effort: who asked for a reply may be gone, or its queue full."""
        try:
            async with asyncio.timeout(_REPLY_TIMEOUT_S):
                publisher = await self._open()
                await publisher.publish(
                    event.body, told, exchange="", key=queue, timeout_s=_REPLY_TIMEOUT_S, mandatory=False
                )
        except (TimeoutError, Nacked, Unroutable, ConnectionLost, BrokerUnreachable):
            _log.info("reply.not_taken", event_id=event.id)

    async def delay(self, envelope: Envelope, delay_s: float) -> None:
        """See ``ports.Broker``."""
        exchange, key = delay_route(delay_s, envelope.sender)
        await self._publish_job(envelope, exchange=exchange, key=key)

    async def hand_back(self, envelope: Envelope) -> None:
        """See ``ports.Broker``."""
        # Not by requeueing: that counts toward the queue's delivery limit, and a job that met twenty
        # restarts would be dropped.
        await self._publish_job(envelope, exchange=JOBS, key=envelope.sender)

    async def bury(self, envelope: Envelope, letter: Letter) -> None:
        """See ``ports.Broker``."""
        await self._publish_job(envelope, exchange=DEAD, key="", more=letter_headers(envelope, letter))

    async def _publish_job(
        self, envelope: Envelope, *, exchange: str, key: str, more: dict[str, str | int] | None = None
    ) -> None:
        # An id of its own for each copy: the library tells returned messages apart by nothing else.
        told = job_properties(envelope, uuid4().hex, more)
        with self._waiting():
            await self._publish(envelope.body, told, exchange=exchange, key=key)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Remember since when a message waits for its confirm."""
        message = object()
        self._unconfirmed[message] = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            del self._unconfirmed[message]

    async def _publish(self, body: bytes, told: spec.Basic.Properties, *, exchange: str, key: str) -> None:
        failures = 0
        while True:
            try:
                await self._publish_routed(body, told, exchange=exchange, key=key)
            except Nacked as error:
                _log.error("publish.refused", exchange=exchange, error=str(error))
                await asyncio.sleep(self._reconnecting.pause_s(failures))
                failures += 1
            else:
                return

    async def _publish_routed(self, body: bytes, told: spec.Basic.Properties, *, exchange: str, key: str) -> None:
        """Publish until there is a queue to take it.

        For a moment after a broker's start a queue that has no leader yet is no queue.

        :raises Nacked: a queue refused it.
        """
        failures = 0
        while True:
            try:
                await self._publish_once(body, told, exchange=exchange, key=key)
            except Unroutable as error:
                _log.warning("publish.unroutable", exchange=exchange, error=str(error))
                await asyncio.sleep(self._reconnecting.pause_s(failures))
                failures += 1
            else:
                return

    async def _publish_once(self, body: bytes, told: spec.Basic.Properties, *, exchange: str, key: str) -> None:
        """Publish over as many connections as it takes.

        :raises Nacked: a queue refused it. :raises Unroutable: there is none.
        """
        while True:
            publisher = await self._open()
            try:
                await publisher.publish(body, told, exchange=exchange, key=key, timeout_s=_CONFIRM_TIMEOUT_S)
            except ConnectionLost as error:
                _log.warning("publish.unconfirmed", error=str(error), again=True)
                await self._give_up(publisher)
            except AccessRefused as error:
                _log.error("publish.not_permitted", error=str(error), again=True)
                await self._give_up(publisher)
                await asyncio.sleep(self._reconnecting.pause_s(_NOT_PERMITTED_ROUNDS))
            else:
                return

    async def _open(self) -> rabbitmq.Publisher:
        """Return the open channel, however long it takes to get one."""
        failures = 0
        while True:
            if self._publisher is not None and self._publisher.is_open:
                return self._publisher
            async with self._opening:
                if self._publisher is not None and self._publisher.is_open:
                    return self._publisher
                # A channel that was closed for what was published on it leaves its connection open.
                await self._give_up(self._publisher)
                try:
                    self._connection = await rabbitmq.connect(
                        self._url, name=f"{self._name} results", timeout_s=_CONNECT_TIMEOUT_S
                    )
                    self._publisher = await rabbitmq.Publisher.open(self._connection)
                except (BrokerUnreachable, ConnectionLost) as error:
                    _log.warning("broker.unreachable", error=str(error))
                    await asyncio.sleep(self._reconnecting.pause_s(failures))
                    failures += 1
                else:
                    if self._opened_before:
                        self._observer.reconnected("results")
                    self._opened_before = True

    async def _give_up(self, publisher: rabbitmq.Publisher | None) -> None:
        """Close the connection that *publisher* belongs to, unless somebody has opened another one already."""
        if publisher is not self._publisher:
            return
        connection, self._connection, self._publisher = self._connection, None, None
        if connection is not None:
            await rabbitmq.close_quietly(connection)


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
                connection = await rabbitmq.connect(self._url, name=f"{self._name} jobs", timeout_s=_CONNECT_TIMEOUT_S)
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
                state = await declaring.inspect_queue(connection, queue, timeout_s=_CONNECT_TIMEOUT_S)
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
