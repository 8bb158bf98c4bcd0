"""The producer against a real broker: what it publishes, what it raises, and how it comes back."""

from __future__ import annotations

import asyncio
import itertools
import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

import pytest

from otpost import NotConfirmed, OtpJob, OtpResult, Producer, UnknownSender
from otpost.testing import RecordingProducer
from published_results import accepted_result, first_published_while_reading
from service import CODE, NUMBER, PATIENCE_S, Amqp, declare_topology

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from broker import Vhost

JOBS: Final = "otpost.jobs.default"


@pytest.fixture
async def url(vhost: Vhost) -> str:
    """A broker on which a worker for the sender 'default' has declared everything."""
    await declare_topology(vhost, "default")
    return vhost.url


@pytest.fixture
async def amqp(url: str) -> AsyncIterator[Amqp]:
    async with Amqp.connect(url) as connected:
        yield connected


@pytest.fixture(params=["Producer", "RecordingProducer"])
async def producer(request: pytest.FixtureRequest) -> AsyncIterator[Producer | RecordingProducer]:
    if request.param == "RecordingProducer":
        async with RecordingProducer() as recording:
            yield recording
        return
    vhost: Vhost = request.getfixturevalue("vhost")
    await declare_topology(vhost, "default")
    async with Producer(vhost.url) as connected:
        yield connected


def jobs(count: int, prefix: str = "job") -> Iterator[OtpJob]:
    for number in range(count):
        yield OtpJob(id=f"{prefix}-{number}", to=NUMBER, code=CODE)


class TestBothProducers:
    """What a service relies on, of the real producer and of the one for its tests."""

    async def test_send_returns_the_id_that_was_given(self, producer: Producer | RecordingProducer) -> None:
        assert await producer.send(OtpJob(id="sign-in:7", to=NUMBER, code=CODE)) == "sign-in:7"

    async def test_send_returns_the_uuid7_that_was_made(self, producer: Producer | RecordingProducer) -> None:
        job = OtpJob(to=NUMBER, code=CODE)
        assert await producer.send(job) == job.id
        assert (len(job.id), job.id[14]) == (36, "7")

    async def test_send_many_takes_a_generator_and_returns_the_ids_in_order(
        self, producer: Producer | RecordingProducer
    ) -> None:
        assert await producer.send_many(jobs(5)) == ["job-0", "job-1", "job-2", "job-3", "job-4"]

    async def test_send_many_tells_of_every_confirmed_job_once(self, producer: Producer | RecordingProducer) -> None:
        confirmed: list[str] = []
        await producer.send_many(jobs(5), on_confirmed=lambda job: confirmed.append(job.id))
        assert sorted(confirmed) == ["job-0", "job-1", "job-2", "job-3", "job-4"]

    async def test_send_many_of_nothing_returns_nothing(self, producer: Producer | RecordingProducer) -> None:
        assert await producer.send_many(iter(())) == []

    async def test_a_sender_whose_name_cannot_be_one_is_unknown(self, producer: Producer | RecordingProducer) -> None:
        with pytest.raises(UnknownSender, match="Not A Sender"):
            await producer.send(OtpJob(to=NUMBER, code=CODE), sender="Not A Sender")

    async def test_a_job_can_be_sent_with_a_place_for_replies(self, producer: Producer | RecordingProducer) -> None:
        job = OtpJob(id="job-r", to=NUMBER, code=CODE)
        assert await producer.send(job, sender="default", reply_to="mine", correlation_id="c-1") == "job-r"

    async def test_results_come_one_by_one_as_they_happen(
        self, producer: Producer | RecordingProducer, request: pytest.FixtureRequest
    ) -> None:
        results = producer.results()
        if isinstance(producer, RecordingProducer):
            producer.to_come.put_nowait(OtpResult.parse(accepted_result(0)))
            first = await anext(results)
        else:
            async with Amqp.connect(request.getfixturevalue("vhost").url) as amqp:
                first = await first_published_while_reading(amqp, results)
        assert (first.job_id, first.status, first.ends_job) == ("job-0", "accepted", True)


async def test_a_job_travels_persistent_typed_dated_and_under_its_id(url: str, amqp: Amqp) -> None:
    before = int(time.time())
    async with Producer(url) as producer:
        await producer.send(
            OtpJob(id="job-7", to="+1 (202) 555-0187", code=CODE, ttl_s=90), reply_to="mine", correlation_id="c-7"
        )
    [seen] = await (await amqp.tap(JOBS)).wait_for_count(1)
    message = seen.message
    assert (message.exchange, message.routing_key) == ("otpost.jobs", "default")
    assert (message.delivery_mode, message.content_type, message.type) == (2, "application/json", "otpost.job.v1")
    assert (message.message_id, message.reply_to, message.correlation_id) == ("job-7", "mine", "c-7")
    assert message.timestamp is not None
    assert before <= message.timestamp.timestamp() <= time.time()
    assert dict(message.headers) == {}
    created_at = seen.body.pop("created_at")
    assert before <= datetime.fromisoformat(created_at).timestamp() <= time.time()
    assert seen.body == {
        "id": "job-7", "to": "+12025550187", "code": "806274", "ttl_s": 90.0, "version": 1, "created_at": created_at,
    }  # fmt: skip


async def test_send_many_pipelines_and_reads_its_generator_only_as_fast_as_jobs_are_confirmed(
    url: str, vhost: Vhost
) -> None:
    read, confirmed, most_open, deepest = 0, 0, 0, 0

    def counted() -> Iterator[OtpJob]:
        nonlocal read, most_open
        for job in jobs(500):
            read += 1
            most_open = max(most_open, read - confirmed)
            yield job

    def count(_: OtpJob) -> None:
        nonlocal confirmed, deepest
        confirmed += 1
        deepest = max(deepest, read - confirmed)

    async with Producer(url, max_in_flight=32) as producer:
        ids = await producer.send_many(counted(), on_confirmed=count)
    assert ids == [f"job-{number}" for number in range(500)]
    assert vhost.ready_count(JOBS) == 500
    assert deepest >= 8, "the next job waited for the confirm of the one before it"
    assert most_open <= 33, "the generator was read ahead of the confirms"


class CallersMistakeError(Exception):
    """Raised by code that is not ours."""


@pytest.mark.parametrize("max_in_flight", [2, 256])
async def test_send_many_raises_what_its_generator_raises_once_it_is_known_which_jobs_are_stored(
    url: str, vhost: Vhost, max_in_flight: int
) -> None:
    confirmed: list[str] = []

    def broken() -> Iterator[OtpJob]:
        yield from jobs(20)
        raise CallersMistakeError

    async with Producer(url, max_in_flight=max_in_flight) as producer:
        with pytest.raises(CallersMistakeError):
            await producer.send_many(broken(), on_confirmed=lambda job: confirmed.append(job.id))
        assert sorted(confirmed) == sorted(f"job-{number}" for number in range(20))
        assert vhost.ready_count(JOBS) == 20
        await producer.send(OtpJob(to=NUMBER, code=CODE))


async def test_send_many_raises_what_its_callback_raises_tells_of_all_that_is_stored_and_takes_no_more(
    url: str, vhost: Vhost
) -> None:
    untaken, told = jobs(500), list[str]()

    def tell(job: OtpJob) -> None:
        told.append(job.id)
        if len(told) == 10:
            raise CallersMistakeError

    async with Producer(url, max_in_flight=8) as producer:
        with pytest.raises(CallersMistakeError):
            await producer.send_many(untaken, on_confirmed=tell)
    assert 10 <= len(told) <= 10 + 8
    assert vhost.ready_count(JOBS) == len(told)
    assert int(next(untaken).id.removeprefix("job-")) <= 10 + 8 + 1


async def test_send_many_that_is_cancelled_leaves_no_job_to_be_published_behind_its_back(url: str) -> None:
    first = asyncio.Event()
    async with Producer(url, max_in_flight=8) as producer:
        before = asyncio.all_tasks()
        sending = asyncio.create_task(producer.send_many(jobs(100_000), on_confirmed=lambda _: first.set()))
        async with asyncio.timeout(PATIENCE_S):
            await first.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        if left := asyncio.all_tasks() - before:
            _, running = await asyncio.wait(left, timeout=PATIENCE_S)
            assert running == set()


async def test_a_second_sender_is_addressed_by_its_name(url: str, vhost: Vhost) -> None:
    await declare_topology(vhost, "de")
    async with Producer(url, sender="de") as producer:
        await producer.send(OtpJob(to=NUMBER, code=CODE))
        await producer.send(OtpJob(to=NUMBER, code=CODE), sender="default")
    assert (vhost.ready_count("otpost.jobs.de"), vhost.ready_count(JOBS)) == (1, 1)


async def test_an_unknown_sender_is_named_and_nothing_is_published(url: str, vhost: Vhost) -> None:
    async with Producer(url) as producer:
        with pytest.raises(UnknownSender, match=r"'marketing'.*otpost\.jobs\.marketing.*otpost topology declare"):
            await producer.send(OtpJob(to=NUMBER, code=CODE), sender="marketing")
        with pytest.raises(UnknownSender, match="'marketing'"):
            await producer.send_many(jobs(3), sender="marketing")
    assert (vhost.ready_count("otpost.dropped"), vhost.ready_count(JOBS)) == (0, 0)


async def test_asking_for_an_unknown_sender_disturbs_no_job_in_flight(url: str, vhost: Vhost) -> None:
    async with Producer(url) as producer:

        async def ask_for_nobody() -> None:
            with pytest.raises(UnknownSender):
                await producer.send(OtpJob(to=NUMBER, code=CODE), sender="nobody")

        await asyncio.gather(producer.send_many(jobs(300)), *(ask_for_nobody() for _ in range(20)))
        await producer.send(OtpJob(to=NUMBER, code=CODE))
    # Had the channel died with the question, some would have been published a second time over a new one.
    assert vhost.ready_count(JOBS) == 301


async def test_a_sender_that_is_declared_later_is_found_by_the_same_producer(url: str, vhost: Vhost) -> None:
    async with Producer(url) as producer:
        with pytest.raises(UnknownSender):
            await producer.send(OtpJob(to=NUMBER, code=CODE), sender="late")
        await declare_topology(vhost, "late")
        await producer.send(OtpJob(to=NUMBER, code=CODE), sender="late")
    assert vhost.ready_count("otpost.jobs.late") == 1


async def test_a_producer_that_may_only_write_can_send(url: str, vhost: Vhost) -> None:
    vhost.set_permissions(configure="^$", write="^otpost\\.jobs$", read="^$")
    async with Producer(url) as producer:
        await producer.send(OtpJob(to=NUMBER, code=CODE))
    vhost.set_permissions()
    assert vhost.ready_count(JOBS) == 1


async def test_a_full_job_queue_is_told_as_not_confirmed(url: str, vhost: Vhost) -> None:
    vhost.set_policy("full", "^otpost.jobs.default$", {"max-length": 1, "overflow": "reject-publish"})
    async with Producer(url) as producer, asyncio.timeout(PATIENCE_S):
        with pytest.raises(NotConfirmed, match="a queue refused the message") as raised:
            await send_endlessly(producer)  # the policy takes a moment to apply
    assert len(raised.value.job_ids) == 1
    assert CODE not in str(raised.value)


async def send_endlessly(producer: Producer) -> None:
    for number in itertools.count():
        await producer.send(OtpJob(id=f"job-{number}", to=NUMBER, code=CODE))
