"""What a receiver stores is on the broker before it is answered; where it is not, nobody is told that it is."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from broker_users import ROLES
from chaos.proxy import Proxy, Way
from otpost.declaring import TopologyDiffers
from otpost.errors import AccessRefused, BrokerUnreachable
from otpost_worker.brokers.rabbitmq.reconnecting import Reconnecting
from otpost_worker.brokers.rabbitmq.webhook_queue import STORED_WITHIN_S, WebhookQueue
from otpost_worker.outage_log import OutageLog
from otpost_worker.ports import NotStored
from otpost_worker.webhook_metrics import CONNECTION, WebhookMetrics
from service import declare_topology

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from broker import Vhost
    from otpost.topology import TopologyMode

NOW: Final = datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC)
PATIENCE_S: Final = 60.0
QUEUE: Final = "otpost.webhooks"


def through(vhost: Vhost, proxy: Proxy) -> str:
    return vhost.url.replace(f":{urlsplit(vhost.url).port}/", f":{proxy.port}/")


def queue_at(url: str, mode: TopologyMode = "declare", metrics: WebhookMetrics | None = None) -> WebhookQueue:
    reconnecting = Reconnecting(lambda: 0.0, OutageLog("broker"), metrics or WebhookMetrics())
    return WebhookQueue(url, name="otpost webhook", part=CONNECTION, mode=mode, reconnecting=reconnecting)


@asynccontextmanager
async def running(queue: WebhookQueue) -> AsyncIterator[WebhookQueue]:
    keeping = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def until_open(queue: WebhookQueue) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while queue.trouble is not None:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.02)


async def put_until_taken(queue: WebhookQueue, body: bytes) -> None:
    """As the provider does."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await queue.put(body, NOW)
            except NotStored:
                await asyncio.sleep(0.05)
            else:
                return


async def refusal(queue: WebhookQueue) -> str:
    """Store until that is refused: a full queue takes some more before it does."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await queue.put(b"{}", NOW)
            except NotStored as error:
                return str(error)


async def test_a_body_is_stored_raw_with_its_type_its_time_and_an_id_of_its_own(vhost: Vhost) -> None:
    async with running(queue_at(vhost.url)) as queue:
        # The same body twice: each POST has an id of its own.
        await queue.put(b'{ "a": 1 }', NOW)
        await queue.put(b'{ "a": 1 }', NOW)
    first, second = vhost.get(QUEUE, 2)
    for message in (first, second):
        assert message.body == b'{ "a": 1 }'
        assert message.properties["type"] == "otpost.webhook.v1"
        assert message.properties["content_type"] == "application/json"
        assert message.properties["delivery_mode"] == 2
        assert message.properties["timestamp"] == 1795694400  # date -u -d '2026-11-26 12:00' +%s
        assert len(message.properties["message_id"]) == 32
    assert first.properties["message_id"] != second.properties["message_id"]


async def test_a_thousand_at_once_are_stored_over_one_connection(vhost: Vhost) -> None:
    async with running(queue_at(vhost.url)) as queue:
        await asyncio.gather(*(queue.put(b"{}", NOW) for _ in range(1000)))
        await vhost.wait_for_connections(1, "webhooks")
    await vhost.wait_for_ready(QUEUE, 1000)


async def test_the_queue_is_declared_as_workers_declare_it(vhost: Vhost) -> None:
    async with running(queue_at(vhost.url)) as queue:
        await queue.put(b"{}", NOW)
    await declare_topology(vhost, "default")
    async with running(queue_at(vhost.url, "verify")) as queue:
        await queue.put(b"{}", NOW)
    assert set(vhost.queues()) >= {QUEUE, "otpost.jobs.default"}


async def test_a_broker_that_is_away_is_told_of_within_seconds_and_comes_back_by_itself(vhost: Vhost) -> None:
    metrics = WebhookMetrics()
    async with Proxy(vhost.node.port) as proxy, running(queue_at(through(vhost, proxy), metrics=metrics)) as queue:
        await queue.put(b'{"at": "first"}', NOW)
        await proxy.refuse()
        proxy.cut()
        with capture_logs() as lines:
            begun = time.monotonic()
            with pytest.raises(NotStored):
                await queue.put(b'{"at": "away"}', NOW)
            assert time.monotonic() - begun < STORED_WITHIN_S + 2
            assert queue.trouble is not None
            await asyncio.gather(*(queue.put(b"{}", NOW) for _ in range(20)), return_exceptions=True)
        # However many meet it.
        assert {"broker.lost", "broker.unreachable"} >= {line["event"] for line in lines}
        assert len(lines) <= 2
        await proxy.accept()
        await put_until_taken(queue, b'{"at": "back"}')
    assert metrics.registry.get_sample_value("otpost_reconnects_total", {"connection": "webhooks"}) == 1
    assert [message.body for message in vhost.get(QUEUE, 10)] == [b'{"at": "first"}', b'{"at": "back"}']


async def test_a_connection_that_breaks_before_the_confirm_costs_nothing_but_perhaps_a_copy(vhost: Vhost) -> None:
    async with Proxy(vhost.node.port) as proxy, running(queue_at(through(vhost, proxy))) as queue:
        await until_open(queue)
        proxy.stall(Way.TO_CLIENT)
        storing = asyncio.create_task(queue.put(b'{"at": "break"}', NOW))
        await vhost.wait_for_ready(QUEUE, 1)
        proxy.cut()
        proxy.resume()
        await storing
    # The same id, so that whoever reads it can tell.
    messages = vhost.get(QUEUE, 10)
    assert len(messages) == 2
    assert len({message.properties["message_id"] for message in messages}) == 1


async def test_a_broker_that_does_not_confirm_is_given_up_and_what_waits_there_with_it(vhost: Vhost) -> None:
    async with Proxy(vhost.node.port) as proxy, running(queue_at(through(vhost, proxy))) as queue:
        await until_open(queue)
        proxy.stall()
        with capture_logs() as lines:
            begun = time.monotonic()
            answers = await asyncio.gather(*(queue.put(b"{}", NOW) for _ in range(20)), return_exceptions=True)
            assert all(isinstance(answer, NotStored) for answer in answers)
            assert time.monotonic() - begun < STORED_WITHIN_S + 2
        assert [line["event"] for line in lines].count("publish.unconfirmed") == 1
        assert queue.notice is not None
        assert "does the broker block publishers" in queue.notice
        await proxy.heal()
        await put_until_taken(queue, b"{}")


async def test_a_queue_that_refuses_is_no_200(vhost: Vhost) -> None:
    async with running(queue_at(vhost.url)) as queue:
        await until_open(queue)
        vhost.set_policy("full", "^otpost.webhooks$", {"max-length": 1, "overflow": "reject-publish"})
        await vhost.wait_for_policies(QUEUE)
        with capture_logs() as lines:
            assert "a queue refused" in await refusal(queue)
        assert [(line["event"], line["log_level"]) for line in lines] == [("publish.refused", "error")]


async def test_a_queue_that_was_deleted_is_no_200_and_is_declared_again(vhost: Vhost) -> None:
    async with running(queue_at(vhost.url)) as queue:
        await until_open(queue)
        vhost.delete_queue(QUEUE)
        with capture_logs() as lines, pytest.raises(NotStored, match=r"there is no queue otpost\.webhooks"):
            await queue.put(b"{}", NOW)
        assert [line["event"] for line in lines] == ["publish.unroutable"]
        await put_until_taken(queue, b'{"at": "again"}')
    assert [message.body for message in vhost.get(QUEUE, 10)] == [b'{"at": "again"}']


async def test_what_waiting_does_not_mend_is_told_at_the_start(vhost: Vhost) -> None:
    with pytest.raises(BrokerUnreachable, match=r"guest@"):
        await queue_at(vhost.url.replace("//guest:guest@", "//guest:wrong@")).run()
    with pytest.raises(TopologyDiffers, match="otpost topology declare"):
        await queue_at(vhost.url, "passive").run()
    vhost.declare_queue(QUEUE, {"x-queue-type": "classic"})
    with pytest.raises(TopologyDiffers, match=r"otpost\.webhooks"):
        await queue_at(vhost.url).run()


async def test_the_rights_of_the_receivers_own_user_are_enough_and_it_can_read_nothing(vhost: Vhost) -> None:
    # Users belong to the whole broker, which other tests use too.
    role, user = ROLES["webhook"], f"webhook-{secrets.token_hex(6)}"
    vhost.api.request("PUT", f"/users/{user}", {"password": "of-this-test-only", "tags": ""})
    vhost.set_permissions(user=user, configure=role.configure, write=role.write, read=role.read)
    url = vhost.url.replace("//guest:guest@", f"//{user}:of-this-test-only@")
    try:
        async with running(queue_at(url)) as queue:
            await queue.put(b"{}", NOW)
        vhost.set_permissions(user=user, configure="^$", write=r"^(otpost\.webhooks|amq\.default)$", read="^$")
        with pytest.raises(AccessRefused, match="OTPOST_TOPOLOGY=passive"):
            await queue_at(url).run()
        async with running(queue_at(url, "passive")) as queue:
            await queue.put(b"{}", NOW)
    finally:
        vhost.api.request("DELETE", f"/users/{user}")
    assert len(vhost.get(QUEUE, 10)) == 2
