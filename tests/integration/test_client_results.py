"""Reading results with the client: from the stream and from a queue of one's own, over lost connections."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from otpost import BrokerUnreachable, Producer, QueueRefused, UnreadableResult
from otpost.result import RESULT_TYPE
from otpost.results import Position
from published_results import (
    accepted_result,
    closing,
    first_published_while_reading,
    next_job_ids,
    publish_event,
    publish_results,
)
from service import STREAM, Amqp, declare_topology

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from broker import Vhost


@pytest.fixture
async def amqp(vhost: Vhost) -> AsyncIterator[Amqp]:
    """A plain client of a broker on which a worker has declared everything."""
    await declare_topology(vhost, "default")
    async with Amqp.connect(vhost.url) as connected:
        yield connected


async def test_the_stream_is_read_from_its_first_result_and_again(vhost: Vhost, amqp: Amqp) -> None:
    await publish_results(amqp, 1, 2, 3)
    for _ in range(2):
        async with closing(Producer(vhost.url).results(since="first")) as results:
            assert await next_job_ids(results, 3) == ["job-1", "job-2", "job-3"]


async def test_only_what_is_to_come_is_read_unless_asked_otherwise(vhost: Vhost, amqp: Amqp) -> None:
    await publish_results(amqp, 1, 2, 3)
    first = await first_published_while_reading(amqp, Producer(vhost.url).results())
    assert first.job_id == "job-0"


@pytest.mark.parametrize("ago", [timedelta(hours=1), None])
async def test_the_stream_is_read_from_a_time_on(vhost: Vhost, amqp: Amqp, ago: timedelta | None) -> None:
    await publish_results(amqp, 1, 2)
    since = ago or datetime.now(UTC) - timedelta(hours=1)
    async with closing(Producer(vhost.url).results(since=since)) as results:
        assert await next_job_ids(results, 2) == ["job-1", "job-2"]


async def test_a_lost_connection_loses_and_repeats_nothing_of_the_stream(vhost: Vhost, amqp: Amqp) -> None:
    await publish_results(amqp, 1, 2, 3, 4)
    async with closing(Producer(vhost.url).results(since="first")) as results:
        assert await next_job_ids(results, 2) == ["job-1", "job-2"]
        await _cut(vhost)
        await publish_results(amqp, 5)
        assert await next_job_ids(results, 3) == ["job-3", "job-4", "job-5"]
        await _cut(vhost)
        await publish_results(amqp, 6)
        assert await next_job_ids(results, 1) == ["job-6"]


async def test_a_queue_of_ones_own_is_read_and_emptied(vhost: Vhost, amqp: Amqp) -> None:
    await amqp.declare_queue("mine", bind="default.accepted")
    await publish_results(amqp, 1, 2, 3)
    async with closing(Producer(vhost.url).results(queue="mine")) as results:
        assert await next_job_ids(results, 3) == ["job-1", "job-2", "job-3"]
    # The third was not acknowledged: nobody asked for a fourth, so it may not have been dealt with.
    await vhost.wait_for_ready("mine", 1)
    async with closing(Producer(vhost.url).results(queue="mine")) as results:
        assert await next_job_ids(results, 1) == ["job-3"]


async def test_a_queue_of_ones_own_gets_only_what_it_is_bound_for(vhost: Vhost, amqp: Amqp) -> None:
    await amqp.declare_queue("mine", bind="other.#")
    await publish_results(amqp, 1)
    await amqp.publish(b"{}", exchange=STREAM, key="other.failed")
    assert vhost.ready_count("mine") == 1


async def test_a_lost_connection_loses_nothing_of_a_queue_of_ones_own(vhost: Vhost, amqp: Amqp) -> None:
    await amqp.declare_queue("mine", bind="#")
    await publish_results(amqp, 1, 2)
    async with closing(Producer(vhost.url).results(queue="mine")) as results:
        seen = await next_job_ids(results, 1)
        await _cut(vhost)
        await publish_results(amqp, 3)
        while seen[-1] != "job-3":
            seen += await next_job_ids(results, 1)
    # The one in hand when the connection went may come twice.
    assert list(dict.fromkeys(seen)) == ["job-1", "job-2", "job-3"]


@pytest.mark.parametrize("queue", [None, "mine"])
async def test_an_event_of_a_sender_is_read_over(vhost: Vhost, amqp: Amqp, queue: str | None) -> None:
    await amqp.declare_queue("mine", bind="default.#")
    await publish_results(amqp, 1)
    await publish_event(amqp)
    await publish_results(amqp, 2)
    async with closing(Producer(vhost.url).results(queue=queue, since="first")) as results:
        assert await next_job_ids(results, 2) == ["job-1", "job-2"]


async def test_a_queue_that_does_not_exist_is_refused_by_name(vhost: Vhost, amqp: Amqp) -> None:
    del amqp
    with pytest.raises(QueueRefused, match="there is no queue nowhere"):
        await anext(Producer(vhost.url).results(queue="nowhere"))


@pytest.mark.parametrize("kind", ["otpost.result.v2", None])
@pytest.mark.parametrize("queue", [None, "mine"])
async def test_a_message_of_another_type_is_read_over_and_does_not_stay_in_a_queue(
    vhost: Vhost, amqp: Amqp, queue: str | None, kind: str | None
) -> None:
    await amqp.declare_queue("mine", bind="default.#")
    await publish_results(amqp, 1)
    await amqp.publish(b'{"new": "format"}', exchange=STREAM, key="default.accepted", kind=kind)
    await publish_results(amqp, 2)
    async with closing(Producer(vhost.url).results(queue=queue, since="first")) as results:
        assert await next_job_ids(results, 2) == ["job-1", "job-2"]
    if queue is not None:
        await vhost.wait_for_ready("mine", 1)  # job-2's


@pytest.mark.parametrize("body", [b"hello", accepted_result(1).replace(b'"accepted"', b'"seen"')])
async def test_a_result_that_cannot_be_read_is_told_once_and_then_stands_in_nobodys_way(
    vhost: Vhost, amqp: Amqp, body: bytes
) -> None:
    await amqp.declare_queue("mine", bind="default.#")
    await amqp.publish(body, exchange=STREAM, key="default.seen", kind=RESULT_TYPE, message_id="job-1/1/1/seen")
    await publish_results(amqp, 2)
    producer = Producer(vhost.url)
    with pytest.raises(UnreadableResult, match=r"the message 'job-1/1/1/seen' says that it is .* but cannot be read"):
        await anext(producer.results(queue="mine"))
    async with closing(producer.results(queue="mine")) as results:
        assert await next_job_ids(results, 1) == ["job-2"]


async def test_results_cannot_be_read_from_nowhere(unused_tcp_port: int) -> None:
    with pytest.raises(BrokerUnreachable, match="does RabbitMQ run there"):
        await anext(Producer(f"amqp://127.0.0.1:{unused_tcp_port}/").results())


def test_a_reader_that_has_read_nothing_comes_back_to_when_it_began_and_any_other_to_behind_what_it_read() -> None:
    began = datetime(2026, 11, 23, 20, 0, tzinfo=UTC)
    # What is published while the connection is lost is not "next" any more for the connection after it.
    assert Position(None, "next").begun(began) == Position(None, began)
    assert Position(None, "first").begun(began) == Position(None, "first")
    assert Position(None, 7).begun(began) == Position(None, 7)
    assert Position(None, began).past(41) == Position(None, 42)
    # What comes from a queue has no place in the stream.
    assert Position("mine", "next").past(-1) == Position("mine", "next")


async def _cut(vhost: Vhost) -> None:
    """Have the broker close the reader's connection."""
    await vhost.wait_for_connections(1, "otpost results")
    assert await asyncio.to_thread(vhost.close_connections, "otpost results") == 1
