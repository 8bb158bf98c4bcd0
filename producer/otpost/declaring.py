"""What is on the broker: declaring it, and asking for it.

Each call has a channel of its own, since the broker answers "no" by closing the channel.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aio_pika import exceptions as amqp
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource

from otpost.errors import OtpostError, QueueRefused
from otpost.rabbitmq import close_quietly, open_channel, table_of, translated, wire_of
from otpost.topology import job_queue

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from otpost.topology import Topology


class TopologyDiffers(OtpostError):
    """An exchange or a queue exists already, with other arguments."""


class QueueLocked(QueueRefused):
    """The queue belongs to another connection."""


@dataclass(frozen=True, slots=True)
class QueueState:
    """What a passive declare tells: messages *ready* to be delivered, and *consumers*."""

    ready: int
    consumers: int


async def inspect_queue(connection: AbstractConnection, name: str, *, timeout_s: float) -> QueueState | None:
    """Ask for a queue's state, on a channel of its own: a "no such queue", None, closes the channel.

    :raises ConnectionLost: the connection is gone. :raises QueueRefused: we may not ask.
    """
    async with translated():
        channel = await open_channel(connection, confirms=False)
        try:
            queue = await channel.declare_queue(name, passive=True, timeout=timeout_s)
        except amqp.ChannelNotFoundEntity:
            return None
        except ChannelAccessRefused as error:
            raise QueueRefused(f"the broker does not let us ask for {name}: {error}") from error
        finally:
            await close_quietly(channel)
        declared = queue.declaration_result
        return QueueState(declared.message_count or 0, declared.consumer_count or 0)


async def sender_exists(connection: AbstractConnection, sender: str, *, timeout_s: float) -> bool:
    """Ask whether some worker has declared the queue of *sender*.

    :raises ConnectionLost: the connection is gone.
    """
    try:
        return await inspect_queue(connection, job_queue(sender), timeout_s=timeout_s) is not None
    except QueueRefused:
        # A producer that may only write cannot ask. What has no queue ends as a dead letter all the same.
        return True


async def declare_exclusive(connection: AbstractConnection, name: str, *, timeout_s: float) -> None:
    """Declare a queue that only this connection may read and that goes with it.

    :raises QueueLocked: another connection has it. :raises QueueRefused: we may not. :raises ConnectionLost: the
    connection is gone.
    """
    async with translated():
        channel = await open_channel(connection, confirms=False)
        try:
            await channel.declare_queue(name, exclusive=True, auto_delete=True, timeout=timeout_s)
        except ChannelLockedResource as error:
            raise QueueLocked(f"the queue {name} belongs to another connection") from error
        except ChannelAccessRefused as error:
            raise QueueRefused(f"the broker does not let us declare {name}: {error}") from error
        finally:
            await close_quietly(channel)


async def declare(connection: AbstractConnection, wanted: Topology, *, timeout_s: float = 30.0) -> None:
    """Declare everything, on a channel of its own: a difference closes the channel.

    :raises TopologyDiffers: something exists with other arguments. :raises ConnectionLost: the connection is gone.
    """
    async with translated(), asyncio.timeout(timeout_s):
        channel = await open_channel(connection, confirms=False)
        wire = await wire_of(channel)
        try:
            for exchange in wanted.exchanges:
                await wire.exchange_declare(
                    exchange.name,
                    exchange_type=exchange.kind,
                    durable=True,
                    arguments=table_of(exchange.arguments),
                )
            for queue in wanted.queues:
                await wire.queue_declare(queue.name, durable=True, arguments=table_of(queue.arguments))
            for binding in wanted.bindings:
                if binding.to_exchange:
                    await wire.exchange_bind(destination=binding.target, source=binding.source, routing_key=binding.key)
                else:
                    await wire.queue_bind(binding.target, binding.source, routing_key=binding.key)
        except amqp.ChannelPreconditionFailed as error:
            raise TopologyDiffers(
                f"{error}. It was declared with other arguments: delete it once it is empty, "
                "or declare it as 'otpost topology declare' would"
            ) from error
        except ChannelAccessRefused as error:
            raise TopologyDiffers(
                f"{error}. Give the user permission to configure 'otpost.*', or let somebody else run "
                "'otpost topology declare'"
            ) from error
        finally:
            await close_quietly(channel)
