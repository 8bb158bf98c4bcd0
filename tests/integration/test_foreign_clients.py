"""Whoever can publish JSON to RabbitMQ is a producer: with any client, and with no properties at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import orjson
import pika
import pytest

from node_client import NODE, ensure, node_modules
from service import PATIENCE_S, in_seconds, running_service

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


# Each of these would end the connection of whoever reads it, and so of every worker in turn.
UNREADABLE: Final[dict[str, dict[str, Any]]] = {
    "correlation_id": {"reply_to": "answers", "correlation_id": b"\xff\xfe"},
    "reply_to": {"reply_to": b"\xff\xfe"},
    "message_id": {"message_id": b"\xff" * 255},
    "type": {"type": b"\xff"},
    "header": {"headers": {b"\xff": "x"}},
    "timestamp": {"timestamp": 2**63},
}


async def test_properties_that_nobody_can_read_do_not_stop_the_jobs_of_all(service: Service) -> None:
    def publish() -> None:
        with pika.BlockingConnection(pika.URLParameters(service.vhost.url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            for name, properties in UNREADABLE.items():
                told = pika.BasicProperties(delivery_mode=2, **properties)
                channel.basic_publish("otpost.jobs", "default", body_of(f"odd-{name}"), told, mandatory=True)

    await asyncio.to_thread(publish)
    for name in UNREADABLE:
        await service.wait_for_result(f"odd-{name}", "accepted")
    assert service.requests() == len(UNREADABLE)
