"""The service in one process: a real worker, a simulated provider, and a plain AMQP client, no code of ours.

async with running_service(vhost, tmp_path) as service:
    await service.publish(job_body(id="job-1"))
    result = await service.wait_for_result("job-1", "accepted")
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

import aio_pika
import orjson
from aio_pika.exceptions import ChannelClosed, DeliveryError
from pydantic import SecretStr

from message_schemas import assert_job_agrees, problems_of
from otpost import rabbitmq
from otpost.declaring import declare
from otpost.topology import topology
from otpost_worker.app import run_worker
from otpost_worker.settings import SenderSettings, Settings
from otpost_worker.simulator import Simulator, SimulatorOptions
from otpost_worker.wrapping import UNWRAPPED
from sealed_letters import key_beside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from pathlib import Path

    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

    from broker import Vhost
    from otpost.sealing import PrivateKey
    from otpost_worker.wrapping import Wrappers

# No wait in these tests is this long on an idle machine; a test that meets it has failed.
PATIENCE_S: Final = 40.0
# Neither stands in any of our own texts, so whoever finds it there has found a leak.
NUMBER: Final = "+12025550187"
CODE: Final = "806274"
STREAM: Final = "otpost.results"
DEAD: Final = "otpost.dead"


def job_body(**fields: object) -> bytes:
    """Write a job as a foreign client would; a field given as None is left out."""
    job = {
        "id": "job-1",
        "to": NUMBER,
        "code": CODE,
        "created_at": datetime.now(UTC).isoformat(),
        "ttl_s": 300,
    } | fields
    return orjson.dumps({name: value for name, value in job.items() if value is not None})


def in_seconds(seconds: float) -> str:
    """Write the time that long from now as RFC 3339."""
    return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat()


@dataclass(frozen=True)
class Seen:
    """A message that came out of a queue."""

    message: AbstractIncomingMessage
    came_at: float

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object inside."""
        decoded = orjson.loads(self.message.body)
        assert isinstance(decoded, dict)
        return decoded

    @property
    def headers(self) -> Mapping[str, Any]:
        return self.message.headers

    @property
    def routing_key(self) -> str:
        return self.message.routing_key or ""

    @property
    def everything(self) -> str:
        """All that a reader of the queue can see, as text: for what must not be in there."""
        return f"{self.message.body!r} {self.message.headers!r} {self.message.info()!r}"


class Tap:
    """Everything that comes out of one queue, in order; `refused` is what the schemas have against it."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.refused: list[str] = []
        self._news = asyncio.Condition()

    async def take(self, message: AbstractIncomingMessage) -> None:
        await message.ack()
        async with self._news:
            self.seen.append(Seen(message, time.time()))
            self.refused += problems_of(message.type, message.body)
            self._news.notify_all()

    async def wait_for_count(self, count: int, timeout_s: float = PATIENCE_S) -> list[Seen]:
        """Wait until at least `count` messages have come."""
        await self._wait(lambda: len(self.seen) >= count, f"{count} messages", timeout_s)
        return self.seen

    async def wait_for(self, *, timeout_s: float = PATIENCE_S, nth: int = 1, **fields: object) -> Seen:
        """Wait for the `nth` message whose JSON has these fields."""

        def fitting() -> list[Seen]:
            return [one for one in self.seen if all(one.body.get(name) == value for name, value in fields.items())]

        await self._wait(lambda: len(fitting()) >= nth, f"message {nth} with {fields}", timeout_s)
        return fitting()[nth - 1]

    async def wait_for_ends(self, job_ids: set[str], timeout_s: float = PATIENCE_S) -> None:
        """Wait until each of these jobs has an end."""

        def ended() -> set[str]:
            ends = ("accepted", "failed", "expired")
            return {one.body["job_id"] for one in self.seen if one.body.get("status") in ends}

        await self._wait(lambda: job_ids <= ended(), f"the ends of {sorted(job_ids)}", timeout_s)

    async def _wait(self, is_so: Any, what: str, timeout_s: float) -> None:  # noqa: ANN401 - a predicate
        try:
            async with asyncio.timeout(timeout_s), self._news:
                await self._news.wait_for(is_so)
        except TimeoutError:
            seen = "\n".join(f"  {one.routing_key} {one.message.body[:300]!r}" for one in self.seen)
            raise AssertionError(f"waited {timeout_s:g} s for {what}; there came:\n{seen or '  nothing'}") from None
        self.assert_all_fit()

    def assert_all_fit(self) -> None:
        """Fail if any result or event that came is not as its schema says."""
        assert not self.refused, f"the schemas refuse what came: {self.refused}"


class Amqp:
    """A plain AMQP client: what another service, or a person with a tool, does to the broker."""

    def __init__(self, connection: AbstractConnection, publishing: AbstractChannel) -> None:
        self._connection = connection
        self._publishing = publishing

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str) -> AsyncIterator[Self]:
        connection = await aio_pika.connect(url, timeout=PATIENCE_S)
        async with connection:
            yield cls(connection, await connection.channel(publisher_confirms=True, on_return_raises=True))

    async def publish(  # noqa: PLR0913 - as many as a message has properties
        self,
        body: bytes,
        *,
        key: str = "default",
        exchange: str = "otpost.jobs",
        headers: Mapping[str, Any] | None = None,
        expiration_s: float | None = None,
        timestamp: datetime | None = None,
        reply_to: str | None = None,
        correlation_id: str | None = None,
        message_id: str | None = None,
        kind: str | None = None,
    ) -> None:
        """Publish, confirmed; nothing but the body is set unless it is asked for."""
        if exchange == "otpost.jobs":
            assert_job_agrees(body)
        message = aio_pika.Message(
            body,
            headers=dict(headers) if headers else None,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            expiration=expiration_s,
            timestamp=timestamp,
            reply_to=reply_to,
            correlation_id=correlation_id,
            message_id=message_id,
            type=kind,
        )
        target = (
            await self._publishing.get_exchange(exchange, ensure=False)
            if exchange
            else self._publishing.default_exchange
        )
        await target.publish(message, routing_key=key, timeout=PATIENCE_S)

    async def declare_queue(self, name: str, *, bind: str | None = None, **arguments: object) -> None:
        """Declare a queue; `bind` binds it to the exchange of results. Underscores of arguments become hyphens."""
        async with await self._connection.channel() as channel:
            table: Any = {name.replace("_", "-"): value for name, value in arguments.items()}
            queue = await channel.declare_queue(name, durable=True, arguments=table, timeout=PATIENCE_S)
            if bind is not None:
                await queue.bind(STREAM, bind, timeout=PATIENCE_S)

    async def counts(self, queue: str) -> tuple[int, int] | None:
        """Tell how many messages are ready and how many consumers there are; None without such a queue."""
        channel = await self._connection.channel()
        try:
            declared = (await channel.declare_queue(queue, passive=True, timeout=PATIENCE_S)).declaration_result
        except ChannelClosed:
            return None
        else:
            return declared.message_count or 0, declared.consumer_count or 0
        finally:
            if not channel.is_closed:
                await channel.close()

    async def fill(self, queue: str) -> None:
        """Publish into a queue with a length limit until it refuses, three times in a row: the limit is a soft one."""
        refused = 0
        for _ in range(100):
            try:
                await self.publish(b"something else", exchange="", key=queue)
                refused = 0
            except DeliveryError:
                refused += 1
            if refused == 3:
                return
        raise AssertionError(f"{queue} took a hundred messages")

    async def reject(self, queue: str, times: int) -> Seen:
        """Take the next message and give it back, so often, and return it as it was seen last."""
        channel = await self._connection.channel()
        await channel.set_qos(prefetch_count=1)
        arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        source = await channel.get_queue(queue, ensure=False)
        consumer = await source.consume(arrived.put)
        async with asyncio.timeout(PATIENCE_S):
            message = await arrived.get()
            await message.reject(requeue=True)
            for _ in range(times - 1):
                message = await arrived.get()
                await message.reject(requeue=True)
        await source.cancel(consumer)
        await channel.close()
        return Seen(message, time.time())

    async def tap(self, queue: str) -> Tap:
        """Take everything out of a queue as it comes; a stream is read from its beginning and keeps it."""
        channel = await self._connection.channel()
        await channel.set_qos(prefetch_count=500)
        tap = Tap()
        arguments: Any = {"x-stream-offset": "first"} if queue == STREAM else None
        await (await channel.get_queue(queue, ensure=False)).consume(tap.take, arguments=arguments)
        return tap


def sender_settings(api_base: str, **changes: Any) -> SenderSettings:  # noqa: ANN401 - pydantic judges them
    fields: dict[str, Any] = {
        "phone_number_id": "106540352242922",
        "access_token": SecretStr("EAAG-a-token"),
        "template": "verification_code",
        "language": "en_US",
        "api_base": api_base,
    }
    return SenderSettings(**(fields | changes))


def worker_settings(
    vhost: Vhost,
    ledger: Path,
    senders: Mapping[str, SenderSettings],
    **changes: Any,  # noqa: ANN401 - as above
) -> Settings:
    fields: dict[str, Any] = {
        "broker_url": SecretStr(vhost.url),
        "ledger_url": f"sqlite:///{ledger}",
        "senders": dict(senders),
    }
    return Settings(**(fields | changes))


@asynccontextmanager
async def running_worker(settings: Settings, wrappers: Wrappers = UNWRAPPED) -> AsyncIterator[None]:
    """Run a worker until the block ends; it has to start, and to stop cleanly."""
    stopping, at_once = asyncio.Event(), asyncio.Event()
    working = asyncio.create_task(run_worker(settings, stopping=stopping, at_once=at_once, wrappers=wrappers))
    try:
        async with Amqp.connect(settings.broker_url.get_secret_value()) as amqp:
            await _until_consuming(amqp, [f"otpost.jobs.{name}" for name in settings.senders], working)
        yield
    finally:
        stopping.set()
        async with asyncio.timeout(PATIENCE_S):
            clean = await working
    assert clean, "the worker had to give up jobs in hand"


async def _until_consuming(amqp: Amqp, queues: Iterable[str], working: asyncio.Task[bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        for queue in (*queues, "otpost.dropped"):
            while not ((counts := await amqp.counts(queue)) and counts[1]):
                if working.done():
                    raise AssertionError("the worker ended before it consumed") from working.exception()
                await asyncio.sleep(0.02)


async def declare_topology(vhost: Vhost, *senders: str) -> None:
    """Declare what a worker for `senders` would, without one."""
    connection = await rabbitmq.connect(vhost.url, name="test", timeout_s=PATIENCE_S)
    await declare(connection, topology(senders))
    await rabbitmq.close_quietly(connection)


@dataclass
class Service:
    """A worker with its broker and its provider."""

    vhost: Vhost
    simulator: Simulator
    amqp: Amqp
    results: Tap
    ledger: Path
    _dead: list[Tap] = field(default_factory=list)

    @property
    def key(self) -> PrivateKey:
        """The key that the worker has made for itself."""
        return key_beside(self.ledger)

    async def publish(self, body: bytes, **properties: Any) -> None:  # noqa: ANN401 - those of Amqp.publish
        """Publish a job as a foreign client would."""
        await self.amqp.publish(body, **properties)

    async def wait_for_result(self, job_id: str | None, status: str, *, nth: int = 1) -> Seen:
        """Wait for the `nth` result of this job with this status, read from the stream by a foreign client."""
        return await self.results.wait_for(job_id=job_id, status=status, nth=nth)

    async def wait_for_dead_letter(self, job_id: str, *, nth: int = 1) -> Seen:
        """Wait for the job's dead letter, and take it."""
        return await (await self._dead_letters()).wait_for(id=job_id, nth=nth)

    async def wait_for_dead_letters(self, count: int) -> list[Seen]:
        """Wait for so many dead letters, of whatever kind, and take them."""
        return await (await self._dead_letters()).wait_for_count(count)

    async def _dead_letters(self) -> Tap:
        if not self._dead:
            self._dead.append(await self.amqp.tap(DEAD))
        return self._dead[0]

    def statuses(self, job_id: str) -> list[str]:
        """All statuses of a job so far, in order."""
        return [one.body["status"] for one in self.results.seen if one.body.get("job_id") == job_id]

    def requests(self, callback: str | None = None) -> int:
        """How many requests the provider got, all or those of one job's first attempt."""
        entries = self.simulator.journal.entries()
        return sum(1 for entry in entries if callback in (None, entry.callback))


@asynccontextmanager
async def running_service(
    vhost: Vhost,
    folder: Path,
    *,
    senders: Mapping[str, Mapping[str, Any]] | None = None,
    simulator: SimulatorOptions | None = None,
    wrappers: Wrappers = UNWRAPPED,
    **settings: Any,  # noqa: ANN401 - pydantic judges them
) -> AsyncIterator[Service]:
    """Run a worker and a provider; `senders` names the senders with what differs from the usual settings."""
    async with (
        Simulator(simulator or SimulatorOptions(rate=0, pair=False)) as provider,
        Amqp.connect(vhost.url) as amqp,
    ):
        described = {
            name: sender_settings(provider.url, **changes) for name, changes in (senders or {"default": {}}).items()
        }
        ledger = folder / "ledger.db"
        async with running_worker(worker_settings(vhost, ledger, described, **settings), wrappers):
            service = Service(vhost, provider, amqp, await amqp.tap(STREAM), ledger)
            yield service
            service.results.assert_all_fit()
