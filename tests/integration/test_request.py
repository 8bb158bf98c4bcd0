"""``Producer.request``: a job is published and its end awaited, through a real worker."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import TYPE_CHECKING, Final

import pytest

from otpost import BrokerUnreachable, NoResult, OtpJob, Producer, ProducerClosed, QueueRefused, UnknownSender, client
from otpost.rabbitmq import ConnectionLost
from published_results import accepted_result
from service import CODE, NUMBER, PATIENCE_S, Amqp, declare_topology, running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker import Vhost
    from otpost import OtpResult
    from service import Service

JOBS: Final = "otpost.jobs.default"
# Refused once as throttled, then accepted; refused for good; accepted after a second.
REFUSED_ONCE: Final = "+9991310161001"
NOT_ON_WHATSAPP: Final = "+99913102600001"
SLOW: Final = "+99010000001"


@pytest.fixture
async def service(vhost: Vhost, tmp_path: Path) -> AsyncIterator[Service]:
    async with running_service(vhost, tmp_path) as running:
        yield running


@pytest.fixture
async def producer(service: Service) -> AsyncIterator[Producer]:
    async with Producer(service.vhost.url) as connected:
        yield connected


@pytest.fixture
async def lonely(vhost: Vhost) -> AsyncIterator[Producer]:
    """A producer whose broker has everything but a running worker."""
    await declare_topology(vhost, "default")
    async with Producer(vhost.url) as connected:
        yield connected


def job(job_id: str, to: str = NUMBER, ttl_s: float = 300) -> OtpJob:
    return OtpJob(id=job_id, to=to, code=CODE, ttl_s=ttl_s)


def reply_queues(vhost: Vhost) -> list[str]:
    return [name for name in vhost.queues() if name.startswith("reply.otpost.")]


async def test_a_job_that_is_accepted_returns_its_acceptance(service: Service, producer: Producer) -> None:
    end = await producer.request(job("job-1"), timeout_s=PATIENCE_S)
    assert (end.job_id, end.status, end.event_id) == ("job-1", "accepted", "job-1/1/1/accepted")
    assert end.provider_message_id
    assert service.requests("job-1") == 1


async def test_a_job_that_fails_returns_why(producer: Producer) -> None:
    end = await producer.request(job("job-1", NOT_ON_WHATSAPP), timeout_s=PATIENCE_S)
    assert end.status == "failed"
    assert end.error is not None
    assert (end.error.kind, end.error.code) == ("recipient", 131026)


async def test_a_job_that_comes_too_late_returns_its_expiry(service: Service, producer: Producer) -> None:
    end = await producer.request(job("job-1", ttl_s=1), timeout_s=PATIENCE_S)
    assert end.status == "expired"
    assert service.requests() == 0


async def test_a_retry_is_told_and_is_not_the_end(producer: Producer) -> None:
    told: list[OtpResult] = []
    confirmed: list[OtpJob] = []
    asked = job("job-1", REFUSED_ONCE)
    end = await producer.request(asked, timeout_s=PATIENCE_S, on_confirmed=confirmed.append, on_result=told.append)
    assert (end.status, end.attempt) == ("accepted", 2)
    assert [result.status for result in told] == ["retrying", "accepted"]
    assert confirmed == [asked]


async def test_an_id_that_has_ended_is_told_its_recorded_end_again(service: Service, producer: Producer) -> None:
    first = await producer.request(job("job-1", NOT_ON_WHATSAPP), timeout_s=PATIENCE_S)
    again = await producer.request(job("job-1"), timeout_s=PATIENCE_S)
    async with Producer(service.vhost.url) as elsewhere:
        third = await elsewhere.request(job("job-1"), timeout_s=PATIENCE_S)
    assert first == again == third
    assert service.requests() == 1


async def test_200_requests_at_once_each_return_their_own_end_over_one_connection_and_one_queue(
    service: Service, producer: Producer
) -> None:
    async with asyncio.timeout(PATIENCE_S):
        ends = await asyncio.gather(
            *(producer.request(job(f"job-{number}", f"+1201555{number:04}"), timeout_s=30) for number in range(200))
        )
    assert [(end.job_id, end.status) for end in ends] == [(f"job-{number}", "accepted") for number in range(200)]
    assert service.requests() == 200
    assert len(reply_queues(service.vhost)) == 1
    await service.vhost.wait_for_connections(1, "otpost producer")


async def test_two_requests_of_one_job_both_return_and_it_is_sent_once(service: Service, producer: Producer) -> None:
    one, other = await asyncio.gather(
        producer.request(job("job-1", SLOW), timeout_s=PATIENCE_S),
        producer.request(job("job-1", SLOW), timeout_s=PATIENCE_S),
    )
    assert one == other
    assert service.requests() == 1


async def test_without_a_worker_it_raises_in_time_and_says_that_the_same_id_may_be_asked_for_again(
    lonely: Producer, vhost: Vhost
) -> None:
    begun = time.monotonic()
    with pytest.raises(NoResult) as raised:
        await lonely.request(job("job-7"), timeout_s=1.0)
    assert 0.9 <= time.monotonic() - begun < 6
    assert isinstance(raised.value, TimeoutError)
    assert raised.value.job_id == "job-7"
    assert str(raised.value) == (
        "no end of job job-7 within 1 s: it is published under that id and goes on; "
        "ask again with the same id, or see 'otpost results'; does a worker run?"
    )
    assert vhost.ready_count(JOBS) == 1


async def test_who_asks_again_after_a_time_out_gets_the_end(lonely: Producer, vhost: Vhost, tmp_path: Path) -> None:
    with pytest.raises(NoResult):
        await lonely.request(job("job-1"), timeout_s=0.5)
    async with running_service(vhost, tmp_path) as service:
        assert (await lonely.request(job("job-1"), timeout_s=PATIENCE_S)).status == "accepted"
        assert service.requests() == 1


async def test_a_cancelled_request_leaves_nothing_behind(lonely: Producer, vhost: Vhost) -> None:
    with pytest.raises(NoResult):
        await lonely.request(job("job-0"), timeout_s=0.2)  # has opened the queue for all
    before = asyncio.all_tasks()
    waiting = asyncio.create_task(lonely.request(job("job-1"), timeout_s=PATIENCE_S))
    await vhost.wait_for_ready(JOBS, 2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    if left := asyncio.all_tasks() - before:
        _, running = await asyncio.wait(left, timeout=PATIENCE_S)
        assert running == set()
    assert lonely._replies._inboxes == {}
    # The queue stays for the next request, and goes with the producer.
    assert len(reply_queues(vhost)) == 1
    await lonely.close()
    assert reply_queues(vhost) == []


async def test_a_request_that_is_cancelled_while_it_opens_the_queue_costs_the_others_nothing(
    service: Service, producer: Producer
) -> None:
    await producer.send(job("job-0"))  # so that there is nothing left to do but to open the queue
    opener, *others = [
        asyncio.create_task(producer.request(job(f"job-{number}"), timeout_s=PATIENCE_S)) for number in (1, 2, 3)
    ]
    await asyncio.sleep(0)
    opening = producer._replies._opening
    assert opening is not None
    assert not opening.done()
    opener.cancel()
    assert [end.status for end in await asyncio.gather(*others)] == ["accepted", "accepted"]
    assert opener.cancelled()
    assert len(reply_queues(service.vhost)) == 1


async def test_a_reply_queue_that_was_lost_before_the_end_is_replaced_and_the_end_told_again(
    lonely: Producer, vhost: Vhost, tmp_path: Path
) -> None:
    waiting = asyncio.create_task(lonely.request(job("job-1"), timeout_s=PATIENCE_S))
    await vhost.wait_for_ready(JOBS, 1)
    await vhost.wait_for_connections(1, "otpost producer")
    assert vhost.close_connections("otpost producer") == 1
    await vhost.wait_for_ready(JOBS, 2)
    async with running_service(vhost, tmp_path) as service:
        assert (await waiting).status == "accepted"
        assert service.requests() == 1


async def test_a_connection_lost_while_the_job_is_under_way_costs_no_end(service: Service, producer: Producer) -> None:
    waiting = asyncio.create_task(producer.request(job("job-1", SLOW), timeout_s=PATIENCE_S))
    await service.vhost.wait_for_connections(1, "otpost producer")
    assert await service.simulator.journal.wait(received=1, timeout_s=PATIENCE_S)
    assert await asyncio.to_thread(service.vhost.close_connections, "otpost producer") == 1
    assert (await waiting).status == "accepted"
    assert service.requests() == 1


async def test_a_reply_queue_that_somebody_deletes_is_replaced(lonely: Producer, vhost: Vhost, tmp_path: Path) -> None:
    waiting = asyncio.create_task(lonely.request(job("job-1"), timeout_s=PATIENCE_S))
    await vhost.wait_for_ready(JOBS, 1)
    assert lonely._replies._opening is not None
    # An exclusive queue can be deleted by its own connection alone.
    connection = lonely._link.connection
    async with connection.channel() as channel:
        await channel.queue_delete(lonely._replies._opening.result().queue)
    await vhost.wait_for_ready(JOBS, 2)
    async with running_service(vhost, tmp_path):
        assert (await waiting).status == "accepted"


async def test_a_job_that_somebody_else_has_under_way_is_asked_for_until_its_end_is_told(
    service: Service, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_ASK_AGAIN_S", 0.5)
    await service.publish(job("job-1", SLOW).to_json())
    assert await service.simulator.journal.wait(received=1, timeout_s=PATIENCE_S)
    assert (await producer.request(job("job-1", SLOW), timeout_s=PATIENCE_S)).status == "accepted"
    assert service.requests() == 1


async def test_a_stranger_in_the_reply_queue_disturbs_nobody(
    lonely: Producer, vhost: Vhost, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = asyncio.create_task(lonely.request(job("job-1"), timeout_s=PATIENCE_S))
    await vhost.wait_for_ready(JOBS, 1)
    async with Amqp.connect(vhost.url) as amqp:
        [queue] = reply_queues(vhost)
        await amqp.publish(b"hello", exchange="", key=queue, correlation_id="job-1")
        await amqp.publish(b"{}", exchange="", key=queue)
        await amqp.publish(b"hello", exchange="", key=queue, correlation_id="job-1", kind="otpost.result.v1")
        later = accepted_result(1).replace(b'"accepted"', b'"failed"')
        await amqp.publish(later, exchange="", key=queue, correlation_id="job-1", kind="otpost.result.v2")
    async with running_service(vhost, tmp_path):
        assert (await waiting).status == "accepted"
    gc.collect()  # a task that failed in silence is told of when it is collected
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_producer_that_is_closed_ends_the_requests_that_wait(lonely: Producer, vhost: Vhost) -> None:
    waiting = asyncio.create_task(lonely.request(job("job-1"), timeout_s=PATIENCE_S))
    await vhost.wait_for_ready(JOBS, 1)
    await lonely.close()
    with pytest.raises(ProducerClosed):
        await waiting
    with pytest.raises(ProducerClosed, match="this producer was closed"):
        await lonely.send(job("job-2"))
    await vhost.wait_for_connections(0, "otpost producer")
    assert vhost.ready_count(JOBS) == 1


async def test_a_producer_that_is_closed_while_its_first_request_opens_the_queue_tells_that_it_was_closed(
    lonely: Producer, vhost: Vhost
) -> None:
    await lonely.send(job("job-0"))  # so that there is nothing left to do but to open the queue
    waiting = asyncio.create_task(lonely.request(job("job-1"), timeout_s=PATIENCE_S))
    await asyncio.sleep(0)
    opening = lonely._replies._opening
    assert opening is not None
    assert not opening.done()
    await lonely.close()
    with pytest.raises(ProducerClosed):
        await waiting
    assert vhost.ready_count(JOBS) == 1


async def test_a_producer_that_is_closed_while_it_connects_is_left_without_a_connection(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    producer = Producer(vhost.url)
    sending = asyncio.create_task(producer.send(job("job-1")))
    await asyncio.sleep(0)
    await producer.close()
    with pytest.raises(ProducerClosed):
        await sending
    with pytest.raises(ConnectionLost):
        _ = producer._link.connection
    assert vhost.ready_count(JOBS) == 0


async def test_a_time_out_of_the_callers_own_is_not_taken_for_ours(producer: Producer) -> None:
    def impatient(_: OtpResult) -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine") as raised:
        await producer.request(job("job-1"), timeout_s=PATIENCE_S, on_result=impatient)
    assert not isinstance(raised.value, NoResult)


async def test_a_sender_that_nobody_has_declared_is_unknown(lonely: Producer, vhost: Vhost) -> None:
    with pytest.raises(UnknownSender, match="'marketing'"):
        await lonely.request(job("job-1"), sender="marketing")
    assert vhost.ready_count(JOBS) == 0


async def test_a_user_who_may_only_write_is_told_what_is_missing_and_nothing_is_published(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    vhost.set_permissions(configure="^$", write="^otpost\\.jobs$", read="^$")
    async with Producer(vhost.url) as writer:
        with pytest.raises(QueueRefused, match=r"permissions 'configure' and 'read' for 'reply\.otpost\.\*'"):
            await writer.request(job("job-1"))
    vhost.set_permissions()
    assert vhost.ready_count(JOBS) == 0


async def test_without_a_broker_nothing_is_published_and_it_raises_in_time(unused_tcp_port: int) -> None:
    producer = Producer(f"amqp://127.0.0.1:{unused_tcp_port}/")
    begun = time.monotonic()
    with pytest.raises(BrokerUnreachable, match="does RabbitMQ run there"):
        await producer.request(job("job-1"), timeout_s=1.0)
    assert time.monotonic() - begun < 6


async def test_a_code_is_in_no_error(lonely: Producer) -> None:
    with pytest.raises(NoResult) as raised:
        await lonely.request(job("job-1"), timeout_s=0.2)
    assert CODE not in f"{raised.value!s} {raised.value!r}"
