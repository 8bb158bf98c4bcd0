"""A worker that is told to stop while it asks the broker about its queues stops, and keeps its connection till then."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from otpost.topology import topology
from otpost_worker.brokers.rabbitmq.intake import Incoming, Intake, Subscription
from otpost_worker.brokers.rabbitmq.reconnecting import Reconnecting
from otpost_worker.metrics import Metrics
from otpost_worker.outage_log import OutageLog
from service import PATIENCE_S, Amqp

if TYPE_CHECKING:
    from broker import Vhost

ROUNDS: Final = 8
QUEUES: Final = ("otpost.jobs.default", "otpost.dropped")
# How far apart the moments of stopping are, within the questions that follow each other without a pause.
STEP_S: Final = 0.004


def always_asking(url: str, arrived: asyncio.Queue[Incoming]) -> Intake:
    return Intake(
        url,
        name="otpost worker",
        topology=topology(["default"]),
        mode="declare",
        ledger="a-ledger",
        subscriptions=tuple(Subscription(queue, 10, arrived.put_nowait) for queue in QUEUES),
        reconnecting=Reconnecting(lambda: 0.0, OutageLog("broker"), Metrics([])),
        idle=lambda: False,
        check_every_s=0.0,
    )


async def test_a_stop_in_the_middle_of_a_question_to_the_broker_neither_hangs_nor_costs_the_connection(
    vhost: Vhost,
) -> None:
    for number in range(ROUNDS):
        arrived: asyncio.Queue[Incoming] = asyncio.Queue()
        intake = always_asking(vhost.url, arrived)
        stopping, drained = asyncio.Event(), asyncio.Event()
        running = asyncio.create_task(intake.run(stopping=stopping, drained=drained))
        async with asyncio.timeout(PATIENCE_S):
            await intake.ready.wait()
            async with Amqp.connect(vhost.url) as amqp:
                await amqp.publish(b"a job", exchange="", key=QUEUES[0])
            incoming = await arrived.get()
            await asyncio.sleep(number * STEP_S)
            stopping.set()
            await intake.quiet.wait()
            # What is in hand can still be acknowledged.
            assert await incoming.acknowledge()
            drained.set()
            await running
    assert vhost.ready_count(QUEUES[0]) == 0
