"""Dead letters: looking at them, replaying and purging them.

Looking takes every letter from the queue without acknowledging any, and gives them back by closing the channel.
A queue that only one connection can have keeps two lookers from seeing half of the letters each; an exclusive consumer
would not, since quorum queues let in a second one. The queue's delivery limit of a million is what lets a letter be
looked at for as long as it is kept.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import orjson

from otpost import declaring, rabbitmq
from otpost.errors import InvalidJob, OtpostError
from otpost.job import OtpJob
from otpost.result import mask_number
from otpost.times import parse_rfc3339
from otpost.topology import (
    DEAD,
    HEADER_DIED_AT,
    HEADER_ERROR,
    HEADER_REASON,
    HEADER_SENDER,
    JOBS,
)
from otpost_worker.brokers.rabbitmq.foreign import tolerate_foreign_messages
from otpost_worker.brokers.rabbitmq.messages import envelope_of, job_properties, text_of
from otpost_worker.burial import read_sealed_body
from otpost_worker.envelope import readable_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from aio_pika.abc import AbstractConnection
    from aiormq.abc import DeliveredMessage

    from otpost_worker.envelope import Envelope

MAX_LOOKED_AT: Final = 60_000  # a channel's prefetch is a 16-bit number
_MAX_LOOKS_AGAIN: Final = 20
_TAKEN_AT_ONCE: Final = 32
# What the last looker held comes back a moment after it has let go; once letters come, they come without gaps.
_FIRST_S: Final = 1.0
_IDLE_S: Final = 0.4
_MAX_IDLE: Final = 10
_BUSY_S: Final = 15.0
_BUSY_PAUSE_S: Final = 0.2
_LOCK: Final = "otpost.dead.in-hand"
_TIMEOUT_S: Final = 10.0


Mark = tuple[str, str, bytes]
Sealed = Literal["code", "body"]


class DeadLettersBusy(OtpostError):
    """Somebody else is looking at the dead letters."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter, as it may be shown: no code, no full number.

    *deadline* in Unix seconds is None where the body is no job. *tags* are its deliveries, *marks* tell them again
    when they are delivered once more: two letters of one job and run are one. *sealed* tells what nobody can read
    who has no key: the ``code``, or the whole ``body``, which is no job; None for a letter of an older worker.
    """

    job_id: str
    sender: str
    run: int
    attempt: int
    reason: str
    error: dict[str, Any]
    died_at: str
    to: str | None
    deadline: float | None
    sealed: Sealed | None
    envelope: Envelope
    tags: tuple[int, ...]
    marks: tuple[Mark, ...] = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """Everything that may be seen."""
        return {
            "job_id": self.job_id,
            "sender": self.sender,
            "run": self.run,
            "attempt": self.attempt,
            "reason": self.reason,
            "error": self.error,
            "died_at": self.died_at,
            "to": self.to,
            "deadline": self.deadline,
            "sealed": self.sealed,
        }


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters: all that are given must fit. *died_before* in Unix seconds."""

    job_ids: frozenset[str] = frozenset()
    reason: str | None = None
    sender: str | None = None
    died_before: float | None = None

    def fits(self, letter: DeadLetter) -> bool:
        """Whether the letter is one of them."""
        died_at = parse_rfc3339(letter.died_at) or 0.0
        return (
            (not self.job_ids or letter.job_id in self.job_ids)
            and self.reason in (None, letter.reason)
            and self.sender in (None, letter.sender)
            and (self.died_before is None or died_at < self.died_before)
        )


def read_letter(message: DeliveredMessage) -> DeadLetter:
    """Read a dead letter; whatever somebody has put into the queue, there is one."""
    properties = message.header.properties
    headers: dict[str, Any] = properties.headers or {}
    sender = text_of(headers.get(HEADER_SENDER)) or "?"
    envelope = envelope_of(message, sender)
    facts = _facts_of(envelope)
    return DeadLetter(
        job_id=facts.job_id or text_of(properties.message_id) or "?",
        sender=sender,
        run=envelope.run,
        attempt=envelope.attempt,
        reason=text_of(headers.get(HEADER_REASON)) or "?",
        error=_error(text_of(headers.get(HEADER_ERROR)) or ""),
        died_at=text_of(headers.get(HEADER_DIED_AT)) or "?",
        to=facts.to,
        deadline=facts.deadline,
        sealed=facts.sealed,
        envelope=envelope,
        tags=(message.delivery_tag or 0,),
        marks=(mark_of(message),),
    )


def mark_of(message: DeliveredMessage) -> Mark:
    """Tell a letter from every other one, however often it is delivered."""
    properties = message.header.properties
    died_at = text_of((properties.headers or {}).get(HEADER_DIED_AT)) or ""
    return properties.message_id or "", died_at, message.body


@dataclass(frozen=True, slots=True)
class _Facts:
    job_id: str | None
    to: str | None
    deadline: float | None
    sealed: Sealed | None


def _facts_of(envelope: Envelope) -> _Facts:
    """What the body tells without being opened."""
    try:
        # For ever is not too far ahead, as where the letter was written.
        job = OtpJob.parse(envelope.body, now=math.inf, published_at=envelope.published_at)
    except InvalidJob:
        whole = read_sealed_body(envelope.body)
        if whole is not None:
            return _Facts(whole.job_id, None, envelope.deadline, "body")
        return _Facts(readable_id(envelope.body), None, envelope.deadline, None)
    sealed: Sealed | None = "code" if job.sealed_code is not None else None
    return _Facts(job.id, mask_number(job.to), envelope.deadline or job.deadline, sealed)


def _error(text: str) -> dict[str, Any]:
    try:
        error = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return error if isinstance(error, dict) else {}


def merge(letters: Iterable[DeadLetter]) -> list[DeadLetter]:
    """Make one of two letters that tell of the same job and run, the earlier first."""
    merged: dict[object, DeadLetter] = {}
    for letter in letters:
        # Letters without a job's id are about bodies that are no jobs: nothing tells whether two are the same.
        # A body that is no job and has the id of one is a letter of its own: of the two, one can be replayed.
        key = (letter.job_id, letter.run, letter.sealed == "body") if letter.job_id != "?" else object()
        known = merged.get(key)
        merged[key] = (
            replace(known, tags=known.tags + letter.tags, marks=known.marks + letter.marks) if known else letter
        )
    return list(merged.values())


class DeadLetters:
    """The letters that were there when it was opened; they go back when it is closed."""

    def __init__(
        self,
        connection: AbstractConnection,
        consumer: rabbitmq.Consumer,
        letters: list[DeadLetter],
        more: int,
    ) -> None:
        self.letters = letters
        self.more = more
        self.removed: set[Mark] = set()
        self._connection = connection
        self._consumer = consumer

    async def remove(self, letter: DeadLetter) -> None:
        """Remove a letter for good."""
        for tag in letter.tags:
            if not await self._consumer.acknowledge(tag):
                raise rabbitmq.ConnectionLost("the connection was closed; look again before you go on")
        self.removed.update(letter.marks)

    async def replay(self, letter: DeadLetter, publisher: rabbitmq.Publisher, *, deadline: float | None) -> None:
        """Publish the letter's job again as its next run, and remove the letter once that is confirmed.

        :raises ConnectionLost: the letter is still there; the job may have been published.
        """
        again = replace(
            letter.envelope,
            run=letter.run + 1,
            attempt=1,
            counted=0,
            drops=0,
            deadline=deadline or letter.envelope.deadline,
        )
        await publisher.publish(
            again.body,
            job_properties(again, letter.job_id),
            exchange=JOBS,
            key=again.sender,
            timeout_s=_TIMEOUT_S,
        )
        await self.remove(letter)

    async def open_publisher(self) -> rabbitmq.Publisher:
        """Open a channel to publish replays on."""
        return await rabbitmq.Publisher.open(self._connection)

    async def has_sender(self, sender: str) -> bool:
        """Whether some worker has declared that sender's queue."""
        return await declaring.sender_exists(self._connection, sender, timeout_s=_TIMEOUT_S)


@asynccontextmanager
async def open_dead_letters(url: str) -> AsyncIterator[DeadLetters]:
    """Take all dead letters in hand; what is not removed goes back unchanged.

    :raises BrokerUnreachable: no connection. :raises QueueRefused: there is no such queue.
    :raises DeadLettersBusy: somebody else has them in hand.
    """
    tolerate_foreign_messages()
    connection = await rabbitmq.connect(url, name="otpost dead letters", timeout_s=_TIMEOUT_S)
    try:
        await _alone(connection)
        arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
        consumer = await _open_consumer(connection, arrived.put_nowait)
        letters = [read_letter(message) async for message in _until_idle(arrived, connection)]
        more = await declaring.inspect_queue(connection, DEAD, timeout_s=_TIMEOUT_S)
        dead_letters = DeadLetters(connection, consumer, merge(letters), more.ready if more else 0)
        yield dead_letters
        await consumer.close()
        if dead_letters.removed:
            await _make_sure(connection, dead_letters.removed)
    finally:
        await rabbitmq.close_quietly(connection)


async def _make_sure(connection: AbstractConnection, removed: set[Mark]) -> None:
    """Look again until what was removed is gone.

    An acknowledgement has no answer, and a channel that is closed drops those that its quorum queue has not taken
    yet (measured on RabbitMQ 3.10: all but about 32).
    """
    quiet = 0
    for _ in range(_MAX_LOOKS_AGAIN):
        arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
        consumer = await _open_consumer(connection, arrived.put_nowait)
        back = [message async for message in _until_idle(arrived, connection) if mark_of(message) in removed]
        for message in back:
            await consumer.acknowledge(message.delivery_tag or 0)
        await consumer.close()
        quiet = 0 if back else quiet + 1
        if quiet == (1 if len(removed) <= _TAKEN_AT_ONCE else 2):
            return
    raise rabbitmq.ConnectionLost("some dead letters that were removed keep coming back; look at them again")


async def _alone(connection: AbstractConnection) -> None:
    """Wait until nobody else has the letters in hand; they are ours as long as the connection lives."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            await declaring.declare_exclusive(connection, _LOCK, timeout_s=_TIMEOUT_S)
        except declaring.QueueLocked as error:
            if time.monotonic() > deadline:
                raise DeadLettersBusy(
                    "the dead letters are in the hands of another 'otpost dead' command; try again when it is done"
                ) from error
        else:
            return
        await asyncio.sleep(_BUSY_PAUSE_S)


async def _open_consumer(connection: AbstractConnection, take: Callable[[DeliveredMessage], None]) -> rabbitmq.Consumer:
    return await rabbitmq.Consumer.open(connection, DEAD, take, prefetch=MAX_LOOKED_AT)


async def _until_idle(
    arrived: asyncio.Queue[DeliveredMessage], connection: AbstractConnection
) -> AsyncIterator[DeliveredMessage]:
    """Yield what the queue delivers until it has nothing more to deliver."""
    count, idle = 0, 0
    while count < MAX_LOOKED_AT and idle < _MAX_IDLE:
        try:
            async with asyncio.timeout(_IDLE_S if count else _FIRST_S):
                message = await arrived.get()
        except TimeoutError:
            state = await declaring.inspect_queue(connection, DEAD, timeout_s=_TIMEOUT_S)
            if state is None or state.ready == 0:
                return
            idle += 1
            continue
        count, idle = count + 1, 0
        yield message
