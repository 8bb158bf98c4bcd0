"""Deliveries: consuming, settling, and coming back when a connection or a consumer is lost."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, assert_never

import structlog

from otpost import declaring, rabbitmq
from otpost.declaring import TopologyDiffers
from otpost.errors import AccessRefused, BrokerUnreachable, QueueRefused
from otpost.provisioning import provision
from otpost.rabbitmq import ConnectionLost
from otpost.urls import visible_url
from otpost_worker.agreement import LedgerDiffers, NoMark, NotCompared, Other, Same
from otpost_worker.brokers.rabbitmq.foreign import tolerate_foreign_messages
from otpost_worker.brokers.rabbitmq.ledger_mark import compare_ledger, mark_ledger
from otpost_worker.brokers.rabbitmq.reconnecting import CONNECT_TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import DeliveredMessage

    from otpost.topology import Topology, TopologyMode
    from otpost_worker.brokers.rabbitmq.reconnecting import Reconnecting

_STARVED_CHECKS: Final = 2
_LAST_ACKNOWLEDGEMENTS_S: Final = 0.5
# The connection's name, for logs, metrics and the broker's own list.
_JOBS: Final = "jobs"

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

    *ledger* is the identity of the ledger in use, which has to be that of the broker's other workers. *idle* tells
    whether no job is in hand; every *check_every_s* seconds the broker is asked for its side.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        topology: Topology,
        mode: TopologyMode,
        ledger: str,
        subscriptions: tuple[Subscription, ...],
        reconnecting: Reconnecting,
        idle: Callable[[], bool],
        check_every_s: float = 15.0,
    ) -> None:
        tolerate_foreign_messages()
        self._url = url
        self._name = name
        self._topology = topology
        self._mode = mode
        self._ledger = ledger
        self._subscriptions = subscriptions
        self._reconnecting = reconnecting
        self._outage = reconnecting.outage
        self._observer = reconnecting.observer
        self._idle = idle
        self._check_every_s = check_every_s
        self._was_ready = False
        self._warned_of_ledger: str | None = None
        self._delivered = 0
        # *connected*: there is a connection. *ready*: consuming now. *quiet*: nothing more will be delivered, ever.
        self.connected = asyncio.Event()
        self.ready = asyncio.Event()
        self.quiet = asyncio.Event()

    async def run(self, *, stopping: asyncio.Event, drained: asyncio.Event) -> None:
        """Consume until *stopping*, then keep the connection for acknowledgements until *drained*.

        :raises TopologyDiffers: what exists on the broker is not what is needed, at the start. :raises LedgerDiffers:
        its workers use another ledger, at the start. :raises BrokerUnreachable: it refused the very first login or
        what comes with it, which waiting does not mend.
        """
        try:
            await self._keep_consuming(stopping=stopping, drained=drained)
        finally:
            self.quiet.set()

    async def _keep_consuming(self, *, stopping: asyncio.Event, drained: asyncio.Event) -> None:
        failures = 0
        while not stopping.is_set():
            try:
                connection = await rabbitmq.connect(
                    self._url, name=f"{self._name} {_JOBS}", timeout_s=CONNECT_TIMEOUT_S
                )
            except BrokerUnreachable as error:
                if error.permanent and not self._was_ready:
                    raise
                pause_s = self._reconnecting.pause_s(failures)
                failures += 1
                self._unreachable(error, pause_s)
                await _first(stopping.wait(), asyncio.sleep(pause_s))
                continue
            self.connected.set()
            try:
                await self._consume(connection, stopping=stopping, drained=drained)
            except (TopologyDiffers, LedgerDiffers, AccessRefused) as error:
                if not self._was_ready:
                    raise
                # Whoever worked until now waits for it to be mended: started anew, it would only be refused.
                self._differs(error)
                failures = await self._rest(failures, stopping)
            except (ConnectionLost, QueueRefused) as error:
                self._lost(error)
                failures = await self._rest(failures, stopping)
            finally:
                self.ready.clear()
                self.connected.clear()
                await rabbitmq.close_quietly(connection)

    def _unreachable(self, error: BrokerUnreachable, pause_s: float) -> None:
        aspect = "refused" if error.permanent else ""
        self._outage.met("broker.unreachable", str(error), part=_JOBS, aspect=aspect, retry_in_s=round(pause_s, 2))

    def _lost(self, error: Exception) -> None:
        where = visible_url(self._url)
        reason = f"{where}: {error}; consuming goes on by itself as soon as the broker serves us again"
        self._outage.met("broker.lost", reason, part=_JOBS)

    def _differs(self, error: Exception) -> None:
        event = "ledger.differs" if isinstance(error, LedgerDiffers) else "topology.differs"
        self._outage.met(event, str(error), part=_JOBS, aspect=event, level=logging.ERROR)

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
        await self._agree_on_ledger(connection)
        consumers = [await self._subscribe(connection, subscription) for subscription in self._subscriptions]
        if self._was_ready:
            self._observer.reconnected(_JOBS)
        self._was_ready = True
        self.ready.set()
        self._outage.works(_JOBS)
        _log.info("consuming", queues=[consumer.queue for consumer in consumers])
        lost = [consumer.died() for consumer in consumers]
        await _first(stopping.wait(), self._watch(connection, consumers), *lost)
        if not stopping.is_set():
            raise ConnectionLost(_how_lost(consumers))
        # Together: a broker that does not answer costs the time of one of them.
        await asyncio.gather(*(consumer.cancel() for consumer in consumers))
        self.quiet.set()
        await _first(drained.wait(), *(consumer.died() for consumer in consumers))
        if self._delivered:
            # A channel that is closed drops the acknowledgements that its queue has not taken yet, beyond the first
            # 32 or so (measured on RabbitMQ 3.10), and they have no answer to wait for.
            await asyncio.sleep(_LAST_ACKNOWLEDGEMENTS_S)

    async def _agree_on_ledger(self, connection: AbstractConnection) -> None:
        """Make sure that the broker's workers share our ledger; whoever may not write there only warns.

        :raises LedgerDiffers: they use another one.
        """
        ask = compare_ledger if self._mode == "passive" else mark_ledger
        match await ask(connection, self._ledger):
            case Same() | NoMark():
                self._warned_of_ledger = None
            case Other(theirs):
                differs = LedgerDiffers(theirs, self._ledger)
                if self._mode != "passive":
                    raise differs
                self._warn_of_ledger("ledger.differs", str(differs))
            case NotCompared(why):
                told = f"whether the other workers of this broker use our ledger, {self._ledger}, is not known: {why}"
                self._warn_of_ledger("ledger.not_compared", told)
            case _ as never:  # pragma: no cover
                assert_never(never)

    def _warn_of_ledger(self, event: str, warning: str) -> None:
        """Warn at the first connection that says so, not at each."""
        if warning != self._warned_of_ledger:
            _log.warning(event, error=warning)
        self._warned_of_ledger = warning

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
        """Go on until the broker no longer serves a consumer that we believe to have.

        Its count of consumers includes other workers', so a queue that fills while nothing at all arrives here,
        with hands free, is taken for a sign too.

        :raises ConnectionLost: that is so.
        """
        starved = 0
        while True:
            delivered = self._delivered
            await asyncio.sleep(self._check_every_s)
            missing, waiting = [], []
            for queue in (consumer.queue for consumer in consumers):
                # Whoever stops us shall not stop this: the library gives up a channel whose question is cancelled in
                # a way that can cost the whole connection, with the acknowledgements of all that is in hand.
                state = await asyncio.shield(declaring.inspect_queue(connection, queue, timeout_s=CONNECT_TIMEOUT_S))
                if state is None or state.consumers == 0:
                    missing.append(queue)
                elif state.ready:
                    waiting.append(queue)
            if missing:
                raise ConnectionLost(f"the broker knows no consumer of {', '.join(missing)}, not even ours")
            starved = starved + 1 if waiting and self._idle() and delivered == self._delivered else 0
            if starved >= _STARVED_CHECKS:
                raise ConnectionLost(f"the broker delivers nothing, though jobs wait in {', '.join(waiting)}")


def _how_lost(consumers: list[rabbitmq.Consumer]) -> str:
    ended = [consumer.queue for consumer in consumers if consumer.is_dead]
    if len(ended) == len(consumers):
        return "the connection for jobs is lost"
    return f"the broker has ended our consumer of {', '.join(ended)} (was its queue deleted?)"


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
