"""A worker and what is on its broker: it refuses to start on what differs, and waits where it has worked before."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import TYPE_CHECKING, Final

from command import otpost
from otpost_worker.simulator import Simulator, SimulatorOptions
from service import declare_topology
from worker_process import load_on, start_worker, worker_environment, worker_process

if TYPE_CHECKING:
    from pathlib import Path

    from broker import Vhost
    from worker_process import Load

JOB_QUEUE: Final = "otpost.jobs.default"
DEAD: Final = "otpost.dead"
WRONG: Final = {"x-queue-type": "quorum", "x-delivery-limit": 7}
LISTED: Final = "'otpost topology verify' lists every difference"


async def complaint_of_worker(environment: dict[str, str]) -> str:
    """Start a worker that is to fail at once, and return its one complaint."""
    worker = await start_worker(environment)
    try:
        assert await worker.ended() == 1
        [said] = worker.log
        return str(said["event"]).removeprefix("otpost: ")
    finally:
        await worker.clear_away()


async def one_more_job(load: Load) -> None:
    await load.send()
    await load.all_ended()


async def test_no_worker_starts_on_what_differs(vhost: Vhost, tmp_path: Path) -> None:
    await declare_topology(vhost, "default")
    vhost.delete_queue(DEAD)
    vhost.declare_queue(DEAD, {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000, "x-message-ttl": 5})
    where = "http://127.0.0.1:1"
    declaring, verifying = await asyncio.gather(
        complaint_of_worker(worker_environment(vhost, tmp_path, where)),
        complaint_of_worker(worker_environment(vhost, tmp_path, where, topology="verify")),
    )
    for told in (declaring, verifying):
        assert told.startswith("queue otpost.dead: x-message-ttl is 5, should be 1209600000. Arguments cannot be chan")
        assert told.endswith(LISTED)


async def test_a_worker_that_verifies_starts_on_what_is_as_needed_and_makes_nothing(
    vhost: Vhost, tmp_path: Path
) -> None:
    async with Simulator(SimulatorOptions(rate=0, pair=False)) as simulator:
        environment = worker_environment(vhost, tmp_path, simulator.url, topology="verify")
        told = await complaint_of_worker(environment)
        assert told.startswith("exchange otpost.dropped is missing; exchange otpost.dead is missing; ")
        assert told.endswith("'otpost topology declare' makes what is missing (so does a worker with OTPOST_TOPOLOGY="
                             "declare)")  # fmt: skip
        assert vhost.queues() == {}
        await declare_topology(vhost, "default")
        async with worker_process(environment) as worker, load_on(vhost) as load:
            await one_more_job(load)
            assert worker.warnings() == []
            await worker.stop()


async def test_a_passive_worker_needs_the_queues_that_it_consumes(vhost: Vhost, tmp_path: Path) -> None:
    async with Simulator(SimulatorOptions(rate=0, pair=False)) as simulator:
        environment = worker_environment(vhost, tmp_path, simulator.url, topology="passive")
        told = await complaint_of_worker(environment)
        assert told.startswith(
            "queue otpost.jobs.default is missing; queue otpost.dropped is missing; queue otpost.webhooks is missing; "
            "queue otpost.checks is missing. "
        )
        assert vhost.queues() == {}
        # What somebody else provides may differ from what we would have declared.
        await declare_topology(vhost, "default")
        await asyncio.to_thread(vhost.delete_queue, DEAD)
        async with worker_process(environment) as worker, load_on(vhost) as load:
            await one_more_job(load)
            assert vhost.queue(DEAD) is None
            assert worker.warnings() == []
            await worker.stop()


async def test_a_differing_declaration_takes_no_running_worker_down(vhost: Vhost, tmp_path: Path) -> None:
    async with Simulator(SimulatorOptions(rate=0, pair=False)) as simulator:
        environment = worker_environment(vhost, tmp_path, simulator.url)
        async with worker_process(environment) as worker, load_on(vhost) as load:
            await one_more_job(load)
            await asyncio.to_thread(vhost.delete_queue, DEAD)
            await asyncio.to_thread(vhost.declare_queue, DEAD, WRONG)
            verify, declare = await asyncio.gather(
                *(otpost("topology", verb, "--sender", "default", environment={"OTPOST_BROKER_URL": vhost.url})
                  for verb in ("verify", "declare"))
            )  # fmt: skip
            assert (verify.status, declare.status) == (1, 1)
            assert "queue otpost.dead: x-delivery-limit is 7, should be 1000000" in verify.out
            assert "queue otpost.dead: " in declare.err
            await one_more_job(load)
            assert worker.warnings() == []
            await worker.stop()


async def test_a_worker_that_comes_back_to_something_different_says_so_and_goes_on_once_it_is_mended(
    vhost: Vhost, tmp_path: Path
) -> None:
    async with Simulator(SimulatorOptions(rate=0, pair=False)) as simulator:
        environment = worker_environment(vhost, tmp_path, simulator.url)
        async with worker_process(environment) as worker, load_on(vhost) as load:
            await one_more_job(load)
            # The worker's own queue: first the other one is there, then the worker loses its consumer.
            await asyncio.to_thread(vhost.delete_queue, DEAD)
            await asyncio.to_thread(vhost.declare_queue, DEAD, WRONG)
            await asyncio.to_thread(vhost.delete_queue, JOB_QUEUE)
            await worker.logged("topology.differs")
            said = next(entry for entry in worker.log if entry["event"] == "topology.differs")
            assert said["level"] == "error"
            assert said["error"].startswith("queue otpost.dead: x-")
            assert said["error"].endswith(LISTED)
            await asyncio.to_thread(vhost.delete_queue, DEAD)
            await worker.logged("consuming", nth=2)
            await one_more_job(load)
            await worker.stop()


# -- the ledger that all workers share -----------------------------------------------------------------


async def first_worker(vhost: Vhost, folder: Path, **settings: str) -> str:
    """Let a worker start and stop, and return the identity of its ledger."""
    environment = worker_environment(vhost, folder, "http://127.0.0.1:1", **settings)
    async with worker_process(environment) as worker:
        await worker.stop()
    return identity_of(folder)


def identity_of(folder: Path) -> str:
    with contextlib.closing(sqlite3.connect(folder / "ledger.db")) as db:
        [identity] = db.execute("SELECT value FROM meta WHERE name = 'identity'").fetchone()
        return str(identity)


async def test_no_worker_starts_with_another_ledger_than_the_others_have(vhost: Vhost, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    theirs = await first_worker(vhost, folders[0])
    where = "http://127.0.0.1:1"
    told = await asyncio.gather(
        complaint_of_worker(worker_environment(vhost, folders[1], where)),
        complaint_of_worker(worker_environment(vhost, folders[1], where, topology="verify")),
    )
    ours = identity_of(folders[1])
    expected = (
        f"the workers of this broker share the ledger {theirs}, and OTPOST_LEDGER_URL names another one, {ours}: "
        "workers with different ledgers may send the same code twice. Let OTPOST_LEDGER_URL name the ledger that the "
        "others use; if that one is gone for good, stop all workers and run 'otpost topology declare --new-ledger'"
    )
    assert [*told] == [expected, expected]
    # The remedy: the ledger that the others use, or, for good, another one.
    assert await first_worker(vhost, folders[0]) == theirs
    done = await otpost(
        *("topology", "declare", "--sender", "default", "--new-ledger", "--yes"),
        environment={"OTPOST_BROKER_URL": vhost.url},
    )
    assert done.status == 0, done.err
    assert await first_worker(vhost, folders[1], topology="verify") == ours
    assert f"share the ledger {ours}" in await complaint_of_worker(worker_environment(vhost, folders[0], where))


async def test_a_passive_worker_only_warns_of_another_ledger(vhost: Vhost, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    theirs = await first_worker(vhost, folders[0])
    environment = worker_environment(vhost, folders[1], "http://127.0.0.1:1", topology="passive")
    async with worker_process(environment) as worker:
        [said] = worker.warnings()
        assert (said["level"], said["event"]) == ("warning", "ledger.differs")
        assert said["error"].startswith(f"the workers of this broker share the ledger {theirs}, and ")
        await worker.stop()


async def test_a_worker_whose_broker_has_another_ledger_meanwhile_stops_consuming_until_that_is_mended(
    vhost: Vhost, tmp_path: Path
) -> None:
    async with Simulator(SimulatorOptions(rate=0, pair=False)) as simulator:
        environment = worker_environment(vhost, tmp_path, simulator.url)
        async with worker_process(environment) as worker, load_on(vhost) as load:
            await one_more_job(load)
            put_mark(vhost, "somebody-elses")
            await asyncio.to_thread(vhost.delete_queue, JOB_QUEUE)
            await worker.logged("ledger.differs")
            said = next(entry for entry in worker.log if entry["event"] == "ledger.differs")
            assert said["level"] == "error"
            assert said["error"].startswith("the workers of this broker share the ledger somebody-elses, and ")
            put_mark(vhost, identity_of(tmp_path))
            await worker.logged("consuming", nth=2)
            await one_more_job(load)
            await worker.logged("outage.over")
            assert [entry["event"] for entry in worker.warnings()] == ["broker.lost", "ledger.differs"]
            await worker.stop()


def put_mark(vhost: Vhost, identity: str) -> None:
    """Have the broker believe that its workers share that ledger."""
    where = f"/exchanges/{vhost.name}/otpost.ledger"
    vhost.api.request("DELETE", where)
    described = {"type": "fanout", "durable": True, "arguments": {"alternate-exchange": f"otpost.ledger.{identity}"}}
    vhost.api.request("PUT", where, described)
