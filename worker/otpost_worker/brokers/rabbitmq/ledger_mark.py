"""Which ledger the workers of a broker share: written on the broker by the first of them, compared by all others.

Two workers with different ledgers know nothing of each other's requests, so that the same code may go out twice.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from aio_pika import exceptions as amqp
from aiormq.exceptions import ChannelAccessRefused

from otpost.errors import AccessRefused
from otpost.rabbitmq import close_quietly, open_channel, table_of, translated, wire_of
from otpost.topology import LEDGER, ledger_mark, ledger_of_mark
from otpost_worker.agreement import Comparison, NoMark, NotCompared, Other, Same

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aio_pika.abc import AbstractConnection
    from aiormq import Channel as WireChannel

_TIMEOUT_S: Final = 10.0
# The broker cuts its words at 255 bytes: behind the long name of a virtual host there is only a part of the value.
_CURRENT: Final = re.compile(rf"but current is (?:the value )?'({re.escape(LEDGER)}\.[^']*)('?)")
_CUT: Final = "…"


async def mark_ledger(connection: AbstractConnection, identity: str) -> Comparison:
    """Write down that the broker's workers use this ledger, or compare, where that is written already.

    It is one operation of the broker's: of workers that start at once one writes, and the others are compared.

    :raises ConnectionLost: the connection is gone, or there was no answer.
    """
    async with translated(connection, within_s=_TIMEOUT_S):
        return await _declare(connection, identity)


async def compare_ledger(connection: AbstractConnection, identity: str | None) -> Comparison:
    """Compare and write nothing. Where *identity* is None, any ledger that is written down is another one.

    :raises ConnectionLost: the connection is gone, or there was no answer.
    """
    async with translated(connection, within_s=_TIMEOUT_S):
        refusal = await _ask(connection, lambda wire: wire.exchange_declare(LEDGER, passive=True))
        if isinstance(refusal, amqp.ChannelNotFoundEntity):
            return NoMark()
        if refusal is not None:
            return _not_compared(refusal)
        return await _declare(connection, identity)


async def forget_ledger(connection: AbstractConnection) -> None:
    """Forget which ledger the broker's workers use: the next one that starts writes down its own.

    :raises AccessRefused: the user may not delete the exchange. :raises ConnectionLost: the connection is gone.
    """
    async with translated(connection, right="configure", within_s=_TIMEOUT_S):
        refusal = await _ask(connection, lambda wire: wire.exchange_delete(LEDGER))
    if isinstance(refusal, ChannelAccessRefused):
        raise AccessRefused(f"{refusal}: it needs the right to configure; give it with 'rabbitmqctl set_permissions'")


async def _declare(connection: AbstractConnection, identity: str | None) -> Comparison:
    refusal = await _ask(connection, _declaration(identity))
    match refusal:
        case None if identity is not None:
            return Same()
        case None:
            return Other(None)
        case amqp.ChannelPreconditionFailed():
            return Other(await _identity(connection, str(refusal)))
        case _:
            return _not_compared(refusal)


def _not_compared(refusal: Exception) -> NotCompared:
    return NotCompared(f"{refusal}; give the user the rights to configure, write and read '{LEDGER}'")


def _declaration(identity: str | None) -> Callable[[WireChannel], Awaitable[object]]:
    mark = ledger_mark(identity)
    return lambda wire: wire.exchange_declare(
        mark.name, exchange_type=mark.kind, durable=True, arguments=table_of(mark.arguments)
    )


async def _ask(
    connection: AbstractConnection, question: Callable[[WireChannel], Awaitable[object]]
) -> amqp.ChannelNotFoundEntity | amqp.ChannelPreconditionFailed | ChannelAccessRefused | None:
    """Put one question on a channel of its own, which a "no" closes; None for a yes."""
    channel = await open_channel(connection, confirms=False)
    try:
        await question(await wire_of(channel))
    except (amqp.ChannelNotFoundEntity, amqp.ChannelPreconditionFailed, ChannelAccessRefused) as refusal:
        return refusal
    finally:
        await close_quietly(channel)
    return None


async def _identity(connection: AbstractConnection, refusal: str) -> str | None:
    """Read the identity off a refusal; where it is cut, have the broker say it again in fewer words."""
    told = _told(refusal)
    if told is not None and not told.endswith(_CUT):
        return told
    return _told(str(await _ask(connection, _declaration(None)))) or told


def _told(refusal: str) -> str | None:
    current = _CURRENT.search(refusal)
    if current is None:
        return None
    identity = ledger_of_mark(current[1])
    return identity if current[2] else identity.rstrip(".") + _CUT
