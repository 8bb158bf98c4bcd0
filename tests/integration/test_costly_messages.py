"""A message for which the broker closes the connection each time: it arrives, and costs the others nothing lasting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from otpost_worker.brokers.rabbitmq.outbox import Outbox
from otpost_worker.brokers.rabbitmq.reconnecting import Reconnecting
from otpost_worker.envelope import Envelope, Event
from otpost_worker.metrics import Metrics
from otpost_worker.outage_log import OutageLog
from published_results import accepted_result
from service import PATIENCE_S, STREAM, Amqp, declare_topology

if TYPE_CHECKING:
    from broker import Vhost

# Headers have to fit into one frame, of 128 KiB; what is read from a delivery is never that long.
COSTLY: Final = Envelope(b'{"id":"costly"}', "default", traceparent="x" * 131_072)
TRACE: Final = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CHEAP: Final = Envelope(b'{"id":"cheap"}', "default", traceparent=TRACE)
LOSSES: Final = 5


class Reconnects(Metrics):
    """Counts how often the shared connection came back."""

    def __init__(self) -> None:
        super().__init__([])
        self.count = 0

    def reconnected(self, connection: str) -> None:
        super().reconnected(connection)
        self.count += 1


def event(number: int) -> Event:
    return Event(f"job-{number}/1/1/accepted", "accepted", accepted_result(number))


def outbox_at(vhost: Vhost, reconnects: Reconnects) -> Outbox:
    return Outbox(
        vhost.url, name="otpost worker", reconnecting=Reconnecting(lambda: 0.0, OutageLog("broker"), reconnects)
    )


async def test_a_message_that_costs_the_connection_each_time_goes_on_one_of_its_own_and_arrives(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    reconnects, number = Reconnects(), 0
    async with (
        asyncio.timeout(PATIENCE_S),
        Amqp.connect(vhost.url) as amqp,
        outbox_at(vhost, reconnects) as outbox,
        asyncio.TaskGroup() as tasks,
    ):
        costly = tasks.create_task(outbox.publish_event(event(0), COSTLY))
        while not costly.done():
            number += 1
            await outbox.publish_event(event(number), CHEAP)
        await asyncio.gather(outbox.delay(COSTLY, 0.25), outbox.hand_back(COSTLY))
        results = await amqp.tap(STREAM)
        for one in range(number + 1):
            seen = await results.wait_for(job_id=f"job-{one}")
            # Only where it was at fault is it left out.
            assert seen.headers.get("traceparent") == (TRACE if one else None)
        copies = await (await amqp.tap("otpost.jobs.default")).wait_for_count(2)
    assert all("traceparent" not in copy.headers and copy.headers["otpost-run"] == 1 for copy in copies)
    # Each of the three costs so many, and not one more.
    assert 0 < reconnects.count <= 3 * LOSSES


async def test_whoever_loses_the_connection_to_others_again_and_again_arrives_unchanged(vhost: Vhost) -> None:
    await declare_topology(vhost, "default")
    async with (
        asyncio.timeout(PATIENCE_S),
        Amqp.connect(vhost.url) as amqp,
        outbox_at(vhost, Reconnects()) as outbox,
    ):
        costly = [outbox.publish_event(event(one), COSTLY) for one in range(3)]
        cheap = [outbox.publish_event(event(one), CHEAP) for one in range(3, 20)]
        await asyncio.gather(*costly, *cheap)
        results = await amqp.tap(STREAM)
        for one in range(20):
            seen = await results.wait_for(job_id=f"job-{one}")
            assert seen.headers.get("traceparent") == (None if one < 3 else TRACE)
