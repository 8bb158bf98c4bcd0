"""Who holds a connection to a receiver, and for how long, over real sockets: nobody who sends no whole request."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest
from structlog.testing import capture_logs

from otpost_worker.webhook_connections import Limits
from otpost_worker.webhook_room import Room
from webhook_requests import BODY, PATIENCE_S, Caller, receiver, signed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

# Longer than any test may take: what ends within it, ends for another reason.
NEVER_S: Final = 1000.0
# Long enough for a machine that is busy to send what is sent in time.
SOON_S: Final = 1.0
HEAD: Final = b"POST /webhook HTTP/1.1\r\nHost: x\r\n"
WHOLE: Final = (
    HEAD
    + f"X-Hub-Signature-256: {signed(BODY)['X-Hub-Signature-256']}\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    + BODY
)


def limits(*, connections: int = 100, read_within_s: float = NEVER_S, answered_within_s: float = NEVER_S) -> Limits:
    return Limits(connections, read_within_s, answered_within_s, keep_alive_s=NEVER_S)


@pytest.fixture(autouse=True)
async def crashes() -> AsyncIterator[None]:
    """What the event loop would write a stack trace of: nothing, in each of these tests."""
    found = list[str]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(str(context)))
    yield
    gc.collect()  # it complains of a task that nobody asks when that task goes
    assert found == []


class Client:
    """One connection; what it does not read, stays unread."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def status(self) -> int:
        """Read one answer."""
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await self.reader.readexactly(int(length.split(b":")[1]))
        return int(head.split(b" ", 2)[1])

    async def ask(self) -> int:
        """Post a good webhook."""
        self.writer.write(WHOLE)
        return await self.status()

    async def ends(self) -> bytes:
        """Wait until the receiver closes it; returns what came before that."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def send(self, data: bytes, times: int) -> None:
        """Send it so often, or until the receiver has enough."""
        with contextlib.suppress(ConnectionError):
            for _ in range(times):
                self.writer.write(data)
                await self.writer.drain()


@asynccontextmanager
async def client(caller: Caller) -> AsyncIterator[Client]:
    """Open a connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", caller.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def clients(caller: Caller, count: int) -> AsyncIterator[list[Client]]:
    """Open so many, one after the other; the receiver knows all of them."""
    async with AsyncExitStack() as opened:
        found = list[Client]()
        for _ in range(count):
            found.append(await opened.enter_async_context(client(caller)))
            await caller.until(len(found), "otpost_webhook_connections")
        yield found


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - a room tells nobody
            await asyncio.sleep(0.002)


def refused(lines: Sequence[Mapping[str, object]]) -> list[tuple[object, object, object]]:
    """What was told, but for the beginning."""
    told = [line for line in lines if line["event"] != "webhook.listening"]
    return [(line["event"], line.get("result"), line["log_level"]) for line in told]


# More than there are places for


async def test_who_opens_connections_without_end_takes_only_the_places_of_those_who_send_nothing() -> None:
    with capture_logs() as lines:
        async with receiver(limits=limits(connections=3)) as caller, AsyncExitStack() as flood:
            flooding = [await flood.enter_async_context(client(caller)) for _ in range(23)]
            # Who came last has a place.
            assert await flooding[22].ask() == 200
            assert [await one.ends() for one in flooding[:20]] == [b""] * 20
            assert caller.value("otpost_webhook_connections") == 3
            assert caller.value("otpost_webhook_hang_ups_total", reason="full") == 20
    assert refused(lines) == [("webhook.refused", "full", "warning")]


async def test_where_all_have_a_request_in_hand_a_further_one_is_hung_up_on_and_nobody_else() -> None:
    with capture_logs() as lines:
        async with receiver(limits=limits(connections=3)) as caller, clients(caller, 3) as busy:
            caller.store.open.clear()
            asking = [asyncio.create_task(one.ask()) for one in busy]
            await caller.store.wait_for_waiting(3)
            for _ in range(5):
                async with client(caller) as further:
                    assert await further.ends() == b""
            assert caller.value("otpost_webhook_hang_ups_total", reason="full") == 5
            caller.store.open.set()
            assert await asyncio.gather(*asking) == [200, 200, 200]
            # Now they wait, and a new one has a place.
            async with client(caller) as new:
                assert await new.ask() == 200
    assert refused(lines) == [("webhook.refused", "full", "warning")]


async def test_the_one_that_is_idle_for_the_longest_time_makes_room() -> None:
    async with receiver(limits=limits(connections=3)) as caller, clients(caller, 3) as (first, second, third):
        assert [await one.ask() for one in (first, second, third, first)] == [200] * 4
        async with client(caller) as new:
            assert await second.ends() == b""
            assert [await one.ask() for one in (first, third, new)] == [200] * 3


async def test_headers_that_come_slowly_hold_no_place_against_others() -> None:
    async with receiver(limits=limits(connections=2)) as caller, clients(caller, 2) as (slow, other):
        assert await other.ask() == 200
        # Were it counted from the last byte, the other one would have to go.
        slow.writer.write(HEAD)
        async with client(caller) as new:
            assert await slow.ends() == b""
            assert [await one.ask() for one in (other, new)] == [200, 200]


# Without a whole request


@pytest.mark.parametrize("begun", [b"", b"\r\n", b"P", HEAD], ids=["nothing", "an empty line", "a letter", "headers"])
async def test_a_connection_without_a_whole_request_is_closed_long_before_an_idle_one(begun: bytes) -> None:
    with capture_logs() as lines:
        async with AsyncExitStack() as opened:
            caller = await opened.enter_async_context(receiver(limits=limits(read_within_s=SOON_S)))
            idle, again, silent = [await opened.enter_async_context(client(caller)) for _ in range(3)]
            assert [await one.ask() for one in (idle, again)] == [200, 200]
            silent.writer.write(begun)
            assert await silent.ends() == b""
            # The same for a request that is not the first, once it has begun.
            if begun:
                again.writer.write(begun)
                assert await again.ends() == b""
            assert await idle.ask() == 200
            closed = caller.value("otpost_webhook_hang_ups_total", reason="no_request")
            assert closed == (2 if begun else 1)
    assert refused(lines) == [("webhook.refused", "no_request", "info")]


async def test_a_byte_now_and_then_wins_no_time() -> None:
    async with receiver(limits=limits(read_within_s=SOON_S)) as caller, client(caller) as slow:

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):
                slow.writer.write(HEAD + b"X: ")
                while True:
                    slow.writer.write(b"x")
                    await slow.writer.drain()
                    await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert await slow.ends() == b""
        await dripping
        assert caller.value("otpost_webhook_hang_ups_total", reason="no_request") == 1


async def test_what_begins_behind_a_request_in_hand_has_to_come_whole_too() -> None:
    async with receiver(limits=limits(read_within_s=SOON_S)) as caller, client(caller) as one:
        caller.store.open.clear()
        one.writer.write(WHOLE)
        await caller.store.wait_for_waiting(1)
        one.writer.write(HEAD)
        async with client(caller) as later:
            # When this one is closed, that has been read for long.
            assert await later.ends() == b""
        caller.store.open.set()
        assert await one.status() == 200
        assert await one.ends() == b""


# Bodies that do not come whole


async def test_a_body_that_does_not_come_whole_makes_room_for_one_that_does() -> None:
    room = Room(most_bodies=3, most_bytes=1_000_000)
    with capture_logs() as lines:
        async with receiver(room=room, limits=limits()) as caller, clients(caller, 4) as (first, second, third, other):
            for slow in (first, second, third):
                before = room.bytes
                slow.writer.write(WHOLE[:-1])
                await until(lambda: room.bytes == before + len(BODY) - 1)  # noqa: B023 - it is over before the next
            assert await other.ask() == 200
            assert await first.status() == 503
            # Nobody else had to go.
            for slow in (second, third):
                slow.writer.write(WHOLE[-1:])
                assert await slow.status() == 200
            assert caller.counted("overloaded") == 1
            assert (room.bodies, room.bytes) == (0, 0)
    assert refused(lines) == [("webhook.refused", "overloaded", "warning")]


async def test_bytes_of_a_body_that_does_not_come_whole_make_room_for_one_that_does() -> None:
    room = Room(most_bodies=10, most_bytes=100_000)
    async with receiver(room=room, limits=limits()) as caller, client(caller) as slow:
        slow.writer.write(HEAD + b"Content-Length: 70000\r\n\r\n" + b"x" * 60_000)
        await until(lambda: room.bytes == 60_000)
        assert (await caller.post(b'{"a":"' + b"x" * 60_000 + b'"}'))[0] == 200
        assert await slow.status() == 503
        assert (room.bodies, room.bytes) == (0, 0)


async def test_a_body_that_waits_for_the_broker_makes_room_for_nobody() -> None:
    room = Room(most_bodies=2, most_bytes=1_000_000)
    async with receiver(room=room, limits=limits()) as caller, clients(caller, 3) as (one, another, third):
        caller.store.open.clear()
        asking = [asyncio.create_task(client.ask()) for client in (one, another)]
        await caller.store.wait_for_waiting(2)
        assert await third.ask() == 503
        caller.store.open.set()
        assert await asyncio.gather(*asking) == [200, 200]


async def test_a_client_that_goes_away_as_its_half_request_has_its_turn_is_no_crash() -> None:
    with capture_logs() as lines:
        async with receiver(limits=limits()) as caller, client(caller) as one:
            caller.store.open.clear()
            one.writer.write(WHOLE + WHOLE[:-1])
            await caller.store.wait_for_waiting(1)
            # In one step: the first is answered, the second begins, and its connection is gone.
            one.writer.write_eof()
            caller.store.open.set()
            assert await one.status() == 200
            await caller.until(1, "otpost_webhook_requests_total", result="broken_off")
    assert refused(lines) == [("webhook.refused", "broken_off", "info")]


# Too much, or nothing read


async def test_headers_without_an_end_are_not_kept() -> None:
    with capture_logs() as lines:
        async with receiver(limits=limits()) as caller, client(caller) as one:
            one.writer.write(HEAD)
            # 800 kB, which is less than what the library allows.
            await one.send(b"X: " + b"x" * 7_995 + b"\r\n", 100)
            assert await one.ends() == b""
            assert caller.value("otpost_webhook_hang_ups_total", reason="too_much") == 1
    assert refused(lines) == [("webhook.refused", "too_much", "info")]


async def test_many_requests_behind_one_in_hand_are_not_kept() -> None:
    async with receiver(limits=limits()) as caller, client(caller) as one:
        caller.store.open.clear()
        one.writer.write(WHOLE)
        await caller.store.wait_for_waiting(1)
        await one.send(b"GET / HTTP/1.1\r\nHost: x\r\n" + (b"X: " + b"x" * 7_995 + b"\r\n") * 8 + b"\r\n", 30)
        assert await one.ends() == b""
        assert caller.value("otpost_webhook_hang_ups_total", reason="too_much") == 1
        caller.store.open.set()


async def test_a_few_requests_behind_one_in_hand_all_have_their_answers() -> None:
    async with receiver(limits=limits()) as caller, client(caller) as one:
        caller.store.open.clear()
        one.writer.write(WHOLE)
        await caller.store.wait_for_waiting(1)
        one.writer.write(WHOLE * 30)
        caller.store.open.set()
        assert [await one.status() for _ in range(31)] == [200] * 31


async def test_who_reads_no_answers_is_hung_up_on() -> None:
    challenge = b"1" * 7_000
    asking = b"GET /webhook?hub.mode=subscribe&hub.verify_token=verify-token&hub.challenge=" + challenge
    with capture_logs() as lines:
        async with receiver(limits=limits(read_within_s=SOON_S)) as caller, client(caller) as one:
            sent = 0
            async with asyncio.timeout(PATIENCE_S):
                while not caller.value("otpost_webhook_hang_ups_total", reason="unread"):
                    if caller.counted("verified") == sent:
                        # Fewer than would be too much behind the one whose answer waits.
                        one.writer.write((asking + b" HTTP/1.1\r\nHost: x\r\n\r\n") * 8)
                        sent += 8
                    await asyncio.sleep(0)
                # It does not wait for the client to read what is left.
                server = caller.serving.runner.server
                while server is not None and server.connections:  # noqa: ASYNC110 - the library tells nobody
                    await asyncio.sleep(0)
    assert refused(lines) == [("webhook.refused", "unread", "info")]
