"""The proxy does what it is told, and nothing else."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import pytest

from chaos.proxy import Proxy, Way

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE_S: Final = 10.0


class Echo:
    """A server that answers each line with the same line; *heard* is all that came, *left* how many clients went."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.port = 0
        self.left = asyncio.Semaphore(0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                self.heard.append(line)
                writer.write(line)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
            self.left.release()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    echo.port = server.sockets[0].getsockname()[1]
    yield echo
    server.close()


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[Proxy]:
    async with Proxy(echo.port) as proxy:
        yield proxy


class Client:
    """One connection through the proxy; every wait is bounded."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, line: bytes) -> bytes:
        self.writer.write(line)
        return await self.hear()

    async def hear(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readline()


@asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


async def test_what_is_said_passes_through_both_ways(proxy: Proxy) -> None:
    async with connected(proxy) as client:
        assert await client.say(b"one\n") == b"one\n"
        assert await client.say(b"two\n") == b"two\n"


async def test_a_cut_resets_every_connection_and_new_ones_are_taken(proxy: Proxy, echo: Echo) -> None:
    async with connected(proxy) as one, connected(proxy) as other:
        await one.say(b"one\n")
        await other.say(b"other\n")
        assert proxy.cut() == 2
        for client in (one, other):
            with pytest.raises(ConnectionResetError):
                await client.hear()
        async with asyncio.timeout(PATIENCE_S):
            await echo.left.acquire()
            await echo.left.acquire()
    async with connected(proxy) as again:
        assert await again.say(b"again\n") == b"again\n"


class Noted:
    """Watches: what was asked and not answered when its connection ended, and what was asked after that."""

    def __init__(self) -> None:
        self.unanswered: list[bytes] = []
        self.asked_too_late: list[bytes] = []
        self._open: dict[int, bytes] = {}
        self._over: set[int] = set()

    def asked(self, connection: int, data: bytes) -> None:
        if connection in self._over:
            self.asked_too_late.append(data)
        self._open[connection] = data

    def answered(self, connection: int, data: bytes) -> None:
        del data
        self._open.pop(connection, None)

    def ended(self, connection: int) -> None:
        self._over.add(connection)
        if connection in self._open:
            self.unanswered.append(self._open.pop(connection))


@pytest.mark.parametrize("turns", range(8))
async def test_nothing_arrives_unseen_of_a_connection_that_was_cut_while_its_other_half_was_being_opened(
    echo: Echo, turns: int
) -> None:
    watch = Noted()
    async with Proxy(echo.port, watch) as proxy, connected(proxy) as client:
        client.writer.write(b"cut\n")
        async with asyncio.timeout(PATIENCE_S):
            while not proxy.connections:  # noqa: ASYNC110 - each turn of the loop counts
                await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        proxy.cut()
        answer = b""
        with suppress(ConnectionResetError):
            answer = await client.hear()
        async with connected(proxy) as other:
            assert await other.say(b"after\n") == b"after\n"
    assert watch.asked_too_late == []
    # Where the cut came too late to hold it back, the watch knows.
    assert b"cut\n" not in echo.heard or [b"cut\n"] in ([answer], watch.unanswered)


async def test_a_stalled_request_arrives_when_the_line_is_good_again(proxy: Proxy, echo: Echo) -> None:
    async with connected(proxy) as client:
        await client.say(b"before\n")
        assert proxy.stall(Way.TO_SERVER) == 1
        client.writer.write(b"late\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.reader.readline()
        assert echo.heard == [b"before\n"]
        proxy.resume()
        assert await client.hear() == b"late\n"


async def test_a_stalled_answer_comes_when_the_line_is_good_again(proxy: Proxy, echo: Echo) -> None:
    async with connected(proxy) as client:
        await client.say(b"before\n")
        proxy.stall(Way.TO_CLIENT)
        client.writer.write(b"asked\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.reader.readline()
        assert echo.heard == [b"before\n", b"asked\n"]
        proxy.resume()
        assert await client.hear() == b"asked\n"


async def test_what_a_client_sent_over_a_dead_line_never_arrives_once_it_has_gone(proxy: Proxy, echo: Echo) -> None:
    async with connected(proxy) as client:
        await client.say(b"before\n")
        proxy.stall()
        client.writer.write(b"never\n")
    async with asyncio.timeout(PATIENCE_S):
        await echo.left.acquire()
    proxy.resume()
    async with connected(proxy) as other:
        await other.say(b"after\n")
    assert echo.heard == [b"before\n", b"after\n"]


async def test_a_half_close_ends_what_the_client_hears_and_nothing_is_passed_on_to_it_any_more(
    proxy: Proxy, echo: Echo
) -> None:
    async with connected(proxy) as client:
        await client.say(b"before\n")
        assert proxy.half_close(Way.TO_CLIENT) == 1
        assert await client.hear() == b""
        client.writer.write(b"still heard\n")
    async with asyncio.timeout(PATIENCE_S):
        await echo.left.acquire()
    assert echo.heard == [b"before\n", b"still heard\n"]


async def test_a_half_close_toward_the_server_ends_what_it_hears(proxy: Proxy, echo: Echo) -> None:
    async with connected(proxy) as client:
        await client.say(b"before\n")
        proxy.half_close(Way.TO_SERVER)
        client.writer.write(b"not heard\n")
        assert await client.hear() == b""
    assert echo.heard == [b"before\n"]


async def test_new_connections_are_refused_until_they_are_accepted_again_on_the_same_port(proxy: Proxy) -> None:
    async with connected(proxy) as client:
        await proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        assert await client.say(b"an old one goes on\n") == b"an old one goes on\n"
        await proxy.accept()
        async with connected(proxy) as other:
            assert await other.say(b"new\n") == b"new\n"


async def test_a_lost_answer_was_a_request_that_arrived(proxy: Proxy, echo: Echo) -> None:
    async with connected(proxy) as client:
        await client.say(b"before\n")
        proxy.lose_answers(1)
        client.writer.write(b"lost\n")
        with pytest.raises(ConnectionResetError):
            await client.hear()
    assert echo.heard == [b"before\n", b"lost\n"]
    assert proxy.lost_answers == 1
    async with connected(proxy) as other:
        assert await other.say(b"after\n") == b"after\n"


async def test_a_server_that_is_not_there_is_a_reset_for_the_client(proxy: Proxy, echo: Echo) -> None:
    async with connected(proxy) as client:
        await client.say(b"before\n")
    nobody = Proxy(1)
    async with nobody, connected(nobody) as client:
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            await client.say(b"anybody?\n")
    assert echo.heard == [b"before\n"]


async def test_of_several_servers_each_connection_gets_the_next_one_that_is_there(echo: Echo) -> None:
    other = Echo()
    server = await asyncio.start_server(other.serve, "127.0.0.1", 0)
    other.port = server.sockets[0].getsockname()[1]
    async with Proxy(1, others=[echo.port, other.port]) as proxy:
        for line in (b"1\n", b"2\n", b"3\n"):
            async with connected(proxy) as client:
                assert await client.say(line) == line
    server.close()
    # Nobody listens on the first port.
    assert (echo.heard, other.heard) == ([b"1\n", b"2\n"], [b"3\n"])


async def test_healing_undoes_whatever_was_commanded(proxy: Proxy, echo: Echo) -> None:
    proxy.stall()
    proxy.lose_answers(3)
    await proxy.refuse()
    await proxy.heal()
    async with connected(proxy) as client:
        assert await client.say(b"as usual\n") == b"as usual\n"
    assert echo.heard == [b"as usual\n"]
