"""A broker that only knows how to greet: enough of AMQP 0-9-1 for a client to connect, hear a version, and leave."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiormq import spec
from pamqp import frame

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pamqp.common import FieldTable

_HEADER: Final = b"AMQP\x00\x00\x09\x01"


@asynccontextmanager
async def greeting_broker(version: str, *, product: str = "RabbitMQ") -> AsyncIterator[str]:
    """Serve the handshake, announcing `product` and `version`; gives its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def send(method: object) -> None:
            writer.write(frame.marshal(method, 0))  # type: ignore[arg-type] # any method

        try:
            assert await reader.readexactly(len(_HEADER)) == _HEADER
            announced: FieldTable = {"product": product, "version": version, "capabilities": {}}
            send(spec.Connection.Start(server_properties=announced, mechanisms="PLAIN AMQPLAIN", locales="en_US"))
            while True:
                match await _method(reader):
                    case spec.Connection.StartOk():
                        send(spec.Connection.Tune(channel_max=2047, frame_max=131072, heartbeat=60))
                    case spec.Connection.Open():
                        send(spec.Connection.OpenOk())
                    case spec.Connection.Close():
                        send(spec.Connection.CloseOk())
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"amqp://eve:s3cret@127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()


async def _method(reader: asyncio.StreamReader) -> object:
    head = await reader.readexactly(7)
    rest = await reader.readexactly(int.from_bytes(head[3:7], "big") + 1)
    return frame.unmarshal(head + rest)[2]
