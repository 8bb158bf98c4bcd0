"""A server that answers any HTTP request with bytes of the test's choice, and notes who came."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_CHUNK = b" " * 65536


@dataclass
class RawServer:
    """`requests` holds what each connection sent first; `streamed` counts the bytes of an endless answer."""

    url: str = ""
    requests: list[bytes] = field(default_factory=list)
    streamed: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@contextlib.asynccontextmanager
async def raw_server(answer: bytes, *, then: str = "close") -> AsyncIterator[RawServer]:
    """Answer every connection with *answer*, then ``close`` it, ``hang``, or ``stream`` spaces until it is gone."""
    state = RawServer()
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            state.requests.append(await reader.read(65536))
            writer.write(answer)
            await writer.drain()
            while then == "stream" and not release.is_set():
                writer.write(_CHUNK)
                await writer.drain()
                state.streamed += len(_CHUNK)
            if then == "hang":
                await release.wait()
        except ConnectionError:
            pass
        finally:
            state.ended.set()
            writer.transport.abort() if then == "stream" else writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    state.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield state
    finally:
        release.set()
        server.close()


@contextlib.contextmanager
def refusing_port() -> Iterator[str]:
    """Keep a port that refuses connections: bound, so that nobody else takes it, and not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@contextlib.contextmanager
def silent_port() -> Iterator[str]:
    """Keep a port whose queue of connections is full, so that the next one is neither accepted nor refused."""
    with socket.socket() as listening, contextlib.ExitStack() as crowd:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(8):
            visitor = crowd.enter_context(socket.socket())
            visitor.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                visitor.connect(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
