"""Workers that share a Redis, as those of several machines do; it wants a password, and dies under their hands."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from command import otpost
from otpost_worker.simulator import Simulator, SimulatorOptions
from ports_in_memory import KEY
from private_redis import PrivateRedis
from service import CODE
from worker_process import load_on, worker_environment, worker_process

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from broker import Vhost
    from worker_process import WorkerProcess

JOBS: Final = 200
NO_LIMITS: Final = SimulatorOptions(rate=0, pair=False)
PASSWORD: Final = "QWERT12345asdfg"


@pytest.fixture
def server() -> Iterator[PrivateRedis]:
    """A Redis that wants a password."""
    with PrivateRedis(extra_config=[f"requirepass {PASSWORD}"]) as running:
        yield running


def settings(vhost: Vhost, folder: Path, server: PrivateRedis, simulator: Simulator) -> dict[str, str]:
    """A worker's settings: the ledger's URL comes from a file, as it has a password."""
    secret = folder / "ledger.url"
    secret.write_text(f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0\n", encoding="ascii")
    changes = {"rate": 10_000, "concurrency": JOBS, "private_keys": KEY.reveal(), "log_level": "debug"}
    environment = worker_environment(vhost, folder, simulator.url, ledger_url_file=secret, **changes)
    del environment["OTPOST_LEDGER_URL"]
    return environment


def told(worker: WorkerProcess) -> list[str]:
    """Every warning, and that an outage is over."""
    return [entry["event"] for entry in worker.log if entry["level"] in ("warning", "error", "critical", "over")]


@pytest.mark.long
async def test_a_redis_that_dies_with_hundreds_of_jobs_in_hand_loses_none_and_sends_none_twice(
    vhost: Vhost, tmp_path: Path, server: PrivateRedis
) -> None:
    async with Simulator(NO_LIMITS) as simulator:
        environment = settings(vhost, tmp_path, server, simulator)
        async with (
            worker_process(environment) as one,
            worker_process(environment) as other,
            load_on(vhost) as load,
        ):
            # Accepted after 3 s, when there is no ledger any more.
            await load.producer.send_many([load.job(to=f"+990180{number:04}") for number in range(JOBS)])
            assert await simulator.journal.wait(received=JOBS, timeout_s=60)
            await asyncio.to_thread(server.kill)
            # What is in hand ends all the same; what comes now waits.
            await load.all_ended()
            await load.producer.send_many([load.job() for _ in range(JOBS)])
            await asyncio.gather(one.logged("ledger.unavailable"), other.logged("ledger.unavailable"))
            await asyncio.to_thread(server.start)
            await load.all_ended()
            assert load.statuses() == {job: ["accepted"] for job in load.sent}
            assert simulator.journal.total == 2 * JOBS
            await asyncio.gather(one.logged("outage.over"), other.logged("outage.over"))
            assert told(one) == told(other) == ["ledger.unavailable"]
            await check_commands(environment)
            await asyncio.gather(one.stop(), other.stop())
    for worker in (one, other):
        assert PASSWORD not in str(worker.log)
        assert CODE not in str(worker.log)
        assert f"redis://127.0.0.1:{server.port}/0" in str(worker.log)


async def check_commands(environment: Mapping[str, str]) -> None:
    """Those that look into the ledger find what the workers know, and show no password."""
    doctor, explain, config = await asyncio.gather(
        otpost("doctor", "--json", environment=environment),
        otpost("explain", "job-1", "--json", environment=environment),
        otpost("config", environment=environment),
    )
    ledger, shared = [one for one in doctor.objects if one["check"].startswith("ledger")]
    assert ledger["what"].startswith("it can be read and written; its identity is ")
    assert shared["what"] == "it is the one that the workers of this broker share"
    assert [one["what"] for one in explain.objects][-2:] == ["ended", "waits_for"]
    assert "redis://127.0.0.1:" in config.out
    assert PASSWORD not in str((doctor, explain, config))


async def test_a_worker_says_what_is_wrong_with_its_redis_and_does_not_start(vhost: Vhost, tmp_path: Path) -> None:
    async with Simulator(NO_LIMITS) as simulator:
        environment = worker_environment(vhost, tmp_path, simulator.url, private_keys=KEY.reveal())
        nobody = environment | {"OTPOST_LEDGER_URL": f"redis://:{PASSWORD}@127.0.0.1:1/0"}
        done = await otpost("worker", environment=nobody)
        assert (done.status, done.out) == (1, "")
        assert done.err.endswith("see whether it is up, and whether its address is right (OTPOST_LEDGER_URL)\n")
        assert done.err.startswith("otpost: the ledger redis://127.0.0.1:1/0 cannot be used: ")
        assert PASSWORD not in done.err
