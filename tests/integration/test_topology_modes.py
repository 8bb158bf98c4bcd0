"""Comparing the broker with what is needed: every difference is found, and nothing is touched by looking."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from command import otpost
from otpost import AccessRefused, provisioning, rabbitmq
from otpost.declaring import TopologyDiffers, declare
from otpost.topology import Queue, Topology, topology
from service import PATIENCE_S, declare_topology

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aio_pika.abc import AbstractConnection
    from aiormq import Channel as WireChannel

    from broker import Vhost

DEAD: Final = "otpost.dead"
JOB_QUEUE: Final = "otpost.jobs.default"
DEFAULT: Final = topology(["default"])


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AbstractConnection]:
    connection = await rabbitmq.connect(url, name="test", timeout_s=PATIENCE_S)
    try:
        yield connection
    finally:
        await rabbitmq.close_quietly(connection)


@pytest.fixture
async def connection(vhost: Vhost) -> AsyncIterator[AbstractConnection]:
    async with connected(vhost.url) as opened:
        yield opened


def everything_on(vhost: Vhost) -> dict[str, Any]:
    queues = {name: (queue.type, queue.durable, queue.arguments) for name, queue in vhost.queues().items()}
    return {"queues": queues, "exchanges": vhost.exchanges(), "bindings": vhost.bindings()}


def put_exchange(vhost: Vhost, name: str, **fields: object) -> None:
    vhost.api.request("PUT", f"/exchanges/{vhost.name}/{name}", {"durable": True, "auto_delete": False, **fields})


def delete_exchange(vhost: Vhost, name: str) -> None:
    vhost.api.request("DELETE", f"/exchanges/{vhost.name}/{name}")


async def told(connection: AbstractConnection, wanted: Topology = DEFAULT) -> list[str]:
    return [str(finding) for finding in await provisioning.verify(connection, wanted)]


async def test_what_was_just_declared_is_as_needed(vhost: Vhost, connection: AbstractConnection) -> None:
    await declare_topology(vhost, "default")
    assert await told(connection) == []


async def test_all_that_is_missing_is_named_and_stays_missing(vhost: Vhost, connection: AbstractConnection) -> None:
    findings = await told(connection, topology(["us", "de"]))
    assert len(findings) == 20 + 22
    assert {
        "exchange otpost.jobs is missing",
        "queue otpost.jobs.de is missing",
        "queue otpost.delay.14 is missing",
    } <= {*findings}
    assert everything_on(vhost) == {"queues": {}, "exchanges": {}, "bindings": set()}


async def test_every_difference_of_a_queue_is_told_and_none_is_mended(
    vhost: Vhost, connection: AbstractConnection
) -> None:
    vhost.declare_queue(
        JOB_QUEUE, {"x-queue-type": "quorum", "x-delivery-limit": 7, "x-max-length": 10, "x-overflow": "reject-publish"}
    )
    vhost.declare_queue(DEAD, {"x-message-ttl": 60000}, durable=False)
    vhost.declare_queue("otpost.results", {"x-queue-type": "stream", "x-max-age": "1D"})
    await declare_rest(connection, JOB_QUEUE, DEAD, "otpost.results")
    before = everything_on(vhost)
    assert sorted(await told(connection)) == [
        "queue otpost.dead: durable is false, should be true",
        "queue otpost.dead: x-message-ttl is 60000, should be 1209600000",
        "queue otpost.dead: x-queue-type is classic, should be quorum",
        "queue otpost.jobs.default: x-dead-letter-exchange is not set, should be otpost.dropped",
        "queue otpost.jobs.default: x-dead-letter-strategy is not set, should be at-least-once",
        "queue otpost.jobs.default: x-delivery-limit is 7, should be 20",
        "queue otpost.jobs.default: x-max-length is 10, should be not set",
        "queue otpost.results: x-max-age is 1D, should be 7D",
        "queue otpost.results: x-max-length-bytes is not set, should be 1073741824",
        "queue otpost.results: x-stream-max-segment-size-bytes is not set, should be 64000000",
    ]
    assert everything_on(vhost) == before


async def test_the_first_difference_of_an_exchange_is_told(vhost: Vhost, connection: AbstractConnection) -> None:
    await declare_topology(vhost, "default")
    for name in ("otpost.jobs", "otpost.due"):
        delete_exchange(vhost, name)
    put_exchange(vhost, "otpost.jobs", type="topic")
    put_exchange(vhost, "otpost.due", type="topic", arguments={"alternate-exchange": "elsewhere"})
    before = everything_on(vhost)
    assert await told(connection) == [
        "exchange otpost.jobs: type is topic, should be direct",
        "exchange otpost.due: alternate-exchange is elsewhere, should be otpost.dropped",
    ]
    assert everything_on(vhost) == before


async def declare_rest(connection: AbstractConnection, *but: str) -> None:
    """Declare all but these queues, with no bindings."""
    queues = tuple(queue for queue in DEFAULT.queues if queue.name not in but)
    await declare(connection, Topology(DEFAULT.exchanges, queues, ()))


async def test_a_queue_that_is_deleted_while_it_is_looked_at_is_not_made_again(
    vhost: Vhost, connection: AbstractConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await declare_topology(vhost, "default")
    ask = provisioning._Questions.ask
    asked: list[str] = []

    async def ask_and_delete(
        self: provisioning._Questions, question: Callable[[WireChannel], Awaitable[object]]
    ) -> object:
        answer = await ask(self, question)
        if not asked:
            # Between "does it exist?" and "is it as needed?".
            await asyncio.to_thread(vhost.delete_queue, DEAD)
        asked.append("question")
        return answer

    monkeypatch.setattr(provisioning._Questions, "ask", ask_and_delete)
    [dead] = [queue for queue in DEFAULT.queues if queue.name == DEAD]
    assert await told(connection, Topology((), (dead,), ())) == ["queue otpost.dead is missing"]
    assert len(asked) == 2
    assert vhost.queue(DEAD) is None


async def test_without_the_right_to_configure_the_arguments_are_said_to_be_unchecked(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    vhost.set_permissions(configure="^$")
    async with connected(vhost.url) as connection:
        findings = await told(connection)
        with pytest.raises(AccessRefused, match="declaring needs the rights to configure, write and read 'otpost"):
            await declare(connection, DEFAULT)
    assert len(findings) == 20 + 21
    assert "queue otpost.dead cannot be checked: " in " ".join(findings)


async def test_passive_asks_for_the_queues_consumed_and_for_nothing_else(
    vhost: Vhost, connection: AbstractConnection
) -> None:
    consumed = [JOB_QUEUE, "otpost.dropped"]
    vhost.declare_queue("otpost.dropped")  # its arguments are somebody else's business
    with pytest.raises(TopologyDiffers) as raised:
        await provisioning.provision(connection, DEFAULT, "passive", consumed=consumed)
    assert [str(finding) for finding in raised.value.findings] == ["queue otpost.jobs.default is missing"]
    vhost.declare_queue(JOB_QUEUE)
    await provisioning.provision(connection, DEFAULT, "passive", consumed=consumed)
    assert vhost.queues().keys() == {*consumed}


async def test_declare_names_what_differs(vhost: Vhost, connection: AbstractConnection) -> None:
    vhost.declare_queue(DEAD, {"x-queue-type": "quorum", "x-delivery-limit": 5})
    with pytest.raises(TopologyDiffers) as raised:
        await provisioning.provision(connection, DEFAULT, "declare", consumed=[])
    [finding] = raised.value.findings
    assert (finding.kind, finding.name) == ("queue", DEAD)
    assert finding.argument in ("x-delivery-limit", "x-message-ttl")


async def test_a_difference_closes_no_channel_but_its_own(vhost: Vhost, connection: AbstractConnection) -> None:
    vhost.declare_queue("mine", {"x-queue-type": "quorum"})
    consumer = await rabbitmq.Consumer.open(connection, "mine", lambda _: None, prefetch=1)
    differing = Topology((), (Queue("mine", {"x-queue-type": "quorum", "x-delivery-limit": 5}),), ())
    assert await told(connection, differing) == ["queue mine: x-delivery-limit is not set, should be 5"]
    with pytest.raises(TopologyDiffers):
        await declare(connection, differing)
    assert not consumer.is_dead


async def test_the_command_lists_differences_and_ends_with_1(vhost: Vhost, connection: AbstractConnection) -> None:
    vhost.declare_queue(DEAD, {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000, "x-message-ttl": 5})
    await declare_rest(connection, DEAD)
    environment = {"OTPOST_BROKER_URL": vhost.url}
    for_people, as_json, missing = await asyncio.gather(
        otpost("topology", "verify", "--sender", "default", environment=environment),
        otpost("topology", "verify", "--sender", "default", "--json", environment=environment),
        otpost("topology", "verify", "--sender", "default", "--sender", "de", "--json", environment=environment),
    )
    assert (for_people.status, as_json.status, missing.status) == (1, 1, 1)
    assert for_people.out == "queue otpost.dead: x-message-ttl is 5, should be 1209600000\n"
    where = f"amqp://guest@127.0.0.1:{vhost.node.port}/{vhost.name}"
    remedy = "arguments cannot be changed: once what differs is empty and unused, delete it"
    assert for_people.err == f"otpost: 1 findings on {where}. {remedy}\n"
    differs = {
        "kind": "queue", "name": "otpost.dead", "trouble": "differs", "argument": "x-message-ttl",
        "expected": "1209600000", "found": "5", "detail": None,
    }  # fmt: skip
    assert as_json.objects == [differs]
    gone = {"trouble": "missing", "argument": None, "expected": None, "found": None, "detail": None}
    assert missing.objects == [differs, {"kind": "queue", "name": "otpost.jobs.de", **gone}]
    assert vhost.queue("otpost.jobs.de") is None


async def test_the_command_ends_with_0_where_all_is_as_needed_and_needs_a_sender(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    environment = {"OTPOST_BROKER_URL": vhost.url}
    well, nobody = await asyncio.gather(
        otpost("topology", "verify", "--sender", "default", environment=environment),
        otpost("topology", "verify", environment=environment),
    )
    assert (well.status, well.err) == (0, "")
    assert well.out == (
        f"20 exchanges and 21 queues are as needed on amqp://guest@127.0.0.1:{vhost.node.port}/{vhost.name}; "
        "bindings and policies were not checked\n"
    )
    assert nobody.status == 1
    assert nobody.err.startswith("otpost: no sender is configured: ")
