"""Health and metrics of a worker process, as a probe and a scraper see them."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from typing import TYPE_CHECKING, Final

import pytest

from health_probe import ALL_WELL, probe
from otpost import OtpJob, Producer
from otpost_worker.simulator import Simulator, SimulatorOptions
from worker_process import start_worker, worker_environment, worker_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker import Vhost
    from private_rabbitmq import PrivateRabbitMQ

PATIENCE_S: Final = 60.0


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorOptions(rate=0, pair=False)) as running:
        yield running


def free_port() -> int:
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        port: int = probing.getsockname()[1]
        return port


def ready(status: int, checks: dict[str, str]) -> bool:
    return status == 200 and checks == ALL_WELL


async def test_a_worker_without_its_broker_is_alive_but_not_ready(
    vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    port = free_port()
    nowhere = f"amqp://guest:guest@127.0.0.1:{port}/"
    environment = worker_environment(vhost, tmp_path, simulator.url, broker_url=nowhere, http_port=0)
    async with worker_process(environment, consuming=False) as worker, probe(worker) as health:
        assert (await health.get("/healthz"))[:2] == (200, "ok\n")
        checks = await health.until(lambda _, checks: "refused" in checks.get("broker", ""))
        assert checks == {
            "running": "ok",
            "broker": f"amqp://guest@127.0.0.1:{port}/: Connection refused; does RabbitMQ run there? If not: check "
            "OTPOST_BROKER_URL",
            "consumers": "no queue is consumed",
            "publishing": "ok",
            "ledger": "ok",
        }
        status, body = await health.readiness()
        assert (status, body["ready"]) == (503, False)
        assert await health.counter("otpost_ready") == 0
        await worker.stop()


async def test_a_worker_is_ready_until_sigterm_and_not_while_it_finishes_what_is_in_hand(
    vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    environment = worker_environment(vhost, tmp_path, simulator.url, http_port=0)
    async with worker_process(environment) as worker, probe(worker) as health, Producer(vhost.url) as producer:
        await health.until(ready)
        assert await health.counter("otpost_ready") == 1
        assert await health.counter("otpost_inflight") == 0
        await producer.send(OtpJob(to="+99018000001", code="493817"))  # accepted after 3 s
        assert await simulator.journal.wait(received=1, timeout_s=30)
        assert await health.counter("otpost_inflight") == 1
        worker.signal()
        await worker.logged("stopping")
        status, body = await health.readiness()
        assert status == 503
        assert body["checks"]["running"] == "the worker is stopping"
        assert (await health.get("/healthz"))[0] == 200
        assert await worker.ended() == 0


async def test_a_ledger_that_cannot_be_written_is_told_and_so_is_its_return(
    vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    environment = worker_environment(vhost, tmp_path, simulator.url, http_port=0)
    async with worker_process(environment) as worker, probe(worker) as health:
        await health.until(ready)
        db = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        db.execute("BEGIN IMMEDIATE")
        status, body = await health.readiness()
        assert (status, body["checks"]) == (503, ALL_WELL | {"ledger": "no answer within 1 s"})
        assert (await health.get("/healthz"))[0] == 200
        db.execute("ROLLBACK")
        db.close()
        await health.until(ready)
        await worker.stop()


async def test_lost_connections_are_told_counted_and_mended(vhost: Vhost, simulator: Simulator, tmp_path: Path) -> None:
    environment = worker_environment(vhost, tmp_path, simulator.url, http_port=0)
    async with worker_process(environment) as worker, probe(worker) as health, Producer(vhost.url) as producer:
        await health.until(ready)
        assert await health.counter("otpost_reconnects_total") == 0
        closed = 0
        async with asyncio.timeout(PATIENCE_S):
            while not closed:  # the broker lists a connection only after a moment
                closed = await asyncio.to_thread(vhost.close_connections, " jobs")
        await worker.logged("consuming", nth=2)
        await health.until(ready)
        assert await health.counter('otpost_reconnects_total{connection="jobs"}') == 1
        await producer.send(OtpJob(to="+12015553931", code="493817"))
        assert await simulator.journal.wait(taken=1, timeout_s=30)
        await worker.stop()


async def test_metrics_come_in_the_form_that_is_asked_for_and_nothing_may_be_kept(
    vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    environment = worker_environment(vhost, tmp_path, simulator.url, http_port=0)
    async with worker_process(environment) as worker, probe(worker) as health:
        status, page, headers = await health.get("/metrics")
        assert status == 200
        assert headers["Content-Type"].startswith("text/plain; version=")
        assert "# TYPE otpost_jobs_received_total counter" in page
        _, page, headers = await health.get("/metrics", headers={"Accept": "application/openmetrics-text"})
        assert headers["Content-Type"].startswith("application/openmetrics-text")
        assert page.endswith("# EOF\n")
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await health.get(path))[2]["Cache-Control"] == "no-store"
        assert (await health.get("/"))[0] == 404
        await worker.stop()


async def test_a_port_that_is_taken_ends_the_worker_with_one_line_that_says_what_to_do(
    vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        worker = await start_worker(worker_environment(vhost, tmp_path, simulator.url, http_port=port))
        assert await worker.ended() == 1
    (line,) = [entry["event"] for entry in worker.log]
    assert line == (
        f"otpost: cannot listen on 127.0.0.1 port {port}: Address already in use; "
        "choose another OTPOST_HTTP_PORT (0 takes a free one) or OTPOST_HTTP_HOST"
    )


async def test_a_host_to_listen_on_that_is_none_ends_the_worker_with_one_line_that_says_what_to_do(
    vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    environment = worker_environment(vhost, tmp_path, simulator.url, http_port=0, http_host="a..b")
    worker = await start_worker(environment)
    assert await worker.ended() == 1
    (line,) = [entry["event"] for entry in worker.log]
    assert line == (
        "otpost: cannot listen on a..b port 0: this is no name of a host; "
        "choose another OTPOST_HTTP_PORT (0 takes a free one) or OTPOST_HTTP_HOST"
    )


@pytest.mark.long
async def test_a_broker_that_blocks_publishers_makes_a_worker_not_ready_until_it_no_longer_does(
    own_node: PrivateRabbitMQ, own_vhost: Vhost, simulator: Simulator, tmp_path: Path
) -> None:
    environment = worker_environment(own_vhost, tmp_path, simulator.url, http_port=0)
    async with worker_process(environment) as worker, probe(worker) as health, Producer(own_vhost.url) as producer:
        await health.until(ready)
        await producer.send(OtpJob(id="before", to="+99018000001", code="493817"))  # accepted after 3 s
        assert await simulator.journal.wait(received=1, timeout_s=30)
        await asyncio.to_thread(own_node.ctl, "set_vm_memory_high_watermark", "0.000001")
        checks = await health.until(lambda _, checks: checks["publishing"] != "ok")
        assert "s for the broker's confirm; does the broker block publishers" in checks["publishing"]
        assert checks["broker"] == "ok"
        await asyncio.to_thread(own_node.ctl, "set_vm_memory_high_watermark", "0.6")
        await health.until(ready)
        async with asyncio.timeout(PATIENCE_S):
            async for result in producer.results(since="first"):
                if result.job_id == "before":
                    break
        assert result.status == "accepted"
        await worker.stop()
