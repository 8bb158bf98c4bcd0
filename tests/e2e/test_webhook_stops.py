"""A receiver whose broker is gone, or frozen like a machine that is paused, ends within its grace period all the same.

What is in hand then is answered first: with 503, after the 3 s that a POST waits for the broker.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp
import pytest

from chaos.proxy import Proxy
from forked import fork_otpost
from health_probe import probe
from webhook_process import APP_SECRET, VERIFY_TOKEN
from webhook_requests import BODY, signed
from worker_process import PATIENCE_S, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from broker import Vhost

# What a POST waits for the broker.
STORED_WITHIN_S: Final = 3.0
# Less than the five seconds that an answer of the broker would be waited for, and far more than it takes.
SOON_S: Final = 4.5
POSTS: Final = 20
# So many of them fill every buffer on the way to the broker.
LARGE: Final = b'{"a":"' + b"x" * 1_000_000 + b'"}'


@asynccontextmanager
async def receiver(broker_url: str, *, grace_s: float = 20) -> AsyncIterator[tuple[WorkerProcess, str]]:
    """Run a receiver; give it and where it listens."""
    told = {
        "OTPOST_BROKER_URL": broker_url,
        "OTPOST_APP_SECRET": APP_SECRET,
        "OTPOST_VERIFY_TOKEN": VERIFY_TOKEN,
        "OTPOST_WEBHOOK_PORT": "0",
        "OTPOST_HTTP_PORT": "0",
        "OTPOST_SHUTDOWN_GRACE_S": str(grace_s),
        "OTPOST_LOG_FORMAT": "json",
    }
    process = WorkerProcess(await fork_otpost("webhook", environment=told))
    try:
        await process.logged("webhook.listening")
        port = next(entry["port"] for entry in process.log if entry["event"] == "webhook.listening")
        yield process, f"http://127.0.0.1:{port}/webhook"
    finally:
        await process.clear_away()


@asynccontextmanager
async def without_an_answer(vhost: Vhost, how: str, *, grace_s: float = 20) -> AsyncIterator[tuple[WorkerProcess, str]]:
    """Run a receiver that has stored something, and take its broker away."""
    async with Proxy(vhost.node.port) as proxy:
        # Nothing but a signal may end it: without heartbeats it would not even notice.
        url = f"{vhost.url.replace(f':{vhost.node.port}/', f':{proxy.port}/')}?heartbeat=600"
        async with receiver(url, grace_s=grace_s) as (process, where):
            await process.logged("storing")
            assert await posted(where) == 200
            if how == "frozen":
                assert proxy.stall() == 1
            else:
                await proxy.refuse()
                assert proxy.cut() == 1
                await process.logged("broker.lost")
            yield process, where


async def posted(where: str, body: bytes = BODY) -> int | None:
    """Post, and give the status; None where there was no answer."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as session:
        try:
            async with session.post(where, data=body, headers=signed(body, APP_SECRET)) as answer:
                return answer.status
        except aiohttp.ClientError:
            return None


async def in_hand(process: WorkerProcess, count: int) -> None:
    async with probe(process) as health, asyncio.timeout(PATIENCE_S):
        while await health.counter("otpost_webhook_inflight") < count:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


async def ended_within(process: WorkerProcess, seconds: float) -> None:
    begun = time.monotonic()
    process.signal()
    assert await process.ended() == 0
    took = time.monotonic() - begun
    assert took < seconds, f"it took {took:.1f} s; the log ends with {process.log[-5:]}"


@pytest.mark.parametrize("how", ["frozen", "gone"])
async def test_with_nothing_in_hand_it_ends_soon(vhost: Vhost, how: str) -> None:
    async with without_an_answer(vhost, how) as (process, _):
        await ended_within(process, SOON_S)


@pytest.mark.parametrize("how", ["frozen", "gone"])
@pytest.mark.parametrize("body", [BODY, LARGE], ids=["small", "large"])
async def test_what_is_in_hand_is_answered_with_503_and_then_it_ends_soon(vhost: Vhost, how: str, body: bytes) -> None:
    async with without_an_answer(vhost, how) as (process, where):
        posting = [asyncio.create_task(posted(where, body)) for _ in range(POSTS)]
        await in_hand(process, POSTS)
        await ended_within(process, STORED_WITHIN_S + SOON_S)
        assert [await post for post in posting] == [503] * POSTS
        assert process.log[-1]["clean"] is True


async def test_a_grace_period_that_ends_first_ends_it_soon_after(vhost: Vhost) -> None:
    async with without_an_answer(vhost, "frozen", grace_s=0) as (process, where):
        posting = [asyncio.create_task(posted(where)) for _ in range(POSTS)]
        await in_hand(process, POSTS)
        await ended_within(process, SOON_S)
        # The provider sends them again.
        assert {await post for post in posting} <= {503, None}
        assert process.log[-1]["clean"] is False


async def test_it_ends_soon_where_it_never_got_an_answer(vhost: Vhost) -> None:
    async with Proxy(vhost.node.port) as proxy:
        proxy.stall()
        url = vhost.url.replace(f":{vhost.node.port}/", f":{proxy.port}/")
        async with receiver(url) as (process, _):
            async with asyncio.timeout(PATIENCE_S):
                while not proxy.connections:  # noqa: ASYNC110 - the proxy tells nobody
                    await asyncio.sleep(0.02)
            await ended_within(process, SOON_S)


async def test_a_client_that_keeps_its_connection_open_does_not_hold_it_up(vhost: Vhost) -> None:
    async with without_an_answer(vhost, "frozen") as (process, where):
        port = int(where.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port)):
            await ended_within(process, SOON_S)


async def test_a_second_signal_ends_it_at_once_though_a_body_is_still_on_its_way(vhost: Vhost) -> None:
    async with without_an_answer(vhost, "frozen") as (process, where):
        port = int(where.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port)) as client:
            # The rest would be waited for, 10 s long.
            client.sendall(b"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            await in_hand(process, 1)
            process.signal()
            await process.logged("stopping")
            await ended_within(process, SOON_S)
        assert process.log[-1]["clean"] is False
