"""Whoever can publish JSON to RabbitMQ is a producer: with any client, and with no properties at all."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any, Final

import orjson
import pika
import pytest

from command import otpost
from node_client import NODE, ensure, node_modules
from published_results import accepted_result
from service import DEAD, PATIENCE_S, STREAM, declare_topology, in_seconds, running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker import Vhost
    from service import Service

NUMBER: Final = "+12015553932"
# On a machine that has neither, the first run installs amqp-publish and Node.
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="session")
def amqp_tools() -> None:
    ensure("ensure_amqp_tools.sh")


@pytest.fixture(scope="session")
def amqplib() -> Path:
    return node_modules()


@pytest.fixture
async def service(vhost: Vhost, tmp_path: Path) -> AsyncIterator[Service]:
    async with running_service(vhost, tmp_path) as running:
        yield running


def body_of(job_id: str) -> bytes:
    """Write a job whose age nothing tells: neither a property nor created_at."""
    return orjson.dumps({"id": job_id, "to": NUMBER, "code": "731904", "expires_at": in_seconds(300)})


async def run(*command: str, stdin: bytes) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            output, _ = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode()


async def assert_sent(service: Service, job_id: str) -> None:
    result = await service.wait_for_result(job_id, "accepted")
    assert result.body["to"] == "12*******32"
    assert result.body["latency_ms"] is None  # nothing says when the user asked
    [entry] = service.simulator.journal.entries()
    assert (entry.callback, entry.to, entry.code, entry.taken) == (job_id, NUMBER, "731904", True)
    assert service.statuses(job_id) == ["accepted"]


@pytest.mark.usefixtures("amqp_tools")
async def test_a_job_published_by_amqp_publish_is_sent_like_any_other(service: Service) -> None:
    url = f"--url={service.vhost.url}"
    await run("amqp-publish", url, "--exchange=otpost.jobs", "--routing-key=default", stdin=body_of("from-the-shell"))
    await assert_sent(service, "from-the-shell")


async def test_a_job_published_by_pika_without_properties_is_sent_like_any_other(service: Service) -> None:
    def publish() -> None:
        with pika.BlockingConnection(pika.URLParameters(service.vhost.url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish("otpost.jobs", "default", body_of("from-pika"), mandatory=True)

    await asyncio.to_thread(publish)
    await assert_sent(service, "from-pika")


@pytest.mark.usefixtures("amqplib")
async def test_a_job_published_by_nodes_amqplib_without_properties_is_sent_like_any_other(service: Service) -> None:
    await run("node", str(NODE / "publish.js"), service.vhost.url, "default", stdin=body_of("from-node"))
    await assert_sent(service, "from-node")


def nested(levels: int) -> bytes:
    """Write a table that holds a table that holds a table, as AMQP does."""
    table = b""
    for _ in range(levels):
        table = b"\x01aF" + struct.pack(">I", len(table)) + table
    return struct.pack(">I", len(table)) + table


class DeepHeader(pika.BasicProperties):
    """Properties with one header, nested deeper than a library that reads it by recursion can follow."""

    def encode(self) -> list[bytes]:
        return [struct.pack(">H", self.FLAG_HEADERS), nested(600)]


# Each of these would end the connection of whoever reads it, and so of every worker in turn.
UNREADABLE: Final[dict[str, dict[str, Any]]] = {
    "correlation_id": {"reply_to": "answers", "correlation_id": b"\xff\xfe"},
    "reply_to": {"reply_to": b"\xff\xfe"},
    "message_id": {"message_id": b"\xff" * 255},
    "type": {"type": b"\xff"},
    "header": {"headers": {b"\xff": "x"}},
    "timestamp": {"timestamp": 2**63},
}
# What is no UTF-8 in the frame before those of the properties.
UNREADABLE_KEY: Final = "m\u00fcnchen".encode("latin-1")


async def publish_with_pika(
    vhost: Vhost, *messages: tuple[Any, bytes, pika.BasicProperties | None], exchange: str = "otpost.jobs"
) -> None:
    """Publish messages, each a routing key, a body and properties, confirmed."""

    def publish() -> None:
        with pika.BlockingConnection(pika.URLParameters(vhost.url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            for key, body, properties in messages:
                channel.basic_publish(exchange, key, body, properties, mandatory=True)

    await asyncio.to_thread(publish)


async def test_properties_that_nobody_can_read_do_not_stop_the_jobs_of_all(service: Service) -> None:
    odd = {name: pika.BasicProperties(**told) for name, told in UNREADABLE.items()} | {"deep-header": DeepHeader()}
    await publish_with_pika(service.vhost, *(("default", body_of(f"odd-{name}"), told) for name, told in odd.items()))
    for name in odd:
        await service.wait_for_result(f"odd-{name}", "accepted")
    assert service.requests() == len(odd)


async def test_a_routing_key_that_nobody_can_read_does_not_stop_the_jobs_of_all_and_ends_as_a_dead_letter(
    service: Service,
) -> None:
    await publish_with_pika(
        service.vhost,
        (UNREADABLE_KEY, body_of("odd-key"), None),
        ("default", body_of("beside-it"), None),
        (UNREADABLE_KEY, body_of("odd-key-deep-header"), DeepHeader()),
        ("nobody", body_of("no-sender-deep-header"), DeepHeader()),
    )
    await service.wait_for_result("beside-it", "accepted")
    for job_id, sender in (("odd-key", "~unknown"), ("odd-key-deep-header", "~unknown")):
        failed = await service.wait_for_result(job_id, "failed")
        assert (failed.body["sender"], failed.body["error"]["kind"]) == (sender, "no_sender")
    letters = await service.wait_for_dead_letters(3)
    assert sorted((one.body["id"], one.headers["otpost-sender"]) for one in letters) == [
        ("no-sender-deep-header", "nobody"),
        ("odd-key", "~unknown"),
        ("odd-key-deep-header", "~unknown"),
    ]
    assert {one.headers["otpost-reason"] for one in letters} == {"no_sender"}
    # None of them cost a connection: the first delivery of each was the last.
    assert service.vhost.ready_count("otpost.dropped") == 0
    assert not service.requests("odd-key")


async def test_commands_read_past_a_message_that_nobody_can_read(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    letter = pika.BasicProperties(headers={"otpost-reason": "no_sender", "otpost-sender": "munich"})
    readable = pika.BasicProperties(type="otpost.result.v1")
    for exchange, body, told in ((DEAD, body_of("a-letter"), letter), (STREAM, accepted_result(7), readable)):
        await publish_with_pika(
            vhost, (UNREADABLE_KEY, body, None), ("odd", body, DeepHeader()), ("good", body, told), exchange=exchange
        )
    environment = {"OTPOST_BROKER_URL": vhost.url}
    listed = await otpost("dead", "list", "--json", environment=environment)
    assert listed.status == 0, listed.err
    # Three letters of one job and run are one.
    assert [one["job_id"] for one in listed.objects] == ["a-letter"]
    read = await otpost("results", "--json", environment=environment)
    assert read.status == 0, read.err
    assert [one["job_id"] for one in read.objects] == ["job-7"]
