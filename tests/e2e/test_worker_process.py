"""The worker as a process: signals, and rolling restarts under load."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

import pytest

from otpost_worker.simulator import Simulator, SimulatorOptions
from worker_process import (
    OUTSTANDING,
    load_on,
    queues_become_empty,
    requested_twice,
    worker_environment,
    worker_process,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker import Vhost

ROUNDS = 30
# Two workers take turns, so that one works while the other starts.
SLOTS = 2
JOBS_A_ROUND = 40


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorOptions(rate=0, pair=False)) as running:
        yield running


async def test_on_sigterm_a_worker_finishes_what_is_in_flight_hands_the_rest_back_and_exits_with_0(
    vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    # Three in hand at once, so that others wait behind them.
    environment = worker_environment(vhost, tmp_path, simulator.url, concurrency=3)
    async with worker_process(environment) as worker, load_on(vhost) as load:
        slow = [await load.send(to=f"+990180{number:05}") for number in range(3)]
        assert await simulator.journal.wait(received=3, timeout_s=30)
        waiting = [await load.send() for _ in range(20)]
        worker.signal()
        await worker.logged("stopping")
        assert await worker.ended() == 0
        # Each slow answer took 3 s, and was waited for.
        assert [entry.outcome for entry in simulator.journal.entries()] == ["accepted"] * 3
        await load.ended(slow)
        assert load.statuses() == {job: ["accepted"] for job in slow}
        await vhost.wait_for_ready("otpost.jobs.default", 20, timeout_s=30)
        copies = vhost.get("otpost.jobs.default", 20, requeue=True)
        assert {copy.headers.get("otpost-attempt", 1) for copy in copies} == {1}
        assert {copy.headers.get("otpost-counted", 0) for copy in copies} == {0}
        async with worker_process(environment) as second:
            await load.all_ended()
            await queues_become_empty(vhost)
            await second.stop()
        assert load.statuses() == {job: ["accepted"] for job in slow + waiting}
        assert {event.attempt for event in load.events.values()} == {1}
        assert requested_twice(simulator.journal) == {}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_an_idle_worker_ends_at_once_with_0(
    vhost: Vhost, simulator: Simulator, tmp_path: Path, number: signal.Signals
) -> None:
    async with worker_process(worker_environment(vhost, tmp_path, simulator.url)) as worker:
        worker.signal(number)
        assert await worker.ended() == 0
        assert worker.warnings() == []


async def test_a_second_signal_ends_a_worker_in_the_middle_of_a_request(
    vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    environment = worker_environment(vhost, tmp_path, simulator.url, http_timeout_s=50)
    async with worker_process(environment) as worker, load_on(vhost) as load:
        await load.send(to="+990010000001")  # never answered
        assert await simulator.journal.wait(received=1, timeout_s=30)
        worker.signal()
        await worker.logged("stopping")
        began = time.monotonic()
        worker.signal()
        assert await worker.ended() == 1
        # The grace period is 20 s, the request's own time-out 50 s.
        assert time.monotonic() - began < 15
        # It was not settled: the broker has it again.
        await vhost.wait_for_ready("otpost.jobs.default", 1, timeout_s=30)


async def test_a_grace_period_that_ends_is_told_by_the_exit_status(
    vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    environment = worker_environment(vhost, tmp_path, simulator.url, http_timeout_s=50, shutdown_grace_s=0.5)
    async with worker_process(environment) as worker, load_on(vhost) as load:
        await load.send(to="+990010000001")
        assert await simulator.journal.wait(received=1, timeout_s=30)
        worker.signal()
        assert await worker.ended() == 1
        await vhost.wait_for_ready("otpost.jobs.default", 1, timeout_s=30)


@pytest.mark.timeout(400)
async def test_thirty_rounds_of_sigterm_and_restart_under_load_lose_nothing_and_send_nothing_twice(
    vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    environment = worker_environment(vhost, tmp_path, simulator.url)
    finished = asyncio.Event()

    async def rounds() -> None:
        for _ in range(ROUNDS // SLOTS):
            async with worker_process(environment) as worker:
                goal = simulator.journal.total + JOBS_A_ROUND
                assert await simulator.journal.wait(received=goal, timeout_s=60)
                await worker.stop()

    async with worker_process(environment) as first, load_on(vhost) as load:
        sending = asyncio.create_task(load.keep_sending(simulator.journal, finished))
        await first.stop()
        async with asyncio.timeout(240):
            await asyncio.gather(*(rounds() for _ in range(SLOTS)))
        finished.set()
        await sending
        async with worker_process(environment) as last:
            await load.all_ended()
            await queues_become_empty(vhost)
            await last.stop()
        assert load.statuses() == {job: ["accepted"] for job in load.sent}
        assert len(load.sent) >= ROUNDS * JOBS_A_ROUND // SLOTS
        assert requested_twice(simulator.journal) == {}
        assert simulator.journal.total == len(load.sent)
        # Whoever stops in good order has acknowledged what it finished, so that hardly any end is told twice. The
        # broker may drop what it has not handled when the channel closes; when that went wrong in every round, there
        # were hundreds.
        assert len(load.copies) <= OUTSTANDING
