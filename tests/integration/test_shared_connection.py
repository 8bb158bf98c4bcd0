"""A producer on a connection that its user has already: nothing of it is closed but what the producer opened."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import aio_pika
import pytest

from otpost import BrokerUnreachable, NoResult, NotConfirmed, OtpJob, Producer
from otpost.result import RESULT_TYPE
from published_results import accepted_result, closing
from service import CODE, NUMBER, PATIENCE_S, STREAM, declare_topology, running_service

if TYPE_CHECKING:
    from pathlib import Path

    from broker import Vhost

MINE: Final[Any] = {"connection_name": "mine"}


@pytest.fixture
async def broker(vhost: Vhost) -> Vhost:
    """A broker on which a worker for the sender 'default' has declared everything."""
    await declare_topology(vhost, "default")
    return vhost


def job(job_id: str) -> OtpJob:
    return OtpJob(id=job_id, to=NUMBER, code=CODE)


async def test_all_calls_go_over_the_connection_that_was_given_and_leave_it_open(vhost: Vhost, tmp_path: Path) -> None:
    async with running_service(vhost, tmp_path):
        connection = await aio_pika.connect(vhost.url, client_properties=MINE)
        async with connection:
            async with Producer(connection=connection) as producer:
                await producer.send(job("job-1"))
                await producer.send_many([job("job-2"), job("job-3")])
                assert (await producer.request(job("job-4"), timeout_s=PATIENCE_S)).status == "accepted"
                await vhost.wait_for_connections(1, "mine")
                await vhost.wait_for_connections(0, "otpost producer")
            # The user goes on with it, and a second producer as well.
            assert not connection.is_closed
            async with connection.channel() as channel:
                await channel.declare_queue("my-own", timeout=PATIENCE_S)
            async with Producer(connection=connection) as producer:
                await producer.send(job("job-5"))
            assert [name for name in vhost.queues() if name.startswith("reply.")] == []


async def test_results_are_read_from_the_broker_of_the_given_connection(broker: Vhost) -> None:
    broker.publish("default.accepted", accepted_result(7), exchange=STREAM, properties={"type": RESULT_TYPE})
    async with await aio_pika.connect(broker.url) as connection:
        producer = Producer(connection=connection)
        async with closing(producer.results(since="first")) as results, asyncio.timeout(PATIENCE_S):
            assert (await anext(results)).job_id == "job-7"


@pytest.mark.parametrize("by", ["its owner", "the broker"])
async def test_a_given_connection_that_is_closed_is_not_opened_again(broker: Vhost, by: str) -> None:
    connection = await aio_pika.connect(broker.url, client_properties=MINE)
    producer = Producer(connection=connection)
    await producer.send(job("job-1"))
    if by == "its owner":
        await connection.close()
    else:
        await broker.wait_for_connections(1, "mine")
        assert await asyncio.to_thread(broker.close_connections, "mine") == 1
        # The call that meets the loss cannot know what became of its job.
        with pytest.raises((NotConfirmed, BrokerUnreachable), match="given is closed"):
            await producer.send(job("job-1"))
    with pytest.raises(BrokerUnreachable, match="connection that this producer was given is closed") as raised:
        async with asyncio.timeout(PATIENCE_S):
            await producer.send(job("job-2"))
    assert raised.value.permanent
    assert "aio_pika.connect_robust" in str(raised.value)
    await producer.close()
    await connection.close()
    assert broker.ready_count("otpost.jobs.default") == 1


async def test_a_request_whose_given_connection_is_lost_raises_in_time(broker: Vhost) -> None:
    connection = await aio_pika.connect(broker.url, client_properties=MINE)
    producer = Producer(connection=connection)
    waiting = asyncio.create_task(producer.request(job("job-1"), timeout_s=3.0))
    await broker.wait_for_connections(1, "mine")
    assert await asyncio.to_thread(broker.close_connections, "mine") == 1
    with pytest.raises((NoResult, BrokerUnreachable)):
        await asyncio.wait_for(waiting, PATIENCE_S)
    await producer.close()
    await connection.close()


async def test_a_given_connection_that_comes_back_by_itself_is_waited_for(vhost: Vhost, tmp_path: Path) -> None:
    async with running_service(vhost, tmp_path):
        connection = await aio_pika.connect_robust(vhost.url, client_properties=MINE, reconnect_interval=0.1)
        async with connection, Producer(connection=connection, timeout_s=PATIENCE_S) as producer:
            assert (await producer.request(job("job-0"), timeout_s=PATIENCE_S)).status == "accepted"
            for number in range(1, 4):
                await vhost.wait_for_connections(1, "mine")
                assert await asyncio.to_thread(vhost.close_connections, "mine") == 1
                await producer.send(job(f"sent-{number}"))
                end = await producer.request(job(f"asked-{number}"), timeout_s=PATIENCE_S)
                assert end.status == "accepted"
            # What the library restores of its own accord is not added to what we open anew.
            await vhost.wait_for_connections(1, "mine")
            assert len([name for name in vhost.queues() if name.startswith("reply.")]) == 1
            assert channels_of(vhost, "mine") <= 2


def channels_of(vhost: Vhost, name: str) -> int:
    """How many channels the connections of that name have, as the broker counts them."""
    connections = vhost.api.request("GET", f"/vhosts/{vhost.name}/connections")
    return sum(one["channels"] for one in connections if one["client_properties"].get("connection_name") == name)
