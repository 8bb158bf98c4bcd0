"""`otpost webhook` as a process of its own: it needs little, ends in good order, and loses nothing that it took."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

from forked import fork_otpost
from health_probe import probe
from service import declare_topology
from webhook_requests import APP_SECRET, BODY, VERIFY_TOKEN, signed
from worker_process import PATIENCE_S, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from broker import Vhost
    from private_rabbitmq import PrivateRabbitMQ

QUEUE: Final = "otpost.webhooks"


def environment(url: str, **settings: object) -> dict[str, str]:
    """Nothing of a sender but what webhooks need."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OTPOST_")}
    given: dict[str, object] = {
        "broker_url": url,
        "app_secret": APP_SECRET,
        "verify_token": VERIFY_TOKEN,
        "webhook_port": 0,
        "log_format": "json",
    } | settings
    return clean | {f"OTPOST_{name.upper()}": str(value) for name, value in given.items() if value is not None}


class Process(WorkerProcess):
    """One `otpost webhook`."""

    url = ""

    async def post(self, session: aiohttp.ClientSession, body: bytes = BODY) -> int:
        async with session.post(self.url, data=body, headers=signed(body)) as answer:
            return answer.status


@asynccontextmanager
async def webhook_process(
    told: dict[str, str], *arguments: str
) -> AsyncIterator[tuple[Process, aiohttp.ClientSession]]:
    process = Process(await fork_otpost("webhook", *arguments, environment=told))
    try:
        await process.logged("webhook.listening")
        (line,) = [entry for entry in process.log if entry["event"] == "webhook.listening"]
        path = told.get("OTPOST_WEBHOOK_PATH", "/webhook")
        process.url = f"http://127.0.0.1:{line['port']}{path}"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as session:
            yield process, session
    finally:
        await process.clear_away()


async def test_the_broker_and_two_secrets_are_enough_to_receive(vhost: Vhost) -> None:
    async with webhook_process(environment(vhost.url)) as (process, session):
        await process.logged("storing")
        assert await process.post(session) == 200
        query = {"hub.mode": "subscribe", "hub.challenge": "1158201444", "hub.verify_token": VERIFY_TOKEN}
        async with session.get(process.url, params=query) as answer:
            assert (answer.status, await answer.text()) == (200, "1158201444")
        await process.stop()
        assert process.warnings() == []
        assert [entry["event"] for entry in process.log][-2:] == ["stopping", "stopped"]
        told = "".join(map(str, process.log))
        assert APP_SECRET not in told
        assert VERIFY_TOKEN not in told
    assert [message.body for message in vhost.get(QUEUE, 10)] == [BODY]


async def test_it_listens_where_it_is_told_to(vhost: Vhost) -> None:
    told = environment(vhost.url, webhook_path="/meta/otp-1", webhook_port=1)
    async with webhook_process(told, "--host", "127.0.0.1", "--port", "0") as (process, session):
        assert await process.post(session) == 200
        async with session.post(process.url.replace("/meta/otp-1", "/webhook"), data=BODY) as answer:
            assert answer.status == 404
        await process.stop()


@pytest.mark.parametrize(
    ("missing", "told"), [("app_secret", "no app secret is configured"), ("verify_token", "no verify token is config")]
)
async def test_without_a_secret_it_refuses_to_start_with_one_line(vhost: Vhost, missing: str, told: str) -> None:
    process = Process(await fork_otpost("webhook", environment=environment(vhost.url, **{missing: None})))
    assert await process.ended() == 1
    (line,) = [entry["event"] for entry in process.log]
    assert line.startswith(f"otpost: {told}")
    assert f"OTPOST_{missing.upper()}" in line


async def test_a_port_that_is_taken_ends_it_with_one_line_that_says_what_to_do(vhost: Vhost) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = Process(await fork_otpost("webhook", environment=environment(vhost.url, webhook_port=port)))
        assert await process.ended() == 1
    (line,) = [entry["event"] for entry in process.log]
    assert line == (
        f"otpost: cannot listen on 127.0.0.1 port {port}: Address already in use; "
        "choose another OTPOST_WEBHOOK_PORT (--port) or OTPOST_WEBHOOK_HOST (--host)"
    )


async def test_a_login_that_the_broker_refuses_ends_it_with_one_line(vhost: Vhost) -> None:
    url = vhost.url.replace("//guest:guest@", "//guest:wr0ng@")
    process = Process(await fork_otpost("webhook", environment=environment(url)))
    assert await process.ended() == 1
    lines = [entry["event"] for entry in process.log if entry["event"] not in ("webhook.listening", "stopping")]
    assert len(lines) == 1
    assert lines[0].startswith("otpost: amqp://guest@")
    assert "wr0ng" not in str(process.log)


async def test_sigterm_amid_a_flood_loses_nothing_that_was_answered_with_200(vhost: Vhost) -> None:
    answered = list[bytes]()

    async def flood(process: Process, session: aiohttp.ClientSession, number: int) -> None:
        count = 0
        while True:
            body = b'{"n":"%d-%d"}' % (number, count)
            count += 1
            try:
                if await process.post(session, body) == 200:
                    answered.append(body)
            except aiohttp.ClientError:
                return

    async with webhook_process(environment(vhost.url)) as (process, session):
        await process.logged("storing")
        flooding = [asyncio.create_task(flood(process, session, number)) for number in range(20)]
        async with asyncio.timeout(PATIENCE_S):
            while len(answered) < 500:  # noqa: ASYNC110 - the flood tells nobody
                await asyncio.sleep(0.01)
        process.signal(signal.SIGTERM)
        assert await process.ended() == 0
        await asyncio.gather(*flooding)
        assert process.log[-1]["event"] == "stopped"
        assert process.log[-1]["clean"] is True
    await vhost.wait_for_ready(QUEUE, len(answered))
    assert {message.body for message in vhost.get(QUEUE, len(answered) + 10)} == set(answered)


async def test_a_body_that_is_on_its_way_at_sigterm_is_still_taken(vhost: Vhost) -> None:
    body = b'{"name":"slow"}'
    async with webhook_process(environment(vhost.url, http_port=0)) as (process, _), probe(process) as health:
        await process.logged("storing")
        reader, writer = await asyncio.open_connection("127.0.0.1", int(process.url.split(":")[2].split("/")[0]))
        head = f"POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in signed(body).items())
        writer.write(head.encode() + b"\r\n" + body[:5])
        async with asyncio.timeout(PATIENCE_S):
            while await health.counter("otpost_webhook_inflight") == 0:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        process.signal()
        await process.logged("stopping")
        writer.write(body[5:])
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        assert await process.ended() == 0
    assert [message.body for message in vhost.get(QUEUE, 10)] == [body]


async def test_it_tells_of_its_health_and_counts_what_it_answers(vhost: Vhost) -> None:
    async with webhook_process(environment(vhost.url, http_port=0)) as (process, session), probe(process) as health:
        checks = await health.until(lambda status, _: status == 200)
        assert checks == {"running": "ok", "broker": "ok"}
        assert await process.post(session) == 200
        async with session.post(process.url, data=BODY) as answer:
            assert answer.status == 401
        assert await health.counter('otpost_webhook_requests_total{result="stored"}') == 1
        assert await health.counter('otpost_webhook_requests_total{result="unsigned"}') == 1
        assert await health.counter('otpost_webhook_requests_total{result="forged"}') == 0
        assert await health.counter("otpost_webhook_duration_seconds_count") == 2
        assert await health.counter("otpost_ready") == 1
        assert (await health.get("/healthz"))[:2] == (200, "ok\n")
        await process.stop()


async def test_without_its_broker_it_is_alive_and_answers_the_handshake_but_not_ready() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    told = environment(f"amqp://guest:guest@127.0.0.1:{port}/", http_port=0)
    async with webhook_process(told) as (process, session), probe(process) as health:
        checks = await health.until(lambda _, checks: "refused" in checks.get("broker", ""))
        assert "does RabbitMQ run there?" in checks["broker"]
        query = {"hub.mode": "subscribe", "hub.challenge": "7", "hub.verify_token": VERIFY_TOKEN}
        async with session.get(process.url, params=query) as answer:
            assert answer.status == 200
        assert await process.post(session) == 503
        assert (await health.get("/healthz"))[0] == 200
        await process.stop()


async def test_a_broker_that_is_killed_makes_503_and_nothing_that_was_answered_with_200_is_lost(
    own_node: PrivateRabbitMQ, own_vhost: Vhost
) -> None:
    taken = list[bytes]()
    refused = list[int]()

    async def send(process: Process, session: aiohttp.ClientSession, until: asyncio.Event) -> None:
        count = 0
        while not until.is_set():
            body = b'{"n":%d}' % count
            count += 1
            status = await process.post(session, body)
            if status == 200:
                taken.append(body)
            else:
                refused.append(status)

    async def more_than(what: list[Any], count: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(what) <= count:  # noqa: ASYNC110 - the list tells nobody
                await asyncio.sleep(0.02)

    # A quorum queue whose node is killed within a second of its declaration never has a leader again (seen with 3.10).
    await declare_topology(own_vhost)
    await own_node.restart_async()
    async with webhook_process(environment(own_vhost.url)) as (process, session):
        done = asyncio.Event()
        sending = asyncio.create_task(send(process, session, done))
        await more_than(taken, 100)
        await own_node.kill_async()
        await more_than(refused, 0)
        await own_node.start_async()
        await more_than(taken, len(taken) + 100)
        done.set()
        await sending
        await process.stop()
    assert set(refused) == {503}
    stored = {message.body for message in own_vhost.get(QUEUE, len(taken) + 1000)}
    assert set(taken) <= stored
