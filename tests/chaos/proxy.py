"""A TCP proxy that lies: it cuts, stalls, half-closes and refuses connections, and loses answers.

async with Proxy(broker_port) as proxy:
    ...  # connect to proxy.port
    proxy.cut()

Every command says how many connections it struck. Nothing happens here by chance.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol, Self, cast

from free_ports import HOST, release_ports, reserve_free_port

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

_BACKLOG: Final = 256
# How much a stalled connection holds back before its sender meets a full window, as in a real network.
_MAX_HELD_BYTES: Final = 4 * 1024 * 1024


class Way(Enum):
    """One direction of a connection."""

    TO_SERVER = "to the server"
    TO_CLIENT = "to the client"

    @property
    def back(self) -> Way:
        """The other direction."""
        return Way.TO_CLIENT if self is Way.TO_SERVER else Way.TO_SERVER


BOTH_WAYS: Final = (Way.TO_SERVER, Way.TO_CLIENT)


class Watch(Protocol):
    """Sees what the proxy passed on, by the connection's number."""

    def asked(self, connection: int, data: bytes) -> None:
        """Some bytes went to the server."""

    def answered(self, connection: int, data: bytes) -> None:
        """Some bytes went to the client."""

    def ended(self, connection: int) -> None:
        """Nothing more goes either way."""


class Unwatched:
    """Does not look."""

    def asked(self, connection: int, data: bytes) -> None:
        """See ``Watch``."""

    def answered(self, connection: int, data: bytes) -> None:
        """See ``Watch``."""

    def ended(self, connection: int) -> None:
        """See ``Watch``."""


class _End(asyncio.Protocol):
    """The proxy's end toward the client or toward the server; what comes in here goes out at the other end."""

    def __init__(self, connection: _Connection, way: Way) -> None:
        self._connection = connection
        # Where what is read here is going.
        self._way = way

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connection.opened(self._way, cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        self._connection.read(self._way, data)

    def eof_received(self) -> bool:
        self._connection.read_to_the_end(self._way)
        return True  # the other direction may go on

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.lost(self._way, broken=exc is not None)

    def pause_writing(self) -> None:
        self._connection.pause_reading(self._way.back)

    def resume_writing(self) -> None:
        self._connection.resume_reading(self._way.back)


@dataclass(slots=True)
class _Lane:
    """One direction of one connection: *transport* is read from; what is held back waits in *held*."""

    held: bytearray
    transport: asyncio.Transport | None = None
    closed: bool = False


class _Connection:
    """A client's connection with the one to the server that it is passed on to."""

    def __init__(self, proxy: Proxy, number: int) -> None:
        self._proxy = proxy
        self._number = number
        self._lanes = {way: _Lane(bytearray()) for way in Way}
        self._over = False
        self.loses_answer = False

    def client_end(self) -> _End:
        return _End(self, Way.TO_SERVER)

    def server_end(self) -> _End:
        return _End(self, Way.TO_CLIENT)

    def opened(self, way: Way, transport: asyncio.Transport) -> None:
        self._lanes[way].transport = transport
        if self._over:  # it was cut while this half was being opened; what the client said must not arrive
            _reset(transport)
        elif way is Way.TO_SERVER:
            self._proxy.begin(self)
        else:
            self.flush()

    def read(self, way: Way, data: bytes) -> None:
        if way is Way.TO_CLIENT and self.loses_answer:
            self._proxy.lost_answers += 1
            self.cut()
            return
        lane = self._lanes[way]
        lane.held += data
        if len(lane.held) > _MAX_HELD_BYTES:
            self.pause_reading(way)
        self.flush()

    def read_to_the_end(self, way: Way) -> None:
        if self._proxy.stalls(way) or self._sink(way) is None:
            # Who went away while the line was dead is not heard of any more: what it sent never arrives.
            self.cut()
            return
        self.half_close(way)

    def flush(self) -> None:
        """Pass on what may go now."""
        for way, lane in self._lanes.items():
            sink = self._sink(way)
            if not lane.held or self._proxy.stalls(way) or sink is None:
                continue
            data = bytes(lane.held)
            lane.held.clear()
            self.resume_reading(way)
            if lane.closed:
                continue
            sink.write(data)
            if way is Way.TO_SERVER:
                self._proxy.asked(self, self._number, data)
            else:
                self._proxy.watch.answered(self._number, data)

    def half_close(self, way: Way) -> None:
        """Tell whom *way* leads to that nothing more comes, and let nothing more through to it."""
        sink, lane = self._sink(way), self._lanes[way]
        if sink is not None and not lane.closed:
            sink.write_eof()
        lane.closed = True
        if all(one.closed for one in self._lanes.values()):
            self._close()

    def lost(self, way: Way, *, broken: bool) -> None:
        """One end is gone, so the other one has to go too."""
        if broken or self._proxy.stalls(way):
            self.cut()
        else:
            self._close()

    def cut(self) -> None:
        """Break both ends at once."""
        self._end()
        for lane in self._lanes.values():
            if lane.transport is not None:
                _reset(lane.transport)

    def _close(self) -> None:
        self._end()
        for lane in self._lanes.values():
            if lane.transport is not None:
                lane.transport.close()

    def _end(self) -> None:
        if not self._over:
            self._over = True
            self._proxy.end(self, self._number)

    def pause_reading(self, way: Way) -> None:
        transport = self._lanes[way].transport
        if transport is not None and not transport.is_closing():
            transport.pause_reading()

    def resume_reading(self, way: Way) -> None:
        transport = self._lanes[way].transport
        if transport is not None and not transport.is_closing():
            transport.resume_reading()

    def _sink(self, way: Way) -> asyncio.Transport | None:
        transport = self._lanes[way.back].transport
        return None if transport is None or transport.is_closing() else transport


def _reset(transport: asyncio.Transport) -> None:
    """Break a connection so that its peer is told by a reset, without what may still be in the buffer."""
    connected: socket.socket | None = transport.get_extra_info("socket")
    if connected is not None and not transport.is_closing():
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Proxy:
    """Stands before *target_port* on loopback, on a port of its own that stays the same as long as it lives.

    Where it stands before *others* too, each connection gets the next of them that takes it, as from a load balancer.
    *lost_answers* counts those that ``lose_answers`` has lost.
    """

    def __init__(self, target_port: int, watch: Watch | None = None, *, others: Iterable[int] = ()) -> None:
        self._target_ports = (target_port, *others)
        self._turns = itertools.count()
        self.watch = watch or Unwatched()
        self.port = reserve_free_port()
        self.lost_answers = 0
        self._numbers = itertools.count(1)
        self._connections: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._stalled: set[Way] = set()
        self._answers_to_lose = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Begin to listen."""
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Cut everything and listen no more."""
        await self.refuse()
        for opening in self._opening:
            opening.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        self.cut()
        release_ports([self.port])

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    # Commands

    def cut(self) -> int:
        """Break all connections by a reset."""
        struck = list(self._connections)
        for connection in struck:
            connection.cut()
        return len(struck)

    def stall(self, *ways: Way) -> int:
        """Pass nothing on until ``resume``, both ways or one; of whom goes away meanwhile nothing arrives any more."""
        self._stalled.update(ways or BOTH_WAYS)
        return self.connections

    def resume(self) -> None:
        """Pass on what was held back, and everything from now on."""
        self._stalled.clear()
        for connection in list(self._connections):
            connection.flush()

    def half_close(self, way: Way) -> int:
        """Tell one side that nothing more comes, while the other still believes that it is heard."""
        struck = list(self._connections)
        for connection in struck:
            connection.half_close(way)
        return len(struck)

    def lose_answers(self, count: int) -> None:
        """Let the next *count* requests through, swallow what comes back, and break their connections."""
        self._answers_to_lose += count

    def keep_answers(self) -> None:
        """Lose no more answers."""
        self._answers_to_lose = 0
        for connection in self._connections:
            connection.loses_answer = False

    async def refuse(self) -> None:
        """Refuse new connections until ``accept``."""
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def accept(self) -> None:
        """Take connections again."""
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(
                lambda: _Connection(self, next(self._numbers)).client_end(), HOST, self.port, backlog=_BACKLOG
            )

    async def heal(self) -> None:
        """Behave from now on."""
        self.keep_answers()
        self.resume()
        await self.accept()

    # For the connections

    def stalls(self, way: Way) -> bool:
        """Whether nothing goes that way now."""
        return way in self._stalled

    def begin(self, connection: _Connection) -> None:
        """Open the other half of a client's connection."""
        self._connections.add(connection)
        opening = asyncio.get_running_loop().create_task(self._open(connection))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    async def _open(self, connection: _Connection) -> None:
        loop, turn = asyncio.get_running_loop(), next(self._turns)
        for number in range(len(self._target_ports)):
            port = self._target_ports[(turn + number) % len(self._target_ports)]
            try:
                await loop.create_connection(connection.server_end, HOST, port)
            except OSError:
                continue
            if connection not in self._connections:  # it was cut meanwhile
                connection.cut()
            return
        connection.cut()

    def asked(self, connection: _Connection, number: int, data: bytes) -> None:
        """Some bytes went to the server."""
        self.watch.asked(number, data)
        if self._answers_to_lose and not connection.loses_answer:
            self._answers_to_lose -= 1
            connection.loses_answer = True

    def end(self, connection: _Connection, number: int) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        self.watch.ended(number)
