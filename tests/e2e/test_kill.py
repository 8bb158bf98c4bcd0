"""A worker is killed in the middle of requests; another one goes on once the leases are over."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

import pytest

from otpost_worker.simulator import Simulator, SimulatorOptions
from worker_process import load_on, queues_become_empty, worker_environment, worker_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker import Vhost

# Taken, but not answered the first time: the killed worker cannot know.
HANGING: Final = [f"+990151{number:05}" for number in range(5)]
PAUSE_S: Final = 5.0


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorOptions(rate=0, pair=False)) as running:
        yield running


async def test_a_killed_workers_requests_become_unknown_and_are_sent_once_more_by_another_worker(
    vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    # The lease is the time-out and 5 s.
    environment = worker_environment(vhost, tmp_path, simulator.url, http_timeout_s=2)
    async with worker_process(environment) as killed, load_on(vhost) as load:
        jobs = [await load.send(to=to) for to in HANGING]
        assert await simulator.journal.wait(received=5, timeout_s=30)
        killed.signal(signal.SIGKILL)
        assert await killed.ended() == -signal.SIGKILL
        async with worker_process(environment) as heir:
            other = await load.send()
            await load.all_ended()
            await queues_become_empty(vhost)
            await heir.stop()
        assert load.statuses() == {job: ["accepted"] for job in [*jobs, other]}
        entries = simulator.journal.entries()
        assert [entry.callback for entry in entries if entry.to == HANGING[0]] == [jobs[0], f"{jobs[0]}/1/2"]
        assert len(entries) == 2 * len(jobs) + 1
        for job in jobs:
            unknown = load.events[f"{job}/1/1/retrying"]
            assert unknown.error is not None
            assert unknown.error.kind == "unknown"
            again = next(entry for entry in entries if entry.callback == f"{job}/1/2")
            # The event's time is cut to the millisecond.
            assert again.at >= unknown.at.timestamp() + PAUSE_S - 0.001


@pytest.mark.long
async def test_a_killed_worker_whose_policy_is_fail_leaves_dead_letters_and_no_second_request(
    vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    environment = worker_environment(vhost, tmp_path, simulator.url, http_timeout_s=1, unknown_outcome="fail")
    async with worker_process(environment) as killed, load_on(vhost) as load:
        job = await load.send(to=HANGING[0])
        assert await simulator.journal.wait(received=1, timeout_s=30)
        killed.signal(signal.SIGKILL)
        await killed.ended()
        async with worker_process(environment) as heir:
            await load.all_ended()
            await heir.stop()
        assert load.statuses() == {job: ["failed"]}
        (end,) = load.ends[job].values()
        assert end.error is not None
        assert end.error.kind == "unknown"
        assert simulator.journal.total == 1
        (letter,) = vhost.get("otpost.dead", 2)
        assert letter.headers["otpost-reason"] == "unknown"
