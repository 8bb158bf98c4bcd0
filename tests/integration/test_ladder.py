"""The topology as it stands on the broker, and the delay ladder: never early, in order, and through a restart."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import orjson

from otpost.topology import delay_route
from service import PATIENCE_S, Amqp, Tap, declare_topology, running_service

if TYPE_CHECKING:
    from pathlib import Path

    from broker import Vhost

JOBS: Final = "otpost.jobs.default"
# A timestamp is taken before the message is published and after it has come; no clock is involved that could
# make a message look early. The broker's timers are exact to a millisecond.
EARLY_S: Final = 0.002


async def publish_delayed(amqp: Amqp, name: str, delay_s: float, destination: str = "default") -> None:
    exchange, key = delay_route(delay_s, destination)
    body = orjson.dumps({"name": name, "delay_s": delay_s, "published_at": time.time()})
    await amqp.publish(body, exchange=exchange, key=key)


def waits(tap: Tap) -> dict[str, tuple[float, float]]:
    """Tell of every message what delay it was given and how long it took."""
    return {one.body["name"]: (one.body["delay_s"], one.came_at - one.body["published_at"]) for one in tap.seen}


async def test_a_worker_declares_the_whole_topology(vhost: Vhost, tmp_path: Path) -> None:
    async with running_service(vhost, tmp_path, senders={"default": {}, "de": {}}):
        queues, exchanges = vhost.queues(), vhost.exchanges()
    levels = [f"otpost.delay.{level:02}" for level in range(15)]
    jobs = ["otpost.jobs.default", "otpost.jobs.de"]
    others = ["otpost.results", "otpost.dropped", "otpost.webhooks", "otpost.checks", "otpost.dead"]
    assert set(queues) == {*levels, *jobs, *others}
    assert {name: queue.type for name, queue in queues.items() if queue.type != "quorum"} == {
        "otpost.results": "stream"
    }
    assert all(queue.durable for queue in queues.values())
    assert exchanges == {
        "otpost.jobs": "direct",
        "otpost.due": "topic",
        "otpost.results": "topic",
        "otpost.dropped": "fanout",
        "otpost.dead": "fanout",
        "otpost.ledger": "fanout",
        **dict.fromkeys(levels, "topic"),
    }
    at_least_once = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
    for name in jobs:
        assert queues[name].arguments == {
            "x-queue-type": "quorum", "x-delivery-limit": 20,
            "x-dead-letter-exchange": "otpost.dropped", **at_least_once,
        }  # fmt: skip
    for level, name in enumerate(levels):
        below = f"otpost.delay.{level - 1:02}" if level else "otpost.due"
        assert queues[name].arguments == {
            "x-queue-type": "quorum", "x-delivery-limit": 1_000_000, "x-message-ttl": 250 * 2**level,
            "x-dead-letter-exchange": below, **at_least_once,
        }  # fmt: skip
    no_limit = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}
    for name in ("otpost.dropped", "otpost.webhooks", "otpost.checks"):
        assert queues[name].arguments == no_limit
    assert queues["otpost.dead"].arguments == {**no_limit, "x-message-ttl": 14 * 24 * 3600 * 1000}
    stream = queues["otpost.results"].arguments
    assert (stream["x-max-age"], stream["x-max-length-bytes"]) == ("7D", 1 << 30)


async def test_the_exchanges_that_lose_nothing_have_the_dropped_exchange_as_alternate(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    answer: list[dict[str, Any]] = vhost.api.request("GET", f"/exchanges/{vhost.name}")
    alternates = {one["name"]: one["arguments"].get("alternate-exchange") for one in answer if one["arguments"]}
    assert alternates == {"otpost.jobs": "otpost.dropped", "otpost.due": "otpost.dropped"}


async def test_the_bindings_lead_where_they_should(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    any_bits = "*." * 15
    bindings = vhost.bindings()
    assert {
        ("otpost.jobs", "default", "otpost.jobs.default"),
        ("otpost.results", "#", "otpost.results"),
        ("otpost.dropped", "", "otpost.dropped"),
        ("otpost.dead", "", "otpost.dead"),
        ("otpost.due", f"{any_bits}default", "otpost.jobs.default"),
        ("otpost.due", f"{any_bits}~checks", "otpost.checks"),
        ("otpost.due", f"{any_bits}~webhooks", "otpost.webhooks"),
        ("otpost.delay.14", "1.#", "otpost.delay.14"),
        ("otpost.delay.14", "0.#", "otpost.delay.13"),
        ("otpost.delay.00", f"{'*.' * 14}1.#", "otpost.delay.00"),
        ("otpost.delay.00", f"{'*.' * 14}0.#", "otpost.due"),
    } <= bindings
    assert len(bindings) == 37


async def test_delays_from_250_ms_to_20_s_are_kept_and_the_short_overtake_the_long(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    delays = [20.0, 16.25, 10.5, 7.75, 5.0, 4.0, 3.75, 3.0, 2.0, 1.75, 1.5, 1.0, 0.75, 0.5, 0.3, 0.25]
    async with Amqp.connect(vhost.url) as amqp:
        tap = await amqp.tap(JOBS)
        # The longest first, each twice, so that whatever waits its turn instead of its time is overtaken by nobody.
        await asyncio.gather(*(publish_delayed(amqp, f"{delay}/{copy}", delay) for delay in delays for copy in (1, 2)))
        await tap.wait_for_count(32)
    assert len(tap.seen) == 32
    took = waits(tap)
    early = {name: it for name, it in took.items() if it[1] < it[0] - EARLY_S}
    assert not early
    # Rounded up to the next 250 ms, and late by less than the machine may be busy.
    late = {name: it for name, it in took.items() if it[1] > it[0] + 0.25 + 10}
    assert not late
    arrived = [one.body["delay_s"] for one in tap.seen if one.body["delay_s"] in (20.0, 10.5, 5.0, 0.25)]
    assert arrived == [0.25, 0.25, 5.0, 5.0, 10.5, 10.5, 20.0, 20.0]


async def test_the_ladder_brings_a_message_to_the_destination_that_its_key_names(vhost: Vhost) -> None:
    await declare_topology(vhost, "default", "de")
    destinations = {"default": JOBS, "de": "otpost.jobs.de", "~checks": "otpost.checks", "~webhooks": "otpost.webhooks"}
    async with Amqp.connect(vhost.url) as amqp:
        for destination in destinations:
            await publish_delayed(amqp, destination, 0.25, destination)
        for destination, queue in destinations.items():
            [seen] = await (await amqp.tap(queue)).wait_for_count(1)
            assert seen.body["name"] == destination


async def test_what_has_no_destination_behind_the_ladder_is_dropped_where_it_is_found(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    async with Amqp.connect(vhost.url) as amqp:
        await publish_delayed(amqp, "lost", 0.75, "nobody")
        [seen] = await (await amqp.tap("otpost.dropped")).wait_for_count(1)
    assert seen.body["name"] == "lost"
    assert seen.routing_key.endswith(".nobody")


async def test_what_waits_on_the_ladder_survives_a_restart_of_the_broker(own_vhost: Vhost) -> None:
    await declare_topology(own_vhost, "default")
    async with Amqp.connect(own_vhost.url) as amqp:
        for delay in (1.0, 8.0):
            await publish_delayed(amqp, str(delay), delay)
    await own_vhost.node.restart_async()
    async with Amqp.connect(own_vhost.url) as amqp:
        tap = await amqp.tap(JOBS)
        await tap.wait_for_count(2, PATIENCE_S)
    took = waits(tap)
    assert set(took) == {"1.0", "8.0"}
    assert took["8.0"][1] >= 8.0 - EARLY_S
    assert took["1.0"][1] >= 1.0 - EARLY_S
