"""Results, the delay ladder and dead letters: everything that a worker publishes."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self
from uuid import uuid4

import structlog

from otpost import rabbitmq
from otpost.errors import AccessRefused, BrokerUnreachable
from otpost.rabbitmq import ConnectionLost, Nacked, NoConfirm, Unroutable
from otpost.result import EVENT_TYPE, RESULT_TYPE
from otpost.topology import CHECKS_DUE, DEAD, HEADER_TRACEPARENT, JOBS, RESULTS, WEBHOOKS_DUE, delay_route
from otpost.urls import visible_url
from otpost_worker.brokers.rabbitmq.aside import Aside, without_trace
from otpost_worker.brokers.rabbitmq.messages import job_properties, letter_headers
from otpost_worker.brokers.rabbitmq.reconnecting import CONNECT_TIMEOUT_S
from otpost_worker.brokers.rabbitmq.reports import check_body, check_properties, webhook_properties
from otpost_worker.outage_log import OutageLog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from aio_pika.abc import AbstractConnection
    from aiormq import spec

    from otpost.event import SenderEvent
    from otpost_worker.brokers.rabbitmq.reconnecting import Reconnecting
    from otpost_worker.envelope import Envelope, Event, Letter, Watch
    from otpost_worker.updates import Posted

# A broker that has not confirmed by then is stuck or gone: the connection is given up and the message published anew.
_CONFIRM_TIMEOUT_S: Final = 15.0
_REPLY_TIMEOUT_S: Final = 2.0
_RESULT_TRIES: Final = 3
# A right that is missing is given by hand, which takes a while: the pause is as long as after so many failures.
_NOT_PERMITTED_ROUNDS: Final = 4
# About two seconds.
_LEADERLESS_ROUNDS: Final = 3
# The connection is lost to a broker that restarts once or twice; so often in a row it is lost to the message.
_SUSPICIOUS_LOSSES: Final = 5
# The connection's name, for logs, metrics and the broker's own list.
_RESULTS: Final = "results"

_log = structlog.get_logger("otpost.rabbitmq")


class Outbox:
    """Implements ``ports.Broker``: every call returns once confirmed, over as many connections as it takes."""

    def __init__(self, url: str, *, name: str, reconnecting: Reconnecting) -> None:
        self._url = url
        self._name = name
        self._reconnecting = reconnecting
        self._outage = reconnecting.outage
        self._publishing = OutageLog("publishing")
        self._refused_results = OutageLog("results")
        self._observer = reconnecting.observer
        self._aside = Aside(url, name=f"{name} {_RESULTS} aside")
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
            await self._publish_result(event.id, event.body, told, f"{envelope.sender}.{event.status}")
        if reply is not None:
            await self._try_to_reply(event, told, reply.queue)

    async def _publish_result(self, event_id: str, body: bytes, told: spec.Basic.Properties, key: str) -> None:
        for tries in range(_RESULT_TRIES):
            try:
                await self._publish_routed(body, told, exchange=RESULTS, key=key)
            except Nacked:
                # Somebody's own queue is full. The stream has the event then, but there is no telling whether.
                await asyncio.sleep(self._reconnecting.pause_s(tries))
            else:
                self._refused_results.works(key)
                return
        reason = f"a queue bound to {RESULTS} refuses results with the key {key}: is it full? The stream has them all"
        self._refused_results.met("result.refused", reason, part=key, aspect=key, event_id=event_id)
        await self._publish(body, told, exchange="", key=RESULTS)

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

    async def publish_sender_event(self, event: SenderEvent) -> None:
        """See ``ports.Broker``."""
        told = rabbitmq.properties(kind=EVENT_TYPE, message_id=event.event_id, headers={})
        with self._waiting():
            await self._publish_result(event.event_id, event.to_json(), told, event.routing_key)

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

    async def watch(self, job_id: str, watch: Watch, delay_s: float) -> None:
        """See ``ports.Broker``."""
        await self._publish_later(check_body(job_id, watch), check_properties(), CHECKS_DUE, delay_s)

    async def postpone_report(self, report: Posted, delay_s: float) -> None:
        """See ``ports.Broker``."""
        await self._publish_later(report.body, webhook_properties(report), WEBHOOKS_DUE, delay_s)

    async def _publish_later(self, body: bytes, told: spec.Basic.Properties, due: str, delay_s: float) -> None:
        exchange, key = delay_route(delay_s, due)
        with self._waiting():
            await self._publish(body, told, exchange=exchange, key=key)

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
                reason = (
                    f"{error}; is it full, or under a policy with max-length? It is published again until it is taken"
                )
                self._not_published("publish.refused", reason, exchange, level=logging.ERROR)
                await asyncio.sleep(self._reconnecting.pause_s(failures))
                failures += 1
            else:
                return

    async def _publish_routed(self, body: bytes, told: spec.Basic.Properties, *, exchange: str, key: str) -> None:
        """Publish until there is a queue to take it.

        For a moment after a broker's start a queue that has no leader yet is no queue; that is not worth a word.

        :raises Nacked: a queue refused it.
        """
        failures = 0
        while True:
            try:
                await self._publish_once(body, told, exchange=exchange, key=key)
            except Unroutable as error:
                if failures >= _LEADERLESS_ROUNDS:
                    reason = (
                        f"{error}; 'otpost topology verify' lists what is missing. It is published again until taken"
                    )
                    self._not_published("publish.unroutable", reason, exchange)
                await asyncio.sleep(self._reconnecting.pause_s(failures))
                failures += 1
            else:
                return

    async def _publish_once(self, body: bytes, told: spec.Basic.Properties, *, exchange: str, key: str) -> None:
        """Publish over as many connections as it takes; over some of its own, where it costs each that it shares.

        :raises Nacked: a queue refused it. :raises Unroutable: there is none.
        """
        losses = 0
        while losses < _SUSPICIOUS_LOSSES:
            publisher = await self._open()
            try:
                await publisher.publish(body, told, exchange=exchange, key=key, timeout_s=_CONFIRM_TIMEOUT_S)
            except NoConfirm:
                self._not_confirmed(exchange)
                await self._give_up(publisher)
            except ConnectionLost:
                where = visible_url(self._url)
                reason = f"{where}: the connection for results is lost; it is opened again, and nothing of it is lost"
                self._outage.met("broker.lost", reason, part=_RESULTS)
                await self._give_up(publisher)
                if losses:
                    await asyncio.sleep(self._reconnecting.pause_s(losses - 1))
                losses += 1
            except AccessRefused as error:
                self._not_published("publish.not_permitted", str(error), exchange, level=logging.ERROR)
                await self._give_up(publisher)
                await asyncio.sleep(self._reconnecting.pause_s(_NOT_PERMITTED_ROUNDS))
            except (Nacked, Unroutable):
                self._answered(_RESULTS, exchange)
                raise
            else:
                self._answered(_RESULTS, exchange)
                return
        await self._publish_aside(body, told, exchange=exchange, key=key)

    async def _publish_aside(self, body: bytes, told: spec.Basic.Properties, *, exchange: str, key: str) -> None:
        """Publish where it costs nobody else the connection: first as it is, then without what it can do without.

        :raises Nacked: a queue refused it. :raises Unroutable: there is none.
        """
        part, failures = f"{exchange} aside", 0
        while True:
            try:
                await self._aside.publish(body, told, exchange=exchange, key=key, timeout_s=_CONFIRM_TIMEOUT_S)
            except NoConfirm:
                self._not_confirmed(part)
            except ConnectionLost:
                reason = (
                    f"a message for {exchange or key} has cost the connection {_SUSPICIOUS_LOSSES} times in a row, and "
                    "now one of its own: it is published again on one, without its traceparent. What the broker "
                    "has against it stands in the broker's log"
                )
                self._not_published("publish.costs_connection", reason, part, level=logging.ERROR)
                told = without_trace(told)
            except AccessRefused as error:
                self._not_published("publish.not_permitted", str(error), part, level=logging.ERROR)
            except BrokerUnreachable as error:
                self._outage.met("broker.unreachable", str(error), part=part)
            except (Nacked, Unroutable):
                self._answered(part, part)
                raise
            else:
                self._answered(part, part)
                # Perhaps no other message for that exchange comes for a long time.
                self._publishing.works(exchange)
                return
            await asyncio.sleep(self._reconnecting.pause_s(failures))
            failures += 1

    def _answered(self, connection: str, part: str) -> None:
        """Take note that there was an answer, be it a refusal: whoever is told of that finds another word for it."""
        self._outage.works(connection)
        self._publishing.works(part)

    def _not_confirmed(self, part: str) -> None:
        reason = (
            f"no confirm within {_CONFIRM_TIMEOUT_S:g} s: does the broker block publishers (memory or disk "
            "alarm; 'rabbitmqctl status' tells)? It is published again until it is confirmed"
        )
        self._not_published("publish.unconfirmed", reason, part)

    def _not_published(self, event: str, reason: str, part: str, *, level: int = logging.WARNING) -> None:
        self._publishing.met(event, reason, part=part, aspect=event, level=level, exchange=part)

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
                        self._url, name=f"{self._name} {_RESULTS}", timeout_s=CONNECT_TIMEOUT_S
                    )
                    self._publisher = await rabbitmq.Publisher.open(self._connection)
                except (BrokerUnreachable, ConnectionLost) as error:
                    aspect = "refused" if isinstance(error, BrokerUnreachable) and error.permanent else ""
                    self._outage.met("broker.unreachable", str(error), part=_RESULTS, aspect=aspect)
                    await asyncio.sleep(self._reconnecting.pause_s(failures))
                    failures += 1
                else:
                    if self._opened_before:
                        self._observer.reconnected(_RESULTS)
                    self._opened_before = True

    async def _give_up(self, publisher: rabbitmq.Publisher | None) -> None:
        """Close the connection that *publisher* belongs to, unless somebody has opened another one already."""
        if publisher is not self._publisher:
            return
        connection, self._connection, self._publisher = self._connection, None, None
        if connection is not None:
            await rabbitmq.close_quietly(connection)
