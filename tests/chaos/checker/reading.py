"""Asking the witnesses: the results stream and the queues by plain aio-pika, the simulator by HTTP."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import aio_pika
import aiohttp
import orjson
from aio_pika.connection import make_url
from aio_pika.exceptions import AMQPError

from chaos.checker.evidence import Letter, Reported, Request, Result, only_known

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

STREAM: Final = "otpost.results"
DEAD: Final = "otpost.dead"
PATIENCE_S: Final = 30.0
_PREFETCH: Final = 1000
_PAGE: Final = 10_000
_AGAIN_S: Final = 0.3
_EMPTIED: Final = ("otpost.dropped", "otpost.webhooks", "otpost.checks")
_DELAYS: Final = tuple(f"otpost.delay.{level:02}" for level in range(15))


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AbstractConnection]:
    """Open a connection of our own, past every proxy."""
    connection = aio_pika.Connection(make_url(url))
    try:
        await connection.connect(timeout=PATIENCE_S)
        yield connection
    finally:
        # Also one that never came to be: else the library closes it later, in whatever loop runs then.
        with suppress(AMQPError, OSError, RuntimeError):
            await connection.close()


async def read_results(url: str) -> list[Result]:
    """Read the whole stream, copies included."""
    arguments: Any = {"x-stream-offset": "first"}
    messages = await _read_to_mark(url, STREAM, arguments, keep=True)
    return [
        Result(int(message.headers["x-stream-offset"]), message.type or "", message.body.decode(), _properties(message))  # type: ignore[arg-type] # a number
        for message in messages
    ]


async def read_letters(url: str) -> list[Letter]:
    """Look at all dead letters and leave them there."""
    return [_letter(message) for message in await _read_to_mark(url, DEAD, None, keep=True)]


async def _read_to_mark(url: str, queue_name: str, arguments: Any, *, keep: bool) -> list[AbstractIncomingMessage]:  # noqa: ANN401 - a table
    """Read a queue up to a mark that is published behind all that is in it.

    Nothing is acknowledged but, where the queue would *keep* it, the mark.
    """
    mark = secrets.token_hex(16)
    arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    messages = []
    async with asyncio.timeout(PATIENCE_S), connected(url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        body = aio_pika.Message(mark.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT, type="mark")
        await channel.default_exchange.publish(body, routing_key=queue_name)
        await channel.set_qos(prefetch_count=_PREFETCH if queue_name == STREAM else 0)
        queue = await channel.get_queue(queue_name, ensure=False)
        await queue.consume(arrived.put, arguments=arguments)
        while True:
            message = await arrived.get()
            if message.body == mark.encode():
                if keep:
                    await message.ack()
                break
            if queue_name == STREAM:
                await message.ack()  # which is how a stream is asked for more
            if message.type != "mark":
                messages.append(message)
    return messages


def _letter(message: AbstractIncomingMessage) -> Letter:
    headers = message.headers
    return Letter(
        id=_readable_id(message.body),
        run=_number(headers.get("otpost-run")),
        reason=str(headers.get("otpost-reason")),
        died_at=str(headers.get("otpost-died-at")),
        body=message.body.decode(errors="replace"),
        headers=_properties(message),
    )


def _readable_id(body: bytes) -> str | None:
    try:
        job = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return str(job["id"]) if isinstance(job, dict) and "id" in job else None


def _number(value: object) -> int:
    return value if isinstance(value, int) else 1


def _properties(message: AbstractIncomingMessage) -> str:
    return f"{message.info()!r} {message.headers!r}"


async def follow(url: str, take: Callable[[dict[str, Any]], None]) -> None:
    """Give every event of the stream to *take*, for ever, over as many connections as it takes; copies come."""
    while True:
        try:
            async with connected(url) as connection:
                await _follow_one(connection, take)
        except (AMQPError, OSError, TimeoutError):
            await asyncio.sleep(_AGAIN_S)


async def _follow_one(connection: AbstractConnection, take: Callable[[dict[str, Any]], None]) -> None:
    channel = await connection.channel()
    await channel.set_qos(prefetch_count=_PREFETCH)
    lost = asyncio.Event()
    channel.close_callbacks.add(lambda *_: lost.set())

    async def arrived(message: AbstractIncomingMessage) -> None:
        await message.ack()
        if message.type == "otpost.result.v1":
            take(orjson.loads(message.body))

    arguments: Any = {"x-stream-offset": "first"}
    await (await channel.get_queue(STREAM, ensure=False)).consume(arrived, arguments=arguments)
    await lost.wait()


async def count_left(url: str, senders: Iterable[str]) -> dict[str, int]:
    """Count what is ready where nothing should be left: job queues, ladder, dropped jobs, reports and checks."""
    names = [f"otpost.jobs.{sender}" for sender in senders] + [*_DELAYS, *_EMPTIED]
    async with connected(url) as connection:
        counts = {name: await _count(connection, name) for name in names}
    return {name: count for name, count in counts.items() if count}


async def _count(connection: AbstractConnection, name: str) -> int:
    channel: AbstractChannel = await connection.channel()
    try:
        declared = await channel.declare_queue(name, passive=True, timeout=PATIENCE_S)
        return declared.declaration_result.message_count or 0
    finally:
        if not channel.is_closed:
            await channel.close()


async def read_requests(url: str) -> list[Request]:
    """Read the simulator's whole log."""
    return [only_known(Request, entry) for entry in await _pages(url, "requests")]


async def read_reports(url: str) -> list[Reported]:
    """Read what the simulator has reported by webhook."""
    return [only_known(Reported, entry) for entry in await _pages(url, "reports")]


async def read_answers(url: str) -> dict[str, int]:
    """Read how the simulator's webhooks were answered, by HTTP status; ``none`` for those that were not in time."""
    async with _session() as session, session.get(f"{url}/_simulator/stats") as answer:
        answer.raise_for_status()
        counts: dict[str, int] = (await answer.json())["webhooks"]["answers"]
    return counts


async def all_reported(url: str) -> bool:
    """Tell whether the simulator has nothing to post any more, as far as it knows now."""
    async with _session() as session, session.get(f"{url}/_simulator/reports?limit=1") as answer:
        answer.raise_for_status()
        waiting: int = (await answer.json())["waiting"]
    return waiting == 0


async def _pages(url: str, name: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    since = 0
    async with _session() as session:
        while True:
            async with session.get(f"{url}/_simulator/{name}?since={since}&limit={_PAGE}") as answer:
                answer.raise_for_status()
                page = await answer.json()
            entries += page[name]
            if not page[name]:
                return entries
            since = page["next"]


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S))
