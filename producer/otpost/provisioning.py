"""Whether the broker has what is needed: three ways to make sure of it, and how to look without touching anything.

AMQP tells the arguments of nothing. A passive declaration says whether a name exists and ignores the arguments; an
active one compares them, but creates what is missing. So the passive one comes first. Between the two somebody may
delete the thing, and then the second would create it. For queues that cannot happen: they are declared with one
argument more that no queue of their type may have. The broker compares only what a type knows and refuses the rest
when it creates (RabbitMQ 3.10 to 4.x), so such a declaration can find a difference but never make a queue. Exchanges
have no such argument; one that is deleted within that millisecond comes back just as it should be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from aio_pika import exceptions as amqp
from aiormq.exceptions import ChannelAccessRefused, ChannelLockedResource

from otpost.declaring import TopologyDiffers, declare
from otpost.differences import current_value, difference, differing, missing, unchecked
from otpost.rabbitmq import close_quietly, open_channel, table_of, translated, wire_of
from otpost.topology import Queue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from types import TracebackType

    from aio_pika.abc import AbstractChannel, AbstractConnection
    from aiormq import Channel as WireChannel

    from otpost.differences import Finding
    from otpost.topology import Argument, Exchange, Topology, TopologyMode

# Of all types only classic queues know this one, and none of ours is classic.
_GUARD: Final = "x-queue-mode"
_MOST_DIFFERENCES: Final = 20
_Refusal = (
    amqp.ChannelNotFoundEntity | amqp.ChannelPreconditionFailed | ChannelAccessRefused | ChannelLockedResource | None
)


async def provision(
    connection: AbstractConnection,
    wanted: Topology,
    mode: TopologyMode,
    *,
    consumed: Iterable[str],
    timeout_s: float = 30.0,
) -> None:
    """Make sure that the broker has what is needed, in one of three ways.

    ``declare`` declares all of *wanted*; ``verify`` compares it and changes nothing; ``passive`` leaves it to whoever
    provides it, and asks only whether the queues *consumed* exist.

    :raises TopologyDiffers: something is missing or different. :raises AccessRefused: the user may not do this.
    :raises ConnectionLost: the connection is gone.
    """
    if mode == "declare":
        await declare(connection, wanted, timeout_s=timeout_s)
        return
    if mode == "verify":
        findings = await verify(connection, wanted, timeout_s=timeout_s)
    else:
        findings = await find_missing(connection, consumed, timeout_s=timeout_s)
    if findings:
        raise TopologyDiffers(findings)


async def verify(connection: AbstractConnection, wanted: Topology, *, timeout_s: float = 30.0) -> list[Finding]:
    """Compare the exchanges and queues of *wanted* with the broker's; creates, changes and deletes nothing.

    Bindings and policies cannot be seen over AMQP and are not compared. Of an exchange the first difference is told,
    of a queue each one.

    :raises ConnectionLost: the connection is gone, or there was no answer within *timeout_s* seconds.
    """
    async with translated(connection, within_s=timeout_s), _Questions(connection) as questions:
        return [
            *[finding for exchange in wanted.exchanges for finding in await _compare_exchange(questions, exchange)],
            *[finding for queue in wanted.queues for finding in await _compare_queue(questions, queue)],
        ]


async def find_missing(
    connection: AbstractConnection, queues: Iterable[str], *, timeout_s: float = 30.0
) -> list[Finding]:
    """Tell which of *queues* do not exist.

    :raises ConnectionLost: the connection is gone, or there was no answer within *timeout_s* seconds.
    """
    async with translated(connection, within_s=timeout_s), _Questions(connection) as questions:
        return [finding for name in queues for finding in await _exists(questions, Queue(name, {}))]


class _Questions:
    """Puts declarations to the broker, each "no" of which closes the channel it was asked on."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._channel: AbstractChannel | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def ask(self, question: Callable[[WireChannel], Awaitable[object]]) -> _Refusal:
        """Return None for a yes."""
        if self._channel is None:
            self._channel = await open_channel(self._connection, confirms=False)
        try:
            await question(await wire_of(self._channel))
        except (
            amqp.ChannelNotFoundEntity,
            amqp.ChannelPreconditionFailed,
            ChannelAccessRefused,
            ChannelLockedResource,
        ) as refusal:
            await self._close()
            return refusal
        return None

    async def _close(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await close_quietly(channel)


async def _exists(questions: _Questions, wanted: Exchange | Queue) -> list[Finding]:
    def question(wire: WireChannel) -> Awaitable[object]:
        if isinstance(wanted, Queue):
            return wire.queue_declare(wanted.name, passive=True)
        return wire.exchange_declare(wanted.name, passive=True)

    refusal = await questions.ask(question)
    if refusal is None:
        return []
    return [missing(wanted) if isinstance(refusal, amqp.ChannelNotFoundEntity) else unchecked(wanted, str(refusal))]


async def _compare_exchange(questions: _Questions, wanted: Exchange) -> list[Finding]:
    if findings := await _exists(questions, wanted):
        return findings
    refusal = await questions.ask(
        lambda wire: wire.exchange_declare(
            wanted.name, exchange_type=wanted.kind, durable=True, arguments=table_of(wanted.arguments)
        )
    )
    return [] if refusal is None else [_read(wanted, refusal)]


async def _compare_queue(questions: _Questions, wanted: Queue) -> list[Finding]:
    """Declare the queue with what the broker has in place of what it refused, until nothing is left to refuse."""
    if findings := await _exists(questions, wanted):
        return findings
    arguments: dict[str, Argument] = dict(wanted.arguments)
    durable = True
    for _ in range(_MOST_DIFFERENCES):
        declared = table_of({**arguments, _GUARD: "default"})
        is_durable = durable
        refusal = await questions.ask(
            lambda wire: wire.queue_declare(wanted.name, durable=is_durable, arguments=declared)  # noqa: B023 - awaited
        )
        if refusal is None:
            break
        finding = _read(wanted, refusal)
        if finding.argument == _GUARD:
            if not any(one.argument == "x-queue-type" for one in findings):
                findings.append(differing(wanted, "x-queue-type", found="classic"))
            break
        if finding.argument is None and _GUARD in str(refusal):
            return [missing(wanted)]  # it was deleted while we looked
        findings.append(finding)
        if finding.argument == "durable":
            durable = False
        elif finding.argument is None or not _adopt(arguments, finding.argument, str(refusal)):
            break
    return findings


def _adopt(arguments: dict[str, Argument], name: str, refusal: str) -> bool:
    """Put the broker's value for *name* into *arguments*; False where that is not possible."""
    if not name.startswith("x-"):
        return False
    try:
        value = current_value(refusal, arguments.get(name))
    except ValueError:
        return False
    if value is None:
        arguments.pop(name, None)
    else:
        arguments[name] = value
    return True


def _read(wanted: Exchange | Queue, refusal: Exception) -> Finding:
    if isinstance(refusal, amqp.ChannelPreconditionFailed):
        return difference(wanted, str(refusal))
    if isinstance(refusal, amqp.ChannelNotFoundEntity):
        return missing(wanted)
    return unchecked(wanted, f"{refusal}; comparing its arguments needs the right to configure it")
