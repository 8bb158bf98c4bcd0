"""A broker that keeps its connections and answers nothing, like a machine that is paused, holds up no worker's end."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from chaos.proxy import Proxy
from otpost_worker.simulator import Simulator, SimulatorOptions
from service import PATIENCE_S, STREAM, Amqp, job_body
from worker_process import start_worker, worker_environment, worker_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from broker import Vhost
    from worker_process import WorkerProcess

SENDERS: Final = 8
# A second or two on an idle machine; not to wait for the broker's answers, of which each has five seconds.
SOON_S: Final = 4.5


def senders_file(folder: Path) -> Path:
    file = folder / "senders.toml"
    file.write_text(
        "".join(
            f'[senders.s{number}]\nphone_number_id = "10{number}"\naccess_token = "x"\n'
            'template = "verification_code"\nlanguage = "en_US"\n'
            for number in range(SENDERS)
        )
    )
    return file


def environment(vhost: Vhost, proxy: Proxy, folder: Path, api_base: str, *, grace_s: float) -> dict[str, str]:
    told = worker_environment(
        vhost,
        folder,
        api_base,
        # Nothing but a signal may end it: without heartbeats it would not even notice.
        broker_url=f"{vhost.url.replace(f':{vhost.node.port}/', f':{proxy.port}/')}?heartbeat=600",
        senders_file=senders_file(folder),
        shutdown_grace_s=grace_s,
    )
    # Those are the senders'.
    alone = ("PHONE_NUMBER_ID", "ACCESS_TOKEN", "TEMPLATE", "LANGUAGE")
    return {name: value for name, value in told.items() if name.removeprefix("OTPOST_") not in alone}


@asynccontextmanager
async def frozen(vhost: Vhost, folder: Path, *, grace_s: float) -> AsyncIterator[WorkerProcess]:
    """Run a worker that has published already, and freeze its broker."""
    async with (
        Simulator(SimulatorOptions(rate=0, pair=False)) as simulator,
        Proxy(vhost.node.port) as proxy,
        Amqp.connect(vhost.url) as amqp,
        worker_process(environment(vhost, proxy, folder, simulator.url, grace_s=grace_s)) as worker,
    ):
        results = await amqp.tap(STREAM)
        await amqp.publish(job_body(id="job-1"), key="s0")
        await results.wait_for(job_id="job-1", status="accepted")
        await vhost.wait_for_queue("otpost.jobs.s0", unacked=0, timeout_s=PATIENCE_S)
        assert proxy.stall() == 2
        yield worker


async def test_a_second_signal_ends_a_worker_at_once_though_its_broker_does_not_answer(
    vhost: Vhost, tmp_path: Path
) -> None:
    async with frozen(vhost, tmp_path, grace_s=60) as worker:
        worker.signal()
        await worker.logged("stopping")
        begun = time.monotonic()
        worker.signal()
        assert await worker.ended() == 0
        assert time.monotonic() - begun < SOON_S


async def test_a_worker_ends_soon_after_its_grace_period_however_many_senders_it_has_and_though_no_broker_answers(
    vhost: Vhost, tmp_path: Path
) -> None:
    async with frozen(vhost, tmp_path, grace_s=1) as worker:
        begun = time.monotonic()
        worker.signal()
        assert await worker.ended() == 0
        assert time.monotonic() - begun < 1 + 6 + SOON_S


async def test_a_second_signal_ends_a_worker_at_once_while_it_waits_for_a_connection(
    vhost: Vhost, tmp_path: Path
) -> None:
    async with Proxy(vhost.node.port) as proxy:
        proxy.stall()
        worker = await start_worker(environment(vhost, proxy, tmp_path, "http://127.0.0.1:9", grace_s=60))
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not proxy.connections:  # noqa: ASYNC110 - the proxy tells nobody
                    await asyncio.sleep(0.02)
            worker.signal()
            await worker.logged("stopping")
            begun = time.monotonic()
            worker.signal()
            assert await worker.ended() == 0
            assert time.monotonic() - begun < SOON_S
        finally:
            await worker.clear_away()
