"""The producer and its connection: what it says where there is none, and how it comes through losing it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest

from otpost import BrokerUnreachable, NotConfirmed, OtpJob, Producer, rabbitmq
from private_rabbitmq import PASSWORD
from service import CODE, NUMBER, PATIENCE_S, Amqp, declare_topology

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from broker import Vhost
    from private_rabbitmq import PrivateRabbitMQ


class TestBrokerUnreachable:
    """The message says what is wrong, where, and what to do; it never shows the password."""

    async def message_of(self, url: str, *, permanent: bool) -> str:
        with pytest.raises(BrokerUnreachable) as raised:
            async with Producer(url, timeout_s=3.0):
                pass
        assert raised.value.permanent is permanent
        assert "s3cret" not in str(raised.value)
        assert "s3cret" not in repr(raised.value)
        return str(raised.value)

    async def test_nothing_listens_on_the_port(self, unused_tcp_port: int) -> None:
        message = await self.message_of(f"amqp://eve:s3cret@127.0.0.1:{unused_tcp_port}/", permanent=False)
        assert message.startswith(f"amqp://eve@127.0.0.1:{unused_tcp_port}/: ")
        assert "does RabbitMQ run there?" in message

    async def test_the_password_is_wrong(self, vhost: Vhost) -> None:
        message = await self.message_of(vhost.url.replace(f":{PASSWORD}@", ":s3cret@"), permanent=True)
        assert message.startswith(f"amqp://guest@127.0.0.1:{vhost.node.port}/{vhost.name}: ")
        assert "the broker refuses the login; check user and password in OTPOST_BROKER_URL" in message

    async def test_there_is_no_such_virtual_host(self, vhost: Vhost) -> None:
        message = await self.message_of(f"{vhost.node.amqp_url_of('nowhere')}", permanent=True)
        assert message.startswith(f"amqp://guest@127.0.0.1:{vhost.node.port}/nowhere: ")
        assert "nowhere" in message.partition(": ")[2]
        assert "check the virtual host at the end of the URL" in message

    @pytest.mark.parametrize("scheme", ["http", "redis", "sqlite"])
    async def test_the_url_is_no_brokers(self, scheme: str) -> None:
        message = await self.message_of(f"{scheme}://eve:s3cret@127.0.0.1:5672/", permanent=True)
        assert message == (
            f"{scheme}://eve@127.0.0.1:5672/: a broker's URL begins with amqp:// or amqps://; see OTPOST_BROKER_URL"
        )

    @pytest.mark.parametrize("password", ["/s3cret", "8/s3cret", "12?s3cret", "12#s3cret", "s3cret/1"])
    async def test_a_password_is_not_percent_encoded(self, password: str) -> None:
        message = await self.message_of(f"amqp://eve:{password}@127.0.0.1/", permanent=True)
        assert message == (
            "(a URL that cannot be read: it has to be scheme://user:password@host:port/…, and in its password / ? # @ "
            "have to be written %2F %3F %23 %40); see OTPOST_BROKER_URL"
        )

    async def test_a_server_of_http_listens_there(self) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(8)
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            writer.close()

        async with foreign_server(answer) as port:
            message = await self.message_of(f"amqp://eve:s3cret@127.0.0.1:{port}/", permanent=True)
        assert message.startswith(f"amqp://eve@127.0.0.1:{port}/: ")
        assert "what listens there is no RabbitMQ, but another service; RabbitMQ's port is 5672" in message

    async def test_a_server_that_echoes_listens_there(self) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(100):
                writer.write(data)
            writer.close()

        async with foreign_server(answer) as port:
            message = await self.message_of(f"amqp://eve:s3cret@127.0.0.1:{port}/", permanent=False)
        assert message.startswith(f"amqp://eve@127.0.0.1:{port}/: ")
        assert "what listens there does not answer as RabbitMQ does; RabbitMQ's port is 5672" in message

    async def test_a_server_that_never_answers_is_given_up_after_the_timeout(self) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async with foreign_server(answer) as port:
            begun = time.monotonic()
            message = await self.message_of(f"amqp://eve:s3cret@127.0.0.1:{port}/", permanent=False)
        assert time.monotonic() - begun >= 2.9
        assert "no answer within 3 s; is a firewall in between, or another service on that port?" in message


async def test_of_a_job_that_found_no_broker_in_time_nobody_reads_that_it_may_be_stored(unused_tcp_port: int) -> None:
    producer = Producer(f"amqp://127.0.0.1:{unused_tcp_port}/", timeout_s=0.5)
    try:
        with pytest.raises(BrokerUnreachable, match=r"for 0\.5 s"):
            await producer.send(OtpJob(to=NUMBER, code=CODE))
    finally:
        await producer.close()


@contextlib.asynccontextmanager
async def foreign_server(answer: Any) -> AsyncIterator[int]:  # noqa: ANN401 - a stream handler
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_of_a_killed_broker_the_impatient_hear_what_to_send_again_and_the_patient_wait_until_it_is_back(
    own_node: PrivateRabbitMQ, own_vhost: Vhost
) -> None:
    await declare_topology(own_vhost, "default")
    confirmed: set[str] = set()
    flowing = asyncio.Event()
    dead = asyncio.Event()

    def count(job: OtpJob) -> None:
        confirmed.add(job.id)
        if len(confirmed) >= 200:
            flowing.set()

    async with (
        Producer(own_vhost.url, timeout_s=2.0, max_in_flight=64) as producer,
        Producer(own_vhost.url, timeout_s=PATIENCE_S) as patient,
    ):
        await patient.send(OtpJob(id="before", to=NUMBER, code=CODE))
        sending = asyncio.create_task(producer.send_many(_jobs_until(dead), on_confirmed=count))
        async with asyncio.timeout(PATIENCE_S):
            await flowing.wait()
        # Jobs go on being published during both, so that the kill strikes some that are in flight.
        await asyncio.to_thread(own_node.sync)
        await own_node.kill_async()
        dead.set()
        waiting = asyncio.create_task(patient.send(OtpJob(id="during", to=NUMBER, code=CODE)))
        with pytest.raises(NotConfirmed, match="may safely be sent again") as raised:
            await sending
        unconfirmed = set(raised.value.job_ids)
        assert unconfirmed
        assert not unconfirmed & confirmed
        assert CODE not in str(raised.value)
        assert NUMBER not in str(raised.value)
        assert not waiting.done()

        await own_node.start_async()
        assert await waiting == "during"
        await patient.send_many(OtpJob(id=job_id, to=NUMBER, code=CODE) for job_id in unconfirmed)
    wanted = confirmed | unconfirmed | {"before", "during"}
    assert await _stored_ids(own_vhost, wanted) == wanted


def _jobs_until(dead: asyncio.Event) -> Iterator[OtpJob]:
    """Give jobs until the broker is dead, and then a few that it cannot have taken."""
    last = 30
    for number in itertools.count():
        last -= dead.is_set()
        if last == 0:
            return
        yield OtpJob(id=f"job-{number}", to=NUMBER, code=CODE)


async def _stored_ids(vhost: Vhost, wanted: set[str]) -> set[str]:
    async with Amqp.connect(vhost.url) as amqp:
        tap = await amqp.tap("otpost.jobs.default")
        await tap.wait_for_count(len(wanted))
        # What was sent twice may still come; what is missing would be missed here.
        async with asyncio.timeout(PATIENCE_S):
            while not wanted <= (stored := {str(one.body["id"]) for one in tap.seen}):
                await tap.wait_for_count(len(tap.seen) + 1)
        return stored


async def test_a_connection_that_the_broker_closed_is_opened_again_by_the_next_call(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    async with Producer(vhost.url) as producer:
        await vhost.wait_for_connections(1, "otpost producer")
        for number in range(3):
            vhost.close_connections("otpost producer")
            await producer.send(OtpJob(id=f"job-{number}", to=NUMBER, code=CODE))
            await vhost.wait_for_connections(1, "otpost producer")
    assert vhost.ready_count("otpost.jobs.default") == 3
    await vhost.wait_for_connections(0, "otpost producer")


async def test_send_many_too_opens_a_connection_again_that_the_broker_closed(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    async with Producer(vhost.url) as producer:
        await vhost.wait_for_connections(1, "otpost producer")
        vhost.close_connections("otpost producer")  # without giving the client a chance to notice
        await producer.send_many(OtpJob(id=f"job-{number}", to=NUMBER, code=CODE) for number in range(3))
    assert vhost.ready_count("otpost.jobs.default") == 3


async def test_jobs_in_flight_while_connections_are_closed_are_all_stored(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    jobs = [OtpJob(id=f"job-{number}", to=NUMBER, code=CODE) for number in range(2000)]
    async with Producer(vhost.url, timeout_s=PATIENCE_S) as producer:
        await vhost.wait_for_connections(1, "otpost producer")
        sending = asyncio.create_task(producer.send_many(jobs))
        assert await asyncio.to_thread(vhost.close_connections, "otpost producer") == 1
        assert not sending.done()
        assert await sending == [job.id for job in jobs]
    assert await _stored_ids(vhost, {job.id for job in jobs}) == {job.id for job in jobs}


async def test_the_producer_that_was_left_has_no_connection(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    async with Producer(vhost.url):
        await vhost.wait_for_connections(1, "otpost producer")
    await vhost.wait_for_connections(0, "otpost producer")


async def test_opening_a_channel_on_a_connection_that_has_just_gone_says_that_it_is_lost(vhost: Vhost) -> None:
    connection = await rabbitmq.connect(vhost.url, name="test", timeout_s=PATIENCE_S)
    assert connection.transport is not None
    # The wire is gone, and the library's connection on top of it has not been told yet.
    await connection.transport.connection.close()
    with pytest.raises(rabbitmq.ConnectionLost):
        await rabbitmq.Publisher.open(connection)
    await rabbitmq.close_quietly(connection)
