"""Receiver, worker, broker and ledger are killed in turn while reports come: none is lost, none is told twice over."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import pytest

from broker import fresh_vhost
from free_ports import reserve_free_port
from otpost import Producer
from otpost.result import Status
from otpost_worker.simulator import Simulator, SimulatorOptions, WebhookSettings
from otpost_worker.simulator.webhooks.settings import Retry
from ports_in_memory import KEY
from webhook_process import APP_SECRET, webhook_process
from worker_process import Load, worker_environment, worker_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from broker import Vhost
    from otpost.result import OtpResult
    from private_rabbitmq import PrivateRabbitMQ
    from private_redis import PrivateRedis

pytestmark = pytest.mark.long
PATIENCE_S: Final = 180.0
STRETCH: Final = 150
REPORTED: Final = (Status.SENT, Status.DELIVERED, Status.READ)
# Each status twice, up to two seconds late, tried again until somebody takes it.
WEBHOOKS: Final = WebhookSettings(
    duplicates=1, shuffle_s=2.0, seed=11, retry=Retry(0.3, 1.5, 2.0, 600.0), timeout_s=3.0
)


@pytest.fixture
def restarted(own_node: PrivateRabbitMQ) -> Iterator[Vhost]:
    with fresh_vhost(own_node, to_delete=False) as vhost:
        yield vhost


class Told:
    """Every event of every job, by its id: a copy has to be the same once more."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.by_status: dict[Status, set[str]] = defaultdict(set)
        self.news = asyncio.Condition()

    async def listen(self, producer: Producer) -> None:
        """Read the stream from its beginning, for ever."""
        async for result in producer.results(since="first"):
            async with self.news:
                self._note(result)
                self.news.notify_all()

    def _note(self, result: OtpResult) -> None:
        assert self.bodies.setdefault(result.event_id, result.to_json()) == result.to_json()
        assert result.job_id is not None
        self.by_status[result.status].add(result.job_id)

    async def wait_for(self, status: Status, jobs: set[str]) -> None:
        """Wait until all of these jobs have come to it."""
        try:
            async with asyncio.timeout(PATIENCE_S), self.news:
                await self.news.wait_for(lambda: jobs <= self.by_status[status])
        except TimeoutError:
            missing = sorted(jobs - self.by_status[status])
            raise AssertionError(f"no {status} for {len(missing)} of {len(jobs)} jobs: {missing[:5]}") from None


@pytest.mark.timeout(600)
async def test_whoever_dies_in_turn_every_report_is_told_once(
    restarted: Vhost, own_redis: PrivateRedis, tmp_path: Path
) -> None:
    vhost, port = restarted, reserve_free_port()
    options = SimulatorOptions(rate=0, pair=False, webhooks=WEBHOOKS)
    async with Simulator(options) as simulator, AsyncExitStack() as processes:
        environment = worker_environment(
            vhost,
            tmp_path,
            simulator.url,
            ledger_url=own_redis.url,
            private_keys=KEY.reveal(),
            app_secret=APP_SECRET,
            rate=10_000,
        )
        simulator.webhooks.set(url=f"http://127.0.0.1:{port}/webhook", secret=APP_SECRET, plan="read")
        worker = await processes.enter_async_context(worker_process(environment))
        receiver, _ = await processes.enter_async_context(webhook_process(vhost.url, port=port))
        async with Producer(vhost.url, timeout_s=PATIENCE_S) as producer:
            load, told = Load(producer), Told()
            listening = asyncio.create_task(told.listen(producer))

            async def stretch() -> None:
                for _ in range(STRETCH):
                    await load.send()

            await stretch()
            # The receiver, in the midst of it.
            receiver.signal(signal.SIGKILL)
            await receiver.ended()
            await stretch()
            await processes.enter_async_context(webhook_process(vhost.url, port=port))
            await stretch()
            # The worker, which has reports in hand.
            worker.signal(signal.SIGKILL)
            await worker.ended()
            worker = await processes.enter_async_context(worker_process(environment))
            await stretch()
            # The broker: nothing can be stored, and nothing be read.
            await asyncio.to_thread(vhost.node.sync)
            await vhost.node.restart_async(graceful=False)
            await worker.logged("consuming", nth=2)
            await stretch()
            # The ledger: what is read waits for it.
            await asyncio.to_thread(own_redis.restart, graceful=False)
            await stretch()
            jobs = set(load.sent)
            for status in REPORTED:
                await told.wait_for(status, jobs)
            assert await simulator.webhooks.wait(settled=True, timeout_s=PATIENCE_S)
            await vhost.wait_for_queue("otpost.webhooks", ready=0, unacked=0, timeout_s=PATIENCE_S)
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            assert all(report.answered == report.planned for report in simulator.reports.entries())
            # One event of each status, and each job's attempts as many as the simulator took.
            statuses = Counter(event_id.rpartition("/")[2] for event_id in told.bodies)
            requests = Counter(str(entry.callback) for entry in simulator.journal.entries())
            assert statuses["accepted"] == len(jobs)
            assert {status: statuses[status.value] for status in REPORTED} == dict.fromkeys(
                REPORTED, sum(requests.values())
            )
            assert statuses["undelivered"] == statuses["failed"] == 0
