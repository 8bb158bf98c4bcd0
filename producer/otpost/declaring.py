"""What is on the broker: declaring it, and asking for it.

Each call has a channel of its own, since the broker answers "no" by closing the channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aio_pika import exceptions as amqp
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource

from otpost.differences import Trouble, difference
from otpost.errors import AccessRefused, OtpostError, QueueRefused
from otpost.rabbitmq import close_quietly, open_channel, table_of, translated, wire_of
from otpost.topology import job_queue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aio_pika.abc import AbstractConnection

    from otpost.differences import Finding
    from otpost.topology import Exchange, Queue, Topology

_MAX_SHOWN: Final = 5


class TopologyDiffers(OtpostError):
    """Exchanges or queues are missing, or exist with other arguments: *findings* lists them."""

    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        shown = "; ".join(map(str, self.findings[:_MAX_SHOWN]))
        more = len(self.findings) - _MAX_SHOWN
        super().__init__(shown + (f"; and {more} more" if more > 0 else "") + f". {_remedy(self.findings)}")


def _remedy(findings: Iterable[Finding]) -> str:
    troubles = {finding.trouble for finding in findings}
    if Trouble.DIFFERS in troubles:
        return (
            "Arguments cannot be changed: once what differs is empty and unused, delete it and run "
            "'otpost topology declare'; 'otpost topology verify' lists every difference"
        )
    if Trouble.MISSING in troubles:
        return "'otpost topology declare' makes what is missing (so does a worker with OTPOST_TOPOLOGY=declare)"
    return "Give the broker's user the right to configure 'otpost.*', or set OTPOST_TOPOLOGY=passive"


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
    async with translated(connection, within_s=timeout_s):
        channel = await open_channel(connection, confirms=False)
        try:
            queue = await channel.declare_queue(name, passive=True)
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
    async with translated(connection, within_s=timeout_s):
        channel = await open_channel(connection, confirms=False)
        try:
            await channel.declare_queue(name, exclusive=True, auto_delete=True)
        except ChannelLockedResource as error:
            raise QueueLocked(f"the queue {name} belongs to another connection") from error
        except ChannelAccessRefused as error:
            raise QueueRefused(f"the broker does not let us declare {name}: {error}") from error
        finally:
            await close_quietly(channel)


async def declare(connection: AbstractConnection, wanted: Topology, *, timeout_s: float = 30.0) -> None:
    """Declare everything, on a channel of its own: a difference closes the channel.

    :raises TopologyDiffers: something exists with other arguments. :raises AccessRefused: the user may not do this.
    :raises ConnectionLost: the connection is gone.
    """
    async with translated(connection, within_s=timeout_s):
        channel = await open_channel(connection, confirms=False)
        wire = await wire_of(channel)
        declared: Exchange | Queue | None = None
        try:
            for exchange in wanted.exchanges:
                declared = exchange
                await wire.exchange_declare(
                    exchange.name,
                    exchange_type=exchange.kind,
                    durable=True,
                    arguments=table_of(exchange.arguments),
                )
            for queue in wanted.queues:
                declared = queue
                await wire.queue_declare(queue.name, durable=True, arguments=table_of(queue.arguments))
            for binding in wanted.bindings:
                if binding.to_exchange:
                    await wire.exchange_bind(destination=binding.target, source=binding.source, routing_key=binding.key)
                else:
                    await wire.queue_bind(binding.target, binding.source, routing_key=binding.key)
        except amqp.ChannelPreconditionFailed as error:
            assert declared is not None  # noqa: S101 - nothing else can be refused for its arguments
            raise TopologyDiffers([difference(declared, str(error))]) from error
        except ChannelAccessRefused as error:
            raise AccessRefused(
                f"{str(error).removeprefix('ACCESS_REFUSED - ')}: declaring needs the rights to configure, write and "
                "read 'otpost.*'; give them with 'rabbitmqctl set_permissions', or have somebody else run "
                "'otpost topology declare' and set OTPOST_TOPOLOGY=passive"
            ) from error
        finally:
            await close_quietly(channel)
