"""The broker goes and comes back, or takes its consumers away: workers go on by themselves, and nothing is lost."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import orjson
import pytest

from broker import Vhost, fresh_vhost
from command import finished, started_otpost
from otpost_worker.simulator import Simulator, SimulatorOptions
from worker_process import (
    PATIENCE_S,
    load_on,
    queues_become_empty,
    requested_twice,
    worker_environment,
    worker_process,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from private_rabbitmq import PrivateRabbitMQ
    from worker_process import Load

# So many are requested between two restarts.
STRETCH = 150


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorOptions(rate=0, pair=False)) as running:
        yield running


@pytest.fixture
def restarted_vhost(module_node: PrivateRabbitMQ) -> Iterator[Vhost]:
    with fresh_vhost(module_node) as fresh:
        yield fresh


async def requested(simulator: Simulator, more: int) -> None:
    assert await simulator.journal.wait(received=simulator.journal.total + more, timeout_s=60)


@pytest.mark.parametrize("graceful", [False, pytest.param(True, marks=pytest.mark.long)], ids=["killed", "restarted"])
async def test_jobs_under_way_survive_a_broker_that_goes_and_comes_back(
    restarted_vhost: Vhost,
    simulator: Simulator,
    tmp_path: Path,
    graceful: bool,  # noqa: FBT001 - a parameter
) -> None:
    vhost = restarted_vhost
    environment = worker_environment(vhost, tmp_path, simulator.url)
    finished = asyncio.Event()
    async with worker_process(environment) as one, worker_process(environment) as other, load_on(vhost) as load:
        sending = asyncio.create_task(load.keep_sending(simulator.journal, finished))
        await requested(simulator, STRETCH)
        await asyncio.to_thread(vhost.node.sync)
        # These are answered after a second, when the broker is no longer there to hear of it.
        slow = [await load.send(to=f"+990100{number:05}") for number in range(5)]
        await vhost.node.restart_async(graceful=graceful)
        for worker in (one, other):
            await worker.logged("consuming", nth=2)
        await requested(simulator, STRETCH)
        finished.set()
        await sending
        await load.all_ended()
        assert load.statuses() == {job: ["accepted"] for job in load.sent}
        assert set(slow) <= load.ends.keys()
        # No answer was lost: the provider was there all the time.
        assert requested_twice(simulator.journal) == {}
        await queues_become_empty(vhost)
        await one.stop()
        await other.stop()


@pytest.mark.long
async def test_results_that_are_followed_go_on_after_the_broker_was_killed(
    restarted_vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    vhost = restarted_vhost
    async with worker_process(worker_environment(vhost, tmp_path, simulator.url)) as worker, load_on(vhost) as load:
        follow = ("results", "--follow", "--since", "1h", "--json")
        async with started_otpost(*follow, environment={"OTPOST_BROKER_URL": vhost.url}) as following:
            assert following.stdout is not None
            await one_more_job(load)
            async with asyncio.timeout(PATIENCE_S):
                assert orjson.loads(await following.stdout.readline())["event_id"] == "job-0/1/1/accepted"
            await asyncio.to_thread(vhost.node.sync)
            await vhost.node.restart_async(graceful=False)
            await worker.logged("consuming", nth=2)
            await one_more_job(load)
            async with asyncio.timeout(PATIENCE_S):
                assert orjson.loads(await following.stdout.readline())["event_id"] == "job-1/1/1/accepted"
            following.send_signal(signal.SIGINT)
            done = await finished(following)
        assert (done.status, done.out) == (130, "")
        assert done.err.strip() == ("otpost: the connection was lost; reading goes on as soon as the broker is back")
        await worker.stop()


async def test_a_worker_waits_for_a_broker_that_is_not_there_yet_and_ends_on_sigterm_meanwhile(
    restarted_vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    vhost = restarted_vhost
    await vhost.node.kill_async()
    try:
        environment = worker_environment(vhost, tmp_path, simulator.url)
        async with (
            worker_process(environment, consuming=False) as worker,
            worker_process(environment, consuming=False) as impatient,
        ):
            await impatient.logged("broker.unreachable")
            await impatient.stop()
            await worker.logged("broker.unreachable")
            await vhost.node.start_async()
            await worker.logged("consuming")
            async with load_on(vhost) as load:
                await one_more_job(load)
            await worker.stop()
    finally:
        await vhost.node.start_async()


async def one_more_job(load: Load) -> None:
    await load.send()
    await load.all_ended()


async def test_a_worker_whose_queue_is_deleted_declares_it_again_and_goes_on(
    vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    environment = worker_environment(vhost, tmp_path, simulator.url)
    async with worker_process(environment) as worker, load_on(vhost) as load:
        await one_more_job(load)
        # The broker cancels the consumer; its channel and connection stay open.
        await asyncio.to_thread(vhost.delete_queue, "otpost.jobs.default")
        await worker.logged("consuming", nth=2)
        await one_more_job(load)
        await worker.stop()
        assert requested_twice(simulator.journal) == {}


async def test_a_worker_whose_connections_are_closed_opens_them_again_and_goes_on(
    vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    environment = worker_environment(vhost, tmp_path, simulator.url)
    async with worker_process(environment) as worker, load_on(vhost) as load:
        await one_more_job(load)
        await vhost.wait_for_connections(2, "otpost worker")
        # A slow answer is on its way while the connections go.
        slow = await load.send(to="+990100000001")
        await requested_by(simulator, "+990100000001")
        assert await asyncio.to_thread(vhost.close_connections, "otpost worker") == 2
        await worker.logged("consuming", nth=2)
        await one_more_job(load)
        assert load.statuses()[slow] == ["accepted"]
        assert requested_twice(simulator.journal) == {}
        await queues_become_empty(vhost)
        await worker.stop()


async def requested_by(simulator: Simulator, to: str) -> None:
    async with asyncio.timeout(60):
        while to not in {entry.to for entry in simulator.journal.entries()}:
            await simulator.journal.wait(received=simulator.journal.total + 1, timeout_s=60)


async def test_a_worker_whose_queue_of_dropped_jobs_is_deleted_declares_it_again_and_goes_on(
    vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    environment = worker_environment(vhost, tmp_path, simulator.url)
    async with worker_process(environment) as worker, load_on(vhost) as load:
        await one_more_job(load)
        await asyncio.to_thread(vhost.delete_queue, "otpost.dropped")
        await worker.logged("consuming", nth=2)
        await vhost.wait_for_queue("otpost.dropped", consumers=1)
        await one_more_job(load)
        await worker.stop()
