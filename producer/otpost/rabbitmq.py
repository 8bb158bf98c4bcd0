"""Talking to RabbitMQ: one place where aio-pika's many ways to fail become ours.

Two of them are not obvious. A connection that dies while a confirm is awaited rejects the waiting future with
``CancelledError``, although nobody cancelled anything, or with a bare ``Exception``. And from a connection that
is gone every publish fails at once, so that waiting for a better one is left to the caller.

Time-outs stand around the library's calls and are not passed into them: with one, an RPC waits by ``asyncio.wait_for``,
which in Python 3.11 loses a cancellation that comes together with the result. When that happens to the cancellation by
which the library lets go of whoever waits on a dead connection, it waits for the whole time-out.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Self, cast

import aio_pika
from aio_pika import exceptions as amqp
from aiormq import Channel as WireChannel
from aiormq import spec
from aiormq.exceptions import ChannelAccessRefused, ChannelInvalidStateError

from otpost.diagnosis import diagnosis, product_of, too_old
from otpost.errors import AccessRefused, BrokerUnreachable, OtpostError, QueueRefused
from otpost.library_logs import keep_payloads_out_of_logs
from otpost.urls import UNREADABLE, read_url, visible_url
from otpost.wire import is_over, let_go_when_closed, wire_connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from datetime import datetime

    from aio_pika.abc import AbstractChannel, AbstractConnection, TimeoutType
    from aiormq.abc import ArgumentsType, DeliveredMessage

    from otpost.topology import Argument
    from otpost.wire import Used

JSON: Final = "application/json"
_CLOSE_TIMEOUT_S: Final = 5.0
# The library gives up after three of these without a sign of life.
_HEARTBEAT_S: Final = 10

keep_payloads_out_of_logs()


class ConnectionLost(OtpostError):
    """The channel closed, or did not confirm in time: what was published may or may not be stored."""


class NoConfirm(ConnectionLost):
    """The broker did not answer in time, though the connection stands."""


class Unroutable(OtpostError):
    """No queue took the message; it is stored nowhere."""


class Nacked(OtpostError):
    """A queue refused the message, usually because it is full."""


def properties(
    *,
    kind: str,
    message_id: str,
    headers: Mapping[str, str | int] | None = None,
    timestamp: datetime | None = None,
    reply_to: str | None = None,
    correlation_id: str | None = None,
) -> spec.Basic.Properties:
    """Build the properties of a persistent JSON message; its headers are new, never a delivery's."""
    return spec.Basic.Properties(
        content_type=JSON,
        message_type=kind,
        message_id=message_id,
        headers=dict(headers) if headers else None,
        timestamp=timestamp,
        reply_to=reply_to,
        correlation_id=correlation_id,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )


async def connect(url: str, *, name: str, timeout_s: float) -> AbstractConnection:
    """Open one connection; it does not reconnect by itself.

    :raises BrokerUnreachable: with what is wrong and what to do about it.
    """
    where, parsed = visible_url(url), read_url(url)
    if where == UNREADABLE:
        raise BrokerUnreachable(f"{where}; see OTPOST_BROKER_URL", permanent=True)
    if parsed is None or parsed.scheme not in {"amqp", "amqps"}:
        raise BrokerUnreachable(
            f"{where}: a broker's URL begins with amqp:// or amqps://; see OTPOST_BROKER_URL", permanent=True
        )
    try:
        async with asyncio.timeout(timeout_s):
            connection = await aio_pika.connect(
                _with_heartbeat(url), client_properties={"connection_name": name}, connection_class=_Connection
            )
    except asyncio.CancelledError:
        if times_cancelled():
            raise
        reason, permanent = "the connection was closed while it was opened", False
    except TimeoutError:
        reason = f"no answer within {timeout_s:g} s; is a firewall in between, or another service on that port?"
        permanent = False
    except Exception as error:  # noqa: BLE001 - a foreign protocol on that port fails in any of a dozen ways
        reason, permanent = diagnosis(error, parsed)
    else:
        let_go_when_closed(connection)
        old = too_old(*server_of(connection))
        if old is None:
            return connection
        await close_quietly(connection)
        reason, permanent = old, True
    raise BrokerUnreachable(f"{where}: {reason}", permanent=permanent)


class _Connection(aio_pika.Connection):
    """One that is closed where it never came to be: else the library closes it later, in whatever loop runs then."""

    async def connect(self, timeout: TimeoutType = None) -> None:  # noqa: ASYNC109 - the library's signature
        try:
            await super().connect(timeout)
        except BaseException:
            await self.close()
            raise


def server_of(connection: AbstractConnection) -> tuple[str, str]:
    """Tell which product and which version the broker says it is; "?" for what it does not say."""
    wire = wire_connection(connection)
    return product_of(wire.server_properties if wire is not None else {})


def _with_heartbeat(url: str) -> str:
    """Ask for a heartbeat, unless the URL does: a peer that vanished without a word is noticed by nothing else."""
    if "heartbeat=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}heartbeat={_HEARTBEAT_S}"


def times_cancelled() -> int:
    """Count how often this task was asked to end: more than before, and a cancellation is the caller's."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


@asynccontextmanager
async def translated(
    used: Used | None = None, *, right: str = "use", within_s: float | None = None
) -> AsyncIterator[None]:
    """Turn what aio-pika raises while a channel is used into this module's errors; ``NoConfirm`` after *within_s*.

    Once *used* is closed, whatever is raised is a lost connection: what the library stumbled over when it read a frame
    is raised by everything that waits on that connection, and it may be any error at all.

    *right* is what the broker's user has to be allowed: ``configure``, ``write`` or ``read``. A task that is cancelled
    meanwhile ends as cancelled, whatever the library makes of that: now and then it swallows it.
    """
    before = times_cancelled()
    try:
        async with asyncio.timeout(within_s):
            yield
            if times_cancelled() > before:
                raise asyncio.CancelledError  # noqa: TRY301 - so that the time-out knows it for its own, where it is
    except (Exception, asyncio.CancelledError) as error:
        if times_cancelled() > before:
            raise asyncio.CancelledError from error
        meant = _meaning(error, right, used)
        if meant is error:
            raise
        raise meant from error


def _meaning(error: BaseException, right: str, used: Used | None) -> BaseException:
    """Say what an error of the library means; those that are not its own stay what they are."""
    match error:
        case OtpostError():
            return error
        case asyncio.CancelledError():  # nobody has cancelled us
            return ConnectionLost("the connection was closed")
        case amqp.PublishError():
            return Unroutable("no queue is bound for this message")
        case amqp.DeliveryError():
            return Nacked("a queue refused the message")
        case TimeoutError():
            return NoConfirm("no confirm in time")
        case amqp.AMQPError() | ChannelInvalidStateError() | OSError():
            return _closed(error, right)
    if used is not None and is_over(used):
        return ConnectionLost(f"{type(error).__name__}: the connection is closed")
    # The last is how aiormq rejects a future without a reason.
    return ConnectionLost("the connection was closed") if type(error) is Exception else error


def _closed(error: Exception, right: str) -> OtpostError:
    if not isinstance(error, ChannelAccessRefused):
        return ConnectionLost(f"{type(error).__name__}: the channel is closed")
    what = str(error).removeprefix("ACCESS_REFUSED - ")
    return AccessRefused(f"{what}: it needs the right to {right}; give it with 'rabbitmqctl set_permissions'")


async def open_channel(connection: AbstractConnection, *, confirms: bool) -> AbstractChannel:
    """Open a channel; with *confirms*, each publish waits for the broker's word, and what is unroutable raises."""
    # Not connection.channel(): a connection that comes back by itself would bring its channels back too, beside ours.
    channel = aio_pika.Channel(connection, publisher_confirms=confirms, on_return_raises=confirms)
    try:
        await channel.initialize()
    except RuntimeError as error:  # how the library says that the connection is gone already
        raise ConnectionLost("the connection is closed") from error
    return channel


async def wire_of(channel: AbstractChannel) -> WireChannel:
    """Reach the channel below aio-pika's, which wraps each message in objects that nobody here needs."""
    return cast("WireChannel", await channel.get_underlay_channel())


class Publisher:
    """A channel with publisher confirms: what ``publish`` returned from is stored on the broker's disk."""

    def __init__(self, channel: AbstractChannel, wire: WireChannel) -> None:
        self._channel = channel
        self._wire = wire

    @classmethod
    async def open(cls, connection: AbstractConnection) -> Self:
        """Open the channel on *connection*.

        :raises ConnectionLost: the connection is gone.
        """
        async with translated(connection):
            channel = await open_channel(connection, confirms=True)
            return cls(channel, await wire_of(channel))

    @property
    def is_open(self) -> bool:
        """Whether the channel can still publish."""
        return not self._wire.is_closed

    async def publish(
        self,
        body: bytes,
        properties: spec.Basic.Properties,
        *,
        exchange: str,
        key: str,
        timeout_s: float,
        mandatory: bool = True,
    ) -> None:
        """Publish and wait for the broker's confirm, *timeout_s* seconds at the most.

        :raises Unroutable: no queue took it. :raises Nacked: a queue refused it.
        :raises AccessRefused: the user may not write there. :raises ConnectionLost: it may or may not be stored.
        """
        async with translated(self._wire, right="write"):
            # Without waiting for the socket to drain: the confirm says more, and the channel's lock is held less.
            await self._wire.basic_publish(
                body,
                exchange=exchange,
                routing_key=key,
                properties=properties,
                mandatory=mandatory,
                timeout=timeout_s,
                wait=False,
            )

    async def closed(self) -> None:
        """Wait until nothing more can be published."""
        await asyncio.wait({self._wire.closing})

    async def close(self) -> None:
        """Close the channel; safe at any time."""
        await close_quietly(self._channel)


class Consumer:
    """One consumer on a channel of its own, whose death can be waited for.

    A consumer dies with its channel or its connection, and when the broker cancels it (its queue was deleted,
    or it held a message for too long); the library tells of the latter only by a callback.
    """

    def __init__(
        self, channel: AbstractChannel, wire: WireChannel, queue: str, on_death: Callable[[], None] | None = None
    ) -> None:
        self.queue = queue
        self._on_death = on_death
        self._channel = channel
        self._wire = wire
        self._tag: str | None = None
        self._dead = asyncio.Event()
        wire.on_consumer_cancel_callbacks.add(self._died)
        wire.closing.add_done_callback(self._died)

    @classmethod
    async def open(
        cls,
        connection: AbstractConnection,
        queue: str,
        on_message: Callable[[DeliveredMessage], None],
        *,
        prefetch: int,
        no_ack: bool = False,
        arguments: Mapping[str, Argument | datetime] | None = None,
        on_death: Callable[[], None] | None = None,
        timeout_s: float = 10.0,
    ) -> Self:
        """Consume from *queue*, at most *prefetch* unacknowledged messages at a time; *on_death* is called once.

        :raises QueueRefused: the queue is missing. :raises AccessRefused: the user may not read it.
        :raises ConnectionLost: no connection.
        """

        async def consumer_callback(message: DeliveredMessage) -> None:
            on_message(message)

        async with translated(connection, right="read", within_s=timeout_s):
            channel = await open_channel(connection, confirms=False)
            consumer = cls(channel, await wire_of(channel), queue, on_death)
            try:
                await consumer._wire.basic_qos(prefetch_count=prefetch)
                answer = await consumer._wire.basic_consume(
                    queue,
                    consumer_callback,
                    no_ack=no_ack,
                    arguments=table_of(arguments) if arguments else None,
                )
            except amqp.ChannelNotFoundEntity as error:
                raise QueueRefused(f"there is no queue {queue}; declare it with 'otpost topology declare'") from error
            consumer._tag = answer.consumer_tag
            return consumer

    def _died(self, _: object) -> None:
        if not self._dead.is_set():
            self._dead.set()
            if self._on_death is not None:
                self._on_death()

    @property
    def is_dead(self) -> bool:
        """Whether no further message can come."""
        return self._dead.is_set()

    async def died(self) -> None:
        """Wait until no further message can come."""
        await self._dead.wait()

    async def acknowledge(self, delivery_tag: int) -> bool:
        """Acknowledge one message; False where its channel is gone, so that the broker delivers it again."""
        try:
            async with translated(self._wire):
                await self._wire.basic_ack(delivery_tag, wait=False)
        except ConnectionLost:
            return False
        return True

    async def requeue(self, delivery_tag: int) -> None:
        """Give one message back, counted toward its queue's delivery limit."""
        try:
            async with translated(self._wire):
                # Reject, not nack: from RabbitMQ 4.3 a nack no longer counts, and would go round for ever.
                await self._wire.basic_reject(delivery_tag, requeue=True, wait=False)
        except ConnectionLost:
            return

    async def cancel(self) -> None:
        """Ask for no more messages; those that were delivered can still be acknowledged."""
        if self._tag is None or self._dead.is_set():
            return
        try:
            async with translated(self._wire, within_s=_CLOSE_TIMEOUT_S):
                await self._wire.basic_cancel(self._tag)
        except ConnectionLost:
            return

    async def close(self) -> None:
        """Close the channel; the broker requeues what was not acknowledged."""
        await close_quietly(self._channel)


async def close_quietly(resource: AbstractChannel | AbstractConnection) -> None:
    """Close a channel or a connection that may be gone already, within 5 s."""
    try:
        async with translated(resource, within_s=_CLOSE_TIMEOUT_S):
            await resource.close()
    except (OtpostError, RuntimeError):
        return


def table_of(arguments: Mapping[str, Argument | datetime]) -> ArgumentsType:
    """Copy arguments into the dict that the wire wants."""
    return dict(arguments.items())
