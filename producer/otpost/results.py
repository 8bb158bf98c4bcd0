"""Reading results, and what happened to senders: from the stream, or from a queue of one's own."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from otpost import rabbitmq
from otpost.errors import BrokerUnreachable, QueueRefused
from otpost.event import SenderEvent, UnreadableEvent
from otpost.result import EVENT_TYPE, RESULT_TYPE, OtpResult, UnreadableResult
from otpost.topology import RESULTS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import DeliveredMessage

    Kinds = Mapping[str, Callable[[bytes], "T"]]
    """The types of message that are read, each with what parses it; all others are left out."""

T = TypeVar("T")

RESULTS_ONLY: Final[Kinds[OtpResult]] = {RESULT_TYPE: OtpResult.parse}
WITH_EVENTS: Final[Kinds[OtpResult | SenderEvent]] = {RESULT_TYPE: OtpResult.parse, EVENT_TYPE: SenderEvent.parse}

_PREFETCH: Final = 200
_PAUSE_S: Final = (0.2, 5.0)
# How long the first message of the stream's last chunk may take, and each further one: they come in one go.
_LAST_CHUNK_S: Final = 2.0
_WITHIN_CHUNK_S: Final = 0.3
_STOPPED: Final = "the results stopped before the end of the stream; read them again"


@dataclass(frozen=True, slots=True)
class Position:
    """Where to read: a *queue* of one's own, or else the stream from *since* (or one past a known offset)."""

    queue: str | None
    since: datetime | str | int

    def past(self, offset: int) -> Position:
        """The position behind a message that was read."""
        return replace(self, since=offset + 1) if offset >= 0 else self

    def begun(self, now: datetime) -> Position:
        """The position to come back to if the connection is lost before anything was read.

        What came in between would be missing from what is "next" then.
        """
        return replace(self, since=now) if self.since == "next" else self


def read_results(
    url: str,
    position: Position,
    *,
    timeout_s: float,
    on_lost: Callable[[str], None] | None = None,
    on_unreadable: Callable[[str], None] | None = None,
) -> AsyncGenerator[OtpResult]:
    """Yield results alone, as ``read_told`` does."""
    return read_told(url, position, RESULTS_ONLY, timeout_s=timeout_s, on_lost=on_lost, on_unreadable=on_unreadable)


async def read_told(
    url: str,
    position: Position,
    kinds: Kinds[T],
    *,
    timeout_s: float,
    on_lost: Callable[[str], None] | None = None,
    on_unreadable: Callable[[str], None] | None = None,
) -> AsyncGenerator[T]:
    """Yield messages of those *kinds* from *position* on, for ever, over as many connections as it takes.

    Messages of other types are left out. *on_lost* is called with the reason each time a connection is lost, and not
    again until there was another one. *on_unreadable* is called with what is wrong with a message that is not what it
    says, which is left out then; without it, that is raised, and a queue of one's own has it no longer.

    :raises BrokerUnreachable: the very first connection failed. :raises QueueRefused: nothing to read there.
    :raises UnreadableResult: such a result. :raises UnreadableEvent: such an event.
    """
    connected_once = connected = False
    while True:
        try:
            async with _open_feed(url, position, timeout_s=timeout_s) as feed:
                connected_once = connected = True
                position = position.begun(datetime.now(UTC))
                async for message in feed:
                    try:
                        told = _told_in(message, kinds, on_unreadable)
                    except (UnreadableResult, UnreadableEvent):
                        await feed.acknowledge(message)
                        await feed.close()  # which waits until the acknowledgement has gone out too
                        raise
                    if told is not None:
                        yield told
                    await feed.acknowledge(message)
                    position = position.past(_offset(message))
            reason = "the connection was lost"
        except (rabbitmq.ConnectionLost, QueueRefused, BrokerUnreachable) as error:
            # A queue that was there before comes back with its broker.
            if not connected_once:
                raise
            reason = str(error)
        if connected and on_lost is not None:
            on_lost(reason)
        connected = False
        await asyncio.sleep(random.uniform(*_PAUSE_S))  # noqa: S311 - spreads reconnects, keeps no secret


def read_kept_results(
    url: str,
    since: datetime | Literal["first"],
    *,
    timeout_s: float,
    job_id: str | None = None,
    on_unreadable: Callable[[str], None] | None = None,
) -> AsyncGenerator[OtpResult]:
    """Yield results alone, as ``read_kept`` does."""
    return read_kept(url, since, RESULTS_ONLY, timeout_s=timeout_s, job_id=job_id, on_unreadable=on_unreadable)


async def read_kept(
    url: str,
    since: datetime | Literal["first"],
    kinds: Kinds[T],
    *,
    timeout_s: float,
    job_id: str | None = None,
    on_unreadable: Callable[[str], None] | None = None,
) -> AsyncGenerator[T]:
    """Yield what the stream holds now, from *since* on, and come to an end; with *job_id*, only what tells of that job.

    What is of another kind, or not what it says, is treated as in ``read_told``. A stream does not tell where it ends;
    but its last chunk can be asked for, and the last message in that is the end.

    :raises BrokerUnreachable: no connection. :raises QueueRefused: there is no stream.
    :raises ConnectionLost: before the end was reached. :raises UnreadableResult, UnreadableEvent: as ``read_told``.
    """
    async with _open_feed(url, Position(None, "last"), timeout_s=timeout_s) as feed:
        end = -1
        while (message := await _next_kept(feed, _LAST_CHUNK_S if end < 0 else _WITHIN_CHUNK_S)) is not None:
            end = _offset(message)
            await feed.acknowledge(message)
    if end < 0:
        return
    read = -1
    async with _open_feed(url, Position(None, since), timeout_s=timeout_s) as feed:
        while read < end:
            message = await _next_kept(feed, _LAST_CHUNK_S if read < 0 else timeout_s)
            if message is None and read < 0:
                return  # nothing is as young as *since*
            if message is None:
                raise rabbitmq.ConnectionLost(_STOPPED)
            # What is not asked for need not be parsed.
            is_asked_for = job_id is None or _tells_of(job_id, message)
            if is_asked_for and (told := _told_in(message, kinds, on_unreadable)) is not None:
                yield told
            await feed.acknowledge(message)
            read = _offset(message)


async def _next_kept(feed: _Feed, timeout_s: float) -> DeliveredMessage | None:
    """Wait for the next message that the stream holds; None where none comes within *timeout_s*.

    :raises ConnectionLost: none can come any more, which tells nothing of what the stream holds.
    """
    message = await feed.next(timeout_s)
    if message is None and feed.is_over:
        raise rabbitmq.ConnectionLost(_STOPPED)
    return message


def _tells_of(job_id: str, message: DeliveredMessage) -> bool:
    """Tell by its id, ``<job_id>/<run>/<attempt>/<status or name>``, whether a message tells of the job."""
    first, *_, last = str(message.header.properties.message_id).split("/")
    # What tells of a sender, which may be called as the job is, ends in a time.
    return first == job_id and not last.isdecimal()


def _told_in(message: DeliveredMessage, kinds: Kinds[T], on_unreadable: Callable[[str], None] | None) -> T | None:
    """Read the message; None where it is of no such kind, or *on_unreadable* was told that it is not what it says.

    :raises UnreadableResult, UnreadableEvent: it is not, and nobody was to be told.
    """
    properties = message.header.properties
    kind = properties.message_type or ""
    parse = kinds.get(kind)
    if parse is None:
        return None
    try:
        return parse(message.body)
    except (UnreadableResult, UnreadableEvent) as error:
        unreadable = type(error)
    what = "events" if kind == EVENT_TYPE else "results"
    trouble = (
        f"the message {properties.message_id!r} says that it is an {kind}, but cannot be read as one: does something "
        f"newer, or somebody else, publish {what} here?"
    )
    if on_unreadable is None:
        raise unreadable(trouble)
    on_unreadable(trouble)
    return None


def _offset(message: DeliveredMessage) -> int:
    """Read a message's place in the stream; -1 where it comes from another queue."""
    offset = (message.header.properties.headers or {}).get("x-stream-offset")
    return offset if isinstance(offset, int) else -1


class _Feed:
    """The messages of one consumer; the iteration ends when no more can come."""

    def __init__(self) -> None:
        self._messages: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
        self._consumer: rabbitmq.Consumer | None = None

    async def open(self, connection: AbstractConnection, position: Position) -> None:
        arguments = None if position.queue else {"x-stream-offset": position.since}
        self._consumer = await rabbitmq.Consumer.open(
            connection,
            position.queue or RESULTS,
            self._messages.put_nowait,
            prefetch=_PREFETCH,
            arguments=arguments,
        )

    @property
    def is_over(self) -> bool:
        """Whether no further message can come."""
        assert self._consumer is not None  # noqa: S101 - opened by _open_feed
        return self._consumer.is_dead

    async def __aiter__(self) -> AsyncIterator[DeliveredMessage]:
        while (message := await self.next(None)) is not None:
            yield message

    async def next(self, timeout_s: float | None) -> DeliveredMessage | None:
        """Wait for the next message; None where none comes within *timeout_s*, or none can come any more."""
        assert self._consumer is not None  # noqa: S101 - opened by _open_feed
        arrived = asyncio.ensure_future(self._messages.get())
        died = asyncio.ensure_future(self._consumer.died())
        try:
            await asyncio.wait({arrived, died}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            return arrived.result() if arrived.done() else None
        finally:
            arrived.cancel()
            died.cancel()

    async def acknowledge(self, message: DeliveredMessage) -> None:
        assert self._consumer is not None  # noqa: S101 - opened by _open_feed
        if message.delivery_tag is not None:
            await self._consumer.acknowledge(message.delivery_tag)

    async def close(self) -> None:
        assert self._consumer is not None  # noqa: S101 - opened by _open_feed
        await self._consumer.close()


@asynccontextmanager
async def _open_feed(url: str, position: Position, *, timeout_s: float) -> AsyncIterator[_Feed]:
    connection = await rabbitmq.connect(url, name="otpost results", timeout_s=timeout_s)
    try:
        feed = _Feed()
        await feed.open(connection, position)
        yield feed
    finally:
        await rabbitmq.close_quietly(connection)
