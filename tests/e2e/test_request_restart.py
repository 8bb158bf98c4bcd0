"""Requests while the broker is restarted or killed: each returns or raises within its time-out."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Final

import pytest

from broker import Vhost, fresh_vhost
from otpost import BlockingProducer, OtpJob, OtpResult, Producer
from otpost.errors import OtpostError
from service import CODE, PATIENCE_S, running_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from private_rabbitmq import PrivateRabbitMQ
    from service import Service

TIMEOUT_S: Final = 30.0
# Closing a connection that is no more may take this long beside.
SLACK_S: Final = 10.0


@pytest.fixture
def restarted_vhost(module_node: PrivateRabbitMQ) -> Iterator[Vhost]:
    with fresh_vhost(module_node) as fresh:
        yield fresh


class Requests:
    """Requests one after the other, eight at a time, and what became of each."""

    def __init__(self, producer: Producer) -> None:
        self.enough = asyncio.Event()
        self.outcomes: dict[str, OtpResult | OtpostError] = {}
        self.longest_s = 0.0
        self._producer = producer
        self._numbers = itertools.count()

    async def keep_asking(self) -> None:
        while not self.enough.is_set():
            number = next(self._numbers)
            # Every fourth is answered after a second.
            to = f"+990100{number:05}" if number % 4 == 0 else f"+1201{number:07}"
            job = OtpJob(id=f"job-{number}", to=to, code=CODE, ttl_s=300)
            begun = time.monotonic()
            try:
                self.outcomes[job.id] = await self._producer.request(job, timeout_s=TIMEOUT_S)
            except OtpostError as error:
                self.outcomes[job.id] = error
            self.longest_s = max(self.longest_s, time.monotonic() - begun)

    def returned(self) -> int:
        return sum(isinstance(outcome, OtpResult) for outcome in self.outcomes.values())


async def more_requests(service: Service, count: int) -> None:
    journal = service.simulator.journal
    assert await journal.wait(received=journal.total + count, timeout_s=PATIENCE_S)


@pytest.mark.long
@pytest.mark.parametrize("graceful", [True, False], ids=["restarted", "killed"])
async def test_every_request_returns_or_raises_within_its_time_out(
    restarted_vhost: Vhost,
    tmp_path: Path,
    graceful: bool,  # noqa: FBT001 - a parameter
) -> None:
    node = restarted_vhost.node
    blocking = BlockingProducer(restarted_vhost.url, timeout_s=PATIENCE_S)
    async with running_service(restarted_vhost, tmp_path) as service, Producer(restarted_vhost.url) as producer:
        requests = Requests(producer)
        async with asyncio.timeout(110), asyncio.TaskGroup() as asking:
            for _ in range(8):
                asking.create_task(requests.keep_asking())
            await asyncio.to_thread(blocking.send, OtpJob(id="before", to="+12025550187", code=CODE))
            await more_requests(service, 50)
            await asyncio.to_thread(node.sync)
            restarting = asyncio.create_task(node.restart_async(graceful=graceful))
            await asyncio.to_thread(blocking.send, OtpJob(id="during", to="+12025550187", code=CODE))
            await restarting
            returned_before = requests.returned()
            await more_requests(service, 50)
            requests.enough.set()
        # What was asked before and after the restart was answered; what met it, too, or it was told why not.
        assert returned_before >= 20
        assert requests.returned() >= returned_before + 20
        assert requests.longest_s < TIMEOUT_S + SLACK_S
        for job_id in ("before", "during"):
            job = OtpJob(id=job_id, to="+12025550187", code=CODE)
            requests.outcomes[job_id] = await asyncio.to_thread(blocking.request, job, timeout_s=PATIENCE_S)
        returned = [outcome for outcome in requests.outcomes.values() if isinstance(outcome, OtpResult)]
        assert {end.status for end in returned} == {"accepted"}
        callbacks = [entry.callback for entry in service.simulator.journal.entries()]
        assert len(callbacks) == len(set(callbacks))
    await asyncio.to_thread(blocking.close)
