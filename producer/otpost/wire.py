"""The connection below aio-pika's, for what aio-pika does not do."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from aio_pika.abc import AbstractConnection

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel
    from aiormq import Channel as WireChannel
    from aiormq import Connection as WireConnection

    Used = AbstractConnection | AbstractChannel | WireChannel

_LET_GO_ROUNDS: Final = 100


def let_go_when_closed(connection: AbstractConnection) -> None:
    """Free whoever waits for room in the queue of frames to be written, once nobody writes them any more.

    The library rejects what waits for an answer, but not what waits for that room: it would wait for ever, and
    with it everybody who waits for the same channel's lock.
    """
    wire = wire_connection(connection)
    if wire is None:
        return
    loop = asyncio.get_running_loop()

    def let_go(rounds: int) -> None:
        # Who got room needs a turn of the loop to find its channel closed, and frees the lock for the next.
        with suppress(asyncio.QueueEmpty):
            while True:
                wire.write_queue.get_nowait()
        if rounds:
            loop.call_soon(let_go, rounds - 1)

    wire.closing.add_done_callback(lambda _: let_go(_LET_GO_ROUNDS))


def wire_connection(connection: AbstractConnection) -> WireConnection | None:
    """Reach the connection below aio-pika's; None where it is gone."""
    transport = connection.transport
    return cast("WireConnection", transport.connection) if transport is not None else None


def is_over(used: Used) -> bool:
    """Whether a connection or a channel is of no use any more."""
    if not isinstance(used, AbstractConnection):
        return used.is_closed
    # aio-pika learns of it only after whoever waits on the connection below has been told.
    wire = wire_connection(used)
    return wire is None or wire.is_closed
