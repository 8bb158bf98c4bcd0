"""What docs/deployment.md says a RabbitMQ user needs is enough, and is no more than its role."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import aio_pika
import pytest
from aiormq.exceptions import ChannelAccessRefused

from broker_users import ROLES, definitions, password_hash
from command import otpost
from otpost import OtpJob, Producer
from otpost.errors import UnknownSender
from otpost_worker.simulator import Simulator, SimulatorOptions
from service import CODE, NUMBER, PATIENCE_S, job_body
from worker_process import worker_environment, worker_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from broker import Vhost
    from otpost.result import OtpResult

PASSWORD: Final = "of-this-test-only"
# The simulator answers with 131026, "undeliverable", for ever: a dead letter.
UNDELIVERABLE: Final = "+999131026000001"
# It answers once with 131000, "something went wrong": the job goes over the ladder.
ON_THE_SECOND_TRY: Final = "+999131000100001"


@pytest.fixture
def urls(vhost: Vhost) -> Iterator[dict[str, str]]:
    """Import the users as RabbitMQ does at its start in docker-compose.yml."""
    hashes = {name: password_hash(PASSWORD, b"salt") for name in ROLES}
    vhost.api.request("POST", "/definitions", definitions(hashes, vhost.name))
    try:
        yield {name: vhost.url.replace("//guest:guest@", f"//{name}:{PASSWORD}@") for name in ROLES}
    finally:
        for name in ROLES:
            vhost.api.request("DELETE", f"/users/{name}")


async def results_of(producer: Producer, job_id: str) -> AsyncIterator[OtpResult]:
    """A job's results, to its end."""
    async for result in producer.results(since="first"):
        if result.job_id == job_id:
            yield result
            if result.ends_job:
                return


async def publish_as_a_foreigner(url: str, body: bytes, *, sender: str) -> None:
    async with await aio_pika.connect(url) as connection:
        exchange = await (await connection.channel()).get_exchange("otpost.jobs", ensure=False)
        await exchange.publish(aio_pika.Message(body, delivery_mode=2), sender)


async def test_with_these_permissions_jobs_are_sent_and_told_of_and_their_dead_letters_replayed(
    vhost: Vhost, urls: dict[str, str], tmp_path: Path
) -> None:
    operator = {"OTPOST_BROKER_URL": urls["operator"]}
    async with Simulator(SimulatorOptions(rate=0, pair=False)) as provider:
        environment = worker_environment(vhost, tmp_path, provider.url, broker_url=urls["worker"])
        # The worker declares the topology itself, on an empty virtual host.
        async with worker_process(environment) as worker, Producer(urls["producer"]) as producer:
            with pytest.raises(UnknownSender):
                await producer.send(OtpJob(to=NUMBER, code=CODE), sender="nobody")
            end = await producer.request(OtpJob(to=NUMBER, code=CODE), timeout_s=PATIENCE_S)
            async with asyncio.timeout(PATIENCE_S):
                from_the_stream = await anext(producer.results(since=timedelta(hours=1)))
            assert end.status == "accepted"
            assert from_the_stream == end
            delayed = await producer.send(OtpJob(to=ON_THE_SECOND_TRY, code=CODE, id="delayed-1"))
            async with asyncio.timeout(PATIENCE_S):
                statuses = [one.status.value async for one in results_of(producer, delayed)]
            assert statuses == ["retrying", "accepted"]
            dead = await producer.send(OtpJob(to=UNDELIVERABLE, code=CODE, id="dead-1"))
            await vhost.wait_for_ready("otpost.dead", 1, timeout_s=PATIENCE_S)
            listed = await otpost("dead", "list", "--json", environment=operator)
            assert [one["job_id"] for one in listed.objects] == [dead]
            replayed = await otpost("dead", "replay", dead, "--yes", environment=operator)
            assert replayed.status == 0, replayed.err
            sent = await otpost(
                *("send", "--to", NUMBER, "--code-stdin", "--template", "verification_code", "--language", "en_US"),
                *("--wait", "30"),
                stdin=CODE.encode(),
                environment=operator,
            )
            assert sent.status == 0, sent.err
            declared = await otpost("topology", "declare", "--sender", "default", environment=operator)
            assert declared.status == 0, declared.err
            # What has no queue goes through the dropped jobs, whose reader buries it.
            await publish_as_a_foreigner(urls["producer"], job_body(id="lost-1"), sender="nobody")
            async with asyncio.timeout(PATIENCE_S):
                assert [one.status.value async for one in results_of(producer, "lost-1")] == ["failed"]
            await worker.stop()


async def test_a_passive_worker_needs_no_right_to_configure(vhost: Vhost, urls: dict[str, str], tmp_path: Path) -> None:
    declared = await otpost(
        "topology", "declare", "--sender", "default", environment={"OTPOST_BROKER_URL": urls["operator"]}
    )
    assert declared.status == 0, declared.err
    vhost.set_permissions(user="worker", configure="^$", write="^(otpost\\.|amq\\.default$)", read="^otpost\\.")
    async with Simulator(SimulatorOptions(rate=0, pair=False)) as provider:
        environment = worker_environment(vhost, tmp_path, provider.url, broker_url=urls["worker"], topology="passive")
        async with worker_process(environment) as worker, Producer(urls["producer"]) as producer:
            end = await producer.request(OtpJob(to=ON_THE_SECOND_TRY, code=CODE), timeout_s=PATIENCE_S)
            assert (end.status, end.attempt) == ("accepted", 2)
            assert worker.warnings() == []
            await worker.stop()
        # Where another worker has told its ledger, this one may not compare; that is worth a warning, and no more.
        vhost.api.request("PUT", f"/exchanges/{vhost.name}/otpost.ledger", {"type": "fanout", "durable": True})
        async with worker_process(environment) as worker:
            [said] = worker.warnings()
            assert said["event"] == "ledger.not_compared"
            assert said["error"].endswith("; give the user the rights to configure, write and read 'otpost.ledger'")
            await worker.stop()


# Whoever publishes jobs must not read those of others, nor dead letters: both hold codes.
@pytest.mark.parametrize(
    ("role", "queue"),
    [
        ("producer", "otpost.jobs.default"),
        ("producer", "otpost.dropped"),
        ("producer", "otpost.dead"),
        ("worker", "somebody.elses"),
        ("operator", "somebody.elses"),
    ],
)
async def test_a_role_cannot_read_what_is_not_its_business(
    vhost: Vhost, urls: dict[str, str], role: str, queue: str
) -> None:
    vhost.declare_queue(queue)
    async with await aio_pika.connect(urls[role]) as connection:
        found = await (await connection.channel()).get_queue(queue, ensure=False)
        with pytest.raises(ChannelAccessRefused):
            await found.get(fail=False)


@pytest.mark.parametrize(
    ("role", "queue"), [("producer", "otpost.jobs.mine"), ("worker", "mine"), ("operator", "mine")]
)
async def test_a_role_cannot_declare_what_is_not_its_business(urls: dict[str, str], role: str, queue: str) -> None:
    async with await aio_pika.connect(urls[role]) as connection:
        channel = await connection.channel()
        with pytest.raises(ChannelAccessRefused):
            await channel.declare_queue(queue, durable=True)
