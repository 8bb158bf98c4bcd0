"""Limits with real worker processes; the provider keeps Meta's limits and counts who crosses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from otpost_worker.simulator import Simulator, SimulatorOptions
from service import STREAM, Amqp
from worker_process import load_on, worker_environment, worker_process

if TYPE_CHECKING:
    from pathlib import Path

    from broker import Vhost

ONE: Final = "+12025550100"


async def test_four_workers_together_cross_no_limit_and_a_flooded_recipient_delays_nobody(
    vhost: Vhost, tmp_path: Path
) -> None:
    async with Simulator() as simulator:
        environment = worker_environment(vhost, tmp_path, simulator.url)
        async with (
            worker_process(environment),
            worker_process(environment),
            worker_process(environment),
            worker_process(environment),
            load_on(vhost) as load,
        ):
            flood = [load.job(to=ONE, ttl_s=20) for _ in range(100)]
            others = [load.job(ttl_s=120) for _ in range(240)]
            mixed = [job for pair in zip(flood, others, strict=False) for job in pair] + others[len(flood) :]
            await load.producer.send_many(mixed)
            await load.ended([job.id for job in others])
            await load.all_ended()
        stats = simulator.journal.stats()
        assert (stats["throughput_refusals"], stats["pair_refusals"]) == (0, 0)
        ends = load.statuses()
        assert [ends[job.id] for job in others] == [["accepted"]] * 240
        # 45 at once, then one every 6 s, none later than 15 s after the beginning: a request may take 5 s.
        flooded = [ends[job.id] for job in flood]
        assert flooded.count(["accepted"]) in (46, 47)
        assert flooded.count(["accepted"]) + flooded.count(["expired"]) == 100
        entries = simulator.journal.entries()
        last = {to: max(entry.at for entry in entries if (entry.to == ONE) is to) for to in (True, False)}
        # 285 messages at 80 a second; the bound is generous, but far below what waiting for the recipient would take.
        assert last[False] - entries[0].at < 10
        assert last[True] - entries[0].at >= 6


async def test_a_refused_rate_is_halved_for_all_workers_and_grows_back(vhost: Vhost, tmp_path: Path) -> None:
    # The provider takes half of what the sender believes to have.
    async with Simulator(SimulatorOptions(rate=40, pair=False)) as simulator, Amqp.connect(vhost.url) as amqp:
        environment = worker_environment(vhost, tmp_path, simulator.url)
        async with worker_process(environment), worker_process(environment), load_on(vhost) as load:
            results = await amqp.tap(STREAM)
            await load.producer.send_many([load.job(ttl_s=600) for _ in range(200)])
            slowed = await results.wait_for(name="slowed")
            assert slowed.body["detail"] == "40 messages a second from now on, growing back step by step"
            await load.all_ended()
            assert set(map(tuple, load.statuses().values())) == {("accepted",)}
        stats = simulator.journal.stats()
        # Without the cut, every second request would be refused.
        assert 0 < stats["throughput_refusals"] < 100


@pytest.mark.long
async def test_at_a_very_low_rate_jobs_end_at_their_deadlines_in_line_and_on_the_ladder(
    vhost: Vhost, tmp_path: Path
) -> None:
    async with Simulator(SimulatorOptions(pair=False)) as simulator, Amqp.connect(vhost.url) as amqp:
        environment = worker_environment(vhost, tmp_path, simulator.url, rate=0.01, http_timeout_s=1)
        async with worker_process(environment) as worker, load_on(vhost) as load:
            results = await amqp.tap(STREAM)
            await load.producer.send(load.job())
            await load.all_ended()
            # The next start is a minute and more away; nobody stands in line for more than 10 s.
            lives_s = (3, 8, 13, 16)
            jobs = [load.job(ttl_s=ttl_s) for ttl_s in lives_s for _ in range(4)]
            await load.producer.send_many(jobs)
            await load.all_ended()
            late_s = {}
            for job in jobs:
                assert job.created_at is not None
                expired = await results.wait_for(job_id=job.id, status="expired")
                late_s[job.id] = expired.came_at - job.deadline
            assert max(late_s.values()) < 2, late_s
            await worker.stop()
