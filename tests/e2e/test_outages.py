"""A broker, a ledger or a provider that is away: said once, shown, and nobody has to restart the worker."""

from __future__ import annotations

import asyncio
import resource
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from broker import Vhost, fresh_vhost
from health_probe import ALL_WELL, probe
from otpost.sealing import PrivateKey
from otpost_worker.simulator import Simulator, SimulatorOptions
from worker_process import load_on, worker_environment, worker_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from health_probe import Probe
    from private_rabbitmq import PrivateRabbitMQ
    from private_redis import PrivateRedis
    from worker_process import Load, WorkerProcess

JOBS: Final = 300
NO_LIMITS: Final = SimulatorOptions(rate=0, pair=False)


@pytest.fixture
def lasting_vhost(module_node: PrivateRabbitMQ) -> Iterator[Vhost]:
    with fresh_vhost(module_node) as fresh:
        yield fresh


def told(worker: WorkerProcess, *events: str) -> list[dict[str, Any]]:
    """Every warning, and the other lines with one of these events."""
    loud = ("warning", "error", "critical")
    return [entry for entry in worker.log if entry["level"] in loud or entry["event"] in events]


async def send_all(load: Load, prefix: str = "+1201555") -> None:
    await load.producer.send_many([load.job(to=f"{prefix}{number:04}") for number in range(JOBS)])


def ready(status: int, checks: dict[str, str]) -> bool:
    return (status, checks) == (200, ALL_WELL)


async def stays(health: Probe, seconds: float, check: str, trouble: str) -> None:
    """Fail where `check` says anything else within that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        _, body = await health.readiness()
        assert trouble in body["checks"][check]
        await asyncio.sleep(0.1)


@pytest.mark.long
async def test_a_broker_that_dies_with_hundreds_of_jobs_in_hand_is_two_lines(
    lasting_vhost: Vhost, tmp_path: Path
) -> None:
    vhost = lasting_vhost
    async with Simulator(NO_LIMITS) as simulator:
        environment = worker_environment(vhost, tmp_path, simulator.url, concurrency=JOBS, http_port=0)
        async with worker_process(environment) as worker, probe(worker) as health, load_on(vhost) as load:
            await send_all(load, prefix="+990180")  # accepted after 3 s, when there is no broker any more
            await asyncio.to_thread(vhost.node.sync)
            assert await simulator.journal.wait(received=JOBS, timeout_s=60)
            await vhost.node.kill_async()
            where = f"amqp://guest@127.0.0.1:{vhost.node.port}/{vhost.name}: "
            checks = await health.until(lambda status, _: status == 503)
            assert checks["broker"].startswith(where)
            await worker.logged("attempt.finished", nth=JOBS)
            await vhost.node.start_async()
            await worker.logged("outage.over")
            await health.until(ready)
            await load.all_ended()
            assert load.statuses() == {job: ["accepted"] for job in load.sent}
            assert simulator.journal.total == JOBS
            begun, over = told(worker, "outage.over")
            assert (begun["event"], begun["level"]) == ("broker.lost", "warning")
            assert begun["error"].startswith(f"{where}the connection for ")
            assert (over["event"], over["level"], over["what"]) == ("outage.over", "info", "broker")
            assert over["lasted_s"] > 2
            # Both connections were lost, and each was tried again several times.
            assert over["times"] >= 6
            await worker.stop()


@contextmanager
def no_file_may_grow(worker: WorkerProcess) -> Iterator[None]:
    """What a full disk does to the worker's ledger."""
    pid = worker.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_ledger_that_cannot_be_written_with_hundreds_of_jobs_in_hand_is_two_lines(
    vhost: Vhost, tmp_path: Path
) -> None:
    async with Simulator(NO_LIMITS) as simulator:
        environment = worker_environment(vhost, tmp_path, simulator.url, concurrency=JOBS, http_port=0)
        async with worker_process(environment) as worker, probe(worker) as health, load_on(vhost) as load:
            with no_file_may_grow(worker):
                await send_all(load)
                await worker.logged("ledger.unavailable")
                # It still lets itself be read, which is no reason to say that all is well.
                await stays(health, 2.5, "ledger", f"the ledger {tmp_path / 'ledger.db'} cannot be used: ")
                assert await health.counter("otpost_inflight") == JOBS
                assert simulator.journal.total == 0
                assert [one["event"] for one in told(worker, "outage.over")] == ["ledger.unavailable"]
            await worker.logged("outage.over")
            await health.until(ready)
            await load.all_ended()
            assert load.statuses() == {job: ["accepted"] for job in load.sent}
            begun, over = told(worker, "outage.over")
            assert (begun["event"], begun["level"]) == ("ledger.unavailable", "warning")
            assert begun["error"].endswith("(OTPOST_LEDGER_URL)")
            assert (over["what"], over["error"]) == ("ledger", begun["error"])
            assert over["lasted_s"] > 2
            assert over["times"] >= JOBS * 2
            await worker.stop()


async def test_a_redis_that_dies_with_hundreds_of_jobs_in_hand_is_two_lines(
    vhost: Vhost, own_redis: PrivateRedis, tmp_path: Path
) -> None:
    async with Simulator(NO_LIMITS) as simulator:
        environment = worker_environment(
            vhost,
            tmp_path,
            simulator.url,
            concurrency=JOBS,
            http_port=0,
            ledger_url=own_redis.url,
            private_keys=PrivateKey(bytes(range(32))).reveal(),
        )
        async with worker_process(environment) as worker, probe(worker) as health, load_on(vhost) as load:
            await asyncio.to_thread(own_redis.kill)
            await send_all(load)
            await worker.logged("ledger.unavailable")
            await stays(health, 2.5, "ledger", f"the ledger {own_redis.url} cannot be used: ")
            await asyncio.to_thread(own_redis.start)
            await worker.logged("outage.over")
            await health.until(ready)
            await load.all_ended()
            assert load.statuses() == {job: ["accepted"] for job in load.sent}
            assert simulator.journal.total == JOBS
            begun, over = told(worker, "outage.over")
            assert (begun["event"], over["what"]) == ("ledger.unavailable", "ledger")
            assert over["times"] >= JOBS * 2
            await worker.stop()


async def test_a_provider_that_is_away_is_two_lines_however_many_jobs_meet_it(vhost: Vhost, tmp_path: Path) -> None:
    async with Simulator(NO_LIMITS) as gone:
        port = gone.port
    environment = worker_environment(vhost, tmp_path, gone.url.replace(":0", f":{port}"), http_port=0)
    async with worker_process(environment) as worker, probe(worker) as health, load_on(vhost) as load:
        await send_all(load)
        await worker.logged("sender.halted")
        # Readiness says yes: another worker would fare no better, and a restart mends nothing.
        status, body = await health.readiness()
        assert (status, body["checks"]) == (200, ALL_WELL)
        assert body["notices"]["senders"]["default"].startswith("halted since ")
        async with Simulator(SimulatorOptions(port=port, rate=0, pair=False)):
            await worker.logged("sender.resumed")
            await load.all_ended(90)
            assert load.statuses() == {job: ["accepted"] for job in load.sent}
            halted, resumed = told(worker, "sender.resumed")
            assert (halted["event"], resumed["event"]) == ("sender.halted", "sender.resumed")
            await worker.stop()
