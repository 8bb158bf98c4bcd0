"""The simulator's webhooks in numbers: a thousand a second, one a POST; ten thousand messages, doubled and shuffled."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import aiohttp
import orjson
import pytest

import webhook_receiver
from otpost_worker.simulator import Simulator, SimulatorOptions, WebhookSettings
from send_requests import send_request
from simulator_caller import PATIENCE, SEND, TOKEN
from webhook_receiver import PATIENCE_S, SECRET, WebhookReceiver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.long

PLAN: Final = {
    "steps": [
        {"status": "sent", "after_s": 0.1, "until_s": 1},
        {"status": "delivered", "after_s": 1, "until_s": 8},
        {"status": "delivered", "after_s": 8, "until_s": 12},
        {"status": "read", "after_s": 2, "until_s": 12},
    ]
}


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    async with WebhookReceiver() as running:
        yield running


@pytest.fixture
async def simulator(receiver: WebhookReceiver) -> AsyncIterator[Simulator]:
    webhooks = WebhookSettings(url=receiver.url, secret=SECRET)
    async with Simulator(SimulatorOptions(rate=0, pair=False, webhooks=webhooks)) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=PATIENCE, json_serialize=lambda body: orjson.dumps(body).decode()) as one:
        yield one


async def send(simulator: Simulator, session: aiohttp.ClientSession, callback: str) -> None:
    message = send_request(callback=callback)
    async with session.post(simulator.url + SEND, json=message, headers=TOKEN) as answer:
        assert answer.status == 200


@pytest.mark.timeout(180)
async def test_ten_thousand_messages_doubled_and_shuffled_are_told_as_they_are_known(
    simulator: Simulator, receiver: WebhookReceiver, session: aiohttp.ClientSession
) -> None:
    simulator.webhooks.set(plan=PLAN, duplicates=1, shuffle_s=5.0, seed=1, batch=50)
    callbacks = iter([f"job-{number}" for number in range(10_000)])

    async def several() -> None:
        for callback in callbacks:
            await send(simulator, session, callback)

    async with asyncio.TaskGroup() as senders:
        for _ in range(20):
            senders.create_task(several())
    assert await simulator.webhooks.wait(settled=True, timeout_s=120)
    stats = simulator.webhooks.stats()
    assert (stats["reports"], stats["answered"], stats["given_up"], stats["overflow"]) == (40_000, 40_000, 0, 0)
    came = Counter(
        (one["biz_opaque_callback_data"], one["status"], int(one["timestamp"])) for one in receiver.statuses()
    )
    known: Counter[tuple[str, str, int]] = Counter()
    for report in simulator.reports.entries():
        known[report.callback or "", report.status, report.timestamp] += report.planned
    assert came == known
    assert known.total() > 50_000


@asynccontextmanager
async def receiver_process() -> AsyncIterator[str]:
    """A strict receiver in a process of its own, as a receiver is; gives its URL."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, webhook_receiver.__file__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            url = (await process.stdout.readline()).decode().strip()
        yield url
    finally:
        process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await process.wait()
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.timeout(120)
async def test_a_thousand_statuses_a_second_one_a_post_leave_half_of_a_processor_free(
    session: aiohttp.ClientSession,
) -> None:
    seconds, rate = 10, 1000
    # Two hundred messages of fifty statuses each, spread over ten seconds.
    steps = [{"status": "delivered", "after_s": 2, "until_s": 2 + seconds}] * 50
    async with receiver_process() as url, Simulator(SimulatorOptions(rate=0, pair=False)) as simulator:
        simulator.webhooks.set(url=url, secret=SECRET, plan={"steps": steps})
        for number in range(seconds * rate // 50):
            await send(simulator, session, f"flood-{number}")
        used = time.process_time()
        assert await simulator.webhooks.wait(settled=True, timeout_s=60)
        used = time.process_time() - used
        assert simulator.webhooks.stats()["answers"] == {"200": seconds * rate}
        late = sorted((report.first_answered_at or time.time()) - report.at for report in simulator.reports.entries())
    assert len(late) == seconds * rate
    told = f"answered after {late[len(late) // 2]:.3f} s (median), {late[-1]:.3f} s (worst); {used:.1f} s of processor"
    sys.stderr.write(told + "\n")
    # How late they are is the machine's affair, when others are at work on it; what they cost is not.
    assert used < 0.5 * seconds, told
    assert late[-1] < 2 * seconds, told
